"""Every route x every place that can name a stranger's id x every kind of key: no foreign byte.

Made from the route table itself, so a new route is asked without a line here.
"""

from __future__ import annotations

import random
import re
from typing import Any

import aiohttp
import pytest
from people import People
from sqlalchemy import select

from triptych.tiers.admin.table import TABLE
from triptych.tiers.store import accounts, budgets, tables, upstreams
from triptych.tiers.store.database import across, company
from triptych.tiers.store.personal_data import consents

ALL = across("a test reads everything")
CANARY = "foreign-canary-7209"
KEYS = ("user", "company_admin", "service", "ours")
KEYLESS = ("none", "bad", "revoked", "expired")
STREAMS = {"/metrics"}
#: Tables whose rows of a stranger no request of another may change.
WATCHED = (
    tables.users, tables.companies, tables.memberships, tables.api_keys, tables.consents,
    tables.budgets, tables.contents, tables.feedback, tables.privacy_requests,
    tables.legal_holds, tables.spaces, tables.model_registry, tables.flag_overrides,
)  # fmt: skip


class Strangers:
    """A company and its user, known by every id, and with a canary in all that is theirs."""

    def __init__(self, people: People) -> None:
        self.people = people
        self.ids: dict[str, list[str]] = {}

    async def settle(self) -> Strangers:
        people, database = self.people, self.people.gateway.database
        facts = {"facts": {"secret": CANARY}, "industry": CANARY, "name": CANARY}
        assert (await people.call("admin", "PATCH", "/api/companies/globex", facts))[0] == 200
        hidden = f"u-{CANARY}"
        await accounts.create_user(database, hidden, companies=["globex"], actor="t")
        await accounts.create_key(
            database, name=CANARY, kind="user", user_id="gus", company_id="globex", actor="t"
        )
        for subject in ({"company_id": "globex"}, {"user_id": "gus"}):
            await consents.set_consent(database, "improve", True, actor="t", **subject)
        await budgets.set_budget(
            database,
            "company:globex",
            "day",
            max_tokens=7_209_000,
            scope=company("globex"),
            actor="t",
        )
        model = {"name": CANARY, "tier": "company", "company_id": "globex"}
        assert (await people.call("admin", "POST", "/admin/models", model))[0] == 200
        await upstreams.save_upstream(
            database, "globex-own",
            {"provider": "scripted", "address": "", "models": {f"m-{CANARY}": "echo"},
             "company_id": "globex", "is_active": True, "key_name": "", "external": False,
             "revision": ""},
            actor="t",
        )  # fmt: skip
        await people.gateway.runtime.refresh()
        asked = {"model": "base", "messages": [{"role": "user", "content": CANARY}]}
        sent = {"x_triptych_company": "globex", "x_triptych_conversation": f"c-{CANARY}"}
        assert (await people.call("foreign", "POST", "/v1/chat/completions", asked, **sent))[
            0
        ] == 200
        kept = {"model": "base", "input": CANARY, "store": True}
        _, answer = await people.call("foreign", "POST", "/v1/responses", kept, **sent)
        rows = await people.gateway.records()
        request_id = rows[-1]["request_id"]
        comment = {"kind": "comment", "value": CANARY, "request_id": request_id}
        assert (await people.call("foreign", "POST", "/api/feedback", comment))[0] == 200
        body = {"kind": "correction", "details": CANARY}
        _, privacy = await people.call("foreign", "POST", "/api/privacy/requests", body)
        async with database.read(ALL) as connection:
            keys = await connection.all(
                select(tables.api_keys.c.key_id).where(tables.api_keys.c.user_id == "gus")
            )
        self.ids = {
            "company": ["globex"], "user": ["gus"], "request": [row["request_id"] for row in rows],
            "key": [row["key_id"] for row in keys], "privacy": [privacy["privacy_id"]],
            "response": [str(answer.get("id", "none"))],
            "subject": ["company:globex", "user:gus"], "document": ["1"], "model": [CANARY],
            "conversation": [f"c-{CANARY}"],
        }  # fmt: skip
        await accounts.create_key(
            database, name="x", kind="user", user_id="ann", company_id="acme", actor="t"
        )
        _, made = await people.call(
            "company_admin", "POST", "/api/keys", {"name": "ours", "kind": "user", "user_id": "ann"}
        )
        people.keys["ours"] = made["key"]
        await people.gateway.runtime.refresh()
        return self

    def foreign(self, name: str, rng: random.Random) -> str | None:
        """Return a stranger's id for a field of this name, if it can carry one."""
        for kind, found in self.ids.items():
            if kind in name.lower():
                return rng.choice(found)
        return None

    async def rows(self) -> dict[str, list[str]]:
        """Return the strangers' rows of the watched tables."""
        found = {}
        async with self.people.gateway.database.read(ALL) as connection:
            for table in WATCHED:
                rows = [
                    str(sorted(row.items(), key=str)) for row in await connection.all(select(table))
                ]
                found[table.name] = sorted(
                    r for r in rows if "globex" in r or "gus" in r or CANARY in r
                )
        return found


def body_of(route: Any, strangers: Strangers, rng: random.Random) -> Any:
    """Return a body: a stranger's ids where a field can carry one, else a value of its type."""
    if route.body is None:
        return None
    if not route.body.model_fields:  # the hot routes, whose bodies are read by hand
        user = strangers.ids["user"][0]
        return {
            "model": rng.choice(["base", "company", "no-such-model"]), "max_tokens": 8,
            "messages": [{"role": "user", "content": "hi"}], "input": "hi", "text": "hi",
            "prompt": "hi", "user": user, "metadata": {"user_id": user}, "store": True,
            "previous_response_id": strangers.ids["response"][0], "companyId": "globex",
            "context": {"userId": user, "companyId": "globex"},
        } if rng.random() < 0.5 else {
            "model": "base", "messages": [{"role": "user", "content": "hi"}], "user": user,
        }  # fmt: skip
    schema = route.body.model_json_schema()
    body = {}
    for name, field in schema.get("properties", {}).items():
        found = strangers.foreign(name, rng)
        if found is not None and name not in ("model", "use_company_model"):
            body[name] = [found] if field.get("type") == "array" else found
        elif name in schema.get("required", ()) or rng.random() < 0.3:
            body[name] = value_of(field, schema.get("$defs", {}), rng)
    return body


def value_of(field: dict[str, Any], defs: dict[str, Any], rng: random.Random) -> Any:
    if "$ref" in field:
        field = defs.get(field["$ref"].rsplit("/", 1)[-1], {})
    options = field.get("anyOf") or [field]
    field = rng.choice(options)
    if "enum" in field:
        return rng.choice(field["enum"])
    return {
        "string": field.get("const", "hi"), "integer": max(1, int(field.get("minimum", 1))),
        "number": 1.0, "boolean": rng.random() < 0.5, "array": [],
        "object": {"targetingKey": "gus", "user_id": "gus", "company_id": "globex"},
        "null": None,
    }.get(field.get("type", "object"))  # fmt: skip


def path_of(route: Any, strangers: Strangers, rng: random.Random) -> str:
    def put(match: re.Match[str]) -> str:
        if match[2] == ":int":
            return "1"
        if match[1] == "scope":
            return "company"
        if match[1] == "period":
            return "day"
        if match[1] == "subject_id":
            return "globex"
        return strangers.foreign(match[1], rng) or "cache"

    return re.sub(r"\{(\w+)(:\w+)?\}", put, route.path)


@pytest.mark.parametrize(
    "rounds", [1, pytest.param(28, marks=[pytest.mark.prove, pytest.mark.timeout(3000)])]
)
async def test_found_a1_b3_b12_no_route_gives_or_changes_what_is_another_companys(
    people, proven, rounds
) -> None:
    strangers = await Strangers(people).settle()
    rng = random.Random(rounds)
    before = await strangers.rows()
    asked, wrong = 0, []
    async with aiohttp.ClientSession() as session:
        for route in [r for r in TABLE if r.path not in STREAMS] * rounds:
            for who in (*KEYS, rng.choice(KEYLESS)):
                path = path_of(route, strangers, rng)
                query = {name: strangers.foreign(name, rng) for name in route.query}
                params = {name: value for name, value in query.items() if value is not None}
                body = body_of(route, strangers, rng)
                if path == route.path and not params and route.method not in ("GET", "POST"):
                    continue  # nothing here can name a stranger
                headers = {"authorization": f"Bearer {people.keys[who]}"} if who != "none" else {}
                if rng.random() < 0.5:
                    headers["x-triptych-user"] = "gus"
                if rng.random() < 0.5:
                    headers["x-triptych-company"] = "globex"
                async with session.request(
                    route.method, people.gateway.url + path, params=params, json=body,
                    headers=headers,
                ) as got:  # fmt: skip
                    said = (await got.read()).decode(errors="replace") + str(dict(got.headers))
                asked += 1
                for sent in (path, *params.values(), str(body)):
                    for echo in (sent, f"c-{CANARY}"):
                        said = said.replace(echo, "")
                shown = said.replace(f"'{CANARY}'", "") if CANARY in str(body) else said
                if (
                    CANARY in shown
                    or "7209000" in shown
                    or (got.status >= 500 and got.status not in (501, 502, 503))
                ):
                    wrong.append(
                        f"{who} {route.method} {path} {params} {body}: {got.status} {said[:300]}"
                    )
    assert not wrong, "\n".join(wrong[:20])
    after = await strangers.rows()
    for table, rows in before.items():
        assert after[table] == rows, table
    assert (await people.call("foreign", "GET", "/api/me"))[0] == 200
    if rounds > 1:
        assert asked >= 10_000
        proven("hostile", "foreign_ids", {"requests": asked, "foreign_bytes": len(wrong)})
