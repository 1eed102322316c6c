"""Train a candidate on a data set: one session at a time, resumed after a kill, with its reason.

The training itself is `triptych train` in a process of its own. Left out: what a candidate has to
show before it is served (`gate`), and when a session is worth starting (`schedule`).
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from triptych.durable import AppendLog, FolderLock, write_atomic
from triptych.errors import LearningError

FORMAT = 1
SESSION_FILE = "session.json"
SESSIONS_FILE = "sessions.jsonl"
FEWEST_ROWS = 10
PAUSE_BETWEEN_S = 7 * 86_400.0
SessionState = Literal["running", "paused", "done", "failed", "skipped"]
Method = Literal["sft", "dpo", "kto"]


@dataclass(frozen=True)
class Session:
    """One training of one tier: on which data set, as which run, how it ended and why."""

    dataset: str
    method: str
    base: str
    run: str
    state: SessionState = "running"
    reason: str = ""
    started_at: float = 0.0
    ended_at: float = 0.0
    machine_s: float = 0.0


def newest_dataset(folder: Path, name: str | None = None) -> Path:
    """Return the newest data set of a place, or the one whose hash begins with `name`.

    Raises: LearningError where there is none.
    """
    sets = sorted((folder / "datasets").glob("*/manifest.json"), key=lambda f: f.stat().st_mtime)
    found = [one.parent for one in sets if one.parent.name.startswith(name or "")]
    if not found:
        raise LearningError(
            "there is no data set" + (f" {name!r}" if name else ""),
            hint="make one: triptych learn dataset",
        )
    return found[-1]


def read_session(folder: Path) -> Session | None:
    """Return the last session of a place; None where there was none."""
    try:
        values = json.loads((folder / SESSION_FILE).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    values.pop("format", None)
    return Session(**values)


def why_not(
    folder: Path, dataset: Path, method: Method, *, force: bool, now: float
) -> tuple[SessionState, str] | None:
    """Return why no session starts on a data set, and how that counts; None where one may."""
    manifest = json.loads((dataset / "manifest.json").read_text(encoding="utf-8"))
    rows = _rows(dataset / f"{method}.jsonl")
    if rows < FEWEST_ROWS:
        return "failed", f"{rows} rows of {method}; at least {FEWEST_ROWS} are needed"
    minimum = int(manifest["options"]["minimum_rows"])
    if rows < minimum and not force:
        return "skipped", (
            f"{rows} rows of {method}; training is worth it from {minimum}: needs {minimum - rows} "
            "more"
        )
    last = read_session(folder)
    if last is not None and last.state == "done" and not force:
        if last.dataset == manifest["hash"] and last.method == method:
            return "skipped", "the newest data set is trained on already"
        days = (now - last.ended_at) / 86_400
        if days < PAUSE_BETWEEN_S / 86_400:
            return "skipped", f"the last training ended {days:.1f} days ago; 7 are kept between"
    return None


def train(
    folder: Path,
    dataset: Path,
    base: str,
    run: Path,
    *,
    method: Method = "sft",
    settings: Sequence[str] = (),
    force: bool = False,
    busy: Callable[[], bool] = lambda: False,
    poll_s: float = 1.0,
) -> Session:
    """Train an adapter on a data set and return how the session ended.

    A session that was killed is resumed as the same run. While `busy` is true the trainer is
    stopped at a checkpoint, and goes on afterwards.

    Raises: StorageError where another session of this place is under way.
    """
    with FolderLock(folder / "session.lock"):
        manifest = json.loads((dataset / "manifest.json").read_text(encoding="utf-8"))
        last = read_session(folder)
        now = time.time()
        if last is not None and last.state in ("running", "paused"):
            session = replace(last, state="running")
        else:
            session = Session(manifest["hash"], method, base, str(run), started_at=now)
            refused = why_not(folder, dataset, method, force=force, now=now)
            if refused is not None:
                return _write(
                    folder, replace(session, state=refused[0], reason=refused[1], ended_at=now)
                )
        _write(folder, session)
        words = _words(session, dataset, settings)
        return _followed(folder, session, words, busy, poll_s)


def _followed(
    folder: Path, session: Session, words: list[str], busy: Callable[[], bool], poll_s: float
) -> Session:
    """Run the trainer until it ends; stop it at a checkpoint while the machine is needed."""
    while True:
        if busy():
            session = _write(folder, replace(session, state="paused", reason="the machine serves"))
            while busy():
                time.sleep(poll_s)
            session = _write(folder, replace(session, state="running", reason=""))
        started_s = time.monotonic()
        command = [sys.executable, "-m", "triptych", "train", "--quiet", *words]
        with (folder / "train.log").open("ab") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log)
            stopped = _wait(process, busy, poll_s)
        session = replace(session, machine_s=session.machine_s + time.monotonic() - started_s)
        words = ["--resume", session.run]
        if stopped and process.returncode == 0:
            continue
        now = time.time()
        if process.returncode != 0:
            last = (folder / "train.log").read_text(errors="replace").strip().splitlines()[-3:]
            return _write(
                folder, replace(session, state="failed", reason=" ".join(last), ended_at=now)
            )
        return _write(folder, replace(session, state="done", reason="", ended_at=now))


def _wait(process: subprocess.Popen[bytes], busy: Callable[[], bool], poll_s: float) -> bool:
    """Wait for the trainer; return whether it was asked to stop."""
    asked = False
    try:
        while process.poll() is None:
            if not asked and busy():
                process.send_signal(signal.SIGTERM)
                asked = True
            time.sleep(poll_s)
    except BaseException:
        process.send_signal(signal.SIGTERM)
        process.wait()
        raise
    return asked


def _words(session: Session, dataset: Path, settings: Sequence[str]) -> list[str]:
    if (Path(session.run) / "config.json").exists():
        return ["--resume", session.run]
    return [
        "--method", session.method, "--adapter", "lora", "--run-dir", session.run,
        f"train.init_from={session.base}", f"train.data={dataset / (session.method + '.jsonl')}",
        *settings,
    ]  # fmt: skip


def _rows(file: Path) -> int:
    with file.open("rb") as lines:
        return sum(1 for line in lines if line.strip())


def _write(folder: Path, session: Session) -> Session:
    values: dict[str, Any] = {"format": FORMAT, **asdict(session)}
    write_atomic(folder / SESSION_FILE, json.dumps(values, indent=1, sort_keys=True) + "\n")
    if session.ended_at:
        with AppendLog(folder / SESSIONS_FILE) as log:
            log.append(values)
    return session
