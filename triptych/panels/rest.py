"""Let a page rest while nobody acts on it.

Gradio's queue looks for events a thousand times a second, whether anybody is there or not. That
is three percent of a core for each process that serves pages to nobody.
"""

from __future__ import annotations

import time
from typing import Any

import gradio as gr
from gradio.queueing import Queue

AWAKE_EVERY_S, RESTING_EVERY_S = 0.005, 0.1
RESTS_AFTER_S = 10.0
# No page of ours draws Gradio's progress bar.
PROGRESS_EVERY_S = 0.5


class RestingQueue(Queue):
    """Look for events often while somebody acts, and ten times a second when nobody did lately."""

    acted = 0.0

    async def push(self, *args: Any, **named: Any) -> Any:
        """Take an event, and wake."""
        self.acted = time.monotonic()
        return await super().push(*args, **named)

    @property
    def sleep_when_free(self) -> float:
        """Return how long to wait before the next look."""
        awake = time.monotonic() - self.acted < RESTS_AFTER_S or len(self)
        return AWAKE_EVERY_S if awake else RESTING_EVERY_S


def rest(page: gr.Blocks) -> gr.Blocks:
    """Give a page whose queue is set up the queue that rests."""
    queue: Any = page._queue
    queue.__class__ = RestingQueue
    queue.progress_update_sleep_when_free = PROGRESS_EVERY_S
    return page
