"""HTTP towards upstreams: one aiohttp session per upstream, and the only translation of its errors.

Redirects are never followed: a redirected request would carry a key to another host. What an
answer means is the provider's business; what a status means is decided here, in `from_status`.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from email.utils import parsedate_to_datetime
from typing import Any

import aiohttp
import orjson
from yarl import URL

from triptych.errors import (
    UpstreamBusy,
    UpstreamDenied,
    UpstreamError,
    UpstreamFailed,
    UpstreamInterrupted,
    UpstreamMalformed,
    UpstreamMissing,
    UpstreamRejected,
    UpstreamTimeout,
    UpstreamUnreachable,
)
from triptych.tiers.providers.keys import Keys
from triptych.tiers.providers.quota import quota_error, quota_wait_s
from triptych.tiers.rules.catalogue import Upstream
from triptych.tiers.rules.egress import GuardedResolver, check_address
from triptych.wire import compression, lenient_json, sse
from triptych.wire.openai import error_message

MAX_ANSWER_BYTES = 32 * 1024 * 1024
MAX_EMBEDDINGS_BYTES = 256 * 1024 * 1024
MAX_STREAM_BYTES = 256 * 1024 * 1024
#: Of an answer that is an error, as much as can hold its reason.
_MAX_ERROR_BYTES = 64 * 1024
#: A longer wait than this is taken for a mistake in the header.
MAX_WAIT_S = 600.0
_QUOTED_CHARACTERS = 400
#: A code goes into records and metrics, so it has to look like one.
_CODE = re.compile(r"[a-z][a-z0-9_]{2,47}")


class Transport:
    """Send requests to one upstream with its key, its connection limit and its timeouts."""

    def __init__(
        self,
        upstream: Upstream,
        *,
        keys: Keys | None = None,
        connect_timeout_s: float = 5.0,
    ) -> None:
        self.upstream = upstream
        self._keys = keys or Keys()
        self._headers = {"content-type": "application/json", "accept-encoding": "identity"}
        self._timeout = aiohttp.ClientTimeout(total=None, sock_connect=connect_timeout_s)
        self._session: aiohttp.ClientSession | None = None

    def headers(self, extra: Mapping[str, str] | None = None, key: str = "") -> dict[str, str]:
        """Return the headers every request carries, those of a key, and some more."""
        return {**self._headers, **self._keys.header(key), **(extra or {})}

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None or self._session.closed:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    limit=0,  # `pipeline.places` counts, where waiting is not the upstream's time
                    resolver=GuardedResolver(private_allowed=self.upstream.private_allowed),
                    keepalive_timeout=30,
                ),
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=self._timeout,
                auto_decompress=False,  # `_pieces` does it within a bound
                skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding"),
                read_bufsize=2**17,
            )
        return self._session

    @asynccontextmanager
    async def request(
        self,
        method: str,
        url: URL,
        *,
        data: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        key: str | None = None,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Open one exchange; leaving the block releases or closes the connection.

        Without a key named, it is sent the one whose turn it is.

        Raises: UpstreamUnreachable, UpstreamTimeout.
        """
        check_address(url, private_allowed=self.upstream.private_allowed)
        sent = self.headers(headers, self._keys.next() if key is None else key)
        try:
            async with self._open().request(
                method, url, data=data, headers=sent, allow_redirects=False
            ) as response:
                yield response
        except aiohttp.ServerTimeoutError as error:
            raise UpstreamTimeout(
                f"{self.upstream.name} could not be reached in time",
                hint="see `triptych gateway probe`",
                retryable=True,
            ) from error
        except aiohttp.ClientConnectionError as error:
            raise UpstreamUnreachable(
                f"{self.upstream.name} cannot be reached: {_cause(error)}",
                hint=f"is it running, and is its address right? {url.host}",
            ) from error
        except aiohttp.ClientPayloadError as error:
            raise UpstreamUnreachable(
                f"{self.upstream.name} broke off its answer", code="upstream_truncated"
            ) from error
        except aiohttp.ClientError as error:
            raise UpstreamMalformed(
                f"{self.upstream.name} does not speak HTTP as expected: {type(error).__name__}"
            ) from error

    @asynccontextmanager
    async def _accepted(
        self, method: str, url: URL, data: bytes | None, headers: Mapping[str, str] | None
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Open an exchange that the upstream accepts, with the first key that it accepts.

        Raises: UpstreamError of the last status.
        """
        while True:
            key = self._keys.next()
            async with self.request(method, url, data=data, headers=headers, key=key) as response:
                if 200 <= response.status < 300:
                    yield response
                    return
                raw = self._keys.hide_bytes(await self._start(response))
                wait_s = retry_after_s(response.headers)
                if not self._keys.another(key, response.status, wait_s):
                    raise self.from_status(response.status, response.headers, raw)

    async def json(
        self,
        method: str,
        url: URL,
        *,
        payload: Any = None,
        headers: Mapping[str, str] | None = None,
        max_bytes: int | None = None,
    ) -> tuple[Any, bytes]:
        """Exchange JSON for JSON; an answer beyond `max_bytes` is refused while it arrives.

        Returns: the parsed body and its bytes.
        Raises: UpstreamError of every kind.
        """
        data = None if payload is None else lenient_json.dumps(payload)
        async with self._accepted(method, url, data, headers) as response:
            raw = self._keys.hide_bytes(await self._read(response, max_bytes or MAX_ANSWER_BYTES))
        try:
            return lenient_json.loads(raw, errors="replace"), raw
        except ValueError as error:
            raise self.malformed(raw) from error

    async def events(
        self,
        url: URL,
        *,
        payload: Any = None,
        method: str = "POST",
        headers: Mapping[str, str] | None = None,
    ) -> AsyncGenerator[sse.Event]:
        """Yield server-sent events as they arrive.

        Raises: UpstreamError; UpstreamInterrupted when the stream ends inside an event.
        """
        data = None if payload is None else lenient_json.dumps(payload)
        parser = sse.Parser()
        async with self._accepted(method, url, data, headers) as response:
            if response.content_type != sse.MEDIA_TYPE:
                raise self.malformed(await self._start(response))
            read = 0
            async for piece in self._pieces(response):
                read += len(piece)
                if read > MAX_STREAM_BYTES:
                    raise UpstreamInterrupted(f"{self.upstream.name} does not end its stream")
                try:
                    events = parser.feed(piece)
                except ValueError as error:
                    raise UpstreamInterrupted(f"{self.upstream.name}: {error}") from error
                for event in events:
                    shown = self._keys.hide(event.data)
                    yield event if shown is event.data else event._replace(data=shown)
        if parser.pending:
            raise UpstreamInterrupted(f"{self.upstream.name} broke off inside an event")

    async def _pieces(self, response: aiohttp.ClientResponse) -> AsyncGenerator[bytes]:
        """Yield a body unpacked: `identity` was asked for, yet some servers pack all the same."""
        encoding = response.headers.get("content-encoding", "").strip().lower()
        try:
            unpacker = compression.Unpacker(encoding)
            async for block in response.content.iter_any():
                for piece in unpacker.take(block):
                    yield piece
        except compression.CompressionFault as fault:
            raise UpstreamMalformed(f"{self.upstream.name}: {fault}") from fault

    async def _read(self, response: aiohttp.ClientResponse, max_bytes: int) -> bytes:
        found = bytearray()
        async for piece in self._pieces(response):
            found += piece
            if len(found) > max_bytes:
                raise UpstreamMalformed(
                    f"{self.upstream.name} answered with more than {max_bytes} bytes",
                    code="upstream_too_large",
                )
        return bytes(found)

    async def _start(self, response: aiohttp.ClientResponse) -> bytes:
        """Return the beginning of an answer that is an error."""
        found = bytearray()
        async for piece in self._pieces(response):
            found += piece
            if len(found) >= _MAX_ERROR_BYTES:
                break
        return bytes(found[:_MAX_ERROR_BYTES])

    def malformed(self, raw: bytes) -> UpstreamMalformed:
        """Describe an answer that is not valid."""
        page = _is_html(raw)
        kind = "a page" if page else "no JSON" if raw.strip() else "nothing"
        return UpstreamMalformed(
            f"{self.upstream.name} answered with {kind} where JSON was expected",
            hint="is the address that of the API and not of a web page?",
            code="upstream_page" if page else None,
        )

    def from_status(self, status: int, headers: Mapping[str, str], raw: bytes) -> UpstreamError:
        """Translate a status into the attempt's error; the table of the whole gateway."""
        name = self.upstream.name
        wait_s = retry_after_s(headers)
        if b"quota" in raw and (quota_s := quota_wait_s(raw.decode("utf-8", "replace"))):
            return quota_error(name, quota_s)
        if status in (400, 413, 422):
            return UpstreamRejected(
                _quote(raw) or f"{name} refuses the request", status=status, code=_code(raw)
            )
        if status in (401, 403):
            return UpstreamDenied(
                f"{name} refuses the gateway's key (status {status})",
                hint="enter a valid key: `triptych gateway secrets set`",
            )
        if status in (404, 405, 410):
            return UpstreamMissing(
                f"{name} knows no such model or route (status {status})",
                hint="check the model name and the address",
            )
        if status == 429:
            return UpstreamBusy(f"{name} asks for patience", retry_after_s=wait_s)
        if status == 408:
            return UpstreamTimeout(f"{name} gave up waiting (status 408)", retryable=True)
        if status in (409, 425):
            return UpstreamFailed(f"{name} reports a conflict (status {status})")
        if status >= 500:
            return UpstreamFailed(
                f"{name} failed with status {status}",
                code="upstream_page" if _is_html(raw) else None,
                status=status if status in (502, 503, 504) else 502,
                retry_after_s=wait_s,
            )
        return UpstreamMalformed(f"{name} answered with status {status}")

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Read `Retry-After` in its three forms: milliseconds, seconds, date; at most ten minutes."""
    if milliseconds := headers.get("retry-after-ms"):
        return _number(milliseconds, 1000.0)
    value = headers.get("retry-after")
    if not value:
        return None
    seconds = _number(value, 1.0)
    if seconds is not None:
        return seconds
    try:
        when = parsedate_to_datetime(value)
    except ValueError:
        return None
    return min(MAX_WAIT_S, max(0.0, when.timestamp() - time.time()))


def _number(text: str, divisor: float) -> float | None:
    try:
        seconds = float(text) / divisor
    except ValueError:
        return None
    return None if math.isnan(seconds) else min(MAX_WAIT_S, max(0.0, seconds))


def _quote(raw: bytes) -> str:
    try:
        return error_message(orjson.loads(raw))[:_QUOTED_CHARACTERS]
    except orjson.JSONDecodeError:
        return ""


def _code(raw: bytes) -> str | None:
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError:
        return None
    inner = body.get("error") if isinstance(body, dict) else None
    code = inner.get("code") if isinstance(inner, dict) else None
    return code if isinstance(code, str) and _CODE.fullmatch(code) else None


def _is_html(raw: bytes) -> bool:
    return raw[:512].lstrip().lower().startswith((b"<!doctype", b"<html"))


def _cause(error: BaseException) -> str:
    inner = getattr(error, "os_error", None) or error
    return type(inner).__name__
