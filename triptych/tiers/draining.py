"""A worker's HTTP server that says for a while that it will stop before it stops."""

from __future__ import annotations

import time
from types import FrameType
from typing import TYPE_CHECKING

import uvicorn

if TYPE_CHECKING:
    from triptych.tiers.pipeline.runtime import Runtime


class DrainingServer(uvicorn.Server):
    """Serve until a signal, then in three steps: notice, drain, end.

    During the notice (`gateway.drain_notice_s`) connections are accepted and answered as before,
    and `/ready` is 503; then answers under way have `gateway.drain_s`. A second signal, Ctrl-C or
    SIGTERM, ends the notice.
    """

    def __init__(self, config: uvicorn.Config, runtime: Runtime) -> None:
        super().__init__(config)
        self._runtime = runtime
        self._stops_at_s: float | None = None

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to drain."""
        notice_s = self._runtime.config.drain_notice_s
        if self._stops_at_s is None and notice_s and not self.should_exit:
            self._runtime.draining = True
            self._stops_at_s = time.monotonic() + notice_s
            self._captured_signals.append(sig)
            return
        self._runtime.draining = True
        super().handle_exit(sig, frame)

    async def on_tick(self, counter: int) -> bool:
        """Return whether to stop accepting connections."""
        if self._stops_at_s is not None and time.monotonic() >= self._stops_at_s:
            self.should_exit = True
        return await super().on_tick(counter)
