"""Run a trainer to its end and pass every event to its readers, the event log first.

After a finished run the report is written from the run's own files.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from triptych.lm.evaluate.report import write_report
from triptych.lm.train.events import Event, State
from triptych.lm.train.folder import EventLog
from triptych.lm.train.trainer import Trainer, stop_on_signals

Reader = Callable[[Event], None]


def run_to_end(trainer: Trainer, readers: Iterable[Reader] = ()) -> str:
    """Run to the end; return the state in which the run ended.

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
        write_report(trainer.folder.path)
    return state
