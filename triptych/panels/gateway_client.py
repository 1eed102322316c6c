"""A client of the gateway's admin API, with a user's key."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from typing import Any
from urllib.parse import quote

import aiohttp
import orjson

from triptych.errors import TierError, Unauthenticated
from triptych.wire import sse

TIMEOUT_S = 10.0
SILENCE_S = 120.0  # between two events of a streamed answer
PROBE_S = 65.0  # a real request to a model that may have to wake


class GatewayClient:
    """Acts for one signed-in user; the key is kept here and shown nowhere."""

    def __init__(self, address: str, key: str) -> None:
        self.address = address.rstrip("/")
        self._key = key.strip()
        self.role = ""

    def __repr__(self) -> str:
        return f"GatewayClient({self.address!r})"

    async def ask(
        self, method: str, path: str, body: Any = None, **query: str | float | None
    ) -> Any:
        """Call a route and give its JSON.

        Raises: TierError in the gateway's own words.
        """
        data = None if body is None else orjson.dumps(body)
        timeout = aiohttp.ClientTimeout(total=PROBE_S if path.endswith("/test") else TIMEOUT_S)
        try:
            async with (
                aiohttp.ClientSession(timeout=timeout) as session,
                session.request(
                    method, self.address + path, data=data, params=_given(query),
                    headers=self._headers(),
                ) as answer,
            ):  # fmt: skip
                content = await answer.read()
                status = answer.status
        except (aiohttp.ClientError, TimeoutError) as error:
            raise self._away() from error
        return _checked(status, content)

    async def lines(self, path: str, **query: str | float | None) -> AsyncIterator[bytes]:
        """Read a route that answers with lines, one at a time.

        Raises: TierError in the gateway's own words.
        """
        timeout = aiohttp.ClientTimeout(total=None, sock_read=TIMEOUT_S)
        try:
            async with (
                aiohttp.ClientSession(timeout=timeout, read_bufsize=2**22) as session,
                session.get(
                    self.address + path, params=_given(query), headers=self._headers()
                ) as answer,
            ):
                if answer.status >= 400:
                    _checked(answer.status, await answer.read())
                async for line in answer.content:
                    yield line
        except (aiohttp.ClientError, TimeoutError) as error:
            raise self._away() from error

    async def events(
        self, path: str, body: Any, headers: Mapping[str, str]
    ) -> AsyncGenerator[Mapping[str, str] | sse.Event]:
        """Yield the headers of a streamed answer, then each of its events.

        Raises: TierError in the gateway's own words.
        """
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=TIMEOUT_S, sock_read=SILENCE_S)
        sent = {**self._headers(), **headers}
        try:
            async with (
                aiohttp.ClientSession(timeout=timeout) as session,
                session.post(self.address + path, data=orjson.dumps(body), headers=sent) as answer,
            ):
                yield answer.headers
                if answer.status >= 400:
                    _checked(answer.status, await answer.read())
                parser = sse.Parser()
                async for piece in answer.content.iter_any():
                    for event in parser.feed(piece):
                        yield event
        except (aiohttp.ClientError, TimeoutError) as error:
            raise self._away() from error

    def _headers(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self._key}", "content-type": "application/json"}

    def _away(self) -> TierError:
        return TierError(
            f"the gateway at {self.address} does not answer",
            hint="start it: triptych gateway serve",
            code="gateway_away",
            status=502,
        )

    async def me(self) -> dict[str, Any]:
        """Return the user who is signed in."""
        who: dict[str, Any] = await self.ask("GET", "/api/me")
        self.role = str(who["role"])
        return who

    async def one_request(self, request_id: str) -> dict[str, Any]:
        """Return one request with its attempts."""
        found: dict[str, Any] = await self.ask("GET", f"/api/requests/{segment(request_id)}")
        return found

    async def set_flag(self, key: str, value: bool | str, version: int | None) -> None:
        """Set a flag, unless it was changed since it was read."""
        body = {"value": value, "expected_version": version}
        await self.ask("PUT", f"/admin/flags/{segment(key)}", body)


def segment(text: str) -> str:
    """Write a text as one segment of a path, whatever it contains."""
    return quote(text.strip(), safe="")


def _given(query: dict[str, str | float | None]) -> dict[str, str]:
    return {name: str(value) for name, value in query.items() if value not in (None, "")}


def _checked(status: int, content: bytes) -> Any:
    try:
        answer = orjson.loads(content) if content else None
    except orjson.JSONDecodeError:
        answer = None
    if status < 400:
        return answer
    error = answer.get("error", {}) if isinstance(answer, dict) else {}
    message = str(error.get("message") or f"the gateway answered {status}")
    kind = Unauthenticated if status == 401 else TierError
    code = str(error.get("code") or status)
    raise kind(message, code=code, status=status, param=error.get("param"))
