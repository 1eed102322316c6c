"""Let a page rest while nobody acts on it.

Gradio's queue looks for events a thousand times a second, whether anybody is there or not. That
is three percent of a core for each process that serves pages to nobody. Gradio offers no setting
for it, so its queue is given other manners; a queue that is not the known one is left as it is.
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
    """Look for events often while somebody acts, and ten times a second when nobody did lately."""

    acted = 0.0

    async def push(self, *args: Any, **named: Any) -> Any:
        """Take an event, and wake."""
        self.acted = time.monotonic()
        return await super().push(*args, **named)

    @property
    def sleep_when_free(self) -> float:
        """Return how long to wait before the next look."""
        awake = time.monotonic() - self.acted < IDLE_AFTER_S or len(self)
        return BUSY_EVERY_S if awake else IDLE_EVERY_S


def use_idle_queue(page: gr.Blocks) -> gr.Blocks:
    """Give a page whose queue is set up the manners of one that rests, where it can have them."""
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
    """Tell whether the queue waits as long as its attributes say, and takes events by `push`."""
    kept = getattr(queue, "__dict__", {})
    return (
        all(isinstance(kept.get(name), int | float) for name in _PAUSES)
        and inspect.iscoroutinefunction(getattr(queue, "push", None))
        and hasattr(queue, "__len__")
    )


@cache
def _warn_once() -> None:
    logging.getLogger(__name__).warning(
        "this version of Gradio has another queue: pages that nobody visits do not rest"
    )
