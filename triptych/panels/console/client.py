"""Ask the gateway's admin API with somebody's key."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import aiohttp
import orjson

from triptych.errors import TierError

TIMEOUT_S = 10.0


class GatewayClient:
    """Speak for one signed-in person; the key is kept here and shown nowhere."""

    def __init__(self, address: str, key: str) -> None:
        self.address = address.rstrip("/")
        self._key = key.strip()

    def __repr__(self) -> str:
        return f"GatewayClient({self.address!r})"

    async def ask(
        self, method: str, path: str, body: Any = None, **query: str | float | None
    ) -> Any:
        """Call a route and give its JSON.

        Raises: TierError in the gateway's own words.
        """
        given = {name: str(value) for name, value in query.items() if value not in (None, "")}
        data = None if body is None else orjson.dumps(body)
        headers = {"authorization": f"Bearer {self._key}", "content-type": "application/json"}
        timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
        try:
            async with (
                aiohttp.ClientSession(timeout=timeout) as session,
                session.request(
                    method, self.address + path, data=data, params=given, headers=headers
                ) as answer,
            ):
                content = await answer.read()
                status = answer.status
        except (aiohttp.ClientError, TimeoutError) as error:
            raise TierError(
                f"the gateway at {self.address} does not answer",
                hint="start it: triptych gateway serve",
                code="gateway_away",
            ) from error
        return _checked(status, content)

    async def me(self) -> dict[str, Any]:
        """Say who is signed in."""
        who: dict[str, Any] = await self.ask("GET", "/api/me")
        return who

    async def set_flag(self, key: str, value: bool | str, version: int | None) -> None:
        """Set a flag, unless somebody changed it since it was read."""
        body = {"value": value, "expected_version": version}
        await self.ask("PUT", f"/admin/flags/{quote(key, safe='')}", body)


def _checked(status: int, content: bytes) -> Any:
    try:
        answer = orjson.loads(content) if content else None
    except orjson.JSONDecodeError:
        answer = None
    if status < 400:
        return answer
    error = answer.get("error", {}) if isinstance(answer, dict) else {}
    message = str(error.get("message") or f"the gateway answered {status}")
    raise TierError(message, code=str(error.get("code") or status))
