"""A file of rows as training data: normalised, encoded, refused with a reason, split by prompt.

Rows are ordered by the hash of their content, so the order of lines in a file changes nothing.
Left out: batches (`lm/train/posttrain`) and what a row may look like (`formats`).
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np

from triptych.errors import DataError
from triptych.lm.data.conversations.formats import (
    MAPPINGS,
    Format,
    Message,
    Row,
    detect,
    normalise,
)
from triptych.lm.data.conversations.masks import encode_conversation
from triptych.lm.model.tokenizer import Tokenizer

Kind = Literal["sft", "dpo", "kto"]
_FORMATS: dict[Kind, tuple[Format, ...]] = {
    "sft": ("messages", "sharegpt", "alpaca", "completion"),
    "dpo": ("preference",),
    "kto": ("label",),
}
# With fewer prompts than this nothing is held out.
_FEWEST_PROMPTS = 10
_SHOWN = 5


@dataclass(frozen=True)
class Tokens:
    """The tokens of one conversation, cut after the last trained one.

    Shape: ids (T,) int64, mask (T,) bool; `mask[t]` says that token `t` is trained.
    """

    ids: np.ndarray
    mask: np.ndarray

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def trained(self) -> int:
        """Return how many tokens are trained; the first of a text never is."""
        return int(self.mask[1:].sum())


@dataclass(frozen=True)
class Example:
    """One row, encoded; `rejected` is set in a preference, `row.label` in a judgement."""

    row: Row
    record_id: str
    line: int
    answer: Tokens
    rejected: Tokens | None = None

    @property
    def prompt(self) -> list[Message]:
        """Return the messages before the first trained answer."""
        turns = self.row.messages
        first = next(i for i, m in enumerate(turns) if m["role"] == "assistant")
        return list(turns[: self.row.prompt or first])

    @property
    def tokens(self) -> int:
        """Return how many tokens are read for this row."""
        return len(self.answer) + (len(self.rejected) if self.rejected else 0)


@dataclass(frozen=True)
class Refusal:
    """A row that is not trained on, and why."""

    file: str
    line: int
    reason: str

    def __str__(self) -> str:
        return f"{self.file}, line {self.line}: {self.reason}"


@dataclass(frozen=True)
class Examples:
    """The rows of a file in the order of their content, and those that were refused."""

    file: Path
    rows: tuple[Example, ...]
    refused: tuple[Refusal, ...]

    @cached_property
    def fingerprint(self) -> str:
        """Return the hash of everything that is trained on, in training order."""
        digest = hashlib.sha256()
        for example in self.rows:
            for tokens in (example.answer, example.rejected):
                if tokens is not None:
                    digest.update(tokens.ids.astype("<i8").tobytes())
                    digest.update(tokens.mask.tobytes())
            digest.update(repr(example.row.label).encode())
        return digest.hexdigest()

    def report(self) -> list[str]:
        """Return what a person should know of the file: the mapping, the counts, the refusals."""
        formats = Counter(example.row.format for example in self.rows)
        read = sum(example.tokens for example in self.rows)
        trained = sum(
            example.answer.trained + (example.rejected.trained if example.rejected else 0)
            for example in self.rows
        )
        lines = [
            f"{self.file.name}: {count:,} rows of the format {name} ({MAPPINGS[name]})"
            for name, count in formats.items()
        ]
        lines.append(f"{trained:,} of {read:,} tokens are trained ({trained / max(1, read):.0%})")
        if self.refused:
            lines.append(f"{len(self.refused):,} rows are refused")
            lines += [str(refusal) for refusal in self.refused[:_SHOWN]]
        return lines

    def split(self, frac: float, seed: int) -> tuple[Examples, Examples]:
        """Hold out a share of the prompts; all rows with one prompt stay on one side.

        Returns: training and validation rows; with too few prompts, both are all rows.
        """
        groups = {example.record_id: _prompt_hash(example.prompt) for example in self.rows}
        names = sorted(set(groups.values()), key=lambda name: _keyed(seed, name))
        count = round(frac * len(names))
        if len(names) < _FEWEST_PROMPTS or count == 0:
            return self, self
        held_out = set(names[:count])
        val = tuple(e for e in self.rows if groups[e.record_id] in held_out)
        train = tuple(e for e in self.rows if groups[e.record_id] not in held_out)
        return Examples(self.file, train, self.refused), Examples(self.file, val, self.refused)


def read_examples(file: Path, tokenizer: Tokenizer, *, kind: Kind, context_length: int) -> Examples:
    """Read, normalise and encode a file of rows: jsonl, or a JSON list.

    Raises: DataError where there is no file, or no row of it can be trained on.
    """
    rows, refused = encode_records(file, tokenizer, kind=kind, context_length=context_length)
    if not rows:
        first = "; ".join(map(str, refused[:3])) or "it has no rows"
        raise DataError(
            f"no row of {file} can be trained on: {first}",
            hint=f"train.method={kind} reads {', '.join(_FORMATS[kind])}; see "
            "`triptych data show FILE --tokens`",
        )
    rows.sort(key=lambda example: example.record_id)
    return Examples(file, tuple(rows), tuple(refused))


def encode_records(
    file: Path, tokenizer: Tokenizer, *, kind: Kind, context_length: int
) -> tuple[list[Example], list[Refusal]]:
    """Return the encoded rows of a file in the order of its lines, and the refused ones.

    Raises: DataError where there is no file.
    """
    rows: list[Example] = []
    refused: list[Refusal] = []
    for line, record in read_records(file):
        try:
            if isinstance(record, DataError):
                raise record
            rows.append(encode_row(record, line, tokenizer, kind, context_length))
        except DataError as error:
            refused.append(Refusal(file.name, line, error.message))
    return rows, refused


def detect_kind(file: Path) -> Kind:
    """Return the method that reads most rows of a file; `sft` where no row is of a known format.

    Raises: DataError where there is no file.
    """
    counts: Counter[Kind] = Counter({"sft": 0})
    for _, record in read_records(file):
        if isinstance(record, dict):
            with suppress(DataError):
                form = detect(record)
                counts.update(kind for kind, read in _FORMATS.items() if form in read)
    return counts.most_common(1)[0][0]


def read_records(file: Path) -> Iterator[tuple[int, Any]]:
    """Yield the line number and the object of every row; an unreadable one as its DataError.

    Raises: DataError where there is no such file, or a .json file that is no list.
    """
    if not file.is_file():
        raise DataError(
            f"no file {file}",
            hint="set train.data to a jsonl file with one row a line, such as "
            '{"messages": [{"role": "user", "content": "..."}, ...]}',
        )
    if file.suffix == ".json":
        try:
            records = json.loads(file.read_bytes())
        except ValueError as error:
            raise DataError(f"{file} is not JSON: {error}", hint="or is it jsonl?") from error
        if not isinstance(records, list):
            raise DataError(f"{file} is not a JSON list of rows", hint="write one row a line")
        yield from enumerate(records, start=1)
        return
    with file.open("rb") as stream:
        for number, text in enumerate(stream, start=1):
            if not text.strip():
                continue
            try:
                yield number, json.loads(text)
            except ValueError as error:
                yield number, DataError(f"not JSON: {error}")


def encode_row(
    record: Any, line: int, tokenizer: Tokenizer, kind: Kind, context_length: int
) -> Example:
    """Normalise and encode one row.

    Raises: DataError with the reason why it cannot be trained on.
    """
    if not isinstance(record, dict):
        raise DataError("the row is not an object with fields")
    row = normalise(record)
    if row.format not in _FORMATS[kind]:
        raise DataError(
            f"a row of the format {row.format}; train.method={kind} reads "
            f"{', '.join(_FORMATS[kind])}"
        )
    answer = _encode(tokenizer, row.messages, row.prompt, context_length)
    rejected = None
    if row.rejected is not None:
        rejected = _encode(tokenizer, row.rejected, row.prompt, context_length)
    return Example(row, row.record_id, line, answer, rejected)


def encode_mismatched(
    rows: Sequence[Example], tokenizer: Tokenizer, context_length: int
) -> list[Tokens]:
    """Return each prompt with the answer of the next row, for KTO's estimate of the divergence.

    A text that is too long for the model is cut at its end.
    """
    mixed = []
    for number, example in enumerate(rows):
        other = rows[(number + 1) % len(rows)].row
        prompt = example.prompt
        messages = [*prompt, *other.messages[other.prompt or -1 :]]
        ids, mask = encode_conversation(tokenizer, messages, len(prompt))
        ids, mask = ids[:context_length], mask[:context_length]
        mixed.append(Tokens(ids, mask))
    return mixed


def _encode(
    tokenizer: Tokenizer, messages: Sequence[Message], prompt: int, context_length: int
) -> Tokens:
    template = tokenizer.chat_template or ""
    if any(message.get("tool_calls") for message in messages) and "tool_calls" not in template:
        raise DataError("it has tool calls, which the chat template of the model does not render")
    ids, mask = encode_conversation(tokenizer, messages, prompt)
    trained = np.flatnonzero(mask[1:])
    if not len(trained):
        raise DataError("no token of it would be trained")
    end = int(trained[-1]) + 2
    if end > context_length:
        raise DataError(
            f"{end} tokens are more than train.context_length = {context_length}; the end of its "
            "answer would be cut off"
        )
    return Tokens(ids[:end], mask[:end])


def _prompt_hash(prompt: Sequence[Message]) -> str:
    """Name a prompt by its words, whatever their case and spacing."""
    words = " ".join(str(message["content"]) for message in prompt if message["role"] == "user")
    return " ".join(words.lower().split())


def _keyed(seed: int, name: str) -> bytes:
    return hashlib.sha256(f"{seed} {name}".encode("utf-8", "surrogatepass")).digest()
