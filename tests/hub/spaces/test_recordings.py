"""Answers of the public hub, recorded by its own client's tests, as the measure of ours.

`recordings.json` keeps of each exchange what was asked and the shape of what came back. The same
is asked here in the same order: status, keys and kinds of values must agree, more keys may come.
"""

from __future__ import annotations

import base64
import json
import secrets
from pathlib import Path
from typing import Any

import httpx

RECORDED = json.loads(Path(__file__).with_name("recordings.json").read_text())
KINDS = {str: "text", bool: "truth", int: "number", float: "number", type(None): "nothing"}


def body_of(step: dict[str, Any], repo_id: str) -> str:
    """Return what is sent: as recorded, save for the name of the repository and the app."""
    namespace, _, name = repo_id.partition("/")
    path = step["request"]
    if "/repos/" in path:
        named = {"name": name, "organization": namespace, "type": "space"}
        return json.dumps(named | ({"sdk": "gradio", "private": True} if "create" in path else {}))
    if "preupload" in path:
        return json.dumps({"files": [{"path": "app.py", "sample": "", "size": 9}]})
    if "commit/main" in path:
        content = base64.b64encode(b"print(1)\n").decode()
        value = {"path": "app.py", "content": content, "encoding": "base64"}
        lines = [{"key": "header", "value": {"summary": "app"}}, {"key": "file", "value": value}]
        return "\n".join(map(json.dumps, lines))
    return json.dumps(step["body"]) if "body" in step else ""


def differences(recorded: Any, ours: Any, where: str) -> list[str]:
    if isinstance(recorded, dict):
        if not isinstance(ours, dict):
            return [f"{where}: {ours!r} is no mapping"]
        missing = [f"{where}: {key} is missing" for key in recorded.keys() - ours.keys()]
        both = recorded.keys() & ours.keys()
        return missing + [
            d for key in both for d in differences(recorded[key], ours[key], f"{where}.{key}")
        ]
    if isinstance(recorded, list):
        if not isinstance(ours, list) or not ours:
            return [f"{where}: {ours!r} is no filled list"]
        return differences(recorded[0], ours[0], where)
    kind = KINDS.get(type(ours))
    # What was still unknown when it was recorded may be known here.
    agrees = kind == recorded or (recorded == "nothing" and kind == "text")
    return [] if agrees else [f"{where}: {ours!r} is no {recorded}"]


def test_answers_agree_with_those_recorded_at_the_public_hub(running) -> None:
    repo_id = f"admin/s-{secrets.token_hex(4)}"
    headers = {"Authorization": f"Bearer {running.token}"}
    wrong = []
    with httpx.Client(base_url=running.url, headers=headers, timeout=90, trust_env=False) as client:
        for step in RECORDED["exchanges"]:
            method, path = step["request"].replace("{repo}", repo_id).split()
            answer = client.request(method, path, content=body_of(step, repo_id))
            if answer.status_code != step["status"]:
                wrong.append(f"{method} {path}: {answer.status_code} {answer.text[:200]}")
            elif isinstance(step["answer"], dict):
                wrong += differences(step["answer"], answer.json(), f"{method} {path}")
    assert len(RECORDED["exchanges"]) > 20
    assert not wrong, "\n".join(wrong)
