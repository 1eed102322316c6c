"""What both ends of a remote run agree on: the backend's interface, event lines, files.

A backend runs commands as jobs and keeps folders that both ends can read and write. The run
folder is copied: `controller`, here, sends it, mirrors events and fetches new checkpoints;
`entrypoint`, in the job, trains in its copy as any worker does. Events are printed to the job's
output, one a line, each with its byte position in `events.jsonl`; a line that was lost, cut or
repeated is noticed by that position, and the copy of the file that comes with every checkpoint
fills the gap. Left out: the backend itself (`hub/jobs` is one; it is handed in).
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

from triptych.durable import atomic_folder, write_atomic
from triptych.errors import RunError
from triptych.lm.train.folder import RunFolder

EVENT, SENT = "event", "sent"
JOB_FILE = "job.json"
JOB_SPEC_FILE = "job_spec.json"
# A checkpoint folder to start from is sent as this folder of the run.
START = "init"
FORMAT_VERSION = 1
_REPORTS = ("report.md", "report.json", "loss.png")


class JobStatus(Protocol):
    """The status of a job, as its backend reports it."""

    @property
    def over(self) -> bool:
        """Return whether it has ended."""
        ...

    @property
    def cancelled(self) -> bool:
        """Return whether it was cancelled at the backend, not through this run."""
        ...

    @property
    def message(self) -> str:
        """Return the backend's own message, or nothing."""
        ...

    @property
    def desired_state(self) -> str:
        """Return what the job was last asked to do: run, pause or cancel."""
        ...


class JobBackend(Protocol):
    """Jobs and folders on other machines.

    Raises: HubError where it cannot be reached or refuses; every call may be repeated.
    """

    def names(self, folder: str) -> Collection[str]:
        """List the files of a folder; empty where there is no such folder."""
        ...

    def put(self, folder: str, files: Mapping[str, bytes | Path], stale: str) -> None:
        """Write files in one commit; delete others whose names begin with `stale`."""
        ...

    def get(self, folder: str, into: Path, leave: Sequence[str] = ()) -> None:
        """Download a folder's files, except those that match a pattern of `leave`."""
        ...

    def find(self, run_id: str) -> str | None:
        """Return the name of a run's waiting or running job, or None."""
        ...

    def start(self, run_id: str) -> str:
        """Start a job that trains the run in the folder of that name; return the job's name."""
        ...

    def status(self, job: str) -> JobStatus:
        """Return the status of a job."""
        ...

    def lines(self, job: str) -> Iterator[str]:
        """Yield a job's output from its beginning, as it is written, until the job is over."""
        ...

    def set_desired_state(self, job: str, desired_state: str) -> None:
        """Ask a job to pause or to cancel its training; it reads this every few seconds."""
        ...

    def end(self, job: str) -> None:
        """Cancel a job at once."""
        ...


@dataclass(frozen=True)
class Job:
    """The job that trains a run. Until `over` is written, it may still be training."""

    name: str
    over: bool = False

    @classmethod
    def of(cls, path: Path) -> Job | None:
        """Read the job of a run folder, or None where it never had one."""
        try:
            values = json.loads((path / JOB_FILE).read_bytes())
        except FileNotFoundError:
            return None
        return cls(values["name"], values["over"])

    def write(self, path: Path) -> None:
        """Write the job into a run folder."""
        text = json.dumps({"format_version": FORMAT_VERSION, **asdict(self)})
        write_atomic(path / JOB_FILE, text + "\n")


def encode_event(position: int, line: bytes) -> str:
    """Return a line of `events.jsonl`, with its byte position, as a line of a job's output."""
    return f"{EVENT} {position} {line.decode().rstrip()}"


def decode_event(text: str) -> tuple[int, dict[str, Any]] | None:
    """Return position and event from a line of output; None where the line is cut or another."""
    _, position, event = (*text.split(" ", 2), "", "")[:3]
    try:
        return int(position), json.loads(event)
    except ValueError:
        return None


def files_to_send(folder: RunFolder) -> dict[str, bytes | Path]:
    """Return all files of a run folder that the other end needs, as they are now."""
    files: dict[str, bytes | Path] = {}
    for path in (folder.config, folder.record, folder.events):
        if path.exists():
            # Read now, because they change during the upload; only whole lines of the log.
            content = path.read_bytes()
            files[path.name] = content[: content.rfind(b"\n") + 1]
    for name in _REPORTS:
        if (folder.path / name).exists():
            files[name] = folder.path / name
    for pointer in ("latest", "best"):
        path = folder.checkpoints / pointer
        if path.exists():
            files[f"checkpoints/{pointer}"] = path.read_bytes()
    for path in sorted(folder.checkpoints.glob("step-*/*")):
        if path.parent.name.removeprefix("step-").isdigit():
            files[f"checkpoints/{path.parent.name}/{path.name}"] = path
    return files


def apply_received(source: Path, names: Collection[str], folder: RunFolder, data: Path) -> None:
    """Update a run folder from a download: more events, new checkpoints, and the record last.

    `names` are all files of the sender; checkpoints that it has deleted are deleted here.
    """
    arrived = source / folder.events.name
    # The log only grows, so the longer copy contains the shorter one.
    if arrived.exists() and arrived.stat().st_size > _size(folder.events):
        write_atomic(folder.events, arrived.read_bytes())
    kept = {name.split("/")[1] for name in names if name.startswith("checkpoints/step-")}
    for checkpoint in sorted((source / "checkpoints").glob("step-*")):
        if not (folder.checkpoints / checkpoint.name).exists():
            with atomic_folder(folder.checkpoints / checkpoint.name) as temporary:
                shutil.copytree(checkpoint, temporary, dirs_exist_ok=True)
    # Pointers after the checkpoints they name, deletions after the pointers, the record last:
    # a kill between any two leaves a folder that is valid, only older.
    for name in ("checkpoints/latest", "checkpoints/best", *_REPORTS):
        if (source / name).exists():
            write_atomic(folder.path / name, (source / name).read_bytes())
    for checkpoint in folder.checkpoints.glob("step-*"):
        if kept and checkpoint.name not in kept:
            shutil.rmtree(checkpoint, ignore_errors=True)
    if (source / folder.config.name).exists():
        write_atomic(folder.config, with_local_paths(source / folder.config.name, data))
    if (source / folder.record.name).exists():
        write_atomic(folder.record, (source / folder.record.name).read_bytes())


def with_local_paths(file: Path, data: Path, start: Path | None = None) -> str:
    """Return a config or a request with the paths of corpus and start on this machine.

    Raises: RunError where the file names no corpus.
    """
    values = json.loads(file.read_bytes())
    try:
        train = values["config"]["train"]
    except KeyError as error:
        raise RunError(f"{file} names no corpus", hint="start the run again") from error
    train["data"] = str(data)
    if start is not None:
        train["init_from"] = str(start)
    return json.dumps(values, indent=2, ensure_ascii=False) + "\n"


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
