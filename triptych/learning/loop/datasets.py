"""Judgements become a data set: what was kept, what was removed and why, and a manifest.

The same judgements give the same bytes: rows are in the order of their ids, and whether a row is
held out follows from its conversation, never from its position. Left out: fetching the judgements
(the gateway's export brings them) and training on the result.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from triptych.durable import atomic_folder
from triptych.errors import LearningError
from triptych.learning.company.words import words

FORMAT = 1
MINIMUM_ROWS = 200
Reason = Literal[
    "no_consent", "level", "erased", "no_judgement", "empty", "instructions", "duplicate",
    "contradiction", "near_gate", "one_user",
]  # fmt: skip
_INSTRUCTIONS = re.compile(
    r"\b(?:ignore|disregard|forget)\b.{0,40}\b(?:previous|above|prior|all)\b.{0,40}"
    r"\b(?:instructions?|rules?|prompts?)\b|<\|(?:im_start|im_end|endoftext|system)\|>",
    re.I | re.S,
)
_SHINGLE = 5
_NEAR = 0.6
_BUCKETS = 1000
# What the gateway calls a thumb or a rating; "modified" and "neutral" are neither good nor bad.
_LABELS = {"positive": True, "negative": False}


@dataclass(frozen=True)
class Options:
    """How a data set is made. `held_out` and `user_share` are shares between 0 and 1.

    `levels` are the protection levels that may be trained on, of public, private, protected and
    proprietary; a judgement without one counts as private. `system_prompt` is what the gateway puts
    before each conversation: it belongs to what is trained on, or the model is served with words it
    never saw.
    """

    levels: tuple[str, ...] = ("public", "private")
    held_out: float = 0.1
    user_share: float = 0.05
    minimum_rows: int = MINIMUM_ROWS
    system_prompt: str = ""


@dataclass(frozen=True)
class Row:
    """An answer and its judgement. `chosen` is the answer to learn, `rejected` one to avoid.

    `label` is True or False for a thumb on `completion`, None for pairs and corrections.
    """

    id: str
    conversation: str
    author: str
    messages: tuple[dict[str, Any], ...]
    completion: str
    chosen: str | None
    rejected: str | None
    label: bool | None
    provenance: Mapping[str, Any]

    @property
    def prompt(self) -> str:
        """Return the text of the last message of the user."""
        users = [one for one in self.messages if one.get("role") == "user"]
        return str(users[-1].get("content") or "") if users else ""


@dataclass(frozen=True)
class Dataset:
    """Rows to train on, rows held out, and every removed one with its reason."""

    train: tuple[Row, ...]
    held_out: tuple[Row, ...]
    removed: tuple[tuple[str, Reason], ...]
    options: Options

    @property
    def missing_rows(self) -> int:
        """Return how many rows are missing until training is worth its time."""
        return max(0, self.options.minimum_rows - len(self.train))

    def manifest(self) -> dict[str, Any]:
        """Return what the data set is made of; its `hash` names this version."""
        told = {
            "format": FORMAT,
            "options": asdict(self.options),
            "train": [row.id for row in self.train],
            "held_out": [row.id for row in self.held_out],
            "removed": dict(sorted(Counter(reason for _, reason in self.removed).items())),
            "files": {name: _digest(text) for name, text in self.files().items()},
        }
        return {**told, "hash": _digest(json.dumps(told, sort_keys=True))}

    def files(self) -> dict[str, str]:
        """Return the files of the data set: one for each way to train, and the held-out rows."""
        prompt = self.options.system_prompt
        train = [replace(row, messages=_with_system(row.messages, prompt)) for row in self.train]
        return {
            "sft.jsonl": _lines(_sft(row) for row in train if row.chosen),
            "dpo.jsonl": _lines(_dpo(row) for row in train if row.chosen and row.rejected),
            "kto.jsonl": _lines(_kto(row) for row in train if row.label is not None),
            "held_out.jsonl": _lines(_case(row) for row in self.held_out),
            "removed.jsonl": _lines({"id": one, "reason": why} for one, why in self.removed),
        }

    def write(self, folder: Path) -> dict[str, Any]:
        """Write the data set to a new folder that appears whole or not at all.

        Returns: the manifest.
        """
        manifest = self.manifest()
        with atomic_folder(Path(folder)) as temporary:
            for name, text in self.files().items():
                (temporary / name).write_text(text, encoding="utf-8")
            text = json.dumps(manifest, indent=2, sort_keys=True)
            (temporary / "manifest.json").write_text(text + "\n", encoding="utf-8")
        return manifest


def build(
    examples: Iterable[Mapping[str, Any]],
    *,
    gate_prompts: Sequence[str] = (),
    erased: frozenset[str] = frozenset(),
    options: Options | None = None,
) -> Dataset:
    """Return the data set of a gateway's exported judgements.

    `gate_prompts` are the questions of every gate set: what is nearly the same is never trained on.
    `erased` are ids of requests whose content may not be used any more.

    Raises: LearningError for an example that is no exported judgement.
    """
    options = options or Options()
    gate = _Near(gate_prompts)
    removed: list[tuple[str, Reason]] = []
    kept: list[Row] = []
    seen: dict[str, Row] = {}
    rows = sorted((_row(example) for example in examples), key=lambda row: row.id)
    contradicted = _contradicted(rows)
    for row in rows:
        reason = _refused(row, erased, options)
        if reason is None and row.id in contradicted:
            reason = "contradiction"
        if reason is None and gate.has(row.prompt):
            reason = "near_gate"
        key = _digest(json.dumps([_plain(row.prompt), row.chosen, row.rejected, row.label]))
        if reason is None and key in seen:
            reason = "duplicate"
        if reason is None:
            seen[key] = row
            kept.append(row)
        else:
            removed.append((row.id, reason))
    kept, over = _limited(kept, options.user_share)
    removed += [(row.id, "one_user") for row in over]
    held = {row.id for row in kept if _bucket(row.conversation) < options.held_out * _BUCKETS}
    return Dataset(
        tuple(row for row in kept if row.id not in held),
        tuple(row for row in kept if row.id in held),
        tuple(sorted(removed)),
        options,
    )


def _with_system(messages: tuple[dict[str, Any], ...], prompt: str) -> tuple[dict[str, Any], ...]:
    """Return the messages as the gateway sends them: its prompt first, then the client's own."""
    if not prompt:
        return messages
    first = messages[0]
    if first.get("role") != "system":
        return ({"role": "system", "content": prompt}, *messages)
    return ({**first, "content": f"{prompt}\n\n{first.get('content') or ''}"}, *messages[1:])


def _row(example: Mapping[str, Any]) -> Row:
    try:
        source = dict(example["provenance"])
        messages = tuple(dict(message) for message in example["messages"])
        first = next((str(one.get("content")) for one in messages if one.get("role") == "user"), "")
        return Row(
            id=str(source["feedback_id"]),
            # A conversation is known by its first question where the client named none.
            conversation=str(source.get("conversation_id") or _digest(_plain(first))),
            author=str(source.get("author") or ""),
            messages=messages,
            completion=str(example.get("completion") or ""),
            chosen=example.get("chosen"),
            rejected=example.get("rejected"),
            label=_LABELS.get(str(example.get("label"))),
            provenance=source,
        )
    except (KeyError, TypeError, ValueError) as error:
        raise LearningError(
            f"an example is no exported judgement: {error}",
            hint="export them with `triptych gateway feedback export`",
        ) from error


def _refused(row: Row, erased: frozenset[str], options: Options) -> Reason | None:
    """Return why a row may not be used; None where it may."""
    if not row.provenance.get("consent"):
        return "no_consent"
    if str(row.provenance.get("level") or "private") not in options.levels:
        return "level"
    if str(row.provenance.get("request_id")) in erased:
        return "erased"
    if row.chosen is None and row.label is None:
        return "no_judgement"
    if not row.prompt.strip() or not str(row.chosen or row.completion).strip():
        return "empty"
    if _INSTRUCTIONS.search(f"{row.prompt}\n{row.chosen or ''}"):
        return "instructions"
    return None


def _contradicted(rows: Sequence[Row]) -> set[str]:
    """Return rows whose answer is chosen in one judgement and rejected in another, same prompt."""
    chosen: dict[tuple[str, str], list[str]] = defaultdict(list)
    rejected: dict[tuple[str, str], list[str]] = defaultdict(list)
    for row in rows:
        prompt = _plain(row.prompt)
        if row.chosen:
            chosen[prompt, row.chosen.strip()].append(row.id)
        if row.rejected:
            rejected[prompt, row.rejected.strip()].append(row.id)
    both = chosen.keys() & rejected.keys()
    return {one for key in both for one in (*chosen[key], *rejected[key])}


def _limited(rows: Sequence[Row], share: float) -> tuple[list[Row], list[Row]]:
    """Return the rows that stay and those beyond one author's share of what stays.

    Authors without a name count as one. With few authors everybody's share is larger than the
    limit; then each may have as many as the limit allows of the whole, at least one.
    """
    limit = max(1, int(share * len(rows)))
    counts: Counter[str] = Counter()
    stay: list[Row] = []
    over: list[Row] = []
    for row in rows:
        counts[row.author] += 1
        (stay if counts[row.author] <= limit else over).append(row)
    return stay, over


class _Near:
    """Find texts that share most of their five-word runs with one of a set."""

    def __init__(self, texts: Sequence[str]) -> None:
        self._sets = [_shingles(text) for text in texts]
        self._where: dict[tuple[str, ...], list[int]] = defaultdict(list)
        for number, shingles in enumerate(self._sets):
            for shingle in shingles:
                self._where[shingle].append(number)

    def has(self, text: str) -> bool:
        """Return whether a text is nearly one of the set."""
        own = _shingles(text)
        shared = Counter(number for one in own for number in self._where.get(one, ()))
        return any(
            count / len(own | self._sets[number]) >= _NEAR for number, count in shared.items()
        )


def _shingles(text: str) -> set[tuple[str, ...]]:
    found = words(text)
    size = min(_SHINGLE, max(1, len(found)))
    return {tuple(found[start : start + size]) for start in range(len(found) - size + 1)}


def _plain(text: str) -> str:
    return " ".join(words(text))


def _bucket(conversation: str) -> int:
    return int(_digest(conversation)[:8], 16) % _BUCKETS


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()


def _lines(values: Iterable[Mapping[str, Any]]) -> str:
    return "".join(json.dumps(value, sort_keys=True) + "\n" for value in values)


def _sft(row: Row) -> dict[str, Any]:
    answer = {"role": "assistant", "content": row.chosen}
    return {"id": row.id, "messages": [*row.messages, answer]}


def _dpo(row: Row) -> dict[str, Any]:
    return {
        "id": row.id,
        "prompt": list(row.messages),
        "chosen": [{"role": "assistant", "content": row.chosen}],
        "rejected": [{"role": "assistant", "content": row.rejected}],
    }


def _kto(row: Row) -> dict[str, Any]:
    answer = [{"role": "assistant", "content": row.completion}]
    return {"id": row.id, "prompt": list(row.messages), "completion": answer, "label": row.label}


def _case(row: Row) -> dict[str, Any]:
    return {
        "id": row.id,
        "messages": list(row.messages),
        "reference": row.chosen,
        "rejected": row.rejected,
        "label": row.label,
        "completion": row.completion,
    }
