"""Live fragments: server-sent events that each replace a part of a page.

A stream always sends the whole fragment as it is now, so that a browser which reconnects is right
at once. `parts.live(url)` connects a page to one; the event `end` closes the connection for good.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

from starlette.responses import StreamingResponse

from triptych.wire import sse

END = "end"
_HEADERS = {"cache-control": "no-store", "x-accel-buffering": "no"}


def fragments(parts: AsyncIterator[str], *, last: str = "") -> StreamingResponse:
    """Answer with each fragment as it comes, and end the connection after the last one.

    `last` is the text of the closing event.
    """

    async def events() -> AsyncIterator[bytes]:
        shown = None
        async for part in parts:
            if part != shown:
                yield sse.encode(part)
            else:
                yield sse.PING
            shown = part
        yield sse.encode(last or END, event=END)

    return StreamingResponse(events(), headers=_HEADERS, media_type=sse.MEDIA_TYPE)
