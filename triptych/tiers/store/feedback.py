"""What people say about answers: idempotent, versioned, tied to the revision that answered.

A feedback is found again by its id, which the sender may choose; sending the same again changes
nothing, sending another value makes a new version. Only its author, or an admin of the company,
may change it.
"""

from __future__ import annotations

import dataclasses
import hashlib
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import ColumnElement, and_, or_, select, true, update

from triptych.errors import Forbidden, InvalidQuery, NotFound
from triptych.tiers.rules.accounts import Principal
from triptych.tiers.rules.redaction import pseudonym, redact_deep
from triptych.tiers.store import tables as t
from triptych.tiers.store.database import Connection, Database, Scope, across

Kind = Literal["rating", "thumb", "correction", "comment", "preference", "automatic"]
Label = Literal["positive", "negative", "neutral", "modified"]
_MAX_TEXT = 20_000
_MAX_ABOUT = 4_000
_PAIR = frozenset(("chosen", "rejected", "prompt", "models", "revisions", "parameters"))


@dataclass(frozen=True)
class Feedback:
    """One thing said about a request or a conversation."""

    kind: Kind
    value: Any
    request_id: str | None = None
    conversation_id: str | None = None
    feedback_id: str = ""


def check(feedback: Feedback) -> None:
    """Check that a value is one of its kind.

    Raises: InvalidQuery.
    """
    value, kind = feedback.value, feedback.kind
    good = _fits(kind, value)
    if not good:
        expected = {
            "rating": "a number from 1 to 5",
            "thumb": "true or false",
            "preference": "{chosen, rejected} with prompt, models, revisions, parameters if known",
            "automatic": "an object",
        }.get(kind, f"a text of at most {_MAX_TEXT} characters")
        raise InvalidQuery(f"a {kind} is {expected}", param="value")
    if bool(feedback.request_id) == bool(feedback.conversation_id):
        raise InvalidQuery(
            "feedback is about a request or about a conversation", param="request_id"
        )


def _fits(kind: str, value: Any) -> bool:
    if kind == "rating":
        return type(value) in (int, float) and 1 <= value <= 5
    if kind == "thumb":
        return type(value) is bool
    if kind == "preference":
        return _is_pair(value)
    if kind == "automatic":
        return isinstance(value, dict) and len(str(value)) <= _MAX_TEXT
    return _is_text(value)


def _is_pair(value: Any) -> bool:
    """A pair of answers, and where each came from: by model, revision and parameters."""
    if not isinstance(value, dict) or not {"chosen", "rejected"} <= set(value) <= _PAIR:
        return False
    if not all(_is_text(value[name]) for name in value.keys() & {"chosen", "rejected", "prompt"}):
        return False
    about = [value[name] for name in value.keys() & {"models", "revisions", "parameters"}]
    return all(isinstance(item, dict) and len(str(item)) <= _MAX_ABOUT for item in about)


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and 0 < len(value) <= _MAX_TEXT


def label(kind: str, value: Any) -> Label:
    """Translate a value into what training makes of it: 4 and 5 are good, 1 and 2 bad."""
    if kind in ("correction", "preference"):
        return "modified"
    if kind == "thumb":
        return "positive" if value else "negative"
    if kind == "rating":
        return "positive" if value >= 4 else "negative" if value <= 2 else "neutral"
    return "neutral"


async def give(database: Database, feedback: Feedback, principal: Principal) -> dict[str, Any]:
    """Store a feedback, or a new version of it.

    Returns: its id and version.
    Raises: InvalidQuery, NotFound for what is not the caller's, Forbidden for another's feedback.
    """
    check(feedback)
    feedback = dataclasses.replace(
        feedback,
        value=redact_deep(feedback.value),
        conversation_id=pseudonym(feedback.conversation_id),
    )
    author = principal.user_id or principal.key_id
    async with database.write(across("feedback looks for the request it is about")) as connection:
        about = await _about(connection, feedback, principal)
        if about is None:
            raise NotFound("there is no such request", code="request_not_found")
        feedback_id = feedback.feedback_id or _natural_id(feedback, author)
        latest = await connection.first(
            select(t.feedback).where(
                t.feedback.c.feedback_id == feedback_id, t.feedback.c.is_latest
            )
        )
        if latest is not None:
            _may_change(principal, author, latest)
            if latest["value"] == feedback.value and latest["kind"] == feedback.kind:
                return {"feedback_id": feedback_id, "version": latest["version"]}
            await connection.execute(
                update(t.feedback)
                .where(t.feedback.c.feedback_id == feedback_id)
                .values(is_latest=False)
            )
        version = latest["version"] + 1 if latest else 1
        await connection.execute(
            t.feedback.insert(),
            {
                "feedback_id": feedback_id,
                "version": version,
                "request_id": feedback.request_id,
                "conversation_id": feedback.conversation_id,
                "company_id": about["company_id"],
                "user_id": about["user_id"],
                "author": author,
                "kind": feedback.kind,
                "value": feedback.value,
                "model": about["model"],
                "revision": about["revision"],
                "created_at": time.time(),
                "is_latest": True,
            },
        )
    return {"feedback_id": feedback_id, "version": version}


async def _about(
    connection: Connection, feedback: Feedback, principal: Principal
) -> dict[str, Any] | None:
    """Find the request a feedback is about; of a conversation the last one.

    Only among those the caller may see: two companies may call a conversation the same.
    """
    r = t.requests.c
    columns = select(r.request_id, r.company_id, r.user_id, r.key_id, r.model, r.revision)
    named = (
        r.request_id == feedback.request_id
        if feedback.request_id
        else r.conversation_id == feedback.conversation_id
    )
    return await connection.first(
        columns.where(named, _seen_by(principal)).order_by(r.created_at.desc()).limit(1)
    )


def _seen_by(principal: Principal) -> ColumnElement[bool]:
    if principal.role == "admin":
        return true()
    r = t.requests.c
    ours = r.company_id.in_(principal.companies)
    whose = [r.key_id == principal.key_id]
    if principal.user_id is not None:
        whose.append(r.user_id == principal.user_id)
    if principal.role == "company_admin":
        whose.append(ours)
    here = ours if principal.bound_to else or_(r.company_id.is_(None), ours)
    return and_(here, or_(*whose))


def _may_change(principal: Principal, author: str, latest: dict[str, Any]) -> None:
    admin = principal.role == "admin" or (
        principal.role == "company_admin" and principal.member_of(latest["company_id"])
    )
    if latest["author"] != author and not admin:
        raise Forbidden("only its author or an admin may change a feedback", code="not_the_author")


def _natural_id(feedback: Feedback, author: str) -> str:
    """Name a feedback by what it is about, so that sending it twice is sending it once."""
    about = f"{author}\0{feedback.request_id}\0{feedback.conversation_id}\0{feedback.kind}"
    return "fb_" + hashlib.sha256(about.encode()).hexdigest()[:24]


async def listed(
    database: Database,
    scope: Scope,
    *,
    request_id: str | None = None,
    kind: str | None = None,
    before: float | None = None,
    limit: int = 50,
) -> list[dict[str, Any]]:
    """Return the latest versions, newest first."""
    f = t.feedback.c
    statement = select(t.feedback).where(f.is_latest).order_by(f.created_at.desc()).limit(limit)
    if request_id is not None:
        statement = statement.where(f.request_id == request_id)
    if kind is not None:
        statement = statement.where(f.kind == kind)
    if before is not None:
        statement = statement.where(f.created_at < before)
    async with database.read(scope) as connection:
        rows = await connection.all(statement)
    return [{**row, "label": label(row["kind"], row["value"])} for row in rows]


async def export(
    database: Database,
    scope: Scope,
    allowed: Callable[[str | None, str | None], bool],
    *,
    page: int = 500,
) -> AsyncIterator[dict[str, Any]]:
    """Yield training examples: only where the content was kept, which needed consent.

    `allowed` says whether the consent of a company and a user still holds; where it was withdrawn
    since, nothing is given out. Corrections become `(prompt, rejected, chosen)`. Automatic feedback
    never outranks what a person said: it is left out where a person spoke.
    """
    f, c = t.feedback.c, t.contents.c
    after = ""
    while True:
        statement = (
            select(t.feedback, c.messages, c.answer, c.consent, c.user_id.label("speaker"))
            .join_from(t.feedback, t.contents, f.request_id == c.request_id)
            .where(f.is_latest, f.feedback_id > after)
            .where(or_(f.company_id == c.company_id, f.company_id.is_(None)))
            .order_by(f.feedback_id)
            .limit(page)
        )
        async with database.read(scope) as connection:
            rows = await connection.all(statement)
            spoken = await _spoken_of(connection, [row["request_id"] for row in rows])
        for row in rows:
            if row["kind"] == "automatic" and row["request_id"] in spoken:
                continue
            if not allowed(row["company_id"], row["speaker"]):
                continue
            yield _example(row)
        if len(rows) < page:
            return
        after = str(rows[-1]["feedback_id"])


async def _spoken_of(connection: Connection, request_ids: list[str]) -> set[str]:
    f = t.feedback.c
    rows = await connection.all(
        select(f.request_id).where(
            f.request_id.in_(request_ids), f.kind != "automatic", f.is_latest
        )
    )
    return {row["request_id"] for row in rows}


def _example(row: dict[str, Any]) -> dict[str, Any]:
    kind, value = row["kind"], row["value"]
    example: dict[str, Any] = {
        "messages": row["messages"],
        "completion": row["answer"],
        "label": label(kind, value),
        "kind": kind,
        "provenance": {
            "request_id": row["request_id"],
            "feedback_id": row["feedback_id"],
            "feedback_version": row["version"],
            "company_id": row["company_id"],
            "conversation_id": row["conversation_id"],
            # Enough to count one person's share, and no name.
            "author": hashlib.sha256(str(row["author"]).encode()).hexdigest()[:16],
            "model": row["model"],
            "revision": row["revision"],
            "consent": row["consent"],
            "created_at": row["created_at"],
        },
    }
    if kind == "correction":
        example |= {"chosen": value, "rejected": row["answer"]}
    elif kind == "preference":
        example |= {"chosen": value["chosen"], "rejected": value["rejected"]}
        about = {n: value[n] for n in ("prompt", "models", "revisions", "parameters") if n in value}
        example["provenance"] |= {"pair": about} if about else {}
    elif kind in ("rating", "comment", "automatic"):
        example["value"] = value
    return example
