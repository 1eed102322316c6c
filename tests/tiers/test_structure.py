"""JSON that matches its schema, and several answers at once (checks C8 and C9)."""

from __future__ import annotations

import asyncio
import dataclasses
from typing import Any

import pytest

from triptych.errors import InvalidQuery, StructureInvalid, UpstreamFailed
from triptych.tiers.pipeline.structure import (
    diversity,
    extract_json,
    generate_structure,
    generate_variations,
)
from triptych.tiers.rules.query import Answer, QueryContext, Usage

SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "size": {"type": "integer"}},
    "required": ["name"],
}
CONTEXT = QueryContext("u")


class Model:
    """Answer from a list, and remember what was asked."""

    def __init__(self, *answers: str | Exception) -> None:
        self.answers = list(answers)
        self.asked: list[tuple[str, QueryContext, dict[str, Any]]] = []

    async def __call__(self, text: str, context: QueryContext, params: dict[str, Any]) -> Answer:
        self.asked.append((text, context, params))
        await asyncio.sleep(0)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return Answer(answer, "r", "base", "base", "p", "m", "", "", "", Usage(), 0.0, False)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('{"name": "a"}', {"name": "a"}),
        ('```json\n{"name": "a"}\n```', {"name": "a"}),
        ('Sure! Here it is:\n\n{"name": "a"} Anything else?', {"name": "a"}),
        (
            '{"name": "a {brace} \\"quoted\\" }", "size": 1}',
            {"name": 'a {brace} "quoted" }', "size": 1},
        ),
        ('{"name": "a", "size": 1,}', {"name": "a", "size": 1}),
        ('[{"name": "a, }",},]', [{"name": "a, }"}]),
        ('{not json} but {"name": "a"}', {"name": "a"}),
        ("7", 7),
    ],
)
def test_c8_json_is_found_in_whatever_surrounds_it(text, value) -> None:
    assert extract_json(text) == value


@pytest.mark.parametrize("text", ["", "no json", '{"name": "a"', "```json\n```"])
def test_c8_no_json_is_an_error(text) -> None:
    with pytest.raises(ValueError):
        extract_json(text)


async def test_c8_a_valid_answer_is_taken_at_once_with_temperature_02() -> None:
    model = Model('{"name": "a"}')
    found = await generate_structure(model, "Name one", SCHEMA, CONTEXT)
    assert found.value == {"name": "a"}
    assert model.asked[0][1].temperature == 0.2
    assert model.asked[0][0].count("Name one") == 1


async def test_c8_at_most_two_repairs_then_a_typed_error() -> None:
    model = Model("nothing", '{"size": 1}', '{"name": "a"}')
    found = await generate_structure(model, "Name one", SCHEMA, CONTEXT)
    assert found.value == {"name": "a"}
    assert len(found.answers) == 3
    assert "'name' is a required property" in model.asked[2][0]
    assert [t["role"] for t in model.asked[2][1].conversation_history] == ["user", "assistant"] * 2
    model = Model("no", "no", "no", '{"name": "too late"}')
    with pytest.raises(StructureInvalid):
        await generate_structure(model, "Name one", SCHEMA, CONTEXT)
    assert len(model.asked) == 3


async def test_c8_temperature_zero_is_respected() -> None:
    model = Model('{"name": "a"}')
    await generate_structure(model, "x", SCHEMA, dataclasses.replace(CONTEXT, temperature=0))
    assert model.asked[0][1].temperature == 0


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "nonsense"},
        {"properties": {"a": {"type": "string", "pattern": "(a+)+$"}}},
        {"description": "x" * 70_000},
        {"$ref": "http://127.0.0.1:1/schema"},
    ],
)
async def test_c8_a_schema_that_is_none_or_dangerous_is_refused(schema) -> None:
    with pytest.raises(InvalidQuery):
        await generate_structure(Model('{"a": "b"}'), "x", schema, CONTEXT)


async def test_c8_a_property_may_be_called_pattern() -> None:
    schema = {"type": "object", "properties": {"pattern": {"type": "string"}}}
    found = await generate_structure(Model('{"pattern": "x"}'), "x", schema, CONTEXT)
    assert found.value == {"pattern": "x"}


async def test_c9_variations_have_distinct_seeds_and_temperatures() -> None:
    model = Model("a b", "c d", "a  b", "a d")
    found = await generate_variations(model, "x", 4, CONTEXT, seed=3)
    assert [a.content for a in found.answers] == ["a b", "c d", "a d"]
    assert found.duplicates == 1
    assert 0 < found.diversity <= 1
    assert len({params["seed"] for _, _, params in model.asked}) == 4
    assert all(0.7 <= context.temperature <= 1.0 for _, context, _ in model.asked)
    again = Model("a", "b", "c", "d")
    await generate_variations(again, "x", 4, CONTEXT, seed=3)
    assert [p for _, _, p in again.asked] == [p for _, _, p in model.asked], "a seed repeats"


async def test_c9_partial_failures_are_reported_and_total_failure_raises() -> None:
    model = Model("a", UpstreamFailed("down"), "b")
    found = await generate_variations(model, "x", 3, CONTEXT)
    assert len(found.answers) == 2
    assert found.failures == ("upstream_failed",)
    with pytest.raises(UpstreamFailed):
        await generate_variations(Model(UpstreamFailed("down")), "x", 1, CONTEXT)


@pytest.mark.parametrize("amount", [0, 9, -1])
async def test_c9_the_amount_is_capped(amount) -> None:
    with pytest.raises(InvalidQuery, match="n ="):
        await generate_variations(Model(), "x", amount, CONTEXT)


async def test_c9_not_more_than_four_are_asked_at_once() -> None:
    running = most = 0

    async def ask(text: str, context: QueryContext, params: dict[str, Any]) -> Answer:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.01)
        running -= 1
        return await Model(str(params["seed"]))(text, context, params)

    await generate_variations(ask, "x", 8, CONTEXT)
    assert most == 4


def test_c9_diversity_is_0_for_the_same_and_1_for_nothing_in_common() -> None:
    assert diversity(["a b", "a b"]) == 0
    assert diversity(["a b", "c d"]) == 1
    assert diversity(["alone"]) == 0
