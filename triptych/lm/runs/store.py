"""The folder of runs: create, find, list, annotate, delete.

A run folder is the trainer's (`lm/train/folder`) plus four small files::

    request.json   the configuration, the user and the backend; written once
    control.json   the desired state, and the ticket that counts requests to run
    worker.json    the process that was started, and for which ticket
    notes.json     name, notes and tags that a user may change

Left out: which request is allowed in which state (`control`), and processes (`supervisor`).
"""

from __future__ import annotations

import fcntl
import json
import re
import shutil
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from triptych.config import Config
from triptych.config.loader import to_dict
from triptych.durable import FolderLock, atomic_folder, write_atomic
from triptych.errors import RunError
from triptych.lm.runs.remote.protocol import Job
from triptych.lm.runs.states import ENDED, LIVE, DesiredState, RunState, derive
from triptych.lm.train.folder import new_run_id
from triptych.processes import Child
from triptych.wire.run_events import last_step

FORMAT_VERSION = 1
_RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,119}")


def shaping(config: Config) -> dict[str, Any]:
    """Return the sections of a configuration that belong to a run: model, train, evaluate."""
    sections = to_dict(config)
    return {name: sections[name] for name in ("model", "train", "evaluate")}


@dataclass(frozen=True, kw_only=True)
class Request:
    """The request for a new run. The same `key` by the same user never starts twice."""

    config: Mapping[str, Any]
    user: str = "local"
    name: str = ""
    key: str = ""
    backend: str = "local"
    parent: Mapping[str, Any] | None = None
    sweep: str = ""
    format_version: int = FORMAT_VERSION

    @classmethod
    def of(cls, config: Config, **fields: Any) -> Request:
        """Return a request for a run with this configuration."""
        fields.setdefault("backend", config.runs.backend)
        return cls(config=shaping(config), **fields)


@dataclass(frozen=True, kw_only=True)
class Run:
    """A run as it was when it was read.

    Units: `*_s` are Unix seconds.
    """

    run_id: str
    path: Path
    state: RunState
    user: str
    name: str
    step: int
    steps: int | None
    message: str
    created_s: float
    updated_s: float
    request: Mapping[str, Any] = field(repr=False)
    record: Mapping[str, Any] = field(repr=False)
    control: Mapping[str, Any] = field(repr=False)
    worker: Mapping[str, Any] = field(repr=False)
    notes: Mapping[str, Any] = field(repr=False)

    @property
    def child(self) -> Child | None:
        """Return the worker's process, or None where none was ever started."""
        return Child.from_dict(dict(self.worker)) if "pid" in self.worker else None

    @property
    def job_open(self) -> bool:
        """Return whether a remote job may still train this run."""
        job = Job.of(self.path)
        return job is not None and not job.over

    @property
    def newest_checkpoint(self) -> str:
        """Return the name of the newest checkpoint folder, or an empty string."""
        pointer = self.path / "checkpoints" / "latest"
        return pointer.read_text(encoding="utf-8").strip() if pointer.is_file() else ""

    def summary(self) -> dict[str, Any]:
        """Return what a list or an API shows, without paths and configuration."""
        hidden = ("path", "request", "record", "control", "worker")
        return {name: value for name, value in asdict(self).items() if name not in hidden}


class RunStore:
    """All runs of one machine, in one folder."""

    def __init__(self, root: Path) -> None:
        self.root = Path(root)
        self._ended: dict[str, tuple[int, Run]] = {}

    def create(self, request: Request) -> Run:
        """Make a run folder and queue it; a repeated request returns the run it already made.

        Raises: RunError when the name is not usable.
        """
        with FolderLock(self.root / ".create.lock").wait():
            if request.key:
                for run in self.list(user=request.user):
                    if run.request.get("key") == request.key:
                        return run
            name = slug(request.name) or "run"
            run_id = new_run_id(name)
            while (self.root / run_id).exists():  # same second, same random digits
                run_id = new_run_id(name)
            with atomic_folder(self.root / run_id) as folder:
                _write(folder / "request.json", {**asdict(request), "created_s": time.time()})
                _write(folder / "control.json", desired_state("run", 1, request.user))
                _write(folder / "notes.json", {"name": request.name, "notes": "", "tags": []})
        return self.get(run_id)

    def path(self, run_id: str) -> Path:
        """Return a run's folder; the name is checked, so it never leaves the store.

        Raises: RunError for a name that is not a run id, or a run that does not exist.
        """
        if not _RUN_ID.fullmatch(run_id) or ".." in run_id:
            raise RunError(f"{run_id!r} is not a run id", hint="see `triptych runs list`")
        folder = self.root / run_id
        if not folder.is_dir():
            raise RunError(
                f"no run {run_id}", hint="see `triptych runs list`", code="run_not_found"
            )
        return folder

    def get(self, run_id: str) -> Run:
        """Read one run as it is now."""
        return _read_run(self.path(run_id))

    def list(self, *, user: str | None = None) -> list[Run]:
        """Return all runs, newest first; ended runs are cached until their files change."""
        runs = [run for run in self._all() if user is None or run.user == user]
        return sorted(runs, key=lambda run: run.created_s, reverse=True)

    def annotate(self, run_id: str, **changes: Any) -> Run:
        """Change name, notes or tags."""
        path = self.path(run_id)
        _write(path / "notes.json", {**_load(path / "notes.json"), **changes})
        return self.get(run_id)

    def delete(self, run_id: str) -> None:
        """Delete a run and everything in it.

        Raises: RunError while its worker is alive.
        """
        run = self.get(run_id)
        if run.state in LIVE:
            raise RunError(
                f"run {run_id} is {run.state}", hint=f"first: triptych runs cancel {run_id}"
            )
        # Renamed first: a crash half-way leaves no run with half of its files.
        doomed = self.root / f".deleted-{run_id}"
        run.path.rename(doomed)
        shutil.rmtree(doomed)

    def _all(self) -> Iterator[Run]:
        if not self.root.is_dir():
            return
        for folder in self.root.iterdir():
            if folder.name.startswith(".") or not folder.is_dir():
                continue
            changed_ns = _changed_ns(folder)
            known = self._ended.get(folder.name)
            if known and known[0] == changed_ns:
                yield known[1]
                continue
            if not (folder / "run.json").exists() and not (folder / "request.json").exists():
                continue
            run = _read_run(folder)
            if run.state in ENDED:
                self._ended[folder.name] = (changed_ns, run)
            yield run


def desired_state(wanted: DesiredState, ticket: int, by: str) -> dict[str, Any]:
    """Return the contents of `control.json`: the desired state, its ticket, and who set it."""
    return {"wanted": wanted, "ticket": ticket, "by": by, "time_s": time.time()}


def slug(text: str) -> str:
    """Return a name fit for a folder: `My run!` becomes `my-run`."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:40]


def write_control(path: Path, values: Mapping[str, Any]) -> None:
    """Replace `control.json`."""
    _write(path / "control.json", values)


def write_request(path: Path, values: Mapping[str, Any]) -> None:
    """Replace `request.json`."""
    _write(path / "request.json", values)


def write_worker(path: Path, values: Mapping[str, Any]) -> None:
    """Replace `worker.json`."""
    _write(path / "worker.json", values)


def _read_run(path: Path) -> Run:
    request, record = _load(path / "request.json"), _load(path / "run.json")
    control, worker = _load(path / "control.json"), _load(path / "worker.json")
    notes = _load(path / "notes.json")
    job = Job.of(path)
    state = derive(
        control or None,
        worker or None,
        record or None,
        alive=_alive(path, worker, record),
        job_open=job is not None and not job.over,
    )
    created_s = request.get("created_s") or path.stat().st_ctime
    return Run(
        run_id=path.name,
        path=path,
        state=state,
        user=request.get("user", "local"),
        name=notes.get("name") or request.get("name") or path.name,
        step=max(
            int(record.get("step", 0)), 0 if state in ENDED else last_step(path / "events.jsonl")
        ),
        steps=_steps(path),
        message=str(record.get("state_message", "")),
        created_s=created_s,
        updated_s=_changed_ns(path) / 1e9,
        request=request,
        record=record,
        control=control,
        worker=worker,
        notes=notes,
    )


def _alive(path: Path, worker: Mapping[str, Any], record: Mapping[str, Any]) -> bool:
    if "pid" in worker and Child.from_dict(dict(worker)).alive():
        return True
    # Started by `triptych train`: only the lock shows whether a process writes here.
    return record.get("state") in ("created", "running") and _locked(path / "run.lock")


def _locked(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except FileNotFoundError:
        return False
    return False


def _steps(path: Path) -> int | None:
    steps = (_load(path / "config.json").get("recipe") or {}).get("steps")
    return int(steps) if steps else None


def _changed_ns(path: Path) -> int:
    """Return the newest modification time of a run's small files."""
    newest = 0
    for name in ("run.json", "control.json", "worker.json", "notes.json"):
        try:
            newest = max(newest, (path / name).stat().st_mtime_ns)
        except FileNotFoundError:
            continue
    return newest


def _load(path: Path) -> dict[str, Any]:
    try:
        values: dict[str, Any] = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise RunError(f"{path} is not valid JSON", hint="the run folder is damaged") from error
    return values


def _write(path: Path, values: Mapping[str, Any]) -> None:
    write_atomic(path, json.dumps({"format_version": FORMAT_VERSION, **values}, indent=1) + "\n")
