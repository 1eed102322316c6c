"""Budgets and what was used of them: written by admins, held by requests, settled by records."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import and_, delete, func, or_, select, update

from triptych.errors import EditConflict, NotFound, TierError
from triptych.tiers.rules.budgets import Need, Period, Used, first_day, verdict
from triptych.tiers.store import audit
from triptych.tiers.store import tables as t
from triptych.tiers.store.database import Connection, Database, Scope, across
from triptych.tiers.store.settings import raise_version

_SCOPE = across("budgets of keys, companies and users are kept together")
#: A hold whose request left no record, because a disk was full, lapses after this.
_HOLD_S = 900.0


async def reserve(database: Database, needs: Sequence[Need]) -> list[TierError | None]:
    """Set aside what several requests need, each whole or not at all, in one transaction.

    Returns: an error for each that does not fit, None for each that does.
    Raises: StorageError.
    """
    now = time.time()
    wanted = {(b.subject, b.period) for need in needs for b in need.budgets}
    async with database.write(_SCOPE) as connection:
        await _lock(connection, sorted(wanted))
        used = {pair: await used_of(connection, pair[0], pair[1], now) for pair in sorted(wanted)}
        verdicts: list[TierError | None] = []
        rows: list[dict[str, Any]] = []
        for need in needs:
            found = (verdict(b, used[(b.subject, b.period)], need, now) for b in need.budgets)
            refusal = next((error for error in found if error is not None), None)
            verdicts.append(refusal)
            if refusal is not None:
                continue
            for subject in dict.fromkeys(b.subject for b in need.budgets):
                rows.append(
                    {
                        "request_id": need.request_id,
                        "subject": subject,
                        "created_at": now,
                        "tokens": need.tokens,
                        "cost_microusd": need.cost_microusd,
                    }
                )
            for budget in need.budgets:
                pair = (budget.subject, budget.period)
                before = used[pair]
                used[pair] = before._replace(
                    held_tokens=before.held_tokens + need.tokens,
                    held_cost_microusd=before.held_cost_microusd + need.cost_microusd,
                )
        if rows:
            await connection.execute(t.holds.insert(), rows)
    return verdicts


async def _lock(connection: Connection, pairs: Iterable[tuple[str, str]]) -> None:
    """Let one worker at a time look and set aside; SQLite does so by itself."""
    if connection.raw.dialect.name != "postgresql":
        return
    b = t.budgets.c
    here = or_(*(and_(b.subject == subject, b.period == period) for subject, period in pairs))
    await connection.execute(
        select(b.subject).where(here).order_by(b.subject, b.period).with_for_update()
    )


async def used_of(connection: Connection, subject: str, period: str, now: float) -> Used:
    """Sum what a subject used in the current period, and what it has set aside."""
    s, h = t.spend.c, t.holds.c
    spent = await connection.first(
        select(
            func.coalesce(func.sum(s.tokens), 0).label("tokens"),
            func.coalesce(func.sum(s.cost_microusd), 0).label("cost"),
        ).where(s.subject == subject, s.day >= first_day(period, now))
    )
    held = await connection.first(
        select(
            func.coalesce(func.sum(h.tokens), 0).label("tokens"),
            func.coalesce(func.sum(h.cost_microusd), 0).label("cost"),
        ).where(h.subject == subject, h.created_at > now - _HOLD_S)
    )
    assert spent is not None
    assert held is not None
    return Used(int(spent["tokens"]), int(spent["cost"]), int(held["tokens"]), int(held["cost"]))


async def set_budget(
    database: Database,
    subject: str,
    period: Period,
    *,
    max_tokens: int | None = None,
    max_cost_microusd: int | None = None,
    scope: Scope,
    actor: str,
    expected_version: int | None = None,
) -> int:
    """Set a subject's budget for a period.

    Returns: its new version.
    Raises: EditConflict, NotFound for a subject that is not the scope's.
    """
    b = t.budgets.c
    here = (b.subject == subject, b.period == period)
    limits = {"max_tokens": max_tokens, "max_cost_microusd": max_cost_microusd}
    async with database.write(scope) as connection:
        company_id = await _company_of(connection, subject)
        row = await connection.first(select(t.budgets).where(*here))
        version = int(row["version"]) if row else 0
        if expected_version is not None and expected_version != version:
            raise EditConflict(
                f"this budget is at version {version}, not {expected_version}",
                hint="read it again and repeat the change",
            )
        new = {
            "subject": subject,
            "period": period,
            **limits,
            "company_id": company_id,
            "version": version + 1,
            "updated_at": time.time(),
            "updated_by": actor,
        }
        if row is None:
            await connection.execute(t.budgets.insert(), new)
        else:
            await connection.execute(update(t.budgets).where(*here).values(**new))
        await _note(connection, subject, actor, row, {"period": period, **limits}, company_id)
    return version + 1


async def remove_budget(
    database: Database, subject: str, period: Period, *, scope: Scope, actor: str
) -> None:
    """Take a budget away.

    Raises: NotFound.
    """
    b = t.budgets.c
    here = (b.subject == subject, b.period == period)
    async with database.write(scope) as connection:
        row = await connection.first(select(t.budgets).where(*here))
        if row is None:
            raise NotFound("there is no such budget")
        await connection.execute(delete(t.budgets).where(*here))
        await _note(connection, subject, actor, row, None, row["company_id"])


async def _company_of(connection: Connection, subject: str) -> str | None:
    """Return whose a subject is, within the connection's scope.

    Raises: NotFound.
    """
    kind, _, name = subject.partition(":")
    k, c, u = t.api_keys.c, t.companies.c, t.users.c
    statement: Any
    if kind == "key":
        statement = select(k.company_id).where(k.key_id == name)
    elif kind == "company":
        statement = select(c.company_id).where(c.company_id == name, c.deleted_at.is_(None))
    else:
        statement = select(u.user_id).where(u.user_id == name, u.deleted_at.is_(None))
    row = await connection.first(statement)
    if row is None:
        raise NotFound(f"there is no {kind} {name[:40]!r}")
    return row.get("company_id")


async def _note(
    connection: Connection,
    subject: str,
    actor: str,
    before: Mapping[str, Any] | None,
    after: Mapping[str, Any] | None,
    company_id: str | None,
) -> None:
    names = ("period", "max_tokens", "max_cost_microusd")
    await audit.append(
        connection,
        actor=actor,
        action="budgets.set" if after else "budgets.remove",
        subject=f"budgets/{subject}",
        before={n: before[n] for n in names} if before else None,
        after={n: after[n] for n in names} if after else None,
        company_id=company_id,
    )
    await raise_version(connection, "budgets")


async def listed(database: Database, scope: Scope) -> list[dict[str, Any]]:
    """List budgets with what is used of each."""
    now = time.time()
    async with database.read(scope) as connection:
        rows = await connection.all(
            select(t.budgets).order_by(t.budgets.c.subject, t.budgets.c.period)
        )
        return [
            {**row, **(await used_of(connection, row["subject"], row["period"], now))._asdict()}
            for row in rows
        ]


async def used_by_day(
    database: Database, subject: str, *, since_day: int, scope: Scope
) -> list[dict[str, Any]]:
    """Return what a subject used on each day, oldest first."""
    s = t.spend.c
    async with database.read(scope) as connection:
        await _company_of(connection, subject)
        sums = (func.sum(s[name]).label(name) for name in ("requests", "tokens", "cost_microusd"))
        rows = await connection.all(
            select(s.subject, s.day, *sums)
            .where(s.subject == subject, s.day >= since_day)
            .group_by(s.subject, s.day)
            .order_by(s.day)
        )
    # sums of whole numbers arrive as decimals from PostgreSQL
    return [row | {n: int(row[n]) for n in ("requests", "tokens", "cost_microusd")} for row in rows]


def usage_of(record: Mapping[str, Any]) -> tuple[int, int]:
    """Return what a record adds to what was used: tokens and micro-dollars."""
    if record.get("cached"):
        return 0, 0
    tokens = (record.get("input_tokens") or 0) + (record.get("output_tokens") or 0)
    return tokens, record.get("cost_microusd") or 0
