"""Compressed request bodies, read within a bound: what unpacks to more is refused, not kept.

Left out: how a server says no; `CompressionFault` carries the HTTP status for it.
"""

from __future__ import annotations

import zlib
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

_PIECE_BYTES = 2**16

Receive = Callable[[], Awaitable[Any]]

#: The argument with which zlib reads each of the two encodings.
_WINDOW = {"gzip": 31, "x-gzip": 31, "deflate": 15}
#: Bodies in which a client packs something twice are none that a client of these APIs sends.
_MAX_MEMBERS = 64


class CompressionFault(ValueError):
    """A body cannot be unpacked, or not within its bound; `status` is HTTP's."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


def unpack(data: bytes, encoding: str, max_bytes: int) -> bytes:
    """Return what a body holds.

    Raises: CompressionFault: 415 for an encoding that is not known, 413 beyond `max_bytes`, 400 for
    a body that is torn.
    """
    window = _WINDOW.get(encoding)
    if window is None:
        known = ", ".join(_WINDOW)
        raise CompressionFault(f"content-encoding {encoding[:40]!r} is none of {known}", 415)
    found = bytearray()
    for _ in range(_MAX_MEMBERS):
        reader = zlib.decompressobj(window)
        try:
            found += reader.decompress(data, max_bytes + 1 - len(found))
        except zlib.error as fault:
            raise CompressionFault(f"the body is not valid {encoding}: {fault}", 400) from fault
        if len(found) > max_bytes:
            raise CompressionFault(f"the body unpacks to more than {max_bytes} bytes", 413)
        if not reader.eof:
            raise CompressionFault(f"the body ends before its {encoding} does", 400)
        data = reader.unused_data
        if not data:
            return bytes(found)
    raise CompressionFault(f"the body has more than {_MAX_MEMBERS} parts", 400)


class Unpacker:
    """Unpack a body that arrives in pieces, into pieces of bounded size."""

    def __init__(self, encoding: str) -> None:
        self._encoding = encoding
        self._window = _WINDOW.get(encoding)
        if self._window is None and encoding not in ("", "identity"):
            known = ", ".join(_WINDOW)
            raise CompressionFault(f"content-encoding {encoding[:40]!r} is none of {known}", 415)
        self._reader = zlib.decompressobj(self._window) if self._window else None
        self._members = 1

    def take(self, data: bytes) -> Iterator[bytes]:
        """Yield what the next bytes hold.

        Raises: CompressionFault for what is not of this encoding.
        """
        if self._window is None or self._reader is None:
            yield data
            return
        while data:
            if self._reader.eof:
                self._members += 1
                if self._members > _MAX_MEMBERS:
                    raise CompressionFault(f"the body has more than {_MAX_MEMBERS} parts", 400)
                self._reader = zlib.decompressobj(self._window)
            try:
                plain = self._reader.decompress(data, _PIECE_BYTES)
            except zlib.error as fault:
                words = f"the body is not valid {self._encoding}: {fault}"
                raise CompressionFault(words, 400) from fault
            data = self._reader.unused_data if self._reader.eof else self._reader.unconsumed_tail
            if plain:
                yield plain


def unpacked(receive: Receive, encoding: str, max_bytes: int) -> Receive:
    """Return an ASGI `receive` that hands out the body unpacked, in one piece.

    Raises: CompressionFault, from what is returned.
    """
    given = False

    async def receive_unpacked() -> Any:
        nonlocal given
        if given:
            return await receive()
        data = bytearray()
        more = True
        while more:
            message = await receive()
            if message["type"] != "http.request":
                return message
            data += message.get("body", b"")
            if len(data) > max_bytes:
                raise CompressionFault(f"the body is larger than {max_bytes} bytes", 413)
            more = message.get("more_body", False)
        given = True
        body = unpack(bytes(data), encoding, max_bytes)
        return {"type": "http.request", "body": body, "more_body": False}

    return receive_unpacked


def encoding_of(headers: Any) -> str:
    """Return the content encoding named in raw ASGI headers; empty where the body is plain."""
    for name, value in headers:
        if name == b"content-encoding":
            found = str(value.decode("latin-1")).strip().lower()
            return "" if found == "identity" else found
    return ""
