"""The process that trains one run: from a request to events, in a process group of its own.

It is started by the supervisor but needs nobody: it reads its folder, trains, and writes its
folder. SIGTERM finishes the step, saves and ends. This is one of the three places that may
catch every exception, because a run that broke must say so in its own record.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from triptych.errors import RunError, TriptychError
from triptych.lm.runs.control import read_config
from triptych.lm.train.folder import RunFolder


def work(path: Path, resolve: Callable[[str], Path]) -> int:
    """Train the run in `path` to its end, or go on where it stopped; give the exit code."""
    folder = RunFolder(path)
    try:
        ended = _train(folder, resolve)
    except TriptychError as error:
        print(error, file=sys.stderr, flush=True)
        _note_failure(folder, str(error))
        return error.exit_code
    except Exception:  # boundary: run worker
        traceback.print_exc()
        _note_failure(folder, traceback.format_exc().strip().splitlines()[-1])
        return 1
    return 0 if ended in ("finished", "stopped") else 1


def _train(folder: RunFolder, resolve: Callable[[str], Path]) -> str:
    from triptych.lm.train.console import Console
    from triptych.lm.train.follow import follow
    from triptych.lm.train.trainer import Trainer

    if folder.config.exists():
        trainer = Trainer.resume(folder.path)
    else:
        request = _request(folder)
        trainer = Trainer(
            read_config(request["config"]),
            folder.path,
            resolve=resolve,
            parent=request.get("parent"),
        )
    return follow(trainer, [Console()])


def _request(folder: RunFolder) -> dict[str, Any]:
    import json

    path = folder.path / "request.json"
    if not path.exists():
        raise RunError(f"{folder.path} holds no request", hint="start one: triptych runs start")
    request: dict[str, Any] = json.loads(path.read_bytes())
    return request


def _note_failure(folder: RunFolder, message: str) -> None:
    folder.update_record(state="failed", state_message=message)
