"""Every answer a client saw has exactly one record, whatever is killed, full or away (F1, F2)."""

from __future__ import annotations

import asyncio
import errno
import os
import random
import signal
from pathlib import Path
from typing import Any

import orjson
import pytest
from gateway_process import Process, hammer
from sqlalchemy import func, select

from triptych.config.gateway import UpstreamConfig
from triptych.errors import StorageError
from triptych.tiers.store import spool, tables
from triptych.tiers.store.database import Database, across
from triptych.tiers.store.recorder import Recorder

ALL = across("a test counts everything")


def record(n: int, **more: Any) -> dict[str, Any]:
    return {
        "request_id": f"req_{n:06d}", "created_at": float(n), "key_id": "k", "kind": "chat",
        "stream": False, "tier_asked": "base", "model_asked": "base", "outcome": "ok",
        "status": 200, "attempts": 1, "tokens_source": "unknown", "cached": False,
        "truncated_messages": 0, **more,
    }  # fmt: skip


def started(n: int) -> dict[str, Any]:
    kept = ("request_id", "created_at", "key_id", "kind", "stream", "tier_asked", "model_asked")
    return {name: value for name, value in record(n).items() if name in kept}


async def rows(database: Database) -> list[dict[str, Any]]:
    async with database.read(ALL) as connection:
        return await connection.all(select(tables.requests).order_by(tables.requests.c.request_id))


@pytest.fixture
async def database(own_home: Path, migrated: Path):
    own_home.mkdir(parents=True)
    (own_home / "gateway.db").write_bytes(migrated.read_bytes())
    database = Database(f"sqlite:///{own_home / 'gateway.db'}")
    yield database
    await database.close()


# -- the spool by itself -------------------------------------------------------------------------


def test_a_spool_gives_back_what_it_took_in_order_over_many_segments(tmp_path) -> None:
    one = spool.Spool(tmp_path, segment_bytes=2000)
    for n in range(100):
        one.start(started(n))
        one.end(record(n))
    found: list[str] = []
    while True:
        records, cursor = one.read(7)
        if not records:
            break
        found += [r["request_id"] for r in records]
        one.advance(cursor)
    assert found == [f"req_{n:06d}" for n in range(100)]
    assert len(list(one.folder.glob("*.log"))) == 1, "what was taken over is deleted"
    one.close(drained=True)
    assert not one.folder.exists()


def test_an_open_request_is_carried_into_the_next_segment(tmp_path) -> None:
    one = spool.Spool(tmp_path, segment_bytes=2000)
    one.start(started(999))
    for n in range(50):
        one.start(started(n))
        one.end(record(n))
    _, cursor = one.read(1000)
    one.advance(cursor)
    one.close(drained=False)
    ends, starts = spool.left_behind(one.folder)
    assert [s["request_id"] for s in starts] == ["req_000999"]
    assert all(e["request_id"] != "req_000999" for e in ends)


def test_a_torn_last_line_is_no_record(tmp_path) -> None:
    one = spool.Spool(tmp_path)
    one.start(started(1))
    one.end(record(1))
    with (one.folder / "00000001.log").open("ab") as file:
        file.write(b'{"k":"e","request_id":"req_half')
    records, _ = one.read(10)
    assert len(records) == 1
    ends, starts = spool.left_behind(one.folder)
    assert (len(ends), len(starts)) == (1, 0)
    one.close(drained=False)


def test_a_living_workers_spool_is_left_alone(tmp_path) -> None:
    one = spool.Spool(tmp_path)
    assert list(spool.orphans(tmp_path)) == []
    one.close(drained=False)
    assert [folder for folder, _ in spool.orphans(tmp_path)] == [one.folder]


def test_beyond_its_bound_losses_are_counted_exactly(tmp_path) -> None:
    one = spool.Spool(tmp_path, max_bytes=20_000, segment_bytes=4000)
    one_line = len(orjson.dumps({"k": "e", **record(0)})) + 1
    sent = 20_000 // one_line + spool._HELD_LINES + 500
    for n in range(sent):
        one.end(record(n))
    kept = 0
    while True:
        records, cursor = one.read(5000)
        if not records:
            break
        kept += len(records)
        one.advance(cursor)
    assert one.lost > 0
    assert kept + one.lost == sent
    one.close(drained=True)


def test_a_full_disk_loses_nothing_that_memory_can_hold(tmp_path, monkeypatch) -> None:
    one = spool.Spool(tmp_path)
    real, full = os.write, [True]

    def write(handle: int, data: bytes) -> int:
        if full[0] and handle == one._handle:
            if len(data) > 40:
                real(handle, data[:40])  # a full disk takes half a line
                return 40
            raise OSError(errno.ENOSPC, "full")
        return real(handle, data)

    one.end(record(0))
    monkeypatch.setattr(os, "write", write)
    for n in range(1, 50):
        one.end(record(n))
    full[0] = False
    one.end(record(50))
    records, _ = one.read(1000)
    assert [r["request_id"] for r in records] == [f"req_{n:06d}" for n in range(51)]
    assert one.lost == 0
    one.close(drained=False)


# -- into the database ---------------------------------------------------------------------------


async def test_replay_brings_in_the_dead_workers_records_once(database, own_home) -> None:
    root = own_home / "spool"
    dead = spool.Spool(root)
    for n in range(2500):
        dead.start(started(n))
        if n % 10:
            dead.end(record(n, tries=[{
                "request_id": f"req_{n:06d}", "number": 1, "created_at": 1.0, "upstream": "u",
                "provider": "openai", "tier": "base", "model": "m", "outcome": "ok", "status": 200,
            }]))  # fmt: skip
    dead.close(drained=False)
    import shutil

    copy = root / "copy-of-it"
    shutil.copytree(dead.folder, copy)
    recorder = Recorder(database, root)
    assert await recorder.replay() == (4500, 500), "both copies are read"
    found = await rows(database)
    assert len(found) == 2500
    outcomes = [row["outcome"] for row in found]
    assert outcomes.count("interrupted") == 250
    async with database.read(ALL) as connection:
        counted = await connection.first(
            select(func.count().label("n")).select_from(tables.attempts)
        )
    assert counted == {"n": 2250}
    assert list(spool.orphans(root)) == []
    await recorder.close()


async def test_two_upstreams_that_give_null_ids_have_two_records(workshop) -> None:
    upstream = await workshop.upstream()

    async def nameless(request: Any, body: Any) -> Any:
        from aiohttp import web

        return web.json_response({**workshop.completion("x"), "id": None})

    upstream.behaviour = nameless
    gateway = await workshop.gateway(
        {"u": UpstreamConfig("local", f"{upstream.url}/v1", {"base": "m"})}
    )
    ids = set()
    for _ in range(5):
        _, answer, _ = await gateway.post(
            "/v1/chat/completions", {"messages": [{"role": "user", "content": "?"}]}
        )
        ids.add(answer["id"])
    assert len(ids) == 5
    assert {row["request_id"] for row in await gateway.records()} == ids


async def test_f2_with_the_database_away_requests_are_served_and_their_records_follow(
    workshop, monkeypatch
) -> None:
    gateway = await workshop.gateway({"s": UpstreamConfig("scripted", "", {"base": "echo"})})
    await gateway.set(provider__scripted=True, real_ai_only=False)
    recorder = gateway.runtime.recorder

    def away(_: Any) -> Any:
        raise StorageError("the database does not answer")

    monkeypatch.setattr(gateway.database, "write", away)
    monkeypatch.setattr(gateway.database, "read", away)
    for _ in range(20):
        status, _, _ = await gateway.post("/api/query", {"input": "hi"})
        assert status == 200
    async with asyncio.timeout(60):
        while recorder.failing_since is None:
            await asyncio.sleep(0.02)
    assert recorder.spool.backlog_bytes > 0
    monkeypatch.undo()
    async with asyncio.timeout(60):
        while recorder.failing_since is not None:
            await asyncio.sleep(0.05)
    found = await gateway.records()
    assert len(found) == 20
    assert {row["outcome"] for row in found} == {"ok"}


async def test_f2_a_worker_that_starts_without_the_database_serves_with_the_last_good_settings(
    workshop,
) -> None:
    script = {"s": UpstreamConfig("scripted", "", {"base": "echo"})}
    first = await workshop.gateway(script)
    await first.set(provider__scripted=True, real_ai_only=False)
    assert (await first.post("/api/query", {"input": "hi"}))[0] == 200
    kept = first.home / "gateway" / "settings.json"
    assert kept.stat().st_mode & 0o077 == 0
    assert first.key not in kept.read_text()
    await first.stop()
    second = await workshop.gateway(
        script, key=first.key, database_url="postgresql://nobody@127.0.0.1:9/nothing"
    )
    status, answer, _ = await second.post("/api/query", {"input": "hi"})
    assert (status, answer["provider"]) == (200, "scripted")
    assert (await second.post("/api/query", {"input": "hi"}, authorization="Bearer x"))[0] == 401
    ready = await second.ready()
    assert (ready["status"], ready["settings"]) == ("ready", "stale")
    assert ready["spool_bytes"] > 0
    await second.stop()
    third = await workshop.gateway(script)
    rows_found = await third.records()
    assert len(rows_found) == 2, "what it recorded was replayed by the next start"


async def test_f2_a_record_that_the_database_refuses_holds_up_no_other(database, own_home) -> None:
    recorder = Recorder(database, own_home / "spool")
    for n in range(30):
        recorder.spool.end(record(n))
    recorder.spool.end(record(30, input_tokens=2**63, revision="r" * 500))
    recorder.spool.end({**record(31), "outcome": None})
    recorder.spool.end(record(32))
    while await recorder.flush():
        pass
    found = {row["request_id"]: row for row in await rows(database)}
    assert len(found) == 32
    assert found["req_000030"]["input_tokens"] == 2**31 - 1
    assert len(found["req_000030"]["revision"]) == 64
    assert recorder.spool.lost == 1
    (aside,) = (own_home / "spool" / "refused.jsonl").read_bytes().splitlines()
    assert orjson.loads(aside)["request_id"] == "req_000031"
    await recorder.close()


async def test_f1_four_writers_on_one_database_agree_to_the_last_row(database, own_home) -> None:
    recorders = [Recorder(database, own_home / "spool", interval_s=0.01) for _ in range(4)]
    for recorder in recorders:
        await recorder.open()

    async def write(recorder: Recorder, first: int) -> None:
        for n in range(first, first + 400):
            # every writer also repeats some of the others' records
            recorder.spool.start(started(n))
            recorder.spool.end(record(n))
            recorder.spool.end(record(n % 400))
            if n % 20 == 0:
                await asyncio.sleep(0)

    await asyncio.gather(*(write(r, 400 * i) for i, r in enumerate(recorders)))
    for recorder in recorders:
        await recorder.close()
    found = await rows(database)
    assert len(found) == len({row["request_id"] for row in found}) == 1600
    assert list((own_home / "spool").iterdir()) == []


# -- killed for real -----------------------------------------------------------------------------


async def kill_and_count(home: Path, requests: int, amount: int, seed: int) -> dict[str, int]:
    """Kill it after 1 to `amount` answers, again and again until `requests` were seen."""
    home.mkdir(parents=True, exist_ok=True)
    process = Process(home)
    await asyncio.to_thread(process.run, "flags", "provider.scripted=on", "real_ai_only=off")
    seen: set[str] = set()
    cut: set[str] = set()
    dice = random.Random(seed)
    kills = 0
    while len(seen) < requests:
        kills += 1
        await asyncio.to_thread(process.start)
        work = asyncio.create_task(hammer(process, amount, seen, cut))
        before = len(seen)
        target = before + dice.randint(
            1, amount // 2
        )  # so that requests are under way when it dies
        async with asyncio.timeout(120):
            while len(seen) < target and not work.done():
                await asyncio.sleep(0.005)
        await asyncio.to_thread(process.kill)
        await work
    await asyncio.to_thread(process.start)
    await asyncio.to_thread(process.kill, signal.SIGTERM)
    log = (home / "serve.log").read_text()
    assert list((home / "gateway" / "spool").iterdir()) == [], log
    database = Database(f"sqlite:///{home / 'gateway.db'}")
    found = await rows(database)
    await database.close()
    by_id = {row["request_id"]: row for row in found}
    assert len(by_id) == len(found)
    assert seen, "some answers were seen"
    assert seen <= set(by_id), f"{len(seen - set(by_id))} answers have no record"
    assert {by_id[i]["outcome"] for i in seen} == {"ok"}
    others = {row["outcome"] for i, row in by_id.items() if i not in seen and i not in cut}
    assert others <= {"interrupted", "ok", "cancelled"}
    interrupted = sum(row["outcome"] == "interrupted" for row in found)
    assert interrupted
    return {
        "kills": kills, "answers_seen": len(seen), "records": len(found),
        "interrupted": interrupted, "cut_in_the_middle": len(cut), "without_record": 0,
    }  # fmt: skip


async def test_f1_after_kill_9_every_answer_seen_has_one_record_and_the_rest_is_marked(
    own_home,
) -> None:
    await kill_and_count(own_home, requests=300, amount=300, seed=1)


@pytest.mark.prove
async def test_f1_after_kill_9_at_random_moments_of_10000_requests(own_home) -> None:
    print(await kill_and_count(own_home, requests=10_000, amount=1000, seed=2))


async def test_two_workers_share_one_address_and_one_dies_alone(own_home) -> None:
    own_home.mkdir(parents=True)
    process = Process(own_home, workers=2)
    await asyncio.to_thread(process.run, "flags", "provider.scripted=on", "real_ai_only=off")
    await asyncio.to_thread(process.start)
    seen: set[str] = set()
    await hammer(process, 100, seen, set())
    children = Path(f"/proc/{process.process.pid}/task/{process.process.pid}/children")
    workers = [int(pid) for pid in children.read_text().split()]
    assert len(workers) == 2
    os.kill(workers[0], signal.SIGKILL)
    await asyncio.sleep(0.2)
    await hammer(process, 100, seen, set())
    assert len(seen) >= 150
    await asyncio.to_thread(process.kill, signal.SIGTERM)
    await asyncio.to_thread(process.start)
    await asyncio.to_thread(process.kill, signal.SIGTERM)
    database = Database(f"sqlite:///{own_home / 'gateway.db'}")
    found = {row["request_id"] for row in await rows(database)}
    await database.close()
    assert seen <= found
