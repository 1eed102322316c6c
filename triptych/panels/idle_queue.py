"""A Gradio queue that polls less often while no user acts on the page.

Gradio's queue polls for events a thousand times a second, also without users. That is three
percent of a core for each idle process. Gradio offers no setting for it, so the class of its queue
is replaced by a subclass; a queue of an unknown class is left as it is.
"""

from __future__ import annotations

import inspect
import logging
import time
from functools import cache
from typing import TYPE_CHECKING, Any

import gradio as gr

if TYPE_CHECKING:
    from gradio.queueing import Queue
else:
    Queue = object

BUSY_EVERY_S, IDLE_EVERY_S = 0.005, 0.1
IDLE_AFTER_S = 10.0
# No page of ours draws Gradio's progress bar.
PROGRESS_EVERY_S = 0.5
# What the known queue keeps, in seconds.
_PAUSES = ("sleep_when_free", "progress_update_sleep_when_free")


class IdleQueue(Queue):
    """Polls often while a user acts, and ten times a second after that."""

    acted = 0.0

    async def push(self, *args: Any, **named: Any) -> Any:
        """Take an event, and poll often from now on."""
        self.acted = time.monotonic()
        return await super().push(*args, **named)

    @property
    def sleep_when_free(self) -> float:
        """Return the time to the next poll."""
        awake = time.monotonic() - self.acted < IDLE_AFTER_S or len(self)
        return BUSY_EVERY_S if awake else IDLE_EVERY_S


def use_idle_queue(page: gr.Blocks) -> gr.Blocks:
    """Return the page with its queue replaced by one that polls less while it is idle."""
    queue: Any = getattr(page, "_queue", None)
    if isinstance(queue, IdleQueue):
        return page
    if not _is_known(queue):
        _warn_once()
        return page
    kind = type(queue)
    queue.__class__ = type(kind.__name__, (IdleQueue, kind), {})
    queue.progress_update_sleep_when_free = PROGRESS_EVERY_S
    return page


def _is_known(queue: Any) -> bool:
    """Return whether the queue waits as long as its attributes say, and takes events by `push`."""
    kept = getattr(queue, "__dict__", {})
    return (
        all(isinstance(kept.get(name), int | float) for name in _PAUSES)
        and inspect.iscoroutinefunction(getattr(queue, "push", None))
        and hasattr(queue, "__len__")
    )


@cache
def _warn_once() -> None:
    logging.getLogger(__name__).warning(
        "this version of Gradio has another queue: idle pages poll as often as busy ones"
    )
