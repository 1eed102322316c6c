"""Who may act for whom: keys, headers and bodies that name a user or a company."""

from __future__ import annotations

from typing import Any

import aiohttp
import orjson
import pytest
from people import People
from sqlalchemy import select

from triptych.tiers.store import accounts, memberships, tables
from triptych.tiers.store.database import across, company
from triptych.tiers.store.personal_data import consents

EVERYTHING = across("a test reads everything")
ASKED = {"model": "base", "messages": [{"role": "user", "content": "hi"}]}


async def key_from(people: People, who: str, name: str, **body: Any) -> tuple[int, Any]:
    """Make a key through the API and keep it under a name."""
    status, answer = await people.call(who, "POST", "/api/keys", {"name": name, **body})
    if status == 200:
        people.keys[name] = answer["key"]
    return status, answer


async def rows_of(people: People, table: Any) -> list[dict[str, Any]]:
    await people.gateway.records()
    async with people.gateway.database.read(EVERYTHING) as connection:
        return await connection.all(select(table))


async def test_found_a1_no_company_admin_makes_a_key_for_a_user_of_another_company(people) -> None:
    for user_id in ("gus", "not-entered"):
        status, answer = await key_from(people, "company_admin", "x", kind="user", user_id=user_id)
        assert (status, answer["error"]["code"]) == (403, "not_a_member"), user_id
    status, answer = await key_from(
        people, "admin", "x", kind="user", user_id="gus", company_id="acme"
    )
    assert (status, answer["error"]["code"]) == (403, "not_a_member")
    status, _ = await key_from(people, "company_admin", "ours", kind="user", user_id="ann")
    assert status == 200


async def test_found_a1_a_key_that_a_company_made_reaches_no_record_of_the_whole_person(
    people,
) -> None:
    database = people.gateway.database
    await consents.set_consent(database, "improve", True, user_id="ann", actor="ann")
    _, asked = await people.call("user", "POST", "/api/privacy/requests", {"kind": "export"})
    await key_from(people, "company_admin", "ours", kind="user", user_id="ann")
    for body in ({"kind": "export"}, {"kind": "erasure"}, {"kind": "export", "user_id": "ann"}):
        status, answer = await people.call("ours", "POST", "/api/privacy/requests", body)
        assert (status, answer["error"]["code"]) == (403, "key_of_a_company"), body
    body = {"purpose": "improve", "granted": False}
    status, answer = await people.call("ours", "PUT", "/api/consent", body)
    assert (status, answer["error"]["code"]) == (403, "key_of_a_company")
    assert (await people.call("ours", "GET", "/api/consent"))[1]["history"] == []
    assert (await people.call("ours", "GET", "/api/privacy/requests"))[1] == {"requests": []}
    path = f"/api/privacy/requests/{asked['privacy_id']}"
    assert (await people.call("ours", "GET", path))[0] == 404
    assert (await people.call("ours", "GET", f"{path}/export"))[0] == 404
    assert (await people.call("user", "GET", path))[0] == 200


async def test_found_a1_a_key_outlives_no_membership_it_was_made_in(people) -> None:
    await key_from(people, "company_admin", "ours", kind="user", user_id="ann")
    assert (await people.call("ours", "POST", "/v1/chat/completions", ASKED))[0] == 200
    await people.call("company_admin", "DELETE", "/api/companies/acme/members/ann")
    assert (await people.call("ours", "POST", "/v1/chat/completions", ASKED))[0] == 401


async def test_found_a1_a_company_sees_nothing_of_a_member_beyond_itself(people) -> None:
    """An export of a user within one company has no account and no spending of other companies."""
    database = people.gateway.database
    await memberships.set_membership(
        database, "ann", "globex", member=True, scope=company("globex"), actor="t"
    )
    await people.gateway.runtime.refresh()
    sent = {"x_triptych_company": "globex"}
    assert (await people.call("user", "POST", "/v1/chat/completions", ASKED, **sent))[0] == 200
    await people.gateway.records()
    status, asked = await people.call(
        "company_admin", "POST", "/api/privacy/requests", {"kind": "export", "user_id": "ann"}
    )
    assert status == 200
    path = f"/api/privacy/requests/{asked['privacy_id']}"
    while (await people.call("company_admin", "GET", path))[1]["state"] != "done":
        await people.gateway.runtime.background.work_once()
    path = f"{path}/export"
    sent = {"authorization": f"Bearer {people.keys['company_admin']}"}
    async with (
        aiohttp.ClientSession() as session,
        session.get(people.gateway.url + path, headers=sent) as response,
    ):
        raw = await response.read()
    assert response.status == 200
    tables_sent = {orjson.loads(line)["table"] for line in raw.splitlines()}
    assert tables_sent == {"memberships", "privacy_requests"}
    assert b"globex" not in raw


async def test_found_a1_no_company_adds_a_user_who_did_not_agree(people) -> None:
    status, answer = await people.call("company_admin", "PUT", "/api/companies/acme/members/gus")
    assert (status, answer["member"], answer["invited"]) == (200, False, True)
    again, unknown = await people.call(
        "company_admin", "PUT", "/api/companies/acme/members/not-entered"
    )
    assert (again, unknown["invited"]) == (200, True), "it cannot be found out who is entered here"
    body = {"model": "company", "messages": ASKED["messages"]}
    assert (await people.call("foreign", "POST", "/v1/chat/completions", body))[0] == 200
    rows = await people.gateway.records()
    assert rows[-1]["company_id"] == "globex", "its only company is still its default"
    status, _ = await key_from(people, "company_admin", "x", kind="user", user_id="gus")
    assert status == 403

    _, mine = await people.call("foreign", "GET", "/api/memberships")
    assert [(m["company_id"], m["role"]) for m in mine["memberships"]] == [
        ("acme", "invited"), ("globex", "user"),
    ]  # fmt: skip
    assert (await people.call("service", "PUT", "/api/memberships/acme"))[0] == 404
    assert (await people.call("user", "PUT", "/api/memberships/globex"))[0] == 404
    status, answer = await people.call("foreign", "PUT", "/api/memberships/acme")
    assert (status, answer["member"]) == (200, True)
    assert (await key_from(people, "company_admin", "x", kind="user", user_id="gus"))[0] == 200
    assert (await people.call("foreign", "DELETE", "/api/memberships/acme"))[0] == 200
    assert (await people.call("x", "POST", "/v1/chat/completions", ASKED))[0] == 401


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/api/query"])
async def test_found_b3_a_service_key_speaks_for_members_only_others_are_labels(
    people, path
) -> None:
    async def ask(user_id: str) -> Any:
        if path == "/api/query":
            return await people.call("service", "POST", path, {"input": "hi", "userId": user_id})
        return await people.call("service", "POST", path, ASKED, x_triptych_user=user_id)

    for user_id in ("ann", "gus", "made-up", "x" * 64):
        assert (await ask(user_id))[0] == 200, user_id
    rows = await people.gateway.records()
    key_id = rows[0]["key_id"]
    seen = {row["user_id"] for row in rows}
    assert {"ann", f"{key_id}/gus", f"{key_id}/made-up"} < seen
    assert all(len(user_id) <= 64 for user_id in seen)
    subjects = {row["subject"] for row in await rows_of(people, tables.spend)}
    assert subjects == {f"key:{key_id}", "company:acme", "user:ann"}


async def test_found_b3_another_companys_user_pays_and_decides_nothing(people) -> None:
    database = people.gateway.database
    await consents.set_consent(database, "serve", False, user_id="gus", actor="gus")
    budget = {"max_tokens": 0}
    assert (await people.call("admin", "PUT", "/api/budgets/user:gus/total", budget))[0] == 200
    await people.gateway.runtime.refresh()
    status, answer = await people.call(
        "service", "POST", "/v1/chat/completions", ASKED, x_triptych_user="gus"
    )
    assert status == 200, answer
    sent = {"context": {"targetingKey": "gus"}}
    await people.call("admin", "PUT", "/admin/flags/cache/overrides/user/gus", {"value": False})
    _, theirs = await people.call("service", "POST", "/ofrep/v1/evaluate/flags/cache", sent)
    assert theirs["value"] is True
    assert (await people.call("user", "POST", "/ofrep/v1/evaluate/flags/cache", sent))[0] == 403


async def test_found_b3_a_company_in_a_header_is_the_callers_or_the_request_is_refused(
    people,
) -> None:
    for who in ("foreign", "user"):
        named = {"foreign": "acme", "user": "not-entered"}[who]
        status, answer = await people.call(
            who, "POST", "/v1/chat/completions", ASKED, x_triptych_company=named
        )
        assert (status, answer["error"]["code"]) == (403, "not_a_member")
    rows = await people.gateway.records()
    assert {(row["outcome"], row["company_id"], row["attempts"]) for row in rows} == {
        ("refused", None, 0)
    }


async def test_found_c14_signing_out_revokes_only_a_key_that_signing_in_made(people) -> None:
    status, answer = await people.call("user", "DELETE", "/api/session")
    assert (status, answer["error"]["code"]) == (403, "not_a_session")
    assert (await people.call("user", "GET", "/api/consent"))[0] == 200
    people.keys["session"] = await accounts.create_key(
        people.gateway.database, name="s", kind="user", user_id="ann", session=True, actor="ann"
    )
    await people.gateway.runtime.refresh()
    assert (await people.call("session", "DELETE", "/api/session"))[0] == 200
    assert (await people.call("session", "GET", "/api/consent"))[0] == 401
