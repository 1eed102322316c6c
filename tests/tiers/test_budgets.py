"""Budgets hold under concurrency and several workers; costs follow dated prices."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import aiohttp
import pytest
from sqlalchemy import select

from triptych.config.gateway import GatewayConfig, TokenPriceConfig, UpstreamConfig
from triptych.errors import BudgetSpent, ConfigError, StorageError
from triptych.tiers.rules.budgets import (
    Budget,
    BudgetLedger,
    Budgets,
    Need,
    Used,
    ends_at,
    first_day,
    verdict,
)
from triptych.tiers.rules.catalogue import Upstream
from triptych.tiers.rules.pricing import PriceList
from triptych.tiers.rules.query import Attempt, Trace, Usage
from triptych.tiers.store import accounts, budgets, tables
from triptych.tiers.store.database import across, company
from triptych.tiers.store.recorder import Recorder

ALL = across("a test looks at everything")
ONE_DOLLAR = 1_000_000


async def key_id(gateway: Any, name: str) -> str:
    keys = await accounts.list_keys(gateway.database)
    return next(row["key_id"] for row in keys if row["name"] == name)


async def admin(gateway: Any, method: str, path: str, body: Any = None, key: str = "") -> Any:
    headers = {"authorization": f"Bearer {key or gateway.key}"}
    async with (
        aiohttp.ClientSession() as session,
        session.request(method, gateway.url + path, json=body, headers=headers) as response,
    ):
        return response.status, await response.json()


@pytest.fixture
async def shop(workshop):
    """One gateway, one OpenAI-compatible upstream that counts 3 + 2 tokens, one company."""
    upstream = await workshop.upstream()
    gateway = await workshop.gateway(
        {"o": UpstreamConfig("openai", f"{upstream.url}/v1", {"base": "gpt-5-mini"})},
        budget_reserve_tokens=20,
    )
    await accounts.create_company(gateway.database, "acme", "Acme", allow_external=True, actor="t")
    gateway.worker = await accounts.create_key(
        gateway.database, name="app", company_id="acme", actor="t"
    )
    await gateway.runtime.refresh()
    return gateway, upstream


async def ask(
    gateway: Any, company_id: str = "acme", **more: Any
) -> tuple[int, Any, dict[str, str]]:
    body = {"model": "base", "messages": [{"role": "user", "content": "hi"}], **more}
    headers = {"x_triptych_company": company_id} if company_id else {}
    return await gateway.post(
        "/v1/chat/completions", body, authorization=f"Bearer {gateway.worker}", **headers
    )


async def test_j1_a_spent_budget_refuses_with_429_and_the_time_it_begins_anew(shop) -> None:
    gateway, upstream = shop
    body = {"max_tokens": 40}
    subject = f"key:{await key_id(gateway, 'app')}"
    status, told = await admin(gateway, "PUT", f"/api/budgets/{subject}/day", body)
    assert (status, told["version"]) == (200, 1)
    seen = []
    for _ in range(8):
        status, answer, headers = await ask(gateway, max_tokens=10)
        await gateway.records()
        seen.append(status)
    assert seen[0] == 200
    assert seen[-1] == 429
    assert answer["error"]["code"] == "budget_spent"
    assert "40 tokens a day" in answer["error"]["message"]
    assert 0 < int(headers["retry-after"]) <= 86_400
    assert headers["x-should-retry"] == "false"
    assert upstream.calls == seen.count(200), "who is refused reaches nobody"
    status, told = await admin(gateway, "GET", "/api/budgets")
    (row,) = told["budgets"]
    assert row["tokens"] == 5 * seen.count(200) <= 40
    assert row["held_tokens"] == 0, "what was set aside is settled with the records"
    last = (await gateway.records())[-1]
    assert (last["outcome"], last["status"], last["error_code"]) == ("refused", 429, "budget_spent")
    await admin(gateway, "DELETE", f"/api/budgets/{subject}/day")
    assert (await ask(gateway))[0] == 200


async def test_j1_a_budget_that_never_renews_answers_402(shop) -> None:
    gateway, _ = shop
    await admin(gateway, "PUT", "/api/budgets/company:acme/total", {"max_cost_microusd": 25})
    status, answer, headers = await ask(gateway, max_tokens=1000)
    assert (status, answer["error"]["code"]) == (402, "budget_spent")
    assert answer["error"]["type"] == "insufficient_quota"
    assert "smaller max_tokens" in answer["error"]["message"]
    assert "retry-after" not in headers
    assert (await ask(gateway, max_tokens=10))[0] == 200
    await gateway.records()
    status, answer, _ = await ask(gateway, max_tokens=12)
    assert status == 402
    assert "an admin can raise" in answer["error"]["message"]


@pytest.mark.parametrize("stream", [False, True])
async def test_j1_many_at_once_in_two_workers_never_use_more_than_the_budget(
    workshop, stream
) -> None:
    upstream = await workshop.upstream()
    decided = asyncio.Event()

    async def slow(request: Any, body: Any) -> Any:
        await asyncio.wait_for(decided.wait(), 120)
        return await upstream.answer(request, body)

    upstream.behaviour = slow
    declared = {"o": UpstreamConfig("openai", f"{upstream.url}/v1", {"base": "gpt-5-mini"})}
    one = await workshop.gateway(declared)
    two = await workshop.gateway(declared, key=one.key)
    await accounts.create_company(one.database, "acme", "Acme", allow_external=True, actor="t")
    one.worker = two.worker = await accounts.create_key(
        one.database, name="app", company_id="acme", actor="t"
    )
    subject = f"key:{await key_id(one, 'app')}"
    most = 400
    await budgets.set_budget(one.database, subject, "day", max_tokens=most, scope=ALL, actor="t")
    for gateway in (one, two):
        await gateway.runtime.refresh()
    asked = [
        asyncio.ensure_future(ask((one, two)[n % 2], max_tokens=30, stream=stream))
        for n in range(80)
    ]
    # Nobody gives back what is not used before everybody was granted or refused.
    while upstream.open + sum(task.done() for task in asked) < len(asked):
        await asyncio.sleep(0.01)
    decided.set()
    found = await asyncio.gather(*asked)
    statuses = [status for status, _, _ in found]
    granted = statuses.count(200)
    assert set(statuses) == {200, 429}
    # each sets aside 30 tokens of answer and a few of question, and uses 5 or fewer
    assert 5 <= granted <= most // 30
    for gateway in (one, two):
        await gateway.records()
    async with one.database.read(ALL) as connection:
        used = await budgets.used_of(connection, subject, "day", time.time())
        left = await connection.all(select(tables.holds))
    assert used.held_tokens == 0
    assert left == []
    assert 0 < used.tokens <= most
    rows = [row for row in await one.records() if row["outcome"] == "ok"]
    assert used.tokens == sum(row["input_tokens"] + row["output_tokens"] for row in rows)


async def test_j1_what_is_counted_is_counted_once_however_often_it_is_written(own_home, migrated):
    from triptych.tiers.store.database import Database

    database = Database(f"sqlite:///{migrated.parent / 'counted.db'}")
    import shutil

    shutil.copy(migrated, migrated.parent / "counted.db")
    recorder = Recorder(database, own_home / "spool")
    await recorder.open()
    record = {
        "request_id": "req_1", "created_at": 86_400.0 * 20_000, "company_id": "acme",
        "user_id": "ann", "key_id": "key_1", "kind": "chat", "stream": False, "tier_asked": "base",
        "model_asked": "base", "outcome": "ok", "status": 200, "attempts": 1, "input_tokens": 3,
        "output_tokens": 4, "tokens_source": "provider", "cost_microusd": 9, "cached": False,
        "truncated_messages": 0,
    }  # fmt: skip
    recorder.spool.end(record)
    await recorder.flush()
    recorder._unsure = True  # the commit was made, its answer was lost
    recorder.spool.end(record)
    recorder.spool.end({**record, "request_id": "req_2", "cached": True})
    await recorder.flush()
    async with database.read(ALL) as connection:
        rows = await connection.all(select(tables.spend).order_by(tables.spend.c.subject))
    assert [(r["subject"], r["requests"], r["tokens"], r["cost_microusd"]) for r in rows] == [
        ("company:acme", 2, 7, 9), ("key:key_1", 2, 7, 9), ("user:ann", 2, 7, 9)
    ]  # fmt: skip
    await recorder.close()
    await database.close()


async def test_with_the_database_away_requests_are_served_and_counted_later() -> None:
    async def away(_: list[Need]) -> Any:
        raise StorageError("away")

    ledger = BudgetLedger(away)
    need = Need("r", (Budget("key:k", "day", 1, None),), 100, 0)
    await ledger.hold(need)


async def test_those_who_come_together_share_one_transaction() -> None:
    batches: list[int] = []

    async def reserve(needs: list[Need]) -> list[Any]:
        batches.append(len(needs))
        await asyncio.sleep(0.01)
        return [BudgetSpent("no") if need.tokens > 1 else None for need in needs]

    ledger = BudgetLedger(reserve)
    found = await asyncio.gather(
        *(ledger.hold(Need(str(n), (), n % 3, 0)) for n in range(60)), return_exceptions=True
    )
    assert sum(batches) == 60
    assert len(batches) <= 3
    assert [isinstance(f, BudgetSpent) for f in found] == [n % 3 > 1 for n in range(60)]


def test_what_is_only_set_aside_asks_for_a_moment_and_not_for_a_day() -> None:
    budget = Budget("company:acme", "month", 100, None)
    busy = verdict(budget, Used(50, 0, 40, 0), Need("r", (), 20, 0), time.time())
    assert busy is not None
    assert (busy.code, busy.retry_after_s) == ("budget_in_use", 1.0)
    spent = verdict(budget, Used(95, 0, 0, 0), Need("r", (), 20, 0), time.time())
    assert spent is not None
    assert spent.status == 429
    assert "the company acme" in spent.message
    assert verdict(budget, Used(50, 0, 30, 0), Need("r", (), 20, 0), time.time()) is None
    assert not Budgets()


def test_periods_are_days_and_months_of_the_calendar_in_utc() -> None:
    now = 1_764_583_199.0  # 2025-12-01 09:59:59
    assert first_day("month", now) == 20_423
    assert ends_at("month", now) == 1_767_225_600  # 2026-01-01
    assert first_day("day", now) == 20_423
    assert first_day("total", now) == 0


async def test_where_only_the_money_is_spent_those_who_take_none_answer(workshop) -> None:
    paid, own = await workshop.upstream("paid"), await workshop.upstream("own")
    gateway = await workshop.gateway(
        {
            "paid": UpstreamConfig("openai", f"{paid.url}/v1", {"base": "gpt-5"}),
            "own": UpstreamConfig("local", f"{own.url}/v1", {"base": "m"}),
        },
        provider_order=("openai", "local"),
    )
    gateway.worker = await accounts.create_key(gateway.database, name="app", actor="t")
    await gateway.runtime.refresh()
    body = {"max_cost_microusd": 150}
    subject = f"key:{await key_id(gateway, 'app')}"
    await admin(gateway, "PUT", f"/api/budgets/{subject}/month", body)
    served = []
    for stream in (False, False, True):
        status, _, headers = await gateway.post(
            "/v1/chat/completions",
            {"model": "base", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 13,
             "stream": stream},
            authorization=f"Bearer {gateway.worker}",
        )  # fmt: skip
        await gateway.records()
        served.append((status, headers["x-triptych-upstream"], headers.get("x-triptych-fallback")))
    assert served == [
        (200, "paid", None), (200, "own", "budget_spent"), (200, "own", "budget_spent")
    ]  # fmt: skip
    await gateway.set(order="local>openai>hf_spaces")
    await admin(gateway, "DELETE", f"/api/budgets/{subject}/month")
    assert (await ask(gateway, ""))[2]["x-triptych-upstream"] == "own", "the order is steered too"


async def test_i1_a_companys_admin_shares_out_among_its_own_keys_only(shop) -> None:
    gateway, _ = shop
    database = gateway.database
    await accounts.create_company(database, "globex", "Globex", actor="t")
    await accounts.create_key(database, name="theirs", company_id="globex", actor="t")
    boss = await accounts.create_key(
        database, name="boss", role="company_admin", company_id="acme", actor="t"
    )
    await gateway.runtime.refresh()
    mine, theirs = await key_id(gateway, "app"), await key_id(gateway, "theirs")
    body = {"max_tokens": 5}
    assert (await admin(gateway, "PUT", f"/api/budgets/key:{mine}/day", body, boss))[0] == 200
    for path, status in (
        (f"key:{theirs}/day", 404),
        ("company:acme/day", 403),
        ("company:globex/day", 403),
        ("user:ann/day", 403),
    ):
        assert (await admin(gateway, "PUT", f"/api/budgets/{path}", body, boss))[0] == status
    await admin(gateway, "PUT", f"/api/budgets/key:{theirs}/day", body)
    _, told = await admin(gateway, "GET", "/api/budgets", key=boss)
    assert [row["subject"] for row in told["budgets"]] == [f"key:{mine}"]
    assert (await admin(gateway, "GET", f"/api/spend/key:{theirs}", key=boss))[0] == 404
    assert (await admin(gateway, "GET", "/api/spend/company:acme", key=boss))[0] == 200
    stale = {**body, "expected_version": 7}
    assert (await admin(gateway, "PUT", f"/api/budgets/key:{mine}/day", stale))[0] == 409
    with pytest.raises(Exception, match="there is no key"):
        await budgets.set_budget(
            database, f"key:{theirs}", "day", max_tokens=1, scope=company("acme"), actor="t"
        )


# -- prices --------------------------------------------------------------------------------------


def priced(**config: Any) -> PriceList:
    return PriceList.load(GatewayConfig(**config))


def trace(upstream: str, model: str, latency_s: float = 1.0, provider: str = "openai") -> Trace:
    attempt = Attempt(upstream, provider, "base", model, 0.0, latency_s=latency_s)
    return Trace(
        upstream=upstream, model=model, attempts=[attempt], usage=Usage(1000, 500, "provider")
    )


DAY = 1_790_000_000.0  # in September 2026


def test_tokens_cost_what_the_table_says_on_their_day() -> None:
    prices = priced()
    openai = {"o": Upstream("o", "openai", "", {}, external=True)}
    found = prices.cost(trace("o", "gpt-5-mini-2025-08-07"), openai, DAY)
    assert found == (1250, 1250)
    june_2025 = 1_748_800_000.0
    assert prices.cost(trace("o", "o3"), openai, june_2025).own == 30_000
    assert prices.cost(trace("o", "o3"), openai, DAY).own == 6000
    assert prices.cost(trace("o", "unheard-of"), openai, DAY).own is None, "unknown is not free"


def test_a_space_costs_the_time_it_was_kept_busy_beside_what_openai_would_have_taken() -> None:
    space = {"s": Upstream("s", "hf_spaces", "", {}, external=False, hardware="t4-small")}
    found = priced().cost(trace("s", "own", latency_s=9.0, provider="hf_spaces"), space, DAY)
    assert found == (1000, 1250)  # 9 s of $0.40 an hour
    free = {"s": Upstream("s", "hf_spaces", "", {}, external=False, hardware="cpu-basic")}
    assert priced().cost(trace("s", "own"), free, DAY).own == 0
    unknown = {"s": Upstream("s", "hf_spaces", "", {}, external=False)}
    assert priced().cost(trace("s", "own"), unknown, DAY).own is None
    local = {"s": Upstream("s", "local", "", {}, external=False)}
    assert priced().cost(trace("s", "own"), local, DAY).own == 0


def test_failed_attempts_cost_their_machine_time_and_cached_answers_nothing() -> None:
    upstreams = {
        "s": Upstream("s", "hf_spaces", "", {}, external=False, hardware="my-gpu"),
        "o": Upstream("o", "openai", "", {}, external=True),
    }
    prices = priced(
        hour_prices={"my-gpu": 3.6},
        token_prices={"gpt-5-mini": TokenPriceConfig(1.0, 2.0, since="2026-01-01")},
    )
    both = trace("o", "gpt-5-mini")
    both.attempts.insert(0, Attempt("s", "hf_spaces", "base", "own", 0.0, latency_s=2.0))
    assert prices.cost(both, upstreams, DAY).own == 2000 + 2000
    assert prices.cost(both, upstreams, 1_760_000_000.0).own == 2000 + 1250, "before its day"
    both.cached = True
    assert prices.cost(both, upstreams, DAY).own == 0


def test_a_reference_model_without_a_price_is_refused() -> None:
    with pytest.raises(ConfigError, match="no price"):
        priced(reference_model="nobody")
    with pytest.raises(ConfigError, match="no date"):
        priced(token_prices={"m": TokenPriceConfig(1, 1, since="soon")})


async def test_every_record_has_its_cost_and_what_openai_would_have_taken(shop) -> None:
    gateway, _ = shop
    await ask(gateway)
    (row,) = await gateway.records()
    assert row["cost_microusd"] == round(3 * 0.25 + 2 * 2.0)
    assert row["reference_microusd"] == row["cost_microusd"]
    status, told = await admin(gateway, "GET", "/api/prices")
    assert (status, told["reference_model"]) == (200, "gpt-5-mini")
    _, told = await admin(gateway, "GET", "/api/spend/company:acme")
    assert [day["tokens"] for day in told["days"]] == [5]
