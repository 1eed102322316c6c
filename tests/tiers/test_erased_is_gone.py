"""What was erased is in no file; what was done stays on an audit that shows what was taken out."""

from __future__ import annotations

import hashlib
import json
import time
from pathlib import Path
from typing import Any

import orjson
from people import People
from sqlalchemy import select, text

from triptych.tiers.pipeline import background
from triptych.tiers.store import tables
from triptych.tiers.store.database import Database, across
from triptych.tiers.store.personal_data import consents

ALL = across("a test reads everything")
CANARY = "quokka-canary-4411"


def on_disk(home: Path, needle: str = CANARY) -> list[str]:
    return [
        path.name
        for path in sorted(home.rglob("*"))
        if path.is_file() and needle.encode() in path.read_bytes()
    ]


async def worked_off(people: People, who: str, **body: Any) -> dict[str, Any]:
    status, told = await people.call(who, "POST", "/api/privacy/requests", body)
    assert status == 200, told
    path = f"/api/privacy/requests/{told['privacy_id']}"
    while True:
        _, row = await people.call(who, "GET", path)
        if row["state"] not in ("requested", "running"):
            assert row["state"] == "done", row
            return row
        await people.gateway.runtime.background.work_once()


async def test_found_b13_an_erased_text_is_in_no_file_of_the_database(people, own_home) -> None:
    database = people.gateway.database
    await consents.set_consent(database, "improve", True, company_id="acme", actor="t")
    await consents.set_consent(database, "improve", True, user_id="ann", actor="ann")
    await people.gateway.runtime.refresh()
    for number in range(5):
        asked = {"model": "base", "messages": [{"role": "user", "content": f"{CANARY} {number}"}]}
        sent = {"x_triptych_company": "acme"}
        assert (await people.call("user", "POST", "/v1/chat/completions", asked, **sent))[0] == 200
    await people.gateway.records()
    assert {"gateway.db", "gateway.db-wal"} & set(on_disk(own_home))
    await worked_off(people, "admin", kind="erasure", user_id="ann")
    assert on_disk(own_home) == []


async def test_found_b13_what_a_company_says_of_itself_is_on_the_audit_as_a_hash(
    people, own_home
) -> None:
    facts = {"secret": f"{CANARY} of acme"}
    body = {"name": f"{CANARY} Ltd", "industry": f"{CANARY}ing", "facts": facts}
    assert (await people.call("admin", "PATCH", "/api/companies/acme", body))[0] == 200
    body = {"company_id": "third", **body}
    assert (await people.call("admin", "POST", "/admin/companies", body))[0] == 200
    async with people.gateway.database.read(ALL) as connection:
        rows = await connection.all(
            select(tables.audit).where(tables.audit.c.action.startswith("companies."))
        )
    changed = next(row for row in rows if row["action"] == "companies.change")
    assert set(changed["after"]) == {"name", "industry", "facts"}, "which fields changed is seen"
    assert all(row["after"]["facts"].startswith("sha256:") for row in (changed,))
    assert CANARY not in json.dumps([(row["before"], row["after"]) for row in rows])
    for company in ("acme", "third"):
        await worked_off(people, "admin", kind="erasure", company_id=company)
    assert on_disk(own_home) == []


async def test_found_b13_pages_that_retention_frees_are_overwritten(people, own_home) -> None:
    database = people.gateway.database
    async with database.write(ALL) as connection:
        assert (await connection.raw.execute(text("PRAGMA secure_delete"))).scalar() == 1


async def entries(database: Database) -> list[dict[str, Any]]:
    async with database.read(ALL) as connection:
        return await connection.all(select(tables.audit).order_by(tables.audit.c.sequence))


async def test_found_c11_a_cut_tail_is_seen(people) -> None:
    database = people.gateway.database
    await people.gateway.set(cache=True)
    _, sound = await people.call("admin", "POST", "/admin/audit/verify")
    assert sound["broken_at"] is None
    last = (await entries(database))[-1]["sequence"]
    async with database.write(ALL) as connection:
        await connection.raw.execute(text(f"DELETE FROM audit WHERE sequence > {last - 5}"))
    _, found = await people.call("admin", "POST", "/admin/audit/verify")
    assert found["broken_at"] == last - 4
    # New entries after the cut do not close the gap.
    for number in range(8):
        await people.gateway.set(cache=bool(number % 2))
    _, found = await people.call("admin", "POST", "/admin/audit/verify")
    assert found["broken_at"] is not None
    assert found["broken_at"] <= last


async def test_found_c11_a_rewritten_chain_is_seen(people) -> None:
    """One who may write the database, and not read the gateway's key, rewrites every hash."""
    database = people.gateway.database
    rows = await entries(database)
    previous = "0" * 64
    async with database.write(ALL) as connection:
        for row in rows:
            if row["sequence"] == 3:
                row["actor"] = "another"
            row["previous_hash"] = previous
            content = {name: value for name, value in row.items() if name != "hash"}
            plain = orjson.dumps(content, option=orjson.OPT_SORT_KEYS)
            previous = hashlib.sha256(plain).hexdigest()
            await connection.raw.execute(
                tables.audit.update()
                .where(tables.audit.c.sequence == row["sequence"])
                .values(actor=row["actor"], previous_hash=row["previous_hash"], hash=previous)
            )
    _, found = await people.call("admin", "POST", "/admin/audit/verify")
    assert found["broken_at"] is not None


async def test_found_c12_a_clock_that_jumps_deletes_nothing(people, monkeypatch, caplog) -> None:
    asked = {"model": "base", "messages": [{"role": "user", "content": "hi"}]}
    assert (await people.call("user", "POST", "/v1/chat/completions", asked))[0] == 200
    assert [row["user_id"] for row in await people.gateway.records()] == ["ann"]
    tasks = people.gateway.runtime.background
    real = time.time
    monkeypatch.setattr(background.time, "time", lambda: real() + 10 * 365 * 86_400)
    assert await tasks.tidy() is None
    monkeypatch.undo()
    assert [row["user_id"] for row in await people.gateway.records()] == ["ann"]
    assert "clock" in caplog.text
    # The clock is right again: retention goes on when it is due.
    async with people.gateway.database.write(ALL) as connection:
        await connection.raw.execute(tables.background_tasks.delete())
    assert await tasks.tidy() is not None


async def test_found_c12_retention_goes_on_after_a_run_that_lies_in_the_future(people) -> None:
    tasks = people.gateway.runtime.background
    async with people.gateway.database.write(ALL) as connection:
        await connection.raw.execute(tables.background_tasks.delete())
        row = {"name": "retention", "started_at": time.time() + 10 * 365 * 86_400}
        await connection.execute(tables.background_tasks.insert(), row)
    assert await tasks.tidy() is not None
