"""Control one run that trains in a job: send it, mirror its events, stop it, fetch its results.

For a remote run the controller is what a worker is for a local one: a process of its own,
started by the supervisor, stopped by SIGTERM. It may die at any moment; the job goes on, and the
next controller finds it by its name in `job.json`. Left out: the training (`entrypoint`).
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
from triptych.lm.runs.remote.protocol import (
    EVENT,
    JOB_SPEC_FILE,
    SENT,
    START,
    Job,
    JobBackend,
    JobStatus,
    apply_received,
    decode_event,
    files_to_send,
)
from triptych.lm.runs.worker import record_error
from triptych.lm.train.folder import RunFolder

POLL_S = 1.0
RETRY_FOR_S = 60.0
# The documents a corpus was built from are not needed to train on it.
_NOT_SENT = ("documents",)
_ENDED = ("finished", "stopped", "failed")


def control_job(path: Path, backend: JobBackend) -> int:
    """Control the run in `path` until its job is over; return the exit code."""
    folder = RunFolder(path)
    begun = folder.config.exists()
    try:
        with folder.lock():
            return RemoteController(folder, backend).run()
    except HubUnavailable as error:
        print(error, file=sys.stderr, flush=True)  # the supervisor may try again
        return error.exit_code
    except TriptychError as error:
        print(error, file=sys.stderr, flush=True)
        if error.code != "in_use":
            record_error(folder, error, begun=begun)
        return error.exit_code


class RemoteController:
    """The local end of one remote run."""

    def __init__(self, folder: RunFolder, backend: JobBackend) -> None:
        self.folder = folder
        self.backend = backend
        request = json.loads((folder.path / "request.json").read_bytes())
        self._train: dict[str, Any] = request["config"]["train"]
        # Signals received. A job that shall stop already counts as asked once, so the next
        # signal ends it.
        self._stops = 0 if self._desired_state() == "run" else 1
        self._wake = threading.Event()
        self._uploaded = threading.Event()
        self._over = threading.Event()
        self._files = threading.Lock()
        # Whether the job's output has gone past what this folder holds already.
        self._caught_up = False
        self._log: AppendLog | None = None

    def run(self) -> int:
        """Find or start the job and control it to its end; return the exit code."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)
        job = Job.of(self.folder.path)
        if job is None or job.over:
            if self._desired_state() != "run":
                return 0
            job = self._find_or_start()
            job.write(self.folder.path)
        listener = threading.Thread(target=self._listen, args=(job.name,), daemon=True)
        listener.start()
        status = self._poll_until_over(job.name)
        self._over.set()
        listener.join(timeout=10.0)
        self._fetch_at_end()
        self._record_end(status)
        Job(job.name, over=True).write(self.folder.path)
        return 0

    def _find_or_start(self) -> Job:
        """Return the run's job, started where it has no job; retry while the hub is unreachable."""
        until = time.monotonic() + RETRY_FOR_S
        while True:
            try:
                # A controller killed after starting a job and before writing job.json leaves a
                # job that only the backend knows.
                found = self.backend.find(self.folder.path.name)
                return Job(found or self._send_and_start())
            except HubUnavailable:
                if time.monotonic() > until or self._stops:
                    raise
                self._wake.wait(POLL_S)

    def _send_and_start(self) -> str:
        data = Path(self._train["data"] or "")
        try:
            fingerprint = json.loads((data / "manifest.json").read_bytes())["fingerprint"]
        except (FileNotFoundError, NotADirectoryError) as error:
            raise DataError(
                f"{data} is not a corpus",
                hint="build one with `triptych data build SOURCE --out DIR`",
            ) from error
        corpus = f"corpus-{fingerprint[:16]}"
        if "manifest.json" not in self.backend.names(corpus):
            print(f"sending the corpus {data.name}", flush=True)
            self.backend.put(corpus, _tree(data, leave=_NOT_SENT), "")
        files = files_to_send(self.folder)
        files["request.json"] = self.folder.path / "request.json"
        start = Path(self._train.get("init_from") or "")
        if start.is_dir() and start.name:
            sent = _tree(start, leave=("optimizer.safetensors",))
            files |= {f"{START}/{name}": file for name, file in sent.items()}
        files[JOB_SPEC_FILE] = json.dumps({"format_version": 1, "corpus": corpus}).encode()
        self.backend.put(self.folder.path.name, files, "checkpoints/")
        return self.backend.start(self.folder.path.name)

    def _poll_until_over(self, job: str) -> JobStatus:
        sent = ""
        while True:
            try:
                desired = self._desired_state()
                if desired == "run" and self._stops:
                    desired = "pause"
                if desired not in ("run", sent):
                    self.backend.set_desired_state(job, desired)
                    sent = desired
                if self._stops > 1:
                    self.backend.end(job)
                status = self.backend.status(job)
                if status.over:
                    return status
                if self._uploaded.is_set():
                    self._uploaded.clear()
                    self._fetch()
            except HubError as error:
                # The job trains on without this process; what was missed is fetched later.
                print(f"{error}; trying again", file=sys.stderr, flush=True)
                self._wake.wait(5 * POLL_S)
            self._wake.wait(POLL_S)
            self._wake.clear()

    def _listen(self, job: str) -> None:
        """Read the job's output; a repeated line is known by its position."""
        while not self._over.is_set():
            try:
                for line in self.backend.lines(job):
                    self._read_line(line.rstrip("\n"))
                return
            except HubError:
                self._over.wait(POLL_S)

    def _read_line(self, line: str) -> None:
        word = line.partition(" ")[0]
        if word == EVENT:
            decoded = decode_event(line)
            if decoded is not None:
                self._append(*decoded)
        elif word == SENT:
            self._caught_up = True
            self._uploaded.set()
        elif self._caught_up or not self.folder.config.exists():
            print(line, flush=True)

    def _append(self, position: int, event: dict[str, Any]) -> None:
        with self._files:
            # Opening it cuts off a line that a killed controller left unfinished.
            self._log = self._log or AppendLog(self.folder.events)
            # Exactly the next byte: a smaller position repeats what is here, a larger one means
            # a lost line, which the uploaded log brings.
            if position == self.folder.events.stat().st_size:
                self._caught_up = True
                self._log.append(event)

    def _fetch_at_end(self) -> None:
        while True:
            try:
                return self._fetch()
            except HubError as error:
                print(f"{error}; trying again", file=sys.stderr, flush=True)
                self._wake.wait(5 * POLL_S)
                self._wake.clear()

    def _fetch(self) -> None:
        name, places = self.folder.path.name, self.folder.checkpoints
        present = [f"checkpoints/{path.name}/*" for path in places.glob("step-*")]
        with tempfile.TemporaryDirectory(prefix=".download-", dir=self.folder.path) as temporary:
            self.backend.get(name, Path(temporary), [*present, "request.json", f"{START}/*"])
            # Listed after the download: a checkpoint missing now was deleted by the job.
            names = self.backend.names(name)
            with self._files:
                self._close_log()  # the file may be replaced
                apply_received(Path(temporary), names, self.folder, Path(self._train["data"]))

    def _close_log(self) -> None:
        if self._log is not None:
            self._log.close()
            self._log = None

    def _record_end(self, status: JobStatus) -> None:
        """Write the state of a run whose trainer ended without writing it."""
        record = self.folder.read_record() if self.folder.record.exists() else {}
        if record.get("state") in _ENDED:
            return
        message = status.message or "the job ended before the run did"
        print(message, file=sys.stderr, flush=True)
        if status.cancelled:
            message = "the job was cancelled on the hub; resume continues from the last checkpoint"
            self.folder.update_record(state="stopped", state_message=message)
        else:
            self.folder.update_record(state_message=message)

    def _desired_state(self) -> str:
        return str(json.loads((self.folder.path / "control.json").read_bytes())["wanted"])

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        """Pause the job at the first signal, cancel it at the second."""
        self._stops += 1
        self._wake.set()


def _tree(folder: Path, leave: tuple[str, ...]) -> dict[str, bytes | Path]:
    return {
        path.relative_to(folder).as_posix(): path
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.relative_to(folder).parts[0] not in leave
    }
