"""Answers that must be JSON, and several different answers at once.

`generate_structure` asks, finds the JSON in whatever surrounds it, checks it against the schema
and lets the model repair it at most twice. `generate_variations` asks several times with
distinct seeds and says how different the answers are. Each question is a request with its own
record.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import random
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import orjson

from triptych.errors import InvalidQuery, StructureInvalid, TierError
from triptych.tiers.rules.query import Answer, QueryContext

MAX_REPAIRS = 2
MAX_VARIATIONS = 8
STRUCTURE_TEMPERATURE = 0.2
VARIATION_TEMPERATURE = 0.7
_CONCURRENT = 4
_MAX_SCHEMA_BYTES = 65_536
_TRAILING_COMMA = re.compile(r",(\s*[}\]])")

Ask = Callable[[str, QueryContext, dict[str, Any]], Awaitable[Answer]]


@dataclass(frozen=True)
class Structured:
    """A value that matches its schema, and the answers it took."""

    value: Any
    answers: tuple[Answer, ...]


@dataclass(frozen=True)
class Variations:
    """Distinct answers, what failed, and how different the answers are."""

    answers: tuple[Answer, ...]
    failures: tuple[str, ...] = ()
    duplicates: int = 0
    diversity: float = field(default=0.0)
    """Mean distance between two answers: 0 the same words, 1 not one in common."""


async def generate_structure(
    ask: Ask, prompt: str, schema: dict[str, Any], context: QueryContext
) -> Structured:
    """Ask for a JSON value that matches a JSON Schema.

    Raises: InvalidQuery for an invalid schema, StructureInvalid after the last repair.
    """
    validator = _validator(schema)
    if context.temperature is None:
        context = dataclasses.replace(context, temperature=STRUCTURE_TEMPERATURE)
    text = (
        f"{prompt}\n\nAnswer with one JSON value and nothing else. It must match this JSON Schema:"
        f"\n{orjson.dumps(schema).decode()}"
    )
    answers: list[Answer] = []
    problem = ""
    for _ in range(1 + MAX_REPAIRS):
        answer = await ask(text, context, {})
        answers.append(answer)
        try:
            value = extract_json(answer.content)
        except ValueError as error:
            problem = str(error)
        else:
            problem = _first_error(validator, value)
            if not problem:
                return Structured(value, tuple(answers))
        context = dataclasses.replace(
            context,
            conversation_history=(
                *context.conversation_history,
                {"role": "user", "content": text},
                {"role": "assistant", "content": answer.content},
            ),
        )
        text = f"That does not match: {problem}. Answer again with the corrected JSON value only."
    raise StructureInvalid(
        f"no answer of {len(answers)} matched the schema: {problem}",
        hint="simplify the schema or ask a larger model",
    )


def extract_json(text: str) -> Any:
    """Find the JSON value in an answer: fenced, after chatter, with trailing commas.

    Raises: ValueError when there is none.
    """
    decoder = json.JSONDecoder(parse_int=_number)
    for candidate in (text, _without_trailing_commas(text)):
        for position, character in enumerate(candidate):
            if character in "{[":
                try:
                    value, _ = decoder.raw_decode(candidate, position)
                except json.JSONDecodeError:
                    continue
                return value
    stripped = text.strip().removeprefix("```json").strip("` \n")
    try:
        return json.loads(stripped, parse_int=_number)
    except json.JSONDecodeError as error:
        raise ValueError("there is no JSON value in the answer") from error


def _number(digits: str) -> int | float:
    """Read a number that is too long for a whole one as what every reader makes of it."""
    return int(digits) if len(digits) <= 18 else float(digits)


def _without_trailing_commas(text: str) -> str:
    """Remove commas before a closing bracket, outside of strings."""
    parts = re.split(r'("(?:[^"\\]|\\.)*")', text)
    parts[::2] = [_TRAILING_COMMA.sub(r"\1", part) for part in parts[::2]]
    return "".join(parts)


def _validator(schema: dict[str, Any]) -> Any:
    import jsonschema

    if len(orjson.dumps(schema)) > _MAX_SCHEMA_BYTES:
        raise InvalidQuery(f"the schema is larger than {_MAX_SCHEMA_BYTES} bytes", param="schema")
    if _mentions(schema, ("pattern", "patternProperties")):
        # A pattern of a stranger can hold a worker for minutes.
        raise InvalidQuery("patterns are not checked here", param="schema", hint="leave them out")
    try:
        jsonschema.Draft202012Validator.check_schema(schema)
    except jsonschema.SchemaError as error:
        raise InvalidQuery(f"not a JSON Schema: {error.message}"[:300], param="schema") from error
    return jsonschema.Draft202012Validator(schema)


def _mentions(schema: Any, names: tuple[str, ...]) -> bool:
    if isinstance(schema, dict):
        # below `properties` a name is the user's own and no keyword
        return any(
            (name in names and isinstance(value, str if name == "pattern" else dict))
            or _mentions(
                list(value.values())
                if name in ("properties", "$defs") and isinstance(value, dict)
                else value,
                names,
            )
            for name, value in schema.items()
        )
    if isinstance(schema, list):
        return any(_mentions(item, names) for item in schema)
    return False


def _first_error(validator: Any, value: Any) -> str:
    import jsonschema
    from referencing.exceptions import Unresolvable

    try:
        error = jsonschema.exceptions.best_match(validator.iter_errors(value))
    except (Unresolvable, RecursionError, TypeError) as problem:
        raise InvalidQuery(
            f"the schema cannot be applied: {type(problem).__name__}", param="schema"
        ) from problem
    if error is None:
        return ""
    where = "/".join(str(part) for part in error.absolute_path) or "the value"
    return f"{where}: {error.message}"[:300]


async def generate_variations(
    ask: Ask, prompt: str, amount: int, context: QueryContext, *, seed: int = 0
) -> Variations:
    """Ask for several different answers.

    Raises: InvalidQuery when `amount` is out of range, the last failure when all failed.
    """
    if not 1 <= amount <= MAX_VARIATIONS:
        raise InvalidQuery(f"n = {amount}", param="n", hint=f"between 1 and {MAX_VARIATIONS}")
    dice = random.Random(seed)
    plans = [
        (
            VARIATION_TEMPERATURE + dice.uniform(0.0, 0.3)
            if context.temperature is None
            else context.temperature,
            dice.randrange(2**31),
        )
        for _ in range(amount)
    ]
    gate = asyncio.Semaphore(_CONCURRENT)

    async def one(temperature: float, its_seed: int) -> Answer:
        async with gate:
            its_context = dataclasses.replace(context, temperature=round(temperature, 3))
            return await ask(prompt, its_context, {"seed": its_seed})

    results = await asyncio.gather(*(one(*plan) for plan in plans), return_exceptions=True)
    answers: dict[str, Answer] = {}
    failures: list[TierError] = []
    duplicates = 0
    for result in results:
        if isinstance(result, TierError):
            failures.append(result)
        elif isinstance(result, BaseException):
            raise result
        elif (same := " ".join(result.content.split())) in answers:
            duplicates += 1
        else:
            answers[same] = result
    if not answers:
        raise failures[-1]
    return Variations(
        tuple(answers.values()),
        tuple(failure.code for failure in failures),
        duplicates,
        diversity([answer.content for answer in answers.values()]),
    )


def diversity(texts: list[str]) -> float:
    """Measure how different texts are: the mean Jaccard distance of their word sets."""
    words = [set(text.lower().split()) for text in texts]
    pairs = [(a, b) for n, a in enumerate(words) for b in words[n + 1 :]]
    if not pairs:
        return 0.0
    return sum(1 - len(a & b) / max(1, len(a | b)) for a, b in pairs) / len(pairs)
