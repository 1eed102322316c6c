"""Hold the batch job of one run: submit it, wait for its end, pass on pause and cancel.

For a run in a batch job the controller is what a worker is for a local one: a process of its own,
started by the supervisor, stopped by SIGTERM. It may die at any moment; the job goes on, and the
next controller finds it by its name in `job.json`.
"""

from __future__ import annotations

import json
import signal
import sys
import threading
from pathlib import Path
from types import FrameType

from triptych.config.runs import RunsConfig
from triptych.durable import write_atomic
from triptych.errors import RunError
from triptych.lm.runs.batch.job_files import batch_script
from triptych.lm.runs.batch.schedulers import JobState, Scheduler
from triptych.lm.runs.remote.protocol import Job
from triptych.lm.runs.worker import record_error
from triptych.lm.train.folder import RunFolder

POLL_S = 1.0
_ENDED = ("finished", "stopped", "failed")


def control_batch(path: Path, scheduler: Scheduler, config: RunsConfig) -> int:
    """Hold the job of the run in `path` until it is over; return the exit code."""
    folder = RunFolder(path)
    try:
        return BatchController(folder, scheduler, config).run()
    except RunError as error:
        print(error, file=sys.stderr, flush=True)
        record_error(folder, error, begun=folder.config.exists())
        return error.exit_code


class BatchController:
    """The local end of one run in a batch job."""

    def __init__(self, folder: RunFolder, scheduler: Scheduler, config: RunsConfig) -> None:
        self.folder, self.scheduler, self.config = folder, scheduler, config
        self._stops = 0
        self._wake = threading.Event()

    def run(self) -> int:
        """Find or submit the job and hold it to its end; return the exit code."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)
        job = Job.of(self.folder.path)
        if job is None or job.over:
            if self._desired_state() != "run":
                return 0
            script = self.folder.path / "job.sh"
            write_atomic(script, batch_script(self.folder.path, self.config))
            job = Job(self.scheduler.submit(script))
            job.write(self.folder.path)
            print(f"submitted as {job.name}", flush=True)
        ended = self._wait_until_over(job.name)
        self._record_end(ended)
        Job(job.name, over=True).write(self.folder.path)
        return 0

    def _wait_until_over(self, job: str) -> JobState:
        asked = said = ""
        while True:
            found = self.scheduler.state(job)
            if found.state == "over":
                return found
            now = f"{found.state} {found.message}".strip()
            if now != said:
                print(f"job {job}: {now}", flush=True)
                said = now
            desired = self._desired_state()
            if desired == "run" and self._stops:
                desired = "pause"
            if self._stops > 1:
                self.scheduler.end(job)
            elif desired not in ("run", asked) and found.state != "unknown":
                self.scheduler.ask_to_stop(job)
                asked = desired
            self._wake.wait(POLL_S)
            self._wake.clear()

    def _record_end(self, ended: JobState) -> None:
        """Write why a run stands whose trainer ended without writing it."""
        record = self.folder.read_record() if self.folder.record.exists() else {}
        if ended.message and record and record.get("state") not in _ENDED:
            self.folder.update_record(state_message=ended.message)

    def _desired_state(self) -> str:
        return str(json.loads((self.folder.path / "control.json").read_bytes())["wanted"])

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        """Pause the job at the first signal, end it at the second."""
        self._stops += 1
        self._wake.set()
