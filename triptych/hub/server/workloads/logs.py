"""The output of a workload, line by line with the time it was seen, for many followers.

A child writes straight into its file; a `LogBook` reads what is new a few times a second, so a
line carries one time for all who ever ask, which clients rely on to resume. Left out: keeping
the file small (the supervisor does).
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path

from starlette.responses import StreamingResponse

from triptych.wire import sse

KEPT_LINES = 5_000
KEPT_BYTES = 2**20
LINE_BYTES = 8_192
# What one poll may take: a flood of output must not hold up the hub.
READ_BYTES = 2**20
POLL_S = 0.25
KEEP_ALIVE_S = 15.0


@dataclass(frozen=True)
class Line:
    """One line of output and when it was seen."""

    data: str
    timestamp: str

    def encode(self) -> bytes:
        """Write the line as the event the clients parse."""
        return sse.encode(json.dumps({"data": self.data, "timestamp": self.timestamp}))


class LogBook:
    """Read one growing file for any number of followers; the newest lines stay in memory."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.ended = False
        self._lines: deque[Line] = deque()
        self._count = 0
        self._bytes = 0
        self._offset = 0
        self._rest = b""
        self._news = asyncio.Event()

    def poll(self) -> None:
        """Take in what the file has gained."""
        if self.ended:
            return
        try:
            size = self.path.stat().st_size
        except FileNotFoundError:
            return
        # A file that shrank was trimmed: what it holds was seen already.
        self._offset = min(self._offset, size)
        if size - self._offset > READ_BYTES:  # as much as is kept at all
            self._offset, self._rest = size - READ_BYTES, b""
        if self._offset < size:
            with self.path.open("rb") as file:
                file.seek(self._offset)
                piece = file.read(size - self._offset)
            self._offset += len(piece)
            self._take(piece)

    def close(self) -> None:
        """Take in the last output; followers come to their end."""
        self.poll()
        if self._rest:
            self._take(b"\n")
        self.ended = True
        self._wake()

    async def follow(self, tail: int | None = None) -> AsyncIterator[Line | None]:
        """Yield the lines kept and those to come until the end; None when nothing came for long."""
        seen = 0 if tail is None else max(0, self._count - tail)
        while True:
            news = self._news
            oldest = self._count - len(self._lines)
            fresh = list(islice(self._lines, max(0, seen - oldest), None))
            seen = self._count
            for line in fresh:
                yield line
            if self.ended and seen == self._count:
                return
            try:
                await asyncio.wait_for(news.wait(), KEEP_ALIVE_S)
            except TimeoutError:
                yield None

    def _take(self, piece: bytes) -> None:
        *lines, self._rest = (self._rest + piece).split(b"\n")
        if len(self._rest) > LINE_BYTES:
            lines.append(self._rest)
            self._rest = b""
        if len(lines) > KEPT_LINES:
            self._count += len(lines) - KEPT_LINES
            lines = lines[-KEPT_LINES:]
        now = timestamp()
        for line in lines:
            text = line[:LINE_BYTES].decode("utf-8", "replace").rstrip("\r") + "\n"
            self._append(Line(text, now))
        if lines:
            self._wake()

    def _append(self, line: Line) -> None:
        self._lines.append(line)
        self._count += 1
        self._bytes += len(line.data)
        while self._bytes > KEPT_BYTES or len(self._lines) > KEPT_LINES:
            self._bytes -= len(self._lines.popleft().data)

    def _wake(self) -> None:
        self._news.set()
        self._news = asyncio.Event()


def stream(book: LogBook, tail: int | None = None) -> StreamingResponse:
    """Answer with a log as server-sent events."""

    async def events() -> AsyncIterator[bytes]:
        async for line in book.follow(tail):
            yield line.encode() if line is not None else b": keep-alive\n\n"

    return StreamingResponse(
        events(),
        media_type=sse.MEDIA_TYPE,
        headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"},
    )


def timestamp(seconds: float | None = None) -> str:
    """Write a moment, now if none is given, the way the hub's answers do."""
    moment = datetime.now(UTC) if seconds is None else datetime.fromtimestamp(seconds, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
