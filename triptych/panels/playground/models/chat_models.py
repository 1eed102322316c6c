"""Which models take a prompt as a chat message: those that were trained to answer.

Every tokenizer that is trained here has a chat template, so that it alone tells nothing.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from triptych.lm.model.tokenizer import CHAT_TEMPLATE


def is_chat_model(folder: Path) -> bool:
    """Return whether the model in a folder was trained on conversations, as far as is recorded."""
    run = _json(folder.parents[1] / "config.json") if folder.parent.name == "checkpoints" else {}
    if train := (run.get("config") or {}).get("train"):
        return bool(train.get("method", "pretrain") != "pretrain" or train.get("init_from"))
    if (folder / "chat_template.jinja").is_file():
        return True
    template = _json(folder / "tokenizer_config.json").get("chat_template")
    return template is not None and template != CHAT_TEMPLATE


def _json(file: Path) -> dict[str, Any]:
    try:
        read: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    return read
