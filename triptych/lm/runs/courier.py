"""Look after one run that trains elsewhere: send it out, mirror it, ask it to stop, bring it home.

The courier is to a run elsewhere what a worker is to a run here: a process of its own, started
by the supervisor, asked to stop by SIGTERM. It may die at any moment; the job goes on, and the
next courier finds it by its name in `job.json`. Left out: the training (`outpost`).
"""

from __future__ import annotations

import json
import signal
import sys
import tempfile
import threading
import time
from pathlib import Path
from types import FrameType
from typing import Any

from triptych.durable import AppendLog
from triptych.errors import DataError, HubError, HubUnavailable, TriptychError
from triptych.lm.runs.elsewhere import (
    EVENT,
    ORDERS_FILE,
    SENT,
    Job,
    Place,
    Seen,
    heard,
    packed,
    unpack,
)
from triptych.lm.runs.worker import note
from triptych.lm.train.folder import RunFolder

TURN_S = 1.0
PATIENCE_S = 60.0
# Goes into the folder of the run elsewhere, for a start that is a folder here.
START = "init"
# Which documents a corpus was made of is not needed to learn from it.
_LEFT_HOME = ("documents",)
_ENDED = ("finished", "stopped", "failed")


def carry(path: Path, place: Place) -> int:
    """Look after the run in `path` until its job is over; give the exit code."""
    folder = RunFolder(path)
    begun = folder.config.exists()
    try:
        with folder.lock():
            return Courier(folder, place).run()
    except HubUnavailable as error:
        print(error, file=sys.stderr, flush=True)  # whoever supervises may try again
        return error.exit_code
    except TriptychError as error:
        print(error, file=sys.stderr, flush=True)
        if error.code != "in_use":
            note(folder, error, begun=begun)
        return error.exit_code


class Courier:
    """Carry one run."""

    def __init__(self, folder: RunFolder, place: Place) -> None:
        self.folder = folder
        self.place = place
        request = json.loads((folder.path / "request.json").read_bytes())
        self._train: dict[str, Any] = request["config"]["train"]
        # Where a job is to be stopped already, the next signal is the second asking.
        self._asked = 0 if self._wanted() == "run" else 1
        self._awake = threading.Event()
        self._news = threading.Event()
        self._over = threading.Event()
        self._files = threading.Lock()
        self._fresh = False
        self._log: AppendLog | None = None

    def run(self) -> int:
        """Find or start the job and stay with it to its end."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._hear_signal)
        job = Job.of(self.folder.path)
        if job is None or job.over:
            if self._wanted() != "run":
                return 0
            job = self._patiently()
            job.write(self.folder.path)
        listener = threading.Thread(target=self._listen, args=(job.name,), daemon=True)
        listener.start()
        seen = self._stay_with(job.name)
        self._over.set()
        listener.join(timeout=10.0)
        self._bring_home()
        self._settle(seen)
        Job(job.name, over=True).write(self.folder.path)
        return 0

    def _patiently(self) -> Job:
        """Send the run out; a hub that is away for a moment is waited for."""
        until = time.monotonic() + PATIENCE_S
        while True:
            try:
                # A courier that died between starting a job and noting it left one to find.
                found = self.place.find(self.folder.path.name)
                return Job(found or self._send_out())
            except HubUnavailable:
                if time.monotonic() > until or self._asked:
                    raise
                self._awake.wait(TURN_S)

    def _send_out(self) -> str:
        data = Path(self._train["data"] or "")
        try:
            fingerprint = json.loads((data / "manifest.json").read_bytes())["fingerprint"]
        except (FileNotFoundError, NotADirectoryError) as error:
            raise DataError(
                f"{data} is no corpus", hint="build one with `triptych data build SOURCE --out DIR`"
            ) from error
        corpus = f"corpus-{fingerprint[:16]}"
        if "manifest.json" not in self.place.names(corpus):
            print(f"sending the corpus {data.name}", flush=True)
            self.place.put(corpus, _tree(data, leave=_LEFT_HOME), "")
        files = packed(self.folder)
        files["request.json"] = self.folder.path / "request.json"
        start = Path(self._train.get("init_from") or "")
        if start.is_dir() and start.name:
            sent = _tree(start, leave=("optimizer.safetensors",))
            files |= {f"{START}/{name}": file for name, file in sent.items()}
        files[ORDERS_FILE] = json.dumps({"format_version": 1, "corpus": corpus}).encode()
        self.place.put(self.folder.path.name, files, "checkpoints/")
        return self.place.start(self.folder.path.name)

    def _stay_with(self, job: str) -> Seen:
        told = ""
        while True:
            try:
                wanted = self._wanted()
                if wanted == "run" and self._asked:
                    wanted = "pause"
                if wanted not in ("run", told):
                    self.place.ask(job, wanted)
                    told = wanted
                if self._asked > 1:
                    self.place.end(job)
                seen = self.place.look(job)
                if seen.over:
                    return seen
                if self._news.is_set():
                    self._news.clear()
                    self._bring()
            except HubError as error:
                # The job goes on without us; what was missed is brought later.
                print(f"{error}; trying again", file=sys.stderr, flush=True)
                self._awake.wait(5 * TURN_S)
            self._awake.wait(TURN_S)
            self._awake.clear()

    def _listen(self, job: str) -> None:
        """Follow the job's output; what is heard twice is known by its position."""
        while not self._over.is_set():
            try:
                for line in self.place.lines(job):
                    self._hear(line.rstrip("\n"))
                return
            except HubError:
                self._over.wait(TURN_S)

    def _hear(self, line: str) -> None:
        word = line.partition(" ")[0]
        if word == EVENT:
            said = heard(line)
            if said is not None:
                self._append(*said)
        elif word == SENT:
            self._fresh = True
            self._news.set()
        elif self._fresh or not self.folder.config.exists():
            print(line, flush=True)

    def _append(self, position: int, event: dict[str, Any]) -> None:
        with self._files:
            # Opening it cuts off what a killed courier left unfinished.
            self._log = self._log or AppendLog(self.folder.events)
            if position == self.folder.events.stat().st_size:
                self._fresh = True
                self._log.append(event)

    def _bring_home(self) -> None:
        while True:
            try:
                return self._bring()
            except HubError as error:
                print(f"{error}; trying again", file=sys.stderr, flush=True)
                self._awake.wait(5 * TURN_S)
                self._awake.clear()

    def _bring(self) -> None:
        name, places = self.folder.path.name, self.folder.checkpoints
        present = [f"checkpoints/{path.name}/*" for path in places.glob("step-*")]
        with tempfile.TemporaryDirectory(prefix=".arriving-", dir=self.folder.path) as temporary:
            self.place.get(name, Path(temporary), [*present, "request.json", f"{START}/*"])
            names = self.place.names(name)  # asked last: what is not in it now was let go
            with self._files:
                self._close_log()  # another file may take its place
                unpack(Path(temporary), names, self.folder, Path(self._train["data"]))

    def _close_log(self) -> None:
        if self._log is not None:
            self._log.close()
            self._log = None

    def _settle(self, seen: Seen) -> None:
        """Say what an end means that the trainer itself could not tell about."""
        record = self.folder.read_record() if self.folder.record.exists() else {}
        if record.get("state") in _ENDED:
            return
        message = seen.message or "the job ended before the run did"
        print(message, file=sys.stderr, flush=True)
        if seen.ended_by_hand:
            message = "the job was cancelled where it ran; resume goes on from the last checkpoint"
            self.folder.update_record(state="stopped", state_message=message)
        else:
            self.folder.update_record(state_message=message)

    def _wanted(self) -> str:
        return str(json.loads((self.folder.path / "control.json").read_bytes())["wanted"])

    def _hear_signal(self, number: int, frame: FrameType | None) -> None:
        """Ask at the first signal, end the job at the second."""
        self._asked += 1
        self._awake.set()


def _tree(folder: Path, leave: tuple[str, ...]) -> dict[str, bytes | Path]:
    return {
        path.relative_to(folder).as_posix(): path
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.relative_to(folder).parts[0] not in leave
    }
