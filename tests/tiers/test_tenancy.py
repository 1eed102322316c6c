"""Nothing of one company is ever seen, changed or counted by another (checks D1, D2).

Every function of the store that takes a scope and every route of the table is tried with another
company's ids; both lists are read from the code, so that a new one cannot be forgotten.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
import sqlite3
import types
import typing
from collections.abc import Iterator
from typing import Any

import orjson
import pytest
from people import People
from sqlalchemy import select

from triptych.config.gateway import UpstreamConfig
from triptych.errors import TriptychError
from triptych.tiers import store
from triptych.tiers.admin.table import TABLE
from triptych.tiers.store import accounts, tables
from triptych.tiers.store.database import Database, Scope, ScopeError, company
from triptych.tiers.store.personal_data import consents

CANARY = "CANARY"


async def planted(people: People) -> dict[str, Any]:
    """Let acme leave its mark in every table a company can write to.

    Returns: what a stranger could know of it: its ids.
    """
    database = people.gateway.database
    await accounts.change_company(
        database, "acme", {"facts": {"plan": f"{CANARY}-facts"}}, company("acme"), actor="t"
    )
    await consents.set_consent(database, "improve", True, company_id="acme", actor="t")
    await people.gateway.runtime.refresh()
    await people.call("company_admin", "POST", "/api/keys", {"name": f"{CANARY}-key"})
    body = {
        "name": f"{CANARY}-model", "tier": "company", "company_id": "acme", "revision": "a" * 40,
    }  # fmt: skip
    assert (await people.call("admin", "POST", "/admin/models", body))[0] == 200
    status, answer = await people.call(
        "user",
        "POST",
        "/api/query",
        {
            "input": f"{CANARY}-question",
            "companyId": "acme",
            "useCompanyModel": True,
            "feature": f"{CANARY}-feature",
            "conversationId": f"{CANARY}-conversation",
        },
    )
    assert status == 200, answer
    request_id = answer["request_id"]
    feedback = {
        "kind": "comment", "value": f"{CANARY}-comment", "request_id": request_id,
        "feedback_id": f"{CANARY}-feedback",
    }  # fmt: skip
    assert (await people.call("user", "POST", "/api/feedback", feedback))[0] == 200
    await people.gateway.records()
    _, keys = await people.call("company_admin", "GET", "/api/keys")
    return {
        "request_id": request_id,
        "key_id": keys["keys"][0]["key_id"],
        "feedback_id": f"{CANARY}-feedback",
        "conversation_id": f"{CANARY}-conversation",
        "company_id": "acme",
        "user_id": "ann",
        "subject_id": "acme",
        "subject": "company:acme",
        "name": "script",
        "key": "tier.company",
    }


def dump(path: Any, company_id: str) -> dict[str, list[Any]]:
    """Copy every row that belongs to a company, table by table."""
    found = {}
    with sqlite3.connect(path) as raw:
        for table in tables.metadata.sorted_tables:
            if column := table.info.get("tenant"):
                query = f"SELECT * FROM {table.name} WHERE {column} = ?"
                found[table.name] = sorted(raw.execute(query, (company_id,)).fetchall(), key=repr)
    return found


# -- the store -----------------------------------------------------------------------------------


def scoped_functions() -> Iterator[tuple[str, Any]]:
    """Yield every public function of the store that is given a scope."""
    for room in pkgutil.iter_modules(store.__path__, f"{store.__name__}."):
        if room.name.endswith((".database", ".migrations")):
            continue
        module = importlib.import_module(room.name)
        for name, function in vars(module).items():
            if not inspect.isfunction(function) or function.__module__ != room.name:
                continue
            if name.startswith("_") or "scope" not in inspect.signature(function).parameters:
                continue
            if typing.get_type_hints(function)["scope"] in (Scope, Scope | None):
                yield f"{room.name.rsplit('.', 1)[1]}.{name}", function


def foreign_argument(name: str, kind: Any, known: dict[str, Any], database: Database) -> Any:
    """Make an argument that points at acme."""
    if name == "database":
        return database
    if name == "scope":
        return company("globex")
    if name in known:
        return known[name]
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        kind = next(a for a in typing.get_args(kind) if a is not type(None))
    if typing.get_origin(kind) is typing.Literal:
        return typing.get_args(kind)[0]
    if kind is bool:
        return True
    if kind in (int, float):
        return kind(0 if name.startswith("since") else 10**10 if name == "until" else 1)
    if typing.get_origin(kind) is dict or kind is dict:
        return {"name": "stolen", "company_id": "acme", "tier": "base", "revision": "b" * 40}
    return "acme" if kind is str else None


async def drained(answer: Any) -> Any:
    """Wait for what a function gives, also where it gives it piece by piece."""
    if inspect.isasyncgen(answer):
        return [piece async for piece in answer]
    return await answer if inspect.isawaitable(answer) else answer


async def ask_as_globex(function: Any, known: dict[str, Any], database: Database) -> str:
    """Call a function of the store with globex's scope and acme's ids; return all it says."""
    hints = typing.get_type_hints(function)
    positional, named = [], {}
    for parameter in inspect.signature(function).parameters.values():
        required = parameter.default is inspect.Parameter.empty
        if not required and parameter.name not in (*known, "scope"):
            continue
        value = foreign_argument(parameter.name, hints[parameter.name], known, database)
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY or not required:
            named[parameter.name] = value
        else:
            positional.append(value)
    try:
        return repr(await drained(function(*positional, **named)))
    except TriptychError as error:
        return str(error)


async def test_d1_every_store_function_given_foreign_ids_shows_and_changes_nothing(people) -> None:
    known = await planted(people)
    database, file = people.gateway.database, people.gateway.home / "gateway.db"
    before = dump(file, "acme")
    assert all(before[name] for name in ("requests", "attempts", "contents", "feedback"))
    functions = dict(scoped_functions())
    assert {"interactions.page", "interactions.one", "feedback.export", "accounts.list_keys"} <= (
        set(functions)
    )
    for name, function in functions.items():
        said = await ask_as_globex(function, known, database)
        assert CANARY not in said, f"{name}: {said[:300]}"
        assert known["request_id"] not in said, name
        assert dump(file, "acme") == before, f"{name} changed something"


async def test_d1_a_statement_without_a_scope_or_across_companies_raises(people) -> None:
    database = people.gateway.database
    tenants = [t for t in tables.metadata.sorted_tables if t.info.get("tenant")]
    assert len(tenants) >= 8
    for table in tenants:
        async with database.read(Scope(None)) as connection:
            with pytest.raises(ScopeError):
                await connection.execute(select(table))
            with pytest.raises(ScopeError):
                await connection.execute(select(select(table).subquery()))
        async with database.read(company("globex")) as connection:
            with pytest.raises(ScopeError):
                await connection.execute(table.insert(), {"company_id": "acme"})


# -- the routes ----------------------------------------------------------------------------------


def foreign_body(route: Any, known: dict[str, Any]) -> Any:
    """Fill a body with acme's ids wherever its model has a place for one."""
    if route.path in ("/v1/chat/completions", "/v1/completions"):
        content = {"messages": [{"role": "user", "content": "x"}], "prompt": "x"}
        field = "messages" if "chat" in route.path else "prompt"
        return {"model": "company", field: content[field]}
    if route.path == "/api/query":
        return {"input": "x", "companyId": "acme", "useCompanyModel": True}
    if route.body is None:
        return None
    body: dict[str, Any] = {}
    for name, field in route.body.model_fields.items():
        if name in known:
            body[name] = known[name]
        elif field.is_required():
            body[name] = foreign_argument(name, field.annotation, {}, None)  # type: ignore[arg-type]
    return body


@pytest.mark.parametrize("who", ["foreign", "foreign_admin"])
async def test_d1_no_route_shows_or_changes_anything_of_another_company(people, who) -> None:
    known = await planted(people)
    people.keys["foreign_admin"] = await accounts.create_key(
        people.gateway.database, name="g", role="company_admin", company_id="globex", actor="t"
    )
    await people.gateway.runtime.refresh()
    before = dump(people.gateway.home / "gateway.db", "acme")
    tried, leaks = 0, []
    for route in TABLE:
        if route.need == "admin":
            continue  # an admin of everything may; others are refused by role (check I1)
        path = re.sub(r"\{(\w+)(?::int)?\}", lambda m: str(known.get(m[1], 1)), route.path)
        body = foreign_body(route, known)
        for query in ("", "?company_id=acme", f"?company_id=acme&user_id=ann&key_id={CANARY}"):
            status, answer = await people.call(
                who, route.method, path + query, body, x_triptych_company="acme"
            )
            tried += 1
            text = answer.decode() if isinstance(answer, bytes) else orjson.dumps(answer).decode()
            if CANARY in text.replace(f"key_id={CANARY}", "") or status == 500:
                leaks.append(f"{route.method} {path}{query}: {status} {text[:300]}")
            if "acme" in path and status < 400:
                leaks.append(f"{route.method} {path}{query}: {status}")
    assert tried > 60
    assert not leaks, "\n".join(leaks)
    await people.gateway.records()
    assert dump(people.gateway.home / "gateway.db", "acme") == before


async def test_d1_a_stranger_at_the_company_tier_is_refused_on_record_and_nobody_is_asked(
    people, workshop
) -> None:
    upstream = await workshop.upstream()
    gateway = await workshop.gateway(
        {"u": UpstreamConfig("local", f"{upstream.url}/v1", {"company": "m", "base": "m"})}
    )
    stranger = People(gateway)
    stranger.keys = people.keys
    for headers, code in (({"x_triptych_company": "acme"}, "not_a_member"), ({}, "")):
        status, answer = await stranger.call(
            "foreign",
            "POST",
            "/v1/chat/completions",
            {"model": "company", "messages": [{"role": "user", "content": "hi"}]},
            **headers,
        )
        if code:
            assert (status, answer["error"]["code"]) == (403, code)
    assert all(b"acme" not in orjson.dumps(body) for _, body in upstream.requests)
    refused = [row for row in await gateway.records() if row["error_code"] == "not_a_member"]
    assert [(row["outcome"], row["attempts"]) for row in refused] == [("refused", 0)]


async def test_d1_whatever_a_companys_key_asks_is_on_its_companys_record(people) -> None:
    """With no header too, on every tier: budgets, flags and consent are about all of it."""
    gateway = people.gateway
    asked = {"messages": [{"role": "user", "content": "hi"}]}
    for who in ("service", "user"):
        for model in ("base", "auto", "company"):
            status, answer = await people.call(
                who, "POST", "/v1/chat/completions", {"model": model, **asked}
            )
            assert status == 200, answer
    await people.call("foreign", "POST", "/v1/chat/completions", {"model": "base", **asked})
    rows = await gateway.records()
    assert sorted(row["company_id"] for row in rows) == ["acme"] * 6 + ["globex"]
    _, seen = await people.call("company_admin", "GET", "/api/requests")
    assert {row["company_id"] for row in seen["requests"]} == {"acme"}
    assert len(seen["requests"]) == 6


# -- D2: one person in two companies -------------------------------------------------------------


async def test_d2_what_a_person_does_in_one_company_never_shows_in_the_other(people) -> None:
    gateway = people.gateway
    database = gateway.database
    await accounts.create_user(database, "both", companies=["acme", "globex"], actor="t")
    people.keys["both"] = await accounts.create_key(
        database, name="both", kind="user", user_id="both", actor="t"
    )
    people.keys["globex"] = await accounts.create_key(
        database, name="g", role="company_admin", company_id="globex", actor="t"
    )
    for name in ("acme", "globex"):
        await consents.set_consent(database, "improve", True, company_id=name, actor="t")
    await gateway.runtime.refresh()
    await gateway.set(cache=True)
    for name in ("acme", "globex"):
        asked = {
            "input": f"{CANARY}-{name} and a question both ask", "companyId": name,
            "useCompanyModel": True, "feature": f"{CANARY}-{name}",
        }  # fmt: skip
        status, answer = await people.call("both", "POST", "/api/query", asked)
        assert (status, answer["cached"]) == (200, False)
        body = {"kind": "correction", "value": f"{CANARY}-{name}-better"}
        body["request_id"] = answer["request_id"]
        assert (await people.call("both", "POST", "/api/feedback", body))[0] == 200
    same = {"input": "the very same question", "useCompanyModel": True}
    for name in ("acme", "globex"):
        _, answer = await people.call("both", "POST", "/api/query", {**same, "companyId": name})
        assert answer["cached"] is False, "the cache does not cross companies either"
    await gateway.records()
    for who, mine, theirs in (("company_admin", "acme", "globex"), ("globex", "globex", "acme")):
        seen = b""
        for name in (
            "requests", "feedback", "feedback/export", "usage", "usage?group_by=feature", "models",
            "keys", "companies",
        ):  # fmt: skip
            status, answer = await people.call(who, "GET", f"/api/{name}")
            assert status == 200
            seen += answer if isinstance(answer, bytes) else orjson.dumps(answer)
        assert f"{CANARY}-{mine}".encode() in seen
        assert f"{CANARY}-{theirs}".encode() not in seen
        for table in (tables.contents, tables.feedback, tables.requests):
            async with database.read(company(mine)) as connection:
                kept = repr(await connection.all(select(table)))
            assert f"{CANARY}-{mine}" in kept
            assert f"{CANARY}-{theirs}" not in kept
