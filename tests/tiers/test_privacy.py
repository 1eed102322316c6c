"""Personal data: seen with permission, given out, erased to the last file, kept no longer."""

from __future__ import annotations

import asyncio
import csv
import io
import time
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest
from sqlalchemy import func, select

from triptych.config.gateway import UpstreamConfig
from triptych.tiers.store import accounts, audit, refused, tables
from triptych.tiers.store.database import across
from triptych.tiers.store.personal_data import consents, personal, privacy

ALL = across("a test looks at everything")
CANARY = "quokka-canary-7731"
DAY = 86_400.0
TENANTS = [table for table in tables.metadata.sorted_tables if "tenant" in table.info]


class House:
    """Two companies, a user of each, and keys for all who may ask."""

    def __init__(self, gateway: Any) -> None:
        self.gateway = gateway
        self.database = gateway.database
        self.keys: dict[str, str] = {}

    async def settle(self) -> House:
        for company in ("acme", "globex"):
            await accounts.create_company(self.database, company, company, actor="t")
            await consents.set_consent(
                self.database, "improve", True, company_id=company, actor="t"
            )
        for user, company in (("ann", "acme"), ("gus", "globex")):
            await accounts.create_user(self.database, user, companies=[company], actor="t")
            self.keys[user] = await accounts.create_key(
                self.database, name=f"{user}'s", kind="user", user_id=user, actor="t"
            )
        for name, role, company, scopes in (
            ("boss", "company_admin", "acme", ()),
            ("officer", "company_admin", "acme", ("content",)),
            ("admin", "admin", None, ()),
        ):
            self.keys[name] = await accounts.create_key(
                self.database, name=name, role=role, company_id=company, scopes=scopes, actor="t"
            )
        await self.gateway.runtime.refresh()
        return self

    async def call(self, who: str, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        headers = {"authorization": f"Bearer {self.keys[who]}"}
        async with (
            aiohttp.ClientSession() as session,
            session.request(method, self.gateway.url + path, json=body, headers=headers) as got,
        ):
            raw = await got.read()
            return got.status, orjson.loads(raw) if raw[:1] == b"{" and b"\n" not in raw else raw

    async def say(self, who: str, text: str, **headers: str) -> str:
        status, _, got = await self.gateway.post(
            "/v1/chat/completions",
            {"model": "base", "messages": [{"role": "user", "content": text}], "seed": 1},
            authorization=f"Bearer {self.keys[who]}",
            x_triptych_company="acme" if who == "ann" else "globex",
            **headers,
        )
        assert status == 200
        return str(got["x-request-id"])

    async def asked(self, who: str, **body: Any) -> dict[str, Any]:
        """Ask, wait until it is worked on, and return what became of it."""
        status, told = await self.call(who, "POST", "/api/privacy/requests", body)
        assert status == 200, told
        for _ in range(1200):
            _, row = await self.call(who, "GET", f"/api/privacy/requests/{told['privacy_id']}")
            if row.get("state") not in ("requested", "running"):
                return row
            await asyncio.sleep(0.05)
        raise AssertionError("nobody worked on it")


@pytest.fixture
async def house(workshop) -> House:
    gateway = await workshop.gateway(
        {"s": UpstreamConfig("scripted", "", {"base": "echo"})}, poll_interval_s=0.05
    )
    await gateway.set(provider__scripted=True, real_ai_only=False)
    return await House(gateway).settle()


async def count(house: House, table: Any) -> int:
    async with house.database.read(ALL) as connection:
        row = await connection.first(select(func.count().label("n")).select_from(table))
    return int(row["n"]) if row else 0


def on_disk(home: Path, needle: str) -> list[str]:
    return [
        str(path.relative_to(home))
        for path in sorted(home.rglob("*"))
        if path.is_file() and needle.encode() in path.read_bytes()
    ]


async def test_f7_an_admin_gives_herself_the_right_to_read_content_and_the_audit_shows_it(
    house,
) -> None:
    request_id = await house.say("ann", "keep this")
    await house.gateway.records()
    path = f"/api/requests/{request_id}/content"
    _, me = await house.call("admin", "GET", "/api/me")
    right = f"/admin/keys/{me['key_id']}/content"
    assert (await house.call("officer", "PUT", right, {"allowed": True}))[0] == 403
    for allowed, status in ((True, 200), (False, 403)):
        assert (await house.call("admin", "PUT", right, {"allowed": allowed}))[0] == 200
        assert (await house.call("admin", "GET", path))[0] == status
    rows = await audit.entries(house.database, ALL, subject=f"keys/{me['key_id']}", limit=9)
    given = [row["after"]["scopes"] for row in rows if row["action"] == "keys.content"]
    assert given == [[], ["content"]]
    assert (await house.call("admin", "PUT", "/admin/keys/nil/content", {"allowed": True}))[
        0
    ] == 404


async def test_a_company_sees_its_members_but_not_whom_it_invited(house) -> None:
    await house.call("boss", "PUT", "/api/companies/acme/members/gus")
    path = "/api/companies/acme/members"
    for who, seen in (("boss", ["ann"]), ("admin", ["ann", "gus"])):
        _, found = await house.call(who, "GET", path)
        assert [row["user_id"] for row in found["members"]] == seen, who
    assert (await house.call("boss", "GET", "/api/companies/globex/members"))[0] == 403


async def test_f7_content_needs_its_own_permission_and_every_look_is_audited(house) -> None:
    request_id = await house.say("ann", "keep this")
    await house.gateway.records()
    path = f"/api/requests/{request_id}/content"
    for who, status in (("ann", 403), ("boss", 403), ("admin", 403), ("officer", 200)):
        assert (await house.call(who, "GET", path))[0] == status, who
    _, shown = await house.call("officer", "GET", path)
    assert shown["messages"][0]["content"] == "keep this"
    theirs = await house.say("gus", "theirs")
    await house.gateway.records()
    assert (await house.call("officer", "GET", f"/api/requests/{theirs}/content"))[0] == 404
    rows = await audit.entries(house.database, ALL, subject=f"requests/{request_id}")
    assert [row["action"] for row in rows] == [
        "content.view", "content.view", "content.view_refused", "content.view_refused"
    ]  # fmt: skip
    assert (await audit.verify(house.database))[1] is None


async def test_f6_an_export_holds_everything_of_its_subject_and_of_nobody_else(house) -> None:
    mine = await house.say("ann", "mine", x_triptych_conversation="talk-1")
    await house.say("gus", "not mine")
    await house.gateway.records()
    body = {"kind": "comment", "value": "good", "request_id": mine}
    assert (await house.call("ann", "POST", "/api/feedback", body))[0] == 200
    row = await house.asked("ann", kind="export")
    assert row["state"] == "done"
    assert row["result"]["rows"]["contents"] == 1
    path = f"/api/privacy/requests/{row['privacy_id']}/export"
    status, raw = await house.call("ann", "GET", path)
    lines = [orjson.loads(line) for line in raw.splitlines()]
    assert status == 200
    assert {line["table"] for line in lines} >= {
        "users", "memberships", "api_keys", "requests", "attempts", "contents", "feedback"
    }  # fmt: skip
    assert "digest" not in next(line for line in lines if line["table"] == "api_keys")
    assert b"gus" not in raw
    assert b"not mine" not in raw
    status, raw = await house.call("ann", "GET", f"{path}?format=csv&category=requests")
    (header, values), *_ = [list(csv.reader(io.StringIO(raw.decode().split("\r\n\r\n")[0])))]
    assert dict(zip(header, values, strict=True))["request_id"] == mine
    assert (await house.call("gus", "GET", path))[0] == 404, "another's request does not exist"
    assert (await house.call("boss", "GET", path))[0] == 404
    status, listed = await house.call("ann", "GET", "/api/privacy/requests")
    assert [r["kind"] for r in listed["requests"]] == ["export"]
    assert (await house.call("gus", "GET", "/api/privacy/requests"))[1] == {"requests": []}


async def test_f6_after_erasure_a_users_canary_is_found_nowhere(house, own_home) -> None:
    await house.gateway.set(cache=True)
    database = house.database
    await accounts.create_user(database, CANARY, companies=["acme"], actor="t")
    house.keys["ann"] = await accounts.create_key(
        database, name=f"of {CANARY}", kind="user", user_id=CANARY, actor="t"
    )
    await consents.set_consent(database, "improve", True, user_id=CANARY, actor=CANARY)
    await house.gateway.runtime.refresh()
    request_id = await house.say(
        "ann", f"my name is {CANARY}", x_triptych_conversation=f"talk of {CANARY}"
    )  # fmt: skip
    await house.gateway.records()
    body = {"kind": "comment", "value": f"says {CANARY}", "request_id": request_id}
    assert (await house.call("ann", "POST", "/api/feedback", body))[0] == 200
    kept = await count(house, tables.contents)
    spool = own_home / "gateway" / "spool"
    for user in (CANARY, "gus"):
        refused.set_aside(spool, {"request_id": f"r-{user}", "company_id": "acme", "user_id": user})
    assert on_disk(own_home, CANARY)
    row = await house.asked("admin", kind="erasure", user_id=CANARY)
    assert row["state"] == "done", row
    assert row["result"]["erased"]["contents"] == 1
    assert await count(house, tables.contents) == kept - 1
    assert (await house.call("ann", "GET", "/api/me"))[0] == 401, "its keys are gone"
    assert CANARY not in str(await house.gateway.records())
    assert not house.gateway.runtime.cache.bytes
    allowed = {"audit", "privacy_requests"}  # who was erased when stays on record
    async with database.read(ALL) as connection:
        for table in tables.metadata.sorted_tables:
            if table.name not in allowed:
                assert CANARY not in str(await connection.all(select(table))), table.name
    await house.gateway.records()
    left = [p for p in on_disk(own_home, f"says {CANARY}") if not p.startswith("gateway.db")]
    assert left == []
    assert [p for p in on_disk(own_home, CANARY) if "spool" in p or "settings" in p] == []
    assert on_disk(own_home, "r-gus") == ["gateway/spool/refused.jsonl"], "another's stays"
    assert (await count(house, tables.requests)) == 1, "the number stays, without a name"
    assert (await audit.verify(database))[1] is None


async def test_d6_erasing_a_company_takes_all_of_it_and_marks_what_learned_from_it(house) -> None:
    await house.say("ann", f"acme's {CANARY}")
    await house.say("gus", "globex stays")
    await house.gateway.records()
    model = {"name": "own", "tier": "company", "company_id": "acme", "is_active": True}
    assert (await house.call("admin", "POST", "/admin/models", model))[0] == 200
    row = await house.asked("admin", kind="erasure", company_id="acme")
    assert row["state"] == "done"
    async with house.database.read(ALL) as connection:
        (registered,) = await connection.all(select(tables.model_registry))
        assert (registered["is_tainted"], registered["is_active"]) == (True, False)
        for table in TENANTS:
            if table.name not in ("model_registry", "privacy_requests", "companies"):
                rows = await connection.all(select(table).where(table.c.company_id == "acme"))
                assert rows == [], table.name
        assert CANARY not in str(await connection.all(select(tables.contents)))
    assert (await house.call("boss", "GET", "/api/me"))[0] == 401
    assert await count(house, tables.contents) == 1, "the other company keeps its own"
    assert (await house.call("gus", "GET", "/api/me"))[0] == 200


async def test_f6_part_of_it_by_category_and_date_is_erased_too(house) -> None:
    await house.say("ann", "old words")
    await house.gateway.records()
    later = time.time()
    await asyncio.sleep(0.02)
    await house.say("ann", "new words")
    await house.gateway.records()
    row = await house.asked("ann", kind="erasure", categories=["content"], before=later)
    assert row["result"]["erased"]["contents"] == 1
    async with house.database.read(ALL) as connection:
        (kept,) = await connection.all(select(tables.contents))
        assert kept["messages"][0]["content"] == "new words"
        rows = await connection.all(select(tables.requests))
    assert [r["user_id"] for r in rows] == ["ann", "ann"], "what was not asked for stays"
    assert (await house.call("ann", "GET", "/api/me"))[0] == 200


async def test_f6_a_restriction_withdraws_and_a_correction_waits_for_a_person(house) -> None:
    assert (await house.asked("ann", kind="restriction"))["state"] == "done"
    await house.gateway.runtime.refresh()
    await house.say("ann", "not kept")
    await house.gateway.records()
    assert await count(house, tables.contents) == 0
    body = {"kind": "correction", "details": "I am ann@acme.example, not Anne"}
    _, told = await house.call("ann", "POST", "/api/privacy/requests", body)
    path = f"/admin/privacy/requests/{told['privacy_id']}/close"
    await asyncio.sleep(0.2)
    _, row = await house.call("ann", "GET", f"/api/privacy/requests/{told['privacy_id']}")
    assert row["state"] == "requested"
    assert "ann@acme" not in str(row["details"])
    assert (await house.call("boss", "POST", path, {"note": "x"}))[0] == 403
    assert (await house.call("admin", "POST", path, {"note": "name corrected"}))[0] == 200
    assert (await house.call("admin", "POST", path, {"note": "again"}))[0] == 409


async def test_f6_nobody_asks_about_strangers(house) -> None:
    for who, body, status in (
        ("ann", {"kind": "export", "user_id": "gus"}, 403),
        ("ann", {"kind": "erasure", "company_id": "acme"}, 403),
        ("boss", {"kind": "export", "company_id": "globex"}, 403),
        ("boss", {"kind": "export"}, 422),
        ("admin", {"kind": "nonsense"}, 422),
    ):
        assert (await house.call(who, "POST", "/api/privacy/requests", body))[0] == status, body


async def test_f5_each_class_runs_out_at_its_time_and_a_legal_hold_keeps_it(house) -> None:
    now = 2_000 * DAY
    ages = {"sensitive": 1, "personal": 30, "non_personal": 730}
    rows = []
    for name, days in ages.items():
        for side, age in (("young", days - 0.01), ("old", days + 0.01)):
            rows.append(
                {
                    "request_id": f"{name}-{side}", "company_id": "acme", "user_id": "ann",
                    "created_at": now - age * DAY, "messages": [], "answer": "", "consent": "c",
                    "classification": name,
                }
            )  # fmt: skip
    async with house.database.write(ALL) as connection:
        await connection.execute(tables.contents.insert(), rows)
    hold = {"reason": "a court asked"}
    path = "/admin/legal-holds/company:acme"
    assert (await house.call("admin", "PUT", path, hold))[0] == 200
    report = await house.gateway.runtime.background.tidy(now)
    assert sum(report.values()) == 0
    refused = await house.asked("admin", kind="erasure", company_id="acme")
    assert refused["state"] == "refused"
    assert "a court asked" in refused["result"]["reason"]
    assert (await house.call("admin", "DELETE", path))[0] == 200
    report = await house.gateway.runtime.background.tidy(now)
    assert {k: v for k, v in report.items() if v} == {f"contents_{name}": 1 for name in ages}
    async with house.database.read(ALL) as connection:
        left = await connection.all(select(tables.contents.c.request_id))
    assert {row["request_id"] for row in left} == {f"{name}-young" for name in ages}
    again = await house.gateway.runtime.background.tidy(now)
    assert sum(again.values()) == 0, "doing it twice does nothing more"


async def test_f5_the_record_loses_its_names_and_then_goes(house) -> None:
    await house.say("ann", "hello")
    (row,) = await house.gateway.records()
    at = row["created_at"]
    tidy = house.gateway.runtime.background.tidy
    assert sum((await tidy(at + 179 * DAY)).values()) == 0, "plain words stay for two years"
    report = await tidy(at + 181 * DAY)
    assert report["requests_nameless"] == 1
    assert await count(house, tables.contents) == 1
    (row,) = await house.gateway.records()
    assert (row["user_id"], row["company_id"]) == (None, "acme")
    report = await tidy(at + 731 * DAY)
    assert (report["requests"], report["attempts"]) == (1, 1)
    assert await house.gateway.records() == []
    _, told = await house.call("admin", "GET", "/admin/retention")
    assert told["days"]["pseudonymous"] == 180
    status, told = await house.call("admin", "POST", "/admin/retention/run", {})
    assert status == 200


async def test_f5_one_worker_takes_the_turn_of_all(workshop) -> None:
    one = await workshop.gateway(retention_interval_s=1000.0)
    two = await workshop.gateway(retention_interval_s=1000.0, key=one.key)
    later = time.time() + 2000
    taken = [await gateway.runtime.background._turn(later) for gateway in (one, two, one)]
    assert taken.count(True) == 1
    assert await one.runtime.background._turn(later + 1000) is True


async def test_f4_what_was_in_a_text_decides_how_long_it_stays(house) -> None:
    for text in ("plain words", "write to ann@acme.example", "my card is 4111 1111 1111 1111"):
        await house.say("ann", text)
    await house.gateway.records()
    async with house.database.read(ALL) as connection:
        rows = await connection.all(select(tables.contents).order_by(tables.contents.c.created_at))
    assert [row["classification"] for row in rows] == ["non_personal", "personal", "sensitive"]
    assert "ann@" not in str(rows)


async def test_every_stored_text_is_redacted_labels_and_feedback_too(house) -> None:
    request_id = await house.say(
        "ann", "hi", x_triptych_feature="for ann@acme.example", x_triptych_conversation="ann@x.org"
    )
    (row,) = await house.gateway.records()
    assert row["feature"] == "for [email]"
    assert row["conversation_id"].startswith("p_")
    _, found = await house.call("admin", "GET", "/api/requests?conversation_id=ann@x.org")
    assert [r["request_id"] for r in found["requests"]] == [request_id]
    body = {"kind": "comment", "value": "call +49 171 1234567", "conversation_id": "ann@x.org"}
    assert (await house.call("ann", "POST", "/api/feedback", body))[0] == 200
    _, told = await house.call("admin", "GET", "/api/feedback")
    assert told["feedback"][0]["value"] == "call [phone]"


async def test_f6_a_request_whose_worker_died_is_taken_up_once(house) -> None:
    """Two workers look at the same moment; what has been running for long is nobody's any more."""
    await house.gateway.runtime.background.close()
    subject = personal.Subject(None, "ann")
    privacy_id = await privacy.ask(house.database, "export", subject, {}, actor="ann")
    first, second = await asyncio.gather(*(privacy.claim(house.database) for _ in range(2)))
    assert [row["privacy_id"] for row in (first, second) if row] == [privacy_id]
    assert await privacy.claim(house.database) is None
    async with house.database.write(ALL) as connection:
        table = tables.privacy_requests
        await connection.execute(table.update().values(updated_at=time.time() - 601))
    assert (await privacy.claim(house.database) or {})["privacy_id"] == privacy_id
