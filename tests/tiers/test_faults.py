"""What each fault of an upstream leads to: the written table, and the proof that it is true.

Every fault x {whole, stream} x {retry, fallback, none} is played by a real server on loopback.
"""

from __future__ import annotations

import asyncio
import dataclasses
from dataclasses import dataclass
from typing import Any

import orjson
import pytest

from triptych.config.gateway import UpstreamConfig

OK = orjson.dumps(
    {
        "id": "c",
        "object": "chat.completion",
        "created": 1,
        "model": "m",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "yes"},
                "finish_reason": "stop",
            }
        ],
        "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
    }
)
SSE_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
)


def http(
    status: int, body: bytes, kind: str = "application/json", extra: str = "", length: int = -1
) -> bytes:
    size = len(body) if length < 0 else length
    head = f"HTTP/1.1 {status} X\r\ncontent-type: {kind}\r\ncontent-length: {size}\r\n{extra}\r\n"
    return head.encode() + body


def event(content: str | None = None, finish: str | None = None, **extra: Any) -> bytes:
    delta = {} if content is None else {"content": content}
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    body = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    return raw_event(orjson.dumps({**body, "choices": [choice], **extra}))


def raw_event(data: bytes) -> bytes:
    line = b"data: " + data + b"\n\n"
    return b"%x\r\n%b\r\n" % (len(line), line)


END = raw_event(b"[DONE]") + b"0\r\n\r\n"
STREAM = SSE_HEAD + event("yes") + event(finish="stop") + END
HANG = object()
RESET = object()
Step = bytes | float | object


@dataclass(frozen=True)
class Row:
    """One line of the table.

    `attempts`: how often one upstream is asked when one retry is allowed.
    `falls_back`: whether a second upstream is asked.
    `status`, `code`: what the caller sees when nobody else is asked.
    `counts`: whether the breaker takes each attempt as a failure.
    `mid_stream`: the first token was out: an error event, no retry, no fallback.
    """

    fault: str
    whole: tuple[Step, ...] | None
    stream: tuple[Step, ...] | None
    attempts: int
    falls_back: bool
    status: int
    code: str
    counts: bool = True
    mid_stream: bool = False
    stream_code: str = ""


def status_row(status: int, attempts: int, falls_back: bool, shown: int, code: str, counts=True):
    answer = (http(status, b'{"error":{"message":"no"}}'),)
    return Row(f"status {status}", answer, answer, attempts, falls_back, shown, code, counts)


PAGE = b"<!DOCTYPE html><html><body>Space is sleeping</body></html>"
TABLE = [
    Row("reset", (RESET,), (RESET,), 2, True, 502, "upstream_unreachable"),
    Row(
        "hang before headers",
        (HANG,),
        (HANG,),
        1,
        True,
        504,
        "upstream_answer",
        stream_code="upstream_first_token",
    ),
    Row(
        "hang after headers",
        (http(200, b"{", length=999), HANG),
        (SSE_HEAD, HANG),
        1,
        True,
        504,
        "upstream_answer",
        stream_code="upstream_first_token",
    ),
    Row(
        "hang mid-stream",
        None,
        (SSE_HEAD, event("a"), HANG),
        1,
        False,
        504,
        "upstream_idle",
        mid_stream=True,
    ),
    Row(
        "slow drip",
        (http(200, OK, length=len(OK) + 400), *((0.05, b" ") * 40), HANG),
        None,
        1,
        True,
        504,
        "upstream_answer",
    ),
    status_row(400, 1, False, 400, "upstream_rejected", counts=False),
    status_row(401, 1, True, 502, "upstream_denied"),
    status_row(403, 1, True, 502, "upstream_denied"),
    status_row(404, 1, True, 502, "upstream_missing"),
    status_row(408, 2, True, 504, "upstream_timeout"),
    status_row(409, 2, True, 502, "upstream_failed"),
    status_row(413, 1, False, 413, "upstream_rejected", counts=False),
    status_row(422, 1, False, 422, "upstream_rejected", counts=False),
    status_row(429, 2, True, 429, "upstream_busy", counts=False),
    status_row(500, 2, True, 502, "upstream_failed"),
    status_row(502, 2, True, 502, "upstream_failed"),
    status_row(503, 2, True, 503, "upstream_failed"),
    status_row(504, 2, True, 504, "upstream_failed"),
    Row(
        "malformed JSON",
        (http(200, b'{"choices": ['),),
        (SSE_HEAD + raw_event(b"{"),),
        1,
        True,
        502,
        "upstream_malformed",
    ),
    Row(
        "HTML with 200",
        (http(200, PAGE, "text/html"),),
        (http(200, PAGE, "text/html"),),
        1,
        True,
        502,
        "upstream_page",
    ),
    Row(
        "HTML with 503",
        (http(503, PAGE, "text/html"),),
        (http(503, PAGE, "text/html"),),
        2,
        True,
        503,
        "upstream_page",
    ),
    Row(
        "empty body",
        (http(200, b""),),
        (SSE_HEAD + b"0\r\n\r\n",),
        1,
        True,
        502,
        "upstream_malformed",
    ),
    Row(
        "truncated before a token",
        (http(200, OK[:40], length=999), RESET),
        (SSE_HEAD, RESET),
        2,
        True,
        502,
        "upstream_truncated",
    ),
    Row(
        "truncated stream",
        None,
        (SSE_HEAD, event("a"), RESET),
        1,
        False,
        502,
        "upstream_truncated",
        mid_stream=True,
    ),
    Row(
        "stream ends without finish",
        None,
        (SSE_HEAD, event("a"), b"0\r\n\r\n"),
        1,
        False,
        502,
        "upstream_truncated",
        mid_stream=True,
    ),
    Row(
        "error event first",
        None,
        (SSE_HEAD + raw_event(b'{"error":{"message":"x"}}'),),
        2,
        True,
        502,
        "upstream_failed",
    ),
    Row(
        "error event mid-stream",
        None,
        (SSE_HEAD, event("a"), raw_event(b'{"error":{"message":"x"}}')),
        1,
        False,
        502,
        "upstream_interrupted",
        mid_stream=True,
    ),
    Row(
        "error with status 200",
        (http(200, b'{"error":"model overloaded"}'),),
        None,
        1,
        True,
        502,
        "upstream_malformed",
    ),
    Row("wrong content type", None, (http(200, OK),), 1, True, 502, "upstream_malformed"),
    Row(
        "redirect",
        (http(302, b"", extra="location: http://127.0.0.1:1/\r\n"),),
        (http(302, b"", extra="location: http://127.0.0.1:1/\r\n"),),
        1,
        True,
        502,
        "upstream_malformed",
    ),
]
HARMLESS = [
    ("null id", OK.replace(b'"id":"c"', b'"id":null'), STREAM.replace(b'"id":"c"', b'"id":"" ')),
    ("null usage", OK.replace(OK[OK.index(b'"usage"') : -1], b'"usage":null'), STREAM),
    ("done missing", OK, SSE_HEAD + event("yes") + event(finish="stop") + b"0\r\n\r\n"),
]


@dataclass(frozen=True)
class Played:
    """What was seen of one request."""

    status: int
    text: str
    record: dict[str, Any]
    requests: int
    tries: list[str]
    failures: int


class RawServer:
    """Write bytes, wait, hang or reset, as the script says; count connections that asked."""

    def __init__(self, steps: tuple[Step, ...]) -> None:
        self.steps = steps
        self.requests = 0

    async def start(self) -> RawServer:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
                await reader.readexactly(length)
                self.requests += 1
                for step in self.steps:
                    if isinstance(step, bytes):
                        writer.write(step)
                        await writer.drain()
                    elif isinstance(step, float):
                        await asyncio.sleep(step)
                    elif step is RESET:
                        # what is in flight arrives, then the connection breaks
                        await asyncio.sleep(0.02)
                        writer.transport.abort()
                        return
                    else:
                        await asyncio.sleep(60)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def stop(self) -> None:
        self._server.close()


# Only what a row waits for gets little time: a busy machine may be slow in everything else.
FAST = {
    "upstream_answer": {"answer_timeout_s": 0.5},
    "upstream_first_token": {"first_token_timeout_s": 0.5},
    "upstream_idle": {"idle_timeout_s": 0.3},
}
PATIENT = {f"{wait}_timeout_s": 20.0 for wait in ("answer", "first_token", "idle", "total")} | {
    "breaker_failures": 50
}


async def play(
    workshop: Any, steps: tuple[Step, ...], stream: bool, code: str = ""
) -> dict[str, Played]:
    """Ask once in each mode: one retry allowed, another upstream at hand, neither."""
    good = await workshop.upstream("rescued")
    servers = {mode: await RawServer(steps).start() for mode in ("retry", "fallback", "none")}
    upstreams = {
        f"bad-{mode}": UpstreamConfig("local", f"http://127.0.0.1:{server.port}/v1", {mode: "m"})
        for mode, server in servers.items()
    }
    upstreams["good"] = UpstreamConfig("openai", f"{good.url}/v1", {"fallback": "m"})
    gateway = await workshop.gateway(upstreams, **(PATIENT | FAST.get(code, {})))

    async def ask(mode: str) -> tuple[int, str]:
        body = {"model": mode, "stream": stream, "messages": [{"role": "user", "content": "?"}]}
        status, answer, _ = await gateway.post("/v1/chat/completions", body)
        return status, answer.decode() if isinstance(answer, bytes) else orjson.dumps(
            answer
        ).decode()

    answers = {"retry": await ask("retry")}
    gateway.runtime.dispatcher.config = dataclasses.replace(gateway.config, retries=0)
    answers["fallback"], answers["none"] = await asyncio.gather(ask("fallback"), ask("none"))
    records = {record["model_asked"]: record for record in await gateway.records()}
    played = {}
    for mode, server in servers.items():
        tries = await gateway.attempts(records[mode]["request_id"])
        await server.stop()
        played[mode] = Played(
            *answers[mode],
            records[mode],
            server.requests,
            [t["outcome"] for t in tries if t["upstream"].startswith("bad")],
            gateway.runtime.dispatcher.breakers[f"bad-{mode}"]._failed,
        )
    return played


CASES = [
    (row, stream)
    for row in TABLE
    for stream in (False, True)
    if (row.stream if stream else row.whole) is not None
]


@pytest.mark.parametrize(
    ("row", "stream"),
    CASES,
    ids=[f"{r.fault}-{'stream' if s else 'whole'}".replace(" ", "_") for r, s in CASES],
)
async def test_c4_a_fault_leads_to_what_the_table_says(workshop, row, stream) -> None:
    mid_stream = row.mid_stream and stream
    code = (row.stream_code if stream else "") or row.code
    played = await play(workshop, row.stream if stream else row.whole, stream, code)
    falls_back = (row.falls_back or row.mid_stream) and not mid_stream
    for mode, seen in played.items():
        asked = row.attempts if mode == "retry" and not mid_stream else 1
        assert (mode, seen.requests) == (mode, asked)
        assert (mode, seen.failures) == (mode, asked if row.counts or mid_stream else 0)
        assert (mode, seen.tries) == (mode, ["failed"] * asked)
        record = seen.record
        if mode == "fallback" and falls_back:
            assert seen.status == 200
            assert "rescued" in seen.text
            assert (record["outcome"], record["provider"]) == ("ok", "openai")
            assert record["fallback_reason"] == code
            continue
        assert (record["outcome"], record["error_code"]) == ("failed", code)
        assert record["status"] == row.status
        if mid_stream:
            assert seen.status == 200
            assert '"error"' in seen.text.split("\n\n")[-2]
            assert "[DONE]" not in seen.text
            assert record["output_tokens"] > 0
        else:
            assert seen.status == row.status
            assert orjson.loads(seen.text)["error"]["code"] == code


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("fault", "whole", "streamed"), HARMLESS, ids=[h[0] for h in HARMLESS])
async def test_c3_a_harmless_fault_is_repaired(workshop, fault, whole, streamed, stream) -> None:
    steps = (streamed,) if stream else (http(200, whole),)
    seen = (await play(workshop, steps, stream))["none"]
    record = seen.record
    assert seen.status == 200
    assert "yes" in seen.text
    assert '"id":null' not in seen.text
    assert record["outcome"] == "ok"
    assert record["output_tokens"] >= 1
    if fault == "null usage" or stream:
        assert record["tokens_source"] == "estimated"


@pytest.mark.parametrize(
    ("fault", "address", "code"),
    [
        ("refused", "http://127.0.0.1:9/v1", "upstream_unreachable"),
        ("unknown name", "http://no-such-host.invalid/v1", "upstream_unreachable"),
        ("TLS on a plain port", "https://127.0.0.1:{port}/v1", "upstream_unreachable"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
async def test_c4_an_unreachable_upstream_is_left(workshop, fault, address, code, stream) -> None:
    """The rows of the table that no server can play, in the same three modes."""
    plain, good = await workshop.upstream("never"), await workshop.upstream("rescued")
    address = address.format(port=plain.url.rsplit(":", 1)[1])
    upstreams = {
        f"bad-{mode}": UpstreamConfig("local", address, {mode: "m"})
        for mode in ("retry", "fallback", "none")
    }
    upstreams["good"] = UpstreamConfig("openai", f"{good.url}/v1", {"fallback": "m"})
    gateway = await workshop.gateway(upstreams)

    async def ask(mode: str) -> tuple[int, Any, dict[str, str]]:
        body = {"model": mode, "stream": stream, "messages": [{"role": "user", "content": "?"}]}
        return await gateway.post("/v1/chat/completions", body)

    answers = {"retry": await ask("retry")}
    gateway.runtime.dispatcher.config = dataclasses.replace(gateway.config, retries=0)
    answers |= {mode: await ask(mode) for mode in ("fallback", "none")}
    records = {record["model_asked"]: record for record in await gateway.records()}
    for mode, asked in (("retry", 2), ("none", 1)):
        status, answer, headers = answers[mode]
        assert (status, answer["error"]["code"]) == (502, code)
        assert headers["x-should-retry"] == "false"
        assert records[mode]["attempts"] == asked
        assert gateway.runtime.dispatcher.breakers[f"bad-{mode}"]._failed == asked
    assert answers["fallback"][0] == 200
    assert (records["fallback"]["provider"], records["fallback"]["fallback_reason"]) == (
        "openai",
        code,
    )
