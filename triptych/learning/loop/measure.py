"""Run one model over a gate's questions through the gateway, and write what it did.

An answer is right where a reference stands in it as whole words, or where it refuses a question
that has no answer. General text is scored by the model server's echo, so that forgetting is
measured on the weights that answer. Left out: the verdict (`gate`).
"""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean, median
from typing import Any

from triptych.durable import write_atomic
from triptych.errors import LearningError
from triptych.learning.loop.files import rows_of
from triptych.learning.loop.gate import FORMAT, Case, Measures, Plan, Result
from triptych.learning.loop.gateway import Gateway, Reply
from triptych.learning.loop.rollout import plain
from triptych.wire.refusals import is_refusal

# Short enough for a model of 256 positions.
_TEXT_CHARACTERS = 240
_MOST_TEXTS = 60
_WORD = re.compile(r"\w+")


@dataclass(frozen=True)
class Question:
    """A case with what is sent, and the texts of which one has to stand in the answer."""

    case: Case
    messages: tuple[dict[str, Any], ...]
    references: tuple[str, ...]


def read_questions(file: Path) -> list[Question]:
    """Read the questions of a gate's cases.

    Raises: LearningError for a case without a prompt, or answerable and without a reference.
    """
    found = []
    for at, row in enumerate(rows_of(file)):
        answerable = bool(row.get("answerable", True))
        given = row.get("reference", [])
        references = tuple(map(str, given if isinstance(given, list) else [given]))
        messages = row.get("messages") or [{"role": "user", "content": row.get("prompt")}]
        if not messages[-1].get("content") or (answerable and not references):
            raise LearningError(
                f"{file}, case {at}: a question needs a prompt and a reference",
                hint='{"id": ..., "slice": ..., "prompt": ..., "reference": "..."}; without an '
                'answer: "answerable": false',
            )
        case = Case(str(row["id"]), str(row["slice"]), answerable)
        found.append(Question(case, tuple(messages), references))
    return found


def run(
    gateway: Gateway,
    model: str,
    questions: Sequence[Question],
    *,
    company: str | None = None,
    secrets: Sequence[str] = (),
    max_tokens: int = 256,
    on_answer: Callable[[int], None] = lambda number: None,
) -> tuple[dict[str, Result], Measures]:
    """Return what a model did with each question, and its latency and cost.

    Raises: LearningError where the gateway has no answer and no refusal for a question.
    """
    results: dict[str, Result] = {}
    replies: list[Reply] = []
    since = time.time() - 1
    for number, question in enumerate(questions, 1):
        reply = gateway.ask(model, question.messages, company=company, max_tokens=max_tokens)
        replies.append(reply)
        results[question.case.id] = score(question, reply, secrets)
        on_answer(number)
    latency_s = median([one.latency_s for one in replies]) if replies else math.nan
    costs = gateway.costs([one.request_id for one in replies], since)
    return results, Measures(latency_s=latency_s, cost_usd=mean(costs) if costs else 0.0)


def score(question: Question, reply: Reply, secrets: Sequence[str] = ()) -> Result:
    """Return whether a reply is right, refuses, and repeats a secret."""
    refused = reply.refused or is_refusal(reply.text)
    right = refused
    if question.case.answerable:
        right = not refused and any(_has(reply.text, one) for one in question.references)
    leaked = reply.blocked or any(one in reply.text for one in secrets)
    return Result(right and not leaked, refused, leaked, reply.text[:2000])


def general_bpb(gateway: Gateway, model: str, text: str) -> float:
    """Return the bits per byte that a model needs for a general text.

    Raises: LearningError where the server behind the gateway does not score a prompt.
    """
    pieces = [text[at : at + _TEXT_CHARACTERS] for at in range(0, len(text), _TEXT_CHARACTERS)]
    bits, size = 0.0, 0
    for piece in pieces[:_MOST_TEXTS]:
        body = {
            "model": model, "prompt": piece, "echo": True, "max_tokens": 0, "logprobs": 0,
            "temperature": 0,
        }  # fmt: skip
        scored = gateway.call("POST", "/v1/completions", body, timeout_s=120.0)
        choice = scored["choices"][0]
        values = (choice.get("logprobs") or {}).get("token_logprobs")
        if not values:
            raise LearningError(
                f"{model} does not score a text it is sent (echo with logprobs)",
                hint="measure it with `triptych eval` and pass --general-bpb NUMBER",
            )
        bits -= sum(value for value in values if value is not None) / math.log(2)
        size += len(piece.encode())
    return bits / max(1, size)


def write(
    file: Path, plan: Plan, model: str, results: dict[str, Result], measures: Measures
) -> None:
    """Write the results for the gate, bound to the plan."""
    values = {
        "format": FORMAT,
        "plan_hash": plan.hash,
        "model": model,
        "results": {one: asdict(result) for one, result in results.items()},
        "measures": {k: v for k, v in asdict(measures).items() if not _is_nan(v)},
    }
    write_atomic(file, json.dumps(plain(values), indent=1, sort_keys=True) + "\n")


def _is_nan(value: Any) -> bool:
    return isinstance(value, float) and math.isnan(value)


def _has(text: str, reference: str) -> bool:
    """Return whether a reference's words stand in a text one after the other."""
    found, wanted = _WORD.findall(text.lower()), _WORD.findall(reference.lower())
    return bool(wanted) and any(
        found[at : at + len(wanted)] == wanted for at in range(len(found) - len(wanted) + 1)
    )
