"""Train, inside a job, the run that was sent to it: the same trainer, the same files.

Every event is also printed to the job's output; the folder is uploaded at the start, at every
checkpoint and at the end. Whether to pause or cancel is read from the job itself. Left out: the
other end (`controller`).
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from triptych.durable import write_atomic
from triptych.errors import HubError
from triptych.lm.runs.remote.protocol import (
    JOB_SPEC_FILE,
    SENT,
    START,
    JobBackend,
    encode_event,
    files_to_send,
    with_local_paths,
)
from triptych.lm.runs.worker import work
from triptych.lm.train import events
from triptych.lm.train.folder import RunFolder

if TYPE_CHECKING:
    from triptych.lm.train.trainer import Trainer

POLL_S = 2.0
RETRY_FOR_S = 900.0


def train_in_job(
    backend: JobBackend, run_id: str, job: str, home: Path, resolve: Callable[[str], Path]
) -> int:
    """Download a run, train it until it ends or is stopped; return the exit code."""
    folder = RunFolder(home / "runs" / run_id)
    backend.get(run_id, folder.path)
    corpus = json.loads((folder.path / JOB_SPEC_FILE).read_bytes())["corpus"]
    backend.get(corpus, home / "data" / corpus)
    start = folder.path / START if (folder.path / START).is_dir() else None
    for file in (folder.path / "request.json", folder.config):
        if file.exists():
            write_atomic(file, with_local_paths(file, home / "data" / corpus, start))
    uploader = RunUploader(folder, backend)
    over = threading.Event()

    def readers(trainer: Trainer) -> list[Callable[[events.Event], None]]:
        arguments = (backend, job, trainer, over)
        threading.Thread(target=_stop_when_asked, args=arguments, daemon=True).start()
        return [uploader]

    code = work(folder.path, resolve, readers)
    over.set()
    uploader.upload_at_end()
    return code


class RunUploader:
    """Print every event of a run as it is written; upload the folder at each checkpoint."""

    def __init__(self, folder: RunFolder, backend: JobBackend) -> None:
        self._folder = folder
        self._backend = backend
        self._printed_bytes = folder.events.stat().st_size if folder.events.exists() else 0

    def __call__(self, event: events.Event) -> None:
        """Print what is new in the log; `event` is the last of it."""
        self._print_new()
        begun = isinstance(event, events.State) and event.state == "running"
        if begun or isinstance(event, events.Checkpoint):
            try:
                self.upload()
            except HubError as error:
                # The next checkpoint uploads these files as well.
                print(f"{error}; trying again at the next checkpoint", file=sys.stderr, flush=True)

    def upload(self) -> None:
        """Upload the folder as it is, and print that it was sent."""
        self._backend.put(self._folder.path.name, files_to_send(self._folder), "checkpoints/")
        print(SENT, flush=True)

    def upload_at_end(self) -> None:
        """Upload the folder; it is the last chance, so an unreachable hub is tried for longer.

        Raises: HubError when it stays unreachable for `RETRY_FOR_S`.
        """
        until = time.monotonic() + RETRY_FOR_S
        while True:
            try:
                return self.upload()
            except HubError as error:
                print(f"{error}; trying again", file=sys.stderr, flush=True)
                if time.monotonic() > until:
                    raise
                time.sleep(POLL_S)

    def _print_new(self) -> None:
        with self._folder.events.open("rb") as file:
            file.seek(self._printed_bytes)
            for line in file:
                print(encode_event(self._printed_bytes, line), flush=True)
                self._printed_bytes += len(line)


def _stop_when_asked(
    backend: JobBackend, job: str, trainer: Trainer, over: threading.Event
) -> None:
    """Stop the trainer when the job is asked to pause or cancel."""
    while not over.wait(POLL_S):
        try:
            if backend.status(job).desired_state != "run":
                trainer.request_stop()
                return
        except HubError:
            continue  # the next poll asks again
