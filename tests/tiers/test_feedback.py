"""What a comparison knows travels with it: models, revisions, parameters, prompt (check G2)."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from triptych.tiers.store import consents

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
