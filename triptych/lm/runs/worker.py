"""The process that trains one run: from a request to events, in a process group of its own.

The supervisor starts it, and it needs no other process: it reads its folder, trains, and writes
its folder. SIGTERM finishes the step, saves and ends. This is one of the three places that may
catch every exception, because a run that failed must have the reason in its record.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from triptych.durable import is_disk_full
from triptych.errors import RunError, StorageError, TriptychError
from triptych.lm.runs.control import read_config
from triptych.lm.train.folder import RunFolder

if TYPE_CHECKING:
    from triptych.lm.train.events import Event
    from triptych.lm.train.trainer import Trainer

Readers = Callable[["Trainer"], Sequence[Callable[["Event"], None]]]
"""Return more readers of a trainer's events, beside the log and the console."""


def work(path: Path, resolve: Callable[[str], Path], readers: Readers = lambda trainer: ()) -> int:
    """Train the run in `path` to its end, or continue where it stopped; return the exit code."""
    folder = RunFolder(path)
    begun = folder.config.exists()
    try:
        ended = _train(folder, resolve, readers)
    except TriptychError as error:
        if error.code != "in_use":  # another worker trains this run
            record_error(folder, error, begun=begun)
        _print(str(error))
        return error.exit_code
    except Exception as error:  # boundary: run worker
        trace = traceback.format_exc().strip()
        # A log or a library may be the first to find the disk full.
        state = "stopped" if is_disk_full(error) else "failed"
        with suppress(StorageError):
            folder.update_record(state=state, state_message=trace.splitlines()[-1])
        _print(trace)
        return 1
    return 0 if ended in ("finished", "stopped") else 1


def _print(text: str) -> None:
    with suppress(OSError):  # the log may be on a full disk
        print(text, file=sys.stderr, flush=True)


def _train(folder: RunFolder, resolve: Callable[[str], Path], readers: Readers) -> str:
    from triptych.lm.train.console import Console
    from triptych.lm.train.loop import run_to_end
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
    console = Console()
    return run_to_end(trainer, [console, *readers(trainer)], console.progress)


def _request(folder: RunFolder) -> dict[str, Any]:
    import json

    path = folder.path / "request.json"
    if not path.exists():
        raise RunError(f"{folder.path} has no request.json", hint="start one: triptych runs start")
    request: dict[str, Any] = json.loads(path.read_bytes())
    return request


def record_error(folder: RunFolder, error: TriptychError, *, begun: bool) -> None:
    """Write why a run ended: failed, or stopped where only the machine kept it from continuing."""
    failed = folder.record.exists() and folder.read_record().get("state") == "failed"
    resumable = error.code == "disk_full" or (begun and not failed)
    with suppress(StorageError):  # on a full disk not even this can be written
        folder.update_record(state="stopped" if resumable else "failed", state_message=str(error))
