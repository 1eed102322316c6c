"""The proxy of a Space: every request to its address comes through here, as plain ASGI.

It lets in who may see the Space, wakes it, waits for it, and forwards HTTP (streams included)
and WebSocket. The hub's own credentials stop here: a Space never sees a hub token, a sign-in
ticket or another's cookie. Left out: listening (`ports.py`).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from urllib.parse import parse_qsl, unquote, urlencode

import aiohttp
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.staticfiles import StaticFiles
from starlette.types import Message, Receive, Scope, Send
from yarl import URL

from triptych.errors import HubRefused, RepositoryNotFound
from triptych.hub.server.repository import Repository
from triptych.hub.server.spaces import admission, cookies
from triptych.hub.server.spaces.instance import Instance
from triptych.hub.server.spaces.space import Space
from triptych.hub.server.spaces.waiting import waiting_page
from triptych.hub.server.threads import in_thread

log = logging.getLogger(__name__)
# A person sees at once that the Space wakes up; a program waits for its answer.
PAGE_PATIENCE_S = 0.5
MESSAGE_BYTES = 64 * 2**20
_HOP_BY_HOP = frozenset(
    b"connection keep-alive proxy-authenticate proxy-authorization te trailer"
    b" transfer-encoding upgrade proxy-connection".split()
)
_NOT_INWARD = _HOP_BY_HOP | frozenset(
    b"cookie x-hf-authorization x-forwarded-for x-forwarded-host x-forwarded-proto"
    b" x-forwarded-port forwarded".split()
)
_NOT_OUTWARD = _HOP_BY_HOP | frozenset([b"set-cookie", b"date", b"server"])
_NOT_IN_WEBSOCKET = frozenset(
    b"sec-websocket-key sec-websocket-version sec-websocket-extensions"
    b" sec-websocket-protocol".split()
)


class Proxy:
    """Forward what comes to one Space's address."""

    def __init__(self, space: Space, uid: str, upstream: aiohttp.ClientSession) -> None:
        self.space = space
        self.uid = uid
        self.upstream = upstream
        self.prefix = cookies.prefix_of(uid)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request or WebSocket."""
        if scope["type"] not in ("http", "websocket"):
            return
        headers = Headers(scope=scope)
        try:
            repository, let_in = await in_thread(self._admit, headers, scope["query_string"])
        except RepositoryNotFound:
            await _refuse(scope, receive, send, 404, "There is no such Space")
            return
        except HubRefused as refusal:
            await _refuse(scope, receive, send, refusal.status, refusal.message)
            return
        if let_in.ticket and scope["type"] == "http":
            await self._sign_in(scope, receive, send, let_in.ticket)
            return
        async with self.space.request():
            if scope["type"] == "websocket":
                await self._websocket(scope, receive, send, let_in.keep_authorization)
            else:
                await self._http(scope, receive, send, repository, let_in.keep_authorization)

    def _admit(self, headers: Headers, query: bytes) -> tuple[Repository, admission.LetIn]:
        repository = self.space.repository()
        return repository, admission.let_in(self.space.services.hub, repository, headers, query)

    async def _sign_in(self, scope: Scope, receive: Receive, send: Send, ticket: str) -> None:
        """Keep a ticket from the address in a cookie, and show the address without it."""
        query = [pair for pair in parse_qsl(scope["query_string"].decode("latin-1"), True)
                 if pair[0] != admission.PARAMETER]  # fmt: skip
        path = _raw_path(scope) + (f"?{urlencode(query)}" if query else "")
        # A leading double slash would name another host.
        answer = RedirectResponse("/" + path.lstrip("/"), status_code=303)
        seconds = self.space.services.hub.config.ticket_s
        name = admission.cookie_name(self.uid)
        answer.set_cookie(name, ticket, max_age=seconds, httponly=True, samesite="lax")
        await answer(scope, receive, send)

    async def _http(
        self, scope: Scope, receive: Receive, send: Send, repository: Repository, keep: bool
    ) -> None:
        wants_page = "text/html" in Headers(scope=scope).get("accept", "")
        patience_s = self.space.services.hub.config.space_wake_s
        instance = await self.space.answering(PAGE_PATIENCE_S if wants_page else patience_s)
        if instance is None:
            answer = waiting_page(repository, self.space.runtime(), page=wants_page)
            await answer(scope, receive, send)
        elif instance.card.sdk == "static":
            await _static(instance, scope, receive, send)
        else:
            await _Exchange(self, instance, scope, receive, send, keep).run()

    async def _websocket(self, scope: Scope, receive: Receive, send: Send, keep: bool) -> None:
        instance = await self.space.answering(self.space.services.hub.config.space_wake_s)
        await receive()  # websocket.connect
        if instance is None or instance.card.sdk == "static":
            await send({"type": "websocket.close", "code": 1013, "reason": "not running"})
            return
        headers = self.inward(scope, keep, without=_NOT_IN_WEBSOCKET)
        try:
            connection = await self.upstream.ws_connect(
                _address(instance, scope),
                headers=headers,
                protocols=scope.get("subprotocols") or (),
                max_msg_size=MESSAGE_BYTES,
                autoclose=False,
            )
        except (aiohttp.ClientError, OSError):
            await send({"type": "websocket.close", "code": 1013, "reason": "the app refused"})
            return
        async with connection:
            await send({"type": "websocket.accept", "subprotocol": connection.protocol})
            pumps = [
                asyncio.create_task(_pump_in(receive, connection)),
                asyncio.create_task(_pump_out(connection, send)),
            ]
            for pump in pumps:
                instance.carry(pump)
            _, rest = await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            for pump in rest:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
            if all(pump.cancelled() for pump in pumps):
                away = {"code": 1012, "reason": "another version serves now"}
                await send({"type": "websocket.close", **away})

    def inward(
        self, scope: Scope, keep_authorization: bool, without: frozenset[bytes] = frozenset()
    ) -> list[tuple[str, str]]:
        """Return the headers the Space gets."""
        dropped = (
            _NOT_INWARD | without | (frozenset() if keep_authorization else {b"authorization"})
        )
        raw: list[tuple[bytes, bytes]] = scope["headers"]
        headers = [(n.decode("latin-1"), v.decode("latin-1")) for n, v in raw if n not in dropped]
        own = "; ".join(
            part for n, v in raw
            if n == b"cookie" and (part := cookies.inward(v.decode("latin-1"), self.prefix))
        )  # fmt: skip
        if own:
            headers.append(("cookie", own))
        client = scope.get("client")
        headers.append(("x-forwarded-proto", scope["scheme"].replace("ws", "http")))
        headers.append(("x-forwarded-host", Headers(scope=scope).get("host", "")))
        if client:
            headers.append(("x-forwarded-for", client[0]))
        return headers

    def outward(
        self, response: aiohttp.ClientResponse, instance: Instance
    ) -> list[tuple[bytes, bytes]]:
        """Return the headers the client gets."""
        headers = [(n.lower(), v) for n, v in response.raw_headers if n.lower() not in _NOT_OUTWARD]
        for value in response.headers.getall("set-cookie", ()):
            cookie = cookies.outward(value, self.prefix)
            if cookie:
                headers.append((b"set-cookie", cookie.encode("latin-1", "ignore")))
        headers += [(n.encode(), v.encode()) for n, v in instance.card.headers.items()]
        return headers


class _Exchange:
    """One HTTP request on its way through; when the client goes, the Space hears of it."""

    def __init__(
        self,
        proxy: Proxy,
        instance: Instance,
        scope: Scope,
        receive: Receive,
        send: Send,
        keep_authorization: bool,
    ) -> None:
        self.proxy = proxy
        self.instance = instance
        self.scope = scope
        self.receive = receive
        self.send = send
        self.headers = proxy.inward(scope, keep_authorization)
        self.started = False
        self.body_read = asyncio.Event()

    async def run(self) -> None:
        """Forward until the answer is complete or the client is gone."""
        forward = asyncio.create_task(self._forward())
        self.instance.carry(forward)
        gone = asyncio.create_task(self._until_gone())
        try:
            await asyncio.wait([forward, gone], return_when=asyncio.FIRST_COMPLETED)
            broken_off = forward.cancelled()
        finally:
            for task in (forward, gone):
                task.cancel()
            await asyncio.gather(forward, gone, return_exceptions=True)
        if broken_off:
            await self._explain(ConnectionResetError("another version serves now"))
        elif not forward.cancelled() and (error := forward.exception()) is not None:
            await self._explain(error)

    async def _forward(self) -> None:
        has_body = any(n in ("content-length", "transfer-encoding") for n, _ in self._raw_names())
        if not has_body:
            self.body_read.set()
        async with self.proxy.upstream.request(
            self.scope["method"],
            _address(self.instance, self.scope),
            headers=self.headers,
            data=self._body() if has_body else None,
            allow_redirects=False,
            skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
        ) as response:
            head = self.proxy.outward(response, self.instance)
            self.started = True
            await self.send(
                {"type": "http.response.start", "status": response.status, "headers": head}
            )
            async for piece in response.content.iter_any():
                await self.send({"type": "http.response.body", "body": piece, "more_body": True})
            await self.send({"type": "http.response.body", "body": b""})

    def _raw_names(self) -> list[tuple[str, str]]:
        return [(n.decode("latin-1"), v.decode("latin-1")) for n, v in self.scope["headers"]]

    async def _body(self) -> AsyncIterator[bytes]:
        while True:
            message = await self.receive()
            if message["type"] == "http.disconnect":
                raise ConnectionResetError("the client is gone")
            if message.get("body"):
                yield message["body"]
            if not message.get("more_body"):
                self.body_read.set()
                return

    async def _until_gone(self) -> None:
        await self.body_read.wait()
        while (await self.receive())["type"] != "http.disconnect":
            pass

    async def _explain(self, error: BaseException) -> None:
        if not isinstance(error, (aiohttp.ClientError, OSError, TimeoutError)):
            raise error
        log.info("the app of Space %d broke off: %s", self.proxy.space.repository_id, error)
        if self.started:
            # Nothing can be said any more, but the client must not take half for the whole.
            raise ConnectionResetError("the app broke off its answer")
        answer = JSONResponse(
            {"error": "The app of this Space broke off"}, 502, headers={"Retry-After": "1"}
        )
        await answer(self.scope, self.receive, self.send)


def _address(instance: Instance, scope: Scope) -> URL:
    path = _raw_path(scope)
    query = scope["query_string"].decode("latin-1")
    scheme = "ws" if scope["type"] == "websocket" else "http"
    address = f"{scheme}://127.0.0.1:{instance.port}{path}"
    return URL(f"{address}?{query}" if query else address, encoded=True)


def _raw_path(scope: Scope) -> str:
    raw: bytes = scope.get("raw_path") or scope["path"].encode()
    return raw.split(b"?")[0].decode("latin-1")


async def _static(instance: Instance, scope: Scope, receive: Receive, send: Send) -> None:
    folder = (instance.app / instance.card.app_file).parent
    files = StaticFiles(directory=folder, html=True)
    scope = {**scope, "root_path": "", "path": unquote(_raw_path(scope))}
    if scope["path"] == "/":
        name = "/" + instance.card.app_file.rpartition("/")[2]
        scope = {**scope, "path": name, "raw_path": name.encode()}
    try:
        await files(scope, receive, send)
    except HTTPException as error:
        await _refuse(scope, receive, send, error.status_code, error.detail)


async def _pump_in(receive: Receive, connection: aiohttp.ClientWebSocketResponse) -> None:
    while True:
        message: Message = await receive()
        if message["type"] == "websocket.disconnect":
            await connection.close(code=message.get("code") or 1000)
            return
        if message.get("text") is not None:
            await connection.send_str(message["text"])
        elif message.get("bytes") is not None:
            await connection.send_bytes(message["bytes"])


async def _pump_out(connection: aiohttp.ClientWebSocketResponse, send: Send) -> None:
    while True:
        message = await connection.receive()
        if message.type is aiohttp.WSMsgType.TEXT:
            await send({"type": "websocket.send", "text": message.data})
        elif message.type is aiohttp.WSMsgType.BINARY:
            await send({"type": "websocket.send", "bytes": message.data})
        elif message.type in (aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSING):
            code = message.data if isinstance(message.data, int) else 1000
            await send({"type": "websocket.close", "code": code, "reason": message.extra or ""})
            return
        elif message.type in (aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.ERROR):
            await send({"type": "websocket.close", "code": 1011, "reason": "the app broke off"})
            return


async def _refuse(scope: Scope, receive: Receive, send: Send, status: int, why: str) -> None:
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.close", "code": 1008, "reason": why})
        return
    answer: Response = JSONResponse({"error": why}, status)
    await answer(scope, receive, send)
