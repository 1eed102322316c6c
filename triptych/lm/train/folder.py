"""The run folder: where a run keeps its resolved config, record, events and checkpoints.

::

    config.json    the resolved config and recipe; written once, then only read
    run.json       the record: its data, machine, parent and state
    events.jsonl   every event, appended; `wire/run_events.py` reads it
    checkpoints/   step folders, and the pointer files `latest` and `best`
    run.lock       locked by the one live process that may write here

Left out: what the files in a checkpoint mean (`checkpoints`) and queues of runs (`lm/runs`).
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from triptych.durable import AppendLog, FolderLock, write_atomic
from triptych.errors import RunError
from triptych.lm.train.events import Event, State

FORMAT_VERSION = 1


class RunFolder:
    """The paths in a run folder; reads and writes its two small JSON files."""

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        self.config = self.path / "config.json"
        self.record = self.path / "run.json"
        self.events = self.path / "events.jsonl"
        self.checkpoints = self.path / "checkpoints"

    def lock(self) -> FolderLock:
        """Return the lock that one live process holds while it writes here."""
        return FolderLock(self.path / "run.lock")

    def read_config(self) -> dict[str, Any]:
        """Read the resolved config.

        Raises: RunError where this is not a run folder, or has a newer format.
        """
        return _read(self.config)

    def read_record(self) -> dict[str, Any]:
        """Read the record.

        Raises: RunError as for `read_config`.
        """
        return _read(self.record)

    def write_config(self, values: Mapping[str, Any]) -> None:
        """Write the resolved config."""
        write_atomic(self.config, _json({"format_version": FORMAT_VERSION, **values}))

    def update_record(self, **changes: Any) -> None:
        """Write the record with some fields changed."""
        record = _read(self.record) if self.record.exists() else {}
        write_atomic(self.record, _json({"format_version": FORMAT_VERSION, **record, **changes}))


class EventLog:
    """Append every event to `events.jsonl` and keep the state in `run.json`."""

    def __init__(self, folder: RunFolder) -> None:
        self._folder = folder
        self._log = AppendLog(folder.events)

    def __call__(self, event: Event) -> None:
        """Write one event."""
        self._log.append(event.record())
        if isinstance(event, State):
            self._folder.update_record(
                state=event.state,
                state_message=event.message,
                step=event.step,
                updated_at=timestamp(event.time_s),
            )

    def close(self) -> None:
        """Sync and close."""
        self._log.close()


def new_run_id(name: str) -> str:
    """Return a new identifier: date, time, name and four random digits; sorts by time."""
    return f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{name}-{secrets.token_hex(2)}"


def timestamp(time_s: float | None = None) -> str:
    """Return a time, now by default, as ISO 8601 in UTC."""
    moment = datetime.fromtimestamp(time.time() if time_s is None else time_s, UTC)
    return moment.isoformat(timespec="milliseconds")


def _read(path: Path) -> dict[str, Any]:
    try:
        values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise RunError(
            f"{path.parent} is not a run folder: it has no {path.name}",
            hint="`triptych runs list` names the runs; `triptych train CONFIG` starts one",
        ) from error
    except ValueError as error:
        raise RunError(
            f"{path} is not valid JSON: {error}",
            hint="the file is damaged; the run cannot be resumed",
        ) from error
    version = values.get("format_version")
    if version != FORMAT_VERSION:
        raise RunError(
            f"{path} has format {version}, this version reads {FORMAT_VERSION}",
            hint="use the version of triptych that wrote it",
        )
    return values


def _json(values: Mapping[str, Any]) -> str:
    return json.dumps(values, indent=2, ensure_ascii=False) + "\n"
