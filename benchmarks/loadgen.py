"""A fast HTTP/1.1 client and an instant upstream, for benchmarks of the gateway.

Both are bare asyncio protocols on uvloop, so that what is measured is what stands between them.
`python benchmarks/loadgen.py PORT` runs the upstream.
"""

from __future__ import annotations

import asyncio
import random
import sys
import time
from dataclasses import dataclass, field

import orjson
import uvloop

_FRAME = {
    "id": "chatcmpl-instant",
    "object": "chat.completion.chunk",
    "created": 1,
    "model": "instant",
    "choices": [{"index": 0, "delta": {"content": " token"}, "finish_reason": None}],
}
_WHOLE = {
    "id": "chatcmpl-instant",
    "object": "chat.completion",
    "created": 1,
    "model": "instant",
    "choices": [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "Yes, in a way."},
            "finish_reason": "stop",
        }
    ],
    "usage": {"prompt_tokens": 12, "completion_tokens": 6, "total_tokens": 18},
}
STREAM_FRAMES = 22


def _event(body: object) -> bytes:
    return b"data: " + orjson.dumps(body) + b"\n\n"


def _chunked(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def _stream_answer() -> bytes:
    last = {**_FRAME, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
    usage = {**_FRAME, "choices": [], "usage": _WHOLE["usage"]}
    frames = [_event(_FRAME)] * STREAM_FRAMES + [_event(last), _event(usage), b"data: [DONE]\n\n"]
    head = (
        b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
    )
    return head + b"".join(_chunked(frame) for frame in frames) + b"0\r\n\r\n"


def _whole_answer() -> bytes:
    body = orjson.dumps(_WHOLE)
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
    return head % len(body) + body


class Instant(asyncio.Protocol):
    """Answer every request at once, whole or as a stream of 22 tokens.

    A prompt that starts with `paced:MS:N:` is streamed as N numbered tokens, MS apart.
    """

    whole = _whole_answer()
    streamed = _stream_answer()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.buffer = b""

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        while (end := self.buffer.find(b"\r\n\r\n")) >= 0:
            length = content_length(self.buffer[: end + 2])
            if len(self.buffer) < end + 4 + length:
                return
            body = self.buffer[end + 4 : end + 4 + length]
            self.buffer = self.buffer[end + 4 + length :]
            if b"paced:" in body:
                self.pacing = asyncio.ensure_future(self.pace(body))
            elif b'"stream":true' in body:
                self.transport.write(self.streamed)
            else:
                self.transport.write(self.whole)

    async def pace(self, body: bytes) -> None:
        interval_ms, amount = body.split(b"paced:")[1].split(b":")[:2]
        self.transport.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"
            b"transfer-encoding: chunked\r\n\r\n"
        )
        for number in range(int(amount)):
            delta = {"content": f" n{number}"}
            frame = {**_FRAME, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]}
            self.transport.write(_chunked(_event(frame)))
            await asyncio.sleep(int(interval_ms) / 1000)
        last = {**_FRAME, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
        self.transport.write(_chunked(_event(last)) + _chunked(b"data: [DONE]\n\n") + b"0\r\n\r\n")


def content_length(head: bytes) -> int:
    at = head.lower().find(b"content-length:")
    if at < 0:
        return 0
    return int(head[at + 15 : head.index(b"\r\n", at)])


@dataclass
class Timing:
    """What one exchange took."""

    first_byte_s: float
    total_s: float
    status: int
    body: bytes = b""
    arrivals_s: list[float] = field(default_factory=list)


class Connection(asyncio.Protocol):
    """One keep-alive connection that sends one request at a time."""

    def __init__(self) -> None:
        self.waiting: asyncio.Future[Timing] | None = None
        self.keep_body = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def connection_lost(self, error: Exception | None) -> None:
        if self.waiting and not self.waiting.done():
            self.waiting.set_exception(ConnectionResetError())

    def send(self, request: bytes) -> asyncio.Future[Timing]:
        self.buffer = bytearray()
        self.arrivals: list[float] = []
        self.head_end = -1
        self.started = time.perf_counter()
        self.waiting = asyncio.get_running_loop().create_future()
        self.transport.write(request)
        return self.waiting

    def data_received(self, data: bytes) -> None:
        self.arrivals.append(time.perf_counter())
        self.buffer += data
        if self.head_end < 0:
            self.head_end = self.buffer.find(b"\r\n\r\n")
            if self.head_end < 0:
                return
            head = bytes(self.buffer[: self.head_end + 2]).lower()
            self.status = int(head[9:12])
            self.chunked = b"transfer-encoding: chunked" in head
            self.needed = 0 if self.chunked else self.head_end + 4 + content_length(head)
        done = (
            self.buffer.endswith(b"0\r\n\r\n") if self.chunked else len(self.buffer) >= self.needed
        )
        if done and self.waiting and not self.waiting.done():
            self.waiting.set_result(
                Timing(
                    self.arrivals[0] - self.started,
                    self.arrivals[-1] - self.started,
                    self.status,
                    bytes(self.buffer) if self.keep_body else b"",
                    self.arrivals,
                )
            )


def request(
    port: int, key: str, *, stream: bool = False, model: str = "base", prompt: str = ""
) -> bytes:
    """Build the bytes of one chat request."""
    body = orjson.dumps(
        {
            "model": model,
            "messages": [{"role": "user", "content": prompt or "Is Santa real?"}],
            "stream": stream,
        }
    )
    return (
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1:%d\r\n"
        b"authorization: Bearer %b\r\ncontent-type: application/json\r\n"
        b"content-length: %d\r\n\r\n%b" % (port, key.encode(), len(body), body)
    )


async def connect(port: int) -> Connection:
    loop = asyncio.get_running_loop()
    _, protocol = await loop.create_connection(Connection, "127.0.0.1", port)
    return protocol


async def sequential(
    targets: dict[str, tuple[int, bytes]], rounds: int, seed: int
) -> dict[str, list[Timing]]:
    """Ask every target in random order, one request at a time."""
    connections = {name: await connect(port) for name, (port, _) in targets.items()}
    found: dict[str, list[Timing]] = {name: [] for name in targets}
    shuffled = random.Random(seed)
    for number in range(-20, rounds):
        order = list(targets)
        shuffled.shuffle(order)
        for name in order:
            timing = await connections[name].send(targets[name][1])
            if number >= 0:
                found[name].append(timing)
    for connection in connections.values():
        connection.transport.close()
    return found


async def closed_loop(
    port: int, message: bytes, connections: int, seconds: float
) -> tuple[list[Timing], float]:
    """Keep every connection busy for some seconds."""
    found: list[Timing] = []
    opened = [await connect(port) for _ in range(connections)]
    end = time.perf_counter() + seconds
    start = time.perf_counter()

    async def work(connection: Connection) -> None:
        while time.perf_counter() < end:
            found.append(await connection.send(message))

    await asyncio.gather(*(work(connection) for connection in opened))
    took = time.perf_counter() - start
    for connection in opened:
        connection.transport.close()
    return found, took


async def open_loop(
    port: int, message: bytes, per_second: float, seconds: float, seed: int = 1
) -> tuple[list[float], int]:
    """Send at Poisson times whatever the answers do; latency counts from the planned moment.

    Returns: latencies in seconds, and how many requests failed.
    """
    loop = asyncio.get_running_loop()
    random_s = random.Random(seed)
    free: list[Connection] = []
    latencies: list[float] = []
    failed = 0

    async def one(planned: float) -> None:
        nonlocal failed
        connection = free.pop() if free else await connect(port)
        timing = await connection.send(message)
        latencies.append(loop.time() - planned)
        failed += timing.status != 200
        free.append(connection)

    start = loop.time()
    at, tasks = start, []
    while at < start + seconds:
        await asyncio.sleep(max(0.0, at - loop.time()))
        tasks.append(asyncio.ensure_future(one(at)))
        at += random_s.expovariate(per_second)
    await asyncio.gather(*tasks)
    for connection in free:
        connection.transport.close()
    return latencies, failed


def quantile(values: list[float], q: float) -> float:
    """Return the value below which a fraction `q` lies."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(q * len(ordered)))]


def ms_at(values: list[float], q: float) -> float:
    """Return a quantile of seconds, in milliseconds."""
    return round(quantile(values, q) * 1000, 3)


async def _serve(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(Instant, "127.0.0.1", port)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(_serve(int(sys.argv[1])))
