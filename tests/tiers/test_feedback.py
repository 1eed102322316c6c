"""What a comparison knows travels with it: models, revisions, parameters, prompt (check G2)."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from sqlalchemy import select

from triptych.tiers.store import accounts, tables
from triptych.tiers.store.database import across
from triptych.tiers.store.personal_data import consents

PAIR = {
    "chosen": "the better one",
    "rejected": "the worse one",
    "prompt": "which is better?",
    "models": {"chosen": "acme/base", "rejected": "acme/older"},
    "revisions": {"chosen": "a" * 40, "rejected": "b" * 40},
    "parameters": {"temperature": 0.7, "seed": 3},
}


async def ask(people: Any) -> str:
    await consents.set_consent(
        people.gateway.database, "improve", True, company_id="acme", actor="t"
    )
    await people.gateway.runtime.refresh()
    status, answer = await people.call(
        "service", "POST", "/api/query",
        {"input": "which is better?", "companyId": "acme", "conversationId": "talk-9"},
    )  # fmt: skip
    assert status == 200, answer
    return str(answer["request_id"])


async def test_g2_a_preference_carries_where_each_answer_came_from(people) -> None:
    request_id = await ask(people)
    body = {"kind": "preference", "value": PAIR, "request_id": request_id, "feedback_id": "pg_1"}
    for _ in range(2):
        status, told = await people.call("service", "POST", "/api/feedback", body)
        assert (status, told) == (200, {"feedback_id": "pg_1", "version": 1}), "sent twice is once"
    _, example = await people.call("company_admin", "GET", "/api/feedback/export")
    if isinstance(example, bytes):
        (example,) = [orjson.loads(line) for line in example.splitlines()]
    assert (example["chosen"], example["rejected"]) == ("the better one", "the worse one")
    assert example["provenance"]["pair"] == {
        name: PAIR[name] for name in ("prompt", "models", "revisions", "parameters")
    }
    assert example["provenance"]["consent"].startswith("improve:company:")


@pytest.mark.parametrize(
    "wrong",
    [
        {"chosen": "a"},
        {**PAIR, "winner": "a"},
        {**PAIR, "models": "acme/base"},
        {**PAIR, "prompt": ""},
        {**PAIR, "parameters": {"x": "y" * 5000}},
    ],
)
async def test_g1_a_pair_that_is_none_is_refused(people, wrong) -> None:
    request_id = await ask(people)
    body = {"kind": "preference", "value": wrong, "request_id": request_id}
    status, answer = await people.call("service", "POST", "/api/feedback", body)
    assert (status, answer["error"]["param"]) == (422, "value")


async def test_two_companies_that_call_a_conversation_the_same_never_meet(people) -> None:
    """What one says about `talk-9` is about its own last answer, whoever spoke later."""
    gateway, database = people.gateway, people.gateway.database
    people.keys["their_service"] = await accounts.create_key(
        database, name="theirs", kind="service", role="user", company_id="globex", actor="t"
    )
    await gateway.runtime.refresh()
    asked: dict[str, str] = {}
    for who in ("service", "their_service", "user", "foreign"):
        body = {"input": "hi", "conversationId": "talk-9", "useCompanyModel": True}
        status, answer = await people.call(who, "POST", "/api/query", body)
        assert status == 200, answer
        asked[who] = answer["request_id"]
    records = {row["request_id"]: row for row in await gateway.records()}
    opinion = {"kind": "comment", "value": "good", "conversation_id": "talk-9"}
    for who, company in (
        ("service", "acme"), ("foreign", "globex"), ("user", "acme"), ("company_admin", "acme"),
        ("their_service", "globex"),
    ):  # fmt: skip
        status, told = await people.call(who, "POST", "/api/feedback", opinion)
        assert status == 200, (who, told)
        async with database.read(across("a test looks at everything")) as connection:
            given = await connection.first(
                select(tables.feedback).where(tables.feedback.c.feedback_id == told["feedback_id"])
            )
        assert given is not None
        assert given["company_id"] == company
        if who in asked:
            assert given["user_id"] == records[asked[who]]["user_id"], who
    for company, authors in (("acme", 3), ("globex", 2)):
        _, seen = await people.call("admin", "GET", f"/api/feedback?company_id={company}")
        assert len(seen["feedback"]) == authors
        assert {row["company_id"] for row in seen["feedback"]} == {company}
    nobody = {**opinion, "conversation_id": "talk-of-nobody"}
    assert (await people.call("user", "POST", "/api/feedback", nobody))[0] == 404
