"""Train, inside a job, the run that a courier sent: the same trainer, the same files.

Every event goes to the job's output as well; the folder is sent back at the start, at every
checkpoint and at the end. What is wanted is read off the job itself. Left out: the way home
(`courier`).
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
from triptych.lm.runs.courier import START
from triptych.lm.runs.elsewhere import ORDERS_FILE, SENT, Place, moved, packed, spoken
from triptych.lm.runs.worker import work
from triptych.lm.train import events
from triptych.lm.train.folder import RunFolder

if TYPE_CHECKING:
    from triptych.lm.train.trainer import Trainer

LOOK_EVERY_S = 2.0
PATIENCE_S = 900.0


def train_here(
    place: Place, run_id: str, job: str, home: Path, resolve: Callable[[str], Path]
) -> int:
    """Fetch a run, train it to its end or until it is told to stop; give the exit code."""
    folder = RunFolder(home / "runs" / run_id)
    place.get(run_id, folder.path)
    corpus = json.loads((folder.path / ORDERS_FILE).read_bytes())["corpus"]
    place.get(corpus, home / "data" / corpus)
    start = folder.path / START if (folder.path / START).is_dir() else None
    for file in (folder.path / "request.json", folder.config):
        if file.exists():
            write_atomic(file, moved(file, home / "data" / corpus, start))
    reports = Dispatches(folder, place)
    over = threading.Event()

    def readers(trainer: Trainer) -> list[Callable[[events.Event], None]]:
        threading.Thread(target=_obey, args=(place, job, trainer, over), daemon=True).start()
        return [reports]

    code = work(folder.path, resolve, readers)
    over.set()
    reports.send_at_last()
    return code


class Dispatches:
    """Tell every event of a run as it is written, and send the folder when it is worth it."""

    def __init__(self, folder: RunFolder, place: Place) -> None:
        self._folder = folder
        self._place = place
        self._told_bytes = folder.events.stat().st_size if folder.events.exists() else 0

    def __call__(self, event: events.Event) -> None:
        """Tell what is new in the log; `event` is the last of it."""
        self._tell()
        begun = isinstance(event, events.State) and event.state == "running"
        if begun or isinstance(event, events.Checkpoint):
            try:
                self.send()
            except HubError as error:
                print(f"{error}; the next checkpoint brings it", file=sys.stderr, flush=True)

    def send(self) -> None:
        """Send the folder as it is."""
        self._place.put(self._folder.path.name, packed(self._folder), "checkpoints/")
        print(SENT, flush=True)

    def send_at_last(self) -> None:
        """Send the folder; there is no later time, so a hub that is away is waited for."""
        until = time.monotonic() + PATIENCE_S
        while True:
            try:
                return self.send()
            except HubError as error:
                print(f"{error}; trying again", file=sys.stderr, flush=True)
                if time.monotonic() > until:
                    raise
                time.sleep(LOOK_EVERY_S)

    def _tell(self) -> None:
        with self._folder.events.open("rb") as file:
            file.seek(self._told_bytes)
            for line in file:
                print(spoken(self._told_bytes, line), flush=True)
                self._told_bytes += len(line)


def _obey(place: Place, job: str, trainer: Trainer, over: threading.Event) -> None:
    """Let the trainer stop when the job is asked to."""
    while not over.wait(LOOK_EVERY_S):
        try:
            if place.look(job).wanted != "run":
                trainer.request_stop()
                return
        except HubError:
            continue  # it asks again in a moment
