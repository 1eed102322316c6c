"""Flags mean what they say (checks B1 to B8)."""

from __future__ import annotations

import ast
import asyncio
import dataclasses
import itertools
import json
import random
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import select, text

from triptych.config.gateway import UpstreamConfig
from triptych.errors import (
    EditConflict,
    Forbidden,
    InvalidQuery,
    NoProviderAvailable,
    NotFound,
    StorageError,
    TierError,
)
from triptych.tiers.http import bodies
from triptych.tiers.rules import catalogue, flags
from triptych.tiers.rules.accounts import Company, Principal
from triptych.tiers.rules.catalogue import Catalogue
from triptych.tiers.rules.flags import (
    REGISTRY,
    Flags,
    FlagSet,
    Resolved,
    default_definitions,
    definition,
)
from triptych.tiers.rules.selector import Selector
from triptych.tiers.store import audit, tables
from triptych.tiers.store import flags as store
from triptych.tiers.store import settings as shared

TIERS = {"base": "m", "company": "m", "abstraction": "m"}
CATALOGUE = Catalogue(
    catalogue.build(name, UpstreamConfig(provider, "https://a.example/v1", TIERS))
    for name, provider in (
        ("openai", "openai"),
        ("space", "hf_spaces"),
        ("mock", "scripted"),
    )
)
ORDER = ("hf_spaces", "local", "openai", "scripted")
MEMBER = Principal("k", "service", "user", "u1", {"acme": Company("acme", allow_external=True)})


# -- B1: the truth table -------------------------------------------------------------------------


def written_table(
    openai: bool,
    spaces: bool,
    base: bool,
    company: bool,
    abstraction: bool,
    real: bool,
    mock: bool,
    use_company: bool,
    use_abstraction: bool,
    company_id: bool,
) -> tuple[str, str, str]:
    """Say who is asked first, as which tier, and why; or the error. Written from the documents.

    1. The company tier needs a company: 403, nobody is asked.
    2. The company's model wins over abstraction when both are wanted.
    3. A tier that is off is answered by base; base off too: nothing enabled for it, 503.
    4. With every tier off no Space answers, but OpenAI, which is no tier's home, is really asked.
    5. Spaces come before OpenAI, OpenAI before the mock; the mock never when real AI is demanded.
    6. Nobody left: 503, nobody is asked.
    """
    wanted = "company" if use_company else "abstraction" if use_abstraction else "base"
    if wanted == "company" and not company_id:
        return "403", "", ""
    enabled = {"base": base, "company": company, "abstraction": abstraction}
    mock_allowed = mock and not real
    if not any(enabled.values()):
        tier, reason, order = "base", "no_tier_enabled", []
    elif enabled[wanted]:
        tier, reason, order = wanted, "explicit_context", ["hf_spaces"] if spaces else []
    elif base:
        tier, reason, order = "base", "flag_disabled", ["hf_spaces"] if spaces else []
    else:
        return "503", "", ""
    order += ["openai"] if openai else []
    order += ["scripted"] if mock_allowed else []
    return (order[0], tier, reason) if order else ("503", "", "")


def decided(row: tuple[bool, ...]) -> tuple[str, str, str]:
    names = (
        "provider.openai",
        "provider.hf_spaces",
        "tier.base",
        "tier.company",
        "tier.abstraction",
        "real_ai_only",
        "provider.scripted",
    )
    values: dict[str, Any] = {key: spec.default for key, spec in REGISTRY.items()}
    values |= dict(zip(names, row[:7], strict=True))
    resolved = Resolved(values, {key: str(value) for key, value in values.items()}, 1)
    body = {"input": "hi", "useCompanyModel": row[7], "useAbstraction": row[8]}
    if row[9]:
        body["companyId"] = "acme"
    query = bodies.original(body, "r")
    try:
        found = Selector(CATALOGUE, ORDER).select(query, MEMBER, resolved)
    except Forbidden:
        return "403", "", ""
    except NoProviderAvailable:
        return "503", "", ""
    return found.routes[0].upstream.provider, found.tier, found.reason


def test_b1_all_1024_rows_equal_the_written_table() -> None:
    rows = list(itertools.product([False, True], repeat=10))
    assert len(rows) == 1024
    wrong = [row for row in rows if decided(row) != written_table(*row)]
    assert not wrong, f"{len(wrong)} rows, first {wrong[0]}: {decided(wrong[0])}"
    outcomes = {written_table(*row)[0] for row in rows}
    assert outcomes == {"403", "503", "hf_spaces", "openai", "scripted"}


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_b1_no_request_of_one_company_reaches_anothers_model(data) -> None:
    owners = ["acme", "globex", None]
    upstreams = [
        catalogue.owned(
            catalogue.build(
                f"u{n}",
                UpstreamConfig(
                    data.draw(st.sampled_from(["openai", "hf_spaces", "local"])),
                    "https://a.example/v1",
                    {data.draw(st.sampled_from([*TIERS, "own-model"])): "m"},
                ),
            ),
            data.draw(st.sampled_from(owners)),
        )
        for n in range(data.draw(st.integers(1, 6)))
    ]
    values: dict[str, Any] = {
        key: data.draw(st.booleans() if not spec.choices else st.sampled_from(spec.choices))
        for key, spec in REGISTRY.items()
    }
    resolved = Resolved(values, {key: str(value) for key, value in values.items()}, 1)
    mine = data.draw(st.sampled_from([["acme"], ["globex"], ["acme", "globex"], []]))
    principal = Principal(
        "k", "user", "user", "u", {c: Company(c, data.draw(st.booleans())) for c in mine}
    )
    query = bodies.chat(
        {
            "model": data.draw(st.sampled_from([*TIERS, "auto", "own-model"])),
            "messages": [{"role": "user", "content": "x"}],
        },
        "r",
        system_allowed=True,
    )
    query = dataclasses.replace(query, company_id=data.draw(st.sampled_from(owners)))
    try:
        found = Selector(Catalogue(upstreams), ORDER).select(query, principal, resolved)
    except TierError:
        return
    for route in found.routes:
        assert route.upstream.company_id in (None, query.company_id)
        assert route.upstream.company_id is None or route.upstream.company_id in mine
        if query.tier_asked == "company" and not principal.external_allowed(query.company_id):
            assert not route.upstream.external


# -- B2, B3 --------------------------------------------------------------------------------------


async def test_b2_with_no_tier_enabled_openai_is_actually_called(
    workshop, openai_and_space
) -> None:
    openai, space = await workshop.upstream("from openai"), await workshop.upstream()
    gateway = await workshop.gateway(openai_and_space(openai, space))
    await gateway.set(provider__hf_spaces=True, tier__base=False)
    status, answer, _ = await gateway.post("/api/query", {"input": "hi"})
    assert (status, answer["content"]) == (200, "from openai")
    assert (answer["tier_served"], answer["reason"]) == ("base", "no_tier_enabled")
    assert space.calls == 0


async def test_b2_with_nothing_enabled_nobody_is_called(workshop, openai_and_space) -> None:
    openai, space = await workshop.upstream(), await workshop.upstream()
    gateway = await workshop.gateway(openai_and_space(openai, space))
    await gateway.set(provider__openai=False)
    status, answer, _ = await gateway.post("/api/query", {"input": "hi"})
    assert (status, answer["error"]["code"]) == (503, "no_provider_available")
    assert openai.calls == space.calls == 0
    (record,) = await gateway.records()
    assert (record["outcome"], record["attempts"]) == ("failed", 0)


async def test_b3_company_content_goes_to_no_external_provider_unless_allowed(
    workshop, openai_and_space
) -> None:
    from triptych.tiers.store import accounts

    openai, space = await workshop.upstream("outside"), await workshop.upstream()

    async def down(request: Any, body: Any) -> Any:
        from aiohttp import web

        return web.Response(status=500)

    space.behaviour = down
    gateway = await workshop.gateway(openai_and_space(openai, space), retries=0)
    await accounts.create_company(gateway.database, "closed", "Closed", actor="t")
    await accounts.create_company(gateway.database, "open", "Open", allow_external=True, actor="t")
    await gateway.set(provider__hf_spaces=True, tier__company=True)
    asked = {"input": "hi", "useCompanyModel": True}
    status, _, _ = await gateway.post("/api/query", asked | {"companyId": "closed"})
    assert status == 502
    assert openai.calls == 0
    status, answer, _ = await gateway.post("/api/query", asked | {"companyId": "open"})
    assert (status, answer["content"]) == (200, "outside")
    assert answer["fallback_reason"] == "upstream_failed"
    assert openai.calls == 1


async def test_b3_real_ai_only_forbids_the_mock(workshop) -> None:
    gateway = await workshop.gateway({"mock": UpstreamConfig("scripted", "", {"base": "echo"})})
    await gateway.set(provider__scripted=True)
    assert (await gateway.post("/api/query", {"input": "hi"}))[0] == 503
    await gateway.set(real_ai_only=False)
    status, answer, _ = await gateway.post("/api/query", {"input": "hi"})
    assert (status, answer["provider"]) == (200, "scripted")


# -- B4 ------------------------------------------------------------------------------------------


def test_b4_defaults_equal_the_originals() -> None:
    originals = {
        "useOpenAI": True,
        "useHuggingFaceSpaces": False,
        "useHFBaseModel": True,
        "useHFCompanyModel": False,
        "useHFAbstractionModel": False,
        "useHuggingFace": False,
        "useRealAI": True,
        "useMockAI": False,
        "logging": True,
        "HUGGING_FACE_INTEGRATION": False,
    }
    ours = {name: spec.default for spec in REGISTRY.values() for name in spec.originals}
    assert {name: ours[name] for name in originals} == originals


def test_b4_every_flag_that_code_reads_is_registered_and_every_one_is_read(repository) -> None:
    read: set[str] = set()
    patterns: set[str] = set()
    for path in (repository / "triptych" / "tiers").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Subscript) and ast.unparse(node.value) in ("flags", "resolved"):
                if isinstance(node.slice, ast.Constant):
                    read.add(str(node.slice.value))
                elif isinstance(node.slice, ast.JoinedStr):
                    first = node.slice.values[0]
                    assert isinstance(first, ast.Constant)
                    patterns.add(str(first.value))
    assert read <= set(REGISTRY), f"not registered: {read - set(REGISTRY)}"
    unread = {key for key in REGISTRY if key not in read and not key.startswith(tuple(patterns))}
    assert not unread, f"registered but read nowhere: {unread}"


# -- B5 ------------------------------------------------------------------------------------------


async def test_b5_user_over_company_over_global_and_clearing_restores_the_global_value(
    workshop,
) -> None:
    gateway = await workshop.gateway({})
    database, current = gateway.database, gateway.runtime.flags
    await gateway.set(tier__company=True)

    async def value(user: str, company: str | None = None) -> Any:
        await gateway.runtime.refresh()
        return current.resolve(user, company)["tier.company"]

    await store.set_override(database, "tier.company", "company", "acme", False, actor="t")
    await store.set_override(database, "tier.company", "user", "ann", True, actor="t")
    assert [await value("ann", "acme"), await value("bob", "acme"), await value("bob")] == [
        True,
        False,
        True,
    ]
    before = await store.listed(database)
    await store.set_override(database, "tier.company", "user", "ann", None, actor="t")
    assert await value("ann", "acme") is False
    await store.set_override(database, "tier.company", "company", "acme", None, actor="t")
    assert await value("ann", "acme") is True
    after = await store.listed(database)
    assert [f["definition"] for f in before] == [f["definition"] for f in after]


async def test_b5_fifty_users_at_once_change_nothing_for_each_other(workshop) -> None:
    gateway = await workshop.gateway({})
    chosen = {f"user{n}": random.Random(n).choice([True, False, None]) for n in range(50)}
    await asyncio.gather(
        *(
            store.set_override(gateway.database, "cache", "user", user, value, actor=user)
            for user, value in chosen.items()
        )
    )
    await gateway.runtime.refresh()
    for user, value in chosen.items():
        expected = True if value is None else value
        assert gateway.runtime.flags.resolve(user)["cache"] is expected
    async with gateway.database.read(store._SCOPE) as connection:
        rows = await connection.all(
            select(tables.audit).where(tables.audit.c.action == "flags.override")
        )
    assert len(rows) == 50
    assert (await audit.verify(gateway.database))[1] is None


# -- B6 ------------------------------------------------------------------------------------------


async def test_b6_a_change_reaches_every_worker_within_a_second(workshop) -> None:
    one = await workshop.gateway({})
    two = await workshop.gateway({})
    assert max(g.config.poll_interval_s for g in (one, two)) < 1
    await store.set_flag(one.database, "provider.openai", False, actor="t")
    async with asyncio.timeout(60):
        while True:
            seen = [g.runtime.flags.resolve("u")["provider.openai"] for g in (one, two)]
            if seen == [False, False]:
                break
            await asyncio.sleep(0.02)


async def test_b6_turning_spaces_off_cascades_in_one_audited_transaction(workshop) -> None:
    gateway = await workshop.gateway({})
    await gateway.set(provider__hf_spaces=True, tier__company=True, tier__abstraction=True)
    count, _ = await audit.verify(gateway.database)
    await gateway.set(provider__hf_spaces=False)
    values = gateway.runtime.flags.resolve("u").values
    assert not any(values[k] for k in ("provider.hf_spaces", "tier.company", "tier.abstraction"))
    assert values["tier.base"]
    assert await audit.verify(gateway.database) == (count + 1, None)
    async with gateway.database.read(store._SCOPE) as connection:
        table = tables.audit
        entry = await connection.first(select(table).order_by(table.c.sequence.desc()))
    assert (entry["actor"], entry["action"]) == ("test", "flags.set")
    assert entry["before"]["tier.company"]["defaultVariant"] == "on"
    assert entry["after"]["tier.company"]["defaultVariant"] == "off"
    await store.revert(gateway.database, entry["sequence"], actor="t")
    await gateway.runtime.refresh()
    values = gateway.runtime.flags.resolve("u").values
    assert all(values[k] for k in ("provider.hf_spaces", "tier.company", "tier.abstraction"))


# -- B7 ------------------------------------------------------------------------------------------


def rolled(percentage: float, by: str = "user", key: str = "tier.company") -> Flags:
    current = Flags()
    rule = definition(False, REGISTRY[key], store.rollout(percentage, by=by))
    current.load(FlagSet(1, default_definitions() | {key: rule}))
    return current


def test_b7_a_rollout_is_exact_monotone_and_independent_per_flag() -> None:
    people = [f"user-{n}" for n in range(10_000)]
    inside: dict[float, set[str]] = {}
    for percentage in (0, 1, 10, 25, 50, 100):
        provider = rolled(percentage).provider
        inside[percentage] = {
            person
            for person in people
            if provider.resolve_boolean_details(
                "tier.company", False, flags.evaluation_context(person, None, None)
            ).value
        }
        assert abs(len(inside[percentage]) / len(people) - percentage / 100) <= 0.02
    steps = sorted(inside)
    assert all(inside[a] <= inside[b] for a, b in itertools.pairwise(steps))
    other = rolled(50, key="tier.abstraction").provider
    both = sum(
        bool(
            other.resolve_boolean_details(
                "tier.abstraction", False, flags.evaluation_context(person, None, None)
            ).value
        )
        for person in inside[50]
    )
    assert 0.45 <= both / len(inside[50]) <= 0.55


def test_b7_anonymous_callers_stay_out_and_companies_go_in_whole() -> None:
    assert rolled(100).resolve(None)["tier.company"] is False
    current = rolled(50, by="company")
    for company in ("acme", "globex", "initech", "umbrella"):
        assert len({current.resolve(f"u{n}", company)["tier.company"] for n in range(30)}) == 1


def test_b7_a_rollout_is_the_same_in_every_process() -> None:
    script = (
        "import json\n"
        "from triptych.tiers.rules.flags import *\n"
        "from triptych.tiers.store.flags import rollout\n"
        "f = Flags()\n"
        "rule = definition(False, REGISTRY['tier.company'], rollout(37))\n"
        "f.load(FlagSet(1, default_definitions() | {'tier.company': rule}))\n"
        "print(json.dumps([f.resolve(f'user-{n}')['tier.company'] for n in range(200)]))"
    )
    answers = [
        subprocess.run([sys.executable, "-c", script], capture_output=True, check=True).stdout
        for _ in range(2)
    ]
    here = rolled(37)
    expected = [here.resolve(f"user-{n}")["tier.company"] for n in range(200)]
    assert [json.loads(answer) for answer in answers] == [expected, expected]


async def test_b7_the_kill_switch_of_the_environment_wins_over_everything(
    workshop, openai_and_space, monkeypatch
) -> None:
    monkeypatch.setenv("TRIPTYCH_KILL", "provider.openai")
    openai, space = await workshop.upstream(), await workshop.upstream("from space")
    gateway = await workshop.gateway(openai_and_space(openai, space))
    await gateway.set(provider__openai=True, provider__hf_spaces=True, provider="openai")
    await store.set_override(gateway.database, "provider.openai", "user", "u", True, actor="t")
    await gateway.runtime.refresh()
    assert gateway.runtime.flags.resolve("u")["provider.openai"] is False
    status, answer, _ = await gateway.post("/api/query", {"input": "hi"})
    assert (status, answer["content"]) == (200, "from space")
    assert openai.calls == 0


async def test_b7_with_the_database_down_the_last_good_set_stays_and_is_marked_stale(
    workshop, monkeypatch
) -> None:
    gateway = await workshop.gateway({})
    await gateway.set(tier__company=True)

    async def down(_: Any) -> Any:
        raise StorageError("the database does not answer")

    monkeypatch.setattr(shared, "versions", down)
    async with asyncio.timeout(30):
        while not gateway.runtime.flags.stale:
            await asyncio.sleep(0.02)
    assert gateway.runtime.flags.resolve("u")["tier.company"] is True
    assert (await gateway.ready())["settings"] == "stale"
    monkeypatch.undo()
    async with asyncio.timeout(30):
        while gateway.runtime.flags.stale:
            await asyncio.sleep(0.02)


def test_b7_without_any_database_the_defaults_hold_and_spaces_are_off() -> None:
    values = Flags().resolve("u").values
    assert values["provider.hf_spaces"] is False
    assert values["tier.company"] is False
    assert values["provider.openai"] is True


# -- B8 ------------------------------------------------------------------------------------------


async def test_b8_an_unknown_flag_is_an_error(workshop) -> None:
    gateway = await workshop.gateway({})
    with pytest.raises(NotFound, match="multiTiered"):
        await store.set_flag(gateway.database, "multiTiered", True, actor="t")
    with pytest.raises(NotFound):
        await store.set_override(gateway.database, "nope", "user", "u", True, actor="t")
    details = gateway.runtime.flags.client.get_boolean_details("nope", False)
    assert str(details.error_code) == "FLAG_NOT_FOUND"
    with pytest.raises(KeyError):
        gateway.runtime.flags.resolve("u")["nope"]


async def test_b8_two_admins_at_once_get_a_conflict_and_no_lost_update(workshop) -> None:
    gateway = await workshop.gateway({})
    version = await store.set_flag(gateway.database, "cache", False, actor="ann")
    results = await asyncio.gather(
        *(
            store.set_flag(gateway.database, "cache", value, actor=actor, expected_version=version)
            for actor, value in (("ann", True), ("bob", False), ("cem", True))
        ),
        return_exceptions=True,
    )
    assert sum(result == version + 1 for result in results) == 1
    assert sum(isinstance(result, EditConflict) for result in results) == 2


@pytest.mark.parametrize(
    "broken",
    [
        {"defaultVariant": "maybe"},
        {"state": "BROKEN"},
        {"targeting": {"fractional": [["on", "x"]]}, "defaultVariant": "perhaps"},
        {"variants": {"on": 1, "off": 0}},
        {"targeting": {"no_such_operator": [1]}},
    ],
)
async def test_b8_a_broken_definition_is_refused_and_the_old_one_stays(workshop, broken) -> None:
    gateway = await workshop.gateway({})
    await gateway.set(tier__company=True)
    with pytest.raises(InvalidQuery):
        await store.replace_all(gateway.database, {"tier.company": broken}, actor="t")
    await gateway.runtime.refresh()
    assert gateway.runtime.flags.resolve("u")["tier.company"] is True


async def test_b8_reverting_under_a_newer_change_is_a_conflict(workshop) -> None:
    gateway = await workshop.gateway({})
    await store.set_flag(gateway.database, "cache", False, actor="ann")
    await store.set_flag(gateway.database, "cache", True, actor="bob")
    last, _ = await audit.verify(gateway.database)
    with pytest.raises(EditConflict):
        await store.revert(gateway.database, last - 1, actor="ann")
    await store.revert(gateway.database, last, actor="ann")
    await gateway.runtime.refresh()
    assert gateway.runtime.flags.resolve("u")["cache"] is False


async def test_f7_the_audit_chain_shows_every_tampering(workshop) -> None:
    gateway = await workshop.gateway({})
    for n in range(6):
        await store.set_flag(gateway.database, "cache", bool(n % 2), actor=f"a{n}")
    count, broken_at = await audit.verify(gateway.database)
    assert (count >= 6, broken_at) == (True, None)
    for damage in (
        "UPDATE audit SET actor = 'x' WHERE sequence = 3",
        "DELETE FROM audit WHERE sequence = 3",
    ):
        async with gateway.database.engine.connect() as raw:
            await raw.execute(text("BEGIN"))
            await raw.execute(text(damage))
            await raw.commit()
        assert await audit.verify(gateway.database) == (2, 3)
