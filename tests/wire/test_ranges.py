"""Gateway and model server accept the same numbers, because both read one table."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from triptych.errors import InvalidQuery
from triptych.tiers.http import bodies
from triptych.wire.ranges import RANGES, Range, in_words
from triptych.wire.requests import ChatRequest, CompletionRequest

OURS = sorted(RANGES)
EDGES = (-(2**63) - 1, -(2**63), -3, -2, -0.5, 0, 0.005, 0.5, 1, 1.5, 2, 2.5, 8, 10, 10.5, 16, 17,
         20, 21, 1_000_000, 1_000_001, 2**63 - 1, 2**63)  # fmt: skip


def gateway_accepts(name: str, value: object) -> bool:
    body = {"model": "base", "messages": [{"role": "user", "content": "hi"}], name: value}
    try:
        bodies.chat(body, "r", system_allowed=True)
    except InvalidQuery as error:
        assert error.param == name
        assert str(RANGES[name]) in error.message
        return False
    return True


def model_server_accepts(name: str, value: object) -> bool:
    body = {"messages": [{"role": "user", "content": "hi"}], name: value}
    try:
        ChatRequest.model_validate(body)
    except ValidationError:
        return False
    return True


@pytest.mark.parametrize("name", OURS)
def test_what_the_gateway_accepts_its_own_model_server_accepts(name: str) -> None:
    differing = [
        value
        for value in EDGES
        if gateway_accepts(name, value) != model_server_accepts(name, value)
    ]
    assert differing == []
    assert not gateway_accepts(name, True)
    assert not gateway_accepts(name, "1")


def test_top_p_0_and_16_choices_are_within_range() -> None:
    request = CompletionRequest.model_validate({"prompt": "x", "top_p": 0, "n": 16})
    assert (request.top_p, request.n) == (0.0, 16)


def test_ranges_are_words_that_a_person_can_act_on() -> None:
    assert str(Range(0, 2)) == "between 0 and 2"
    assert str(RANGES["repetition_penalty"]) == "above 0 and at most 10"
    assert str(RANGES["max_tokens"]) == "between 1 and 1,000,000"
    assert in_words(low=0, high=0) == "0"
    assert in_words() == ""
