"""Run a trainer to its end and pass every event to its readers, the event log first.

After a finished run the report is written from the run's own files.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import FrameType

from triptych.lm.evaluate.report import write_report
from triptych.lm.train.events import Event, State
from triptych.lm.train.folder import EventLog
from triptych.lm.train.trainer import Trainer

Reader = Callable[[Event], None]


def run_to_end(
    trainer: Trainer,
    readers: Iterable[Reader] = (),
    on_progress: Callable[[str], None] = lambda text: None,
) -> str:
    """Run to the end; return the state in which the run ended.

    `on_progress` is called with a line of text while the report is written.

    Raises: what `Trainer.events` raises; a state event with the message is logged before.
    """
    log: EventLog | None = None
    state = ""
    try:
        with stop_on_signals(trainer):
            for event in trainer.events():
                if trainer.world.is_main:
                    log = log or EventLog(trainer.folder)
                    log(event)
                    for reader in readers:
                        reader(event)
                if isinstance(event, State):
                    state = event.state
    finally:
        if log:
            log.close()
    if state == "finished" and trainer.world.is_main:
        write_report(trainer.folder.path, on_progress)
    return state


@contextmanager
def stop_on_signals(trainer: Trainer) -> Iterator[None]:
    """Stop the trainer at SIGTERM or the first Ctrl-C; a second Ctrl-C interrupts at once."""

    def handle(number: int, frame: FrameType | None) -> None:
        trainer.request_stop()
        signal.signal(signal.SIGINT, signal.default_int_handler)

    before = {number: signal.signal(number, handle) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
