"""Training elsewhere: what the two ends of a run on other machines agree on.

A place elsewhere runs commands as jobs and keeps folders that both ends reach. The run folder
travels: `courier`, here, sends it out, mirrors what happens and brings home what is new;
`outpost`, there, trains in its copy as any worker does. Events travel in the job's output, one a
line, each with its position in `events.jsonl`; a line that was lost, cut or repeated is noticed
by that position, and the copy of the file that comes with every checkpoint fills the gap. Left
out: what a place is (`hub/jobs` is one; it is handed in).
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
ORDERS_FILE = "orders.json"
FORMAT_VERSION = 1
_REPORTS = ("report.md", "report.json", "loss.png")


class Seen(Protocol):
    """What a place says of a job."""

    @property
    def over(self) -> bool:
        """Tell whether it has ended."""
        ...

    @property
    def ended_by_hand(self) -> bool:
        """Tell whether somebody cancelled it."""
        ...

    @property
    def message(self) -> str:
        """Give the place's own words on it, if it has any."""
        ...

    @property
    def wanted(self) -> str:
        """Give what was last asked of it: run, pause or cancel."""
        ...


class Place(Protocol):
    """Where jobs run and folders are kept, both named by words. Every call may raise HubError."""

    def names(self, folder: str) -> Collection[str]:
        """List the files of a folder; none where there is no such folder."""
        ...

    def put(self, folder: str, files: Mapping[str, bytes | Path], stale: str) -> None:
        """Write files in one step; delete others whose names begin with `stale`, if that is set."""
        ...

    def get(self, folder: str, into: Path, leave: Sequence[str] = ()) -> None:
        """Bring a folder's files here, except those that match a pattern of `leave`."""
        ...

    def find(self, run_id: str) -> str | None:
        """Name the job of a run that waits or runs, if there is one."""
        ...

    def start(self, run_id: str) -> str:
        """Let a job train what is in the folder of that name; return the job's name."""
        ...

    def look(self, job: str) -> Seen:
        """Say where a job stands."""
        ...

    def lines(self, job: str) -> Iterator[str]:
        """Yield a job's output from its beginning, as it is written, until the job is over."""
        ...

    def ask(self, job: str, wanted: str) -> None:
        """Tell a job to pause or to cancel what it trains; it listens when it can."""
        ...

    def end(self, job: str) -> None:
        """End a job at once."""
        ...


@dataclass(frozen=True)
class Job:
    """The job that trains a run. Until `over` is written, it may still be at work somewhere."""

    name: str
    over: bool = False

    @classmethod
    def of(cls, path: Path) -> Job | None:
        """Read the job of a run folder, if it ever had one."""
        try:
            values = json.loads((path / JOB_FILE).read_bytes())
        except FileNotFoundError:
            return None
        return cls(values["name"], values["over"])

    def write(self, path: Path) -> None:
        """Write the job into a run folder."""
        text = json.dumps({"format_version": FORMAT_VERSION, **asdict(self)})
        write_atomic(path / JOB_FILE, text + "\n")


def spoken(position: int, line: bytes) -> str:
    """Write an event of the log, which begins at a position, as a line of a job's output."""
    return f"{EVENT} {position} {line.decode().rstrip()}"


def heard(text: str) -> tuple[int, dict[str, Any]] | None:
    """Read an event and its position from a line of output; None where it is cut or is none."""
    _, position, event = (*text.split(" ", 2), "", "")[:3]
    try:
        return int(position), json.loads(event)
    except ValueError:
        return None


def packed(folder: RunFolder) -> dict[str, bytes | Path]:
    """Name all that a run folder says and keeps, as it is at this moment."""
    files: dict[str, bytes | Path] = {}
    for path in (folder.config, folder.record, folder.events):
        if path.exists():
            # Read now, because they change while they travel; of the log, its whole lines.
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


def unpack(source: Path, names: Collection[str], folder: RunFolder, data: Path) -> None:
    """Take over what came: events that are more, checkpoints that are new, and the record last.

    `names` are all files of the sender; checkpoints that it no longer has are let go.
    """
    arrived = source / folder.events.name
    if arrived.exists() and arrived.stat().st_size > _size(folder.events):
        write_atomic(folder.events, arrived.read_bytes())
    kept = {name.split("/")[1] for name in names if name.startswith("checkpoints/step-")}
    for checkpoint in sorted((source / "checkpoints").glob("step-*")):
        if not (folder.checkpoints / checkpoint.name).exists():
            with atomic_folder(folder.checkpoints / checkpoint.name) as temporary:
                shutil.copytree(checkpoint, temporary, dirs_exist_ok=True)
    for name in ("checkpoints/latest", "checkpoints/best", *_REPORTS):
        if (source / name).exists():
            write_atomic(folder.path / name, (source / name).read_bytes())
    for checkpoint in folder.checkpoints.glob("step-*"):
        if kept and checkpoint.name not in kept:
            shutil.rmtree(checkpoint, ignore_errors=True)
    if (source / folder.config.name).exists():
        write_atomic(folder.config, moved(source / folder.config.name, data))
    if (source / folder.record.name).exists():
        write_atomic(folder.record, (source / folder.record.name).read_bytes())


def moved(file: Path, data: Path, start: Path | None = None) -> str:
    """Give a config or a request that names where corpus and start lie on this machine."""
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
