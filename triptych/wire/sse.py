"""Server-sent events: encode them, and parse them as the bytes arrive.

The parser follows the WHATWG event-stream rules (any of the three line ends, one optional space
after the colon, several data lines joined, comments skipped, an unfinished event dropped).
Reconnecting and the HTTP around it belong to the caller.
"""

from __future__ import annotations

from typing import NamedTuple

MEDIA_TYPE = "text/event-stream"

#: Closes an OpenAI stream.
DONE_DATA = "[DONE]"
DONE = b"data: [DONE]\n\n"

#: A comment line that keeps proxies and sleeping readers from closing a quiet stream.
PING = b": ping\n\n"

#: An upstream that never ends an event is cut off here.
MAX_EVENT_BYTES = 8 * 1024 * 1024


class Event(NamedTuple):
    """One event as it was dispatched: its data lines joined by newlines."""

    data: str
    event: str = "message"
    id: str = ""


def encode(data: bytes | str, *, event: str = "", id: str = "") -> bytes:
    """Encode one event; each line of the data becomes a data line of its own."""
    raw = data.encode() if isinstance(data, str) else data
    head = b""
    if event:
        head += b"event: " + _one_line(event) + b"\n"
    if id:
        head += b"id: " + _one_line(id) + b"\n"
    if b"\n" not in raw and b"\r" not in raw:
        return head + b"data: " + raw + b"\n\n"
    lines = raw.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
    return head + b"".join(b"data: " + line + b"\n" for line in lines) + b"\n"


def _one_line(value: str) -> bytes:
    if "\n" in value or "\r" in value or "\0" in value:
        raise ValueError("an event's name and id are one line each")
    return value.encode()


class Parser:
    """Turn pieces of an event stream into events, wherever the pieces were cut.

    `pending` tells a caller whose connection just closed whether an event was left unfinished,
    which tells a truncated stream from a complete one.
    """

    def __init__(self, max_event_bytes: int = MAX_EVENT_BYTES) -> None:
        self._parts: list[bytes] = []
        self._parts_bytes = 0
        self._data: list[bytes] = []
        self._event = ""
        self._id = ""
        self._held_bytes = 0
        self._max_event_bytes = max_event_bytes
        self._started = False
        self._skip_newline = False

    @property
    def pending(self) -> bool:
        """Return whether bytes of an unfinished event are held."""
        return bool(self._parts or self._data)

    def feed(self, piece: bytes) -> list[Event]:
        """Take the next bytes and return the events they complete.

        Raises: ValueError when one event grows beyond `max_event_bytes`.
        """
        if not piece:
            return []
        if self._skip_newline:
            self._skip_newline = False
            if piece.startswith(b"\n"):
                piece = piece[1:]
        # A line that is not over is kept in pieces: joining it with each would be quadratic.
        if self._started and b"\n" not in piece and b"\r" not in piece:
            self._keep(piece)
            return []
        buffer = b"".join([*self._parts, piece])
        self._parts, self._parts_bytes = [], 0
        if not self._started:
            if len(buffer) < 3 and b"\xef\xbb\xbf".startswith(buffer):
                self._keep(buffer)
                return []
            self._started = True
            buffer = buffer.removeprefix(b"\xef\xbb\xbf")
        # A carriage return at the very end may be half of a CRLF: it ends the line now, and the
        # newline that may follow is swallowed above.
        if buffer.endswith(b"\r"):
            self._skip_newline = True
        if b"\r" in buffer:
            buffer = buffer.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        *lines, rest = buffer.split(b"\n")
        events: list[Event] = []
        for line in lines:
            self._take(line, events)
        self._keep(rest)
        return events

    def _keep(self, rest: bytes) -> None:
        if rest:
            self._parts.append(rest)
            self._parts_bytes += len(rest)
        if self._held_bytes + self._parts_bytes > self._max_event_bytes:
            raise ValueError(f"an event is larger than {self._max_event_bytes} bytes")

    def _take(self, line: bytes, events: list[Event]) -> None:
        if not line:
            if self._data:
                data = b"\n".join(self._data).decode("utf-8", "replace")
                events.append(Event(data, self._event or "message", self._id))
            self._data = []
            self._event = ""
            self._held_bytes = 0
            return
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"data":
            self._data.append(value)
            self._held_bytes += len(value) + 1
        elif field == b"event":
            self._event = value.decode("utf-8", "replace")
        elif field == b"id" and b"\0" not in value:
            self._id = value.decode("utf-8", "replace")
