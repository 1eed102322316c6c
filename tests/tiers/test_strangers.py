"""Callers with wrong keys, clocks that jump, disks that are full, and names one may not see."""

from __future__ import annotations

import contextlib
import re
import time
from typing import Any

import aiohttp
import pytest
from sqlalchemy import select

from triptych.config.gateway import UpstreamConfig
from triptych.errors import LimitExceeded
from triptych.tiers.rules.accounts import ANONYMOUS
from triptych.tiers.store import tables, upstreams
from triptych.tiers.store.database import across

ALL = across("a test reads everything")
ASKED = {"model": "base", "messages": [{"role": "user", "content": "hi"}]}


async def test_found_c15_wrong_keys_are_slowed_counted_and_on_the_audit(people) -> None:
    gateway = people.gateway
    gateway.runtime.wrong_keys._most = 30
    seen: list[int] = []
    async with aiohttp.ClientSession() as session:
        for number in range(120):
            path = ("/v1/chat/completions", "/api/me", "/v1/models")[number % 3]
            method = "POST" if number % 3 == 0 else "GET"
            headers = {"authorization": f"Bearer tri_wrong{number}"}
            async with session.request(
                method, gateway.url + path, json=ASKED, headers=headers
            ) as got:
                seen.append(got.status)
                if got.status == 429:
                    assert int(got.headers["retry-after"]) >= 1
                    assert (await got.json())["error"]["code"] == "too_many_wrong_keys"
        async with session.get(gateway.url + "/metrics") as got:
            metrics = await got.text()
    assert set(seen) == {401, 429}
    assert seen[-1] == 429
    assert seen.index(429) <= 60
    assert re.search(r"triptych_wrong_keys_total\S* 120\.0", metrics)
    # A right key of the same address is not refused for the wrong ones beside it.
    assert (await people.call("user", "POST", "/v1/chat/completions", ASKED))[0] == 200
    await gateway.runtime.background.note_wrong_keys()
    async with gateway.database.read(ALL) as connection:
        rows = await connection.all(
            select(tables.audit).where(tables.audit.c.action == "keys.wrong")
        )
    assert [row["subject"] for row in rows] == ["addresses/127.0.0.1"]
    assert rows[0]["after"]["refused"] >= 60
    assert "tri_wrong" not in str(rows)


async def test_found_c15_a_flood_from_many_addresses_writes_few_audit_entries(people) -> None:
    wrong = people.gateway.runtime.wrong_keys
    wrong._most = 30
    for number in range(500):
        for _ in range(32):
            with contextlib.suppress(LimitExceeded):
                wrong.hit(f"10.{number // 250}.{number % 250}.1")
    await people.gateway.runtime.background.note_wrong_keys()
    async with people.gateway.database.read(ALL) as connection:
        rows = await connection.all(
            select(tables.audit).where(tables.audit.c.action == "keys.wrong")
        )
    assert len(rows) <= 100


async def test_found_c12_a_clock_set_back_locks_no_caller_out(place, monkeypatch) -> None:
    _, gateway = await place(limit_anonymous=2, limit_window_s=5)
    limiter = gateway.runtime.limiter
    real = time.time
    await limiter.hit(ANONYMOUS, "10.0.0.1")
    await limiter.hit(ANONYMOUS, "10.0.0.1")
    for jump in (-86_400.0, 86_400.0):
        monkeypatch.setattr(time, "time", lambda jump=jump: real() + jump)
        with pytest.raises(LimitExceeded) as refused:
            await limiter.hit(ANONYMOUS, "10.0.0.1")
        assert 0 < (refused.value.retry_after_s or 0) <= 5
    monkeypatch.undo()


async def test_found_c13_a_change_on_a_full_disk_takes_effect_and_says_so(people, own_home) -> None:
    """The file of last good settings cannot be written; the change is in the database."""
    kept = own_home / "gateway" / "settings.json"
    kept.unlink(missing_ok=True)
    kept.mkdir()
    status, answer = await people.call("admin", "PUT", "/admin/flags/cache", {"value": True})
    assert status == 200, answer
    assert people.gateway.runtime.flags.resolve(None, None, None)["cache"] is True


@pytest.fixture
async def owned(people) -> Any:
    """Let each company have an upstream with a model of its own."""
    gateway = people.gateway
    for company in ("acme", "globex"):
        await upstreams.save_upstream(
            gateway.database, f"{company}-own",
            {"provider": "scripted", "address": "", "models": {f"{company}-secret-model": "echo"},
             "company_id": company, "is_active": True, "key_name": "", "external": False,
             "revision": ""},
            actor="t",
        )  # fmt: skip
    await gateway.runtime.refresh()
    return people


async def test_found_b12_names_of_models_are_for_those_who_may_use_them(owned) -> None:
    _, listed = await owned.call("user", "GET", "/v1/models")
    names = {card["id"] for card in listed["data"]}
    assert "acme-secret-model" in names
    assert "globex-secret-model" not in names
    foreign = await owned.call("user", "GET", "/v1/models/globex-secret-model")
    missing = await owned.call("user", "GET", "/v1/models/no-such-model")
    assert foreign[0] == missing[0] == 404
    for model in ("globex-secret-model", "no-such-model"):
        for company in ({}, {"x_triptych_company": "acme"}):
            body = {**ASKED, "model": model}
            status, said = await owned.call("user", "POST", "/v1/chat/completions", body, **company)
            assert status == 404
            assert "globex" not in str(said).replace(model, "")
    _, listed = await owned.call("admin", "GET", "/v1/models")
    assert {"acme-secret-model", "globex-secret-model"} <= {card["id"] for card in listed["data"]}


async def test_found_b12_a_caller_without_a_key_sees_shared_names_only(workshop) -> None:
    gateway = await workshop.gateway(
        {"s": UpstreamConfig("scripted", "", {"base": "echo", "shared": "echo"})}, anonymous=True
    )
    async with aiohttp.ClientSession() as session, session.get(gateway.url + "/v1/models") as got:
        names = {card["id"] for card in (await got.json())["data"]}
    assert "shared" not in names, "a caller without a key may use the base tier only"
