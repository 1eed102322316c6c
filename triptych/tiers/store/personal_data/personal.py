"""What is stored of a user or a company: given out whole, or erased.

Erased are content, feedback and the account; the operational record stays as a number without a
name, so that sums stay true. The audit keeps the ids of who did what; no text of a user ever
enters it. Left out: the requests for it (`privacy`) and what runs out by itself (`retention`).
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple, get_args

from sqlalchemy import Column, Table, and_, delete, or_, select, tuple_, update

from triptych.tiers.store import tables as t
from triptych.tiers.store import usage
from triptych.tiers.store.database import Connection, Database, across
from triptych.tiers.store.personal_data import responses
from triptych.tiers.store.settings import raise_version

Category = Literal["content", "feedback", "requests", "account"]
CATEGORIES: tuple[Category, ...] = get_args(Category)
_BATCH = 500
_SCOPE = across("a person's data lies in many tables")
#: What the operational record says of a person, besides numbers.
_NAMELESS: Mapping[str, Any] = {
    "user_id": None,
    "conversation_id": None,
    "feature": None,
    "context_label": "erased",
}


class Subject(NamedTuple):
    """Whose records: a company's, a user's, or a user's within one company."""

    company_id: str | None
    user_id: str | None

    @property
    def names(self) -> tuple[str, ...]:
        """Name the subject as legal holds and budgets do."""
        pairs = (("company", self.company_id), ("user", self.user_id))
        return tuple(f"{kind}:{name}" for kind, name in pairs if name is not None)

    def where(self, table: Table) -> Any:
        """Select its rows of a table that has a company and a user."""
        found = []
        if self.company_id is not None:
            found.append(table.c.company_id == self.company_id)
        if self.user_id is not None:
            mine = table.c.user_id == self.user_id
            if table is t.feedback:
                mine = or_(mine, table.c.author == self.user_id)
            found.append(mine)
        return and_(*found)


async def export(
    database: Database, subject: Subject, categories: Iterable[str] = CATEGORIES
) -> AsyncIterator[dict[str, Any]]:
    """Yield everything that is stored of a subject, a row at a time, with its table."""
    chosen = set(categories)
    for category, table, columns, where in _stored(subject):
        if category not in chosen:
            continue
        after: tuple[Any, ...] | None = None
        key = list(table.primary_key.columns)
        while True:
            statement: Any = select(*columns).where(where).order_by(*key).limit(_BATCH)
            if after is not None:
                statement = statement.where(tuple_(*key) > after)
            async with database.read(_SCOPE) as connection:
                rows = await connection.all(statement)
            for row in rows:
                yield {"category": category, "table": table.name, **row}
            if len(rows) < _BATCH:
                break
            after = tuple(rows[-1][column.name] for column in key)


def _stored(
    subject: Subject,
) -> Iterable[tuple[Category, Table, Sequence[Column[Any]], Any]]:
    """Yield where a subject's rows lie.

    A user within one company has no account and no spending there: these are of all its companies.
    """
    keys = [column for column in t.api_keys.columns if column.name != "digest"]
    shared = (t.memberships, t.consents, t.privacy_requests)
    within = subject.user_id is not None and subject.company_id is not None
    if subject.user_id is not None and not within:
        yield "account", t.users, list(t.users.c), t.users.c.user_id == subject.user_id
    elif not within:
        where = t.companies.c.company_id == subject.company_id
        yield "account", t.companies, list(t.companies.c), where
        for table in (t.spaces, t.model_registry):
            where = table.c.company_id == subject.company_id
            yield "account", table, list(table.c), where
    for table in shared:
        yield "account", table, list(table.c), subject.where(table)
    yield "account", t.api_keys, keys, subject.where(t.api_keys)
    for table in () if within else (t.spend, t.budgets):
        yield "account", table, list(table.c), table.c.subject == subject.names[-1]
    yield "requests", t.requests, list(t.requests.c), subject.where(t.requests)
    mine = select(t.requests.c.request_id).where(subject.where(t.requests))
    yield "requests", t.attempts, list(t.attempts.c), t.attempts.c.request_id.in_(mine)
    for table in (t.contents, responses.table):
        yield "content", table, list(table.c), subject.where(table)
    yield "feedback", t.feedback, list(t.feedback.c), subject.where(t.feedback)


async def erase(
    database: Database,
    subject: Subject,
    categories: Iterable[str] = CATEGORIES,
    *,
    before: float | None = None,
) -> dict[str, int]:
    """Erase what is stored of a subject, in steps short enough that requests go on beside them.

    Returns: how many rows of each table were erased or made nameless.
    Raises: StorageError; what was erased until then stays erased.
    """
    chosen = set(categories)
    done: dict[str, int] = {}
    if "account" in chosen and before is None:
        done |= await _erase_account(database, subject)
    if "content" in chosen:
        done["contents"] = await _delete(database, t.contents, subject, before)
        done["kept_responses"] = await _delete(database, responses.table, subject, before)
        done["models_tainted"] = await _taint(database, subject, done["contents"])
    if "feedback" in chosen:
        done["feedback"] = await _delete(database, t.feedback, subject, before)
    if "requests" in chosen:
        done["requests"] = await make_nameless(
            database, _older(t.requests, subject.where(t.requests), before),
            company=subject.user_id is None,
        )  # fmt: skip
    return done


def _older(table: Table, where: Any, before: float | None) -> Any:
    return where if before is None else and_(where, table.c.created_at < before)


async def _delete(database: Database, table: Table, subject: Subject, before: float | None) -> int:
    return await delete_rows(database, table, _older(table, subject.where(table), before))


async def delete_rows(database: Database, table: Table, where: Any) -> int:
    """Delete rows in batches.

    Returns: how many.
    """
    key = list(table.primary_key.columns)
    done = 0
    while True:
        async with database.write(_SCOPE) as connection:
            some = select(*key).where(where).limit(_BATCH)
            rows = [tuple(row[c.name] for c in key) for row in await connection.all(some)]
            if rows:
                await connection.execute(delete(table).where(tuple_(*key).in_(rows)))
        done += len(rows)
        if len(rows) < _BATCH:
            return done


async def make_nameless(database: Database, where: Any, *, company: bool = False) -> int:
    """Take from the operational record whose requests they were; the numbers stay.

    Returns: how many requests.
    """
    r, a = t.requests.c, t.attempts.c
    values = {**_NAMELESS, **({"company_id": None} if company else {})}
    columns = [r.user_id, r.conversation_id, r.feature, *((r.company_id,) if company else ())]
    named = or_(*(column.is_not(None) for column in columns))
    done = 0
    while True:
        async with database.write(_SCOPE) as connection:
            some = select(r.request_id).where(where, named).limit(_BATCH)
            ids = [row["request_id"] for row in await connection.all(some)]
            if ids:
                await connection.execute(
                    update(t.requests).where(r.request_id.in_(ids)).values(**values)
                )
                if company:
                    await connection.execute(
                        update(t.attempts).where(a.request_id.in_(ids)).values(company_id=None)
                    )
        done += len(ids)
        if len(ids) < _BATCH:
            return done


async def _taint(database: Database, subject: Subject, erased: int) -> int:
    """Mark the models that may have learned from what was erased: they want training anew."""
    m = t.model_registry.c
    if not erased or subject.company_id is None:
        return 0
    async with database.write(_SCOPE) as connection:
        done = await connection.execute(
            update(t.model_registry)
            .where(m.company_id == subject.company_id, m.is_tainted.is_(False))
            .values(is_tainted=True, updated_at=time.time())
        )
    return int(done.rowcount)


async def _erase_account(database: Database, subject: Subject) -> dict[str, int]:
    """Erase a user's identity and rights; every worker refuses its keys within a second."""
    async with database.write(_SCOPE) as connection:
        if subject.user_id is None:
            done = await _erase_company(connection, str(subject.company_id))
        elif subject.company_id is None:
            done = await _erase_user(connection, subject.user_id)
        else:
            done = await _erase_rows(connection, subject, (t.memberships, t.api_keys))
        for topic in ("accounts", "flags", "upstreams", "budgets"):
            await raise_version(connection, topic)
    return done


async def _erase_rows(
    connection: Connection, subject: Subject, tables: Iterable[Table]
) -> dict[str, int]:
    done = {}
    for table in tables:
        gone = await connection.execute(delete(table).where(subject.where(table)))
        done[str(table.name)] = int(gone.rowcount)
    return done


async def _erase_named(connection: Connection, subject: Subject) -> None:
    (name,) = subject.names
    for table in (t.spend, t.budgets, t.holds):
        await connection.execute(delete(table).where(table.c.subject == name))
    kind, _, subject_id = name.partition(":")
    o = t.flag_overrides.c
    await connection.execute(
        delete(t.flag_overrides).where(o.scope == kind, o.subject_id == subject_id)
    )


async def _erase_user(connection: Connection, user_id: str) -> dict[str, int]:
    subject = Subject(None, user_id)
    done = await _erase_rows(connection, subject, (t.memberships, t.api_keys, t.consents))
    await _erase_named(connection, subject)
    gone = await connection.execute(delete(t.users).where(t.users.c.user_id == user_id))
    return {**done, "users": int(gone.rowcount)}


async def _erase_company(connection: Connection, company_id: str) -> dict[str, int]:
    subject = Subject(company_id, None)
    done = await _erase_rows(connection, subject, (t.memberships, t.api_keys, t.consents))
    await _erase_named(connection, subject)
    gone = await connection.execute(delete(t.spaces).where(t.spaces.c.company_id == company_id))
    done["spaces"] = int(gone.rowcount)
    done["usage"] = await usage.disown(connection, company_id)
    now = time.time()
    m, c = t.model_registry.c, t.companies.c
    tainted = await connection.execute(
        update(t.model_registry)
        .where(m.company_id == company_id)
        .values(is_tainted=True, is_active=False, updated_at=now)
    )
    done["models_tainted"] = int(tainted.rowcount)
    blank: dict[str, Any] = {
        "name": "erased",
        "industry": None,
        "facts": {},
        "allow_external": False,
    }
    gone = await connection.execute(
        update(t.companies)
        .where(c.company_id == company_id, c.deleted_at.is_(None))
        .values(**blank, deleted_at=now)
    )
    return {**done, "companies": int(gone.rowcount)}
