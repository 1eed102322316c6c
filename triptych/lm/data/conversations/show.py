"""A file of rows as a person checks it: the trained tokens marked, and why rows are refused.

Left out: reading and refusing (`dataset`), and which tokens are trained (`masks`).
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path

from triptych.lm.data.conversations.dataset import (
    Example,
    Examples,
    Kind,
    Refusal,
    Tokens,
    detect_kind,
    encode_records,
)
from triptych.lm.model.tokenizer import Tokenizer

_WORST = 2
_LINES_SHOWN = 10
# A longer stretch of text is shown by its two ends, so that its answer stays in sight.
_LONGEST = 600
_GREEN, _DIM, _PLAIN = "\x1b[32;1m", "\x1b[2m", "\x1b[0m"
# A row is foreign text: what would steer a terminal is shown as a mark.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def describe_rows(
    file: Path,
    tokenizer: Tokenizer,
    *,
    kind: Kind | None = None,
    context_length: int,
    first: int = 3,
    color: bool = False,
) -> Iterator[str]:
    """Yield lines on a file of rows: counts, refusals by reason, the first rows and the worst.

    Trained tokens are green, or in `[[ ]]` without colour.

    Raises: DataError where there is no file.
    """
    kind = kind or detect_kind(file)
    rows, refused = encode_records(file, tokenizer, kind=kind, context_length=context_length)
    yield f"method {kind}, at most {context_length:,} tokens a row"
    yield from Examples(file, tuple(rows), ()).report()
    yield from _refusals(refused)
    for title, examples in _chosen(rows, first):
        for example in examples:
            yield ""
            yield from _row(file, title, example, tokenizer, color)


def _refusals(refused: Sequence[Refusal]) -> Iterator[str]:
    """Yield each reason with its count and its lines; reasons that differ in a number are one."""
    groups: dict[str, list[Refusal]] = defaultdict(list)
    for refusal in refused:
        groups[re.sub(r"\d[\d,]*", "N", refusal.reason)].append(refusal)
    yield f"{len(refused):,} rows are refused"
    for _, alike in sorted(groups.items(), key=lambda item: -len(item[1])):
        lines = ", ".join(str(refusal.line) for refusal in alike[:_LINES_SHOWN])
        more = f" and {len(alike) - _LINES_SHOWN:,} more" if len(alike) > _LINES_SHOWN else ""
        reason = _CONTROL.sub("\N{REPLACEMENT CHARACTER}", alike[0].reason)
        plural = "line" if len(alike) == 1 else "lines"
        yield f"  {len(alike):,}: {reason} ({alike[0].file}, {plural} {lines}{more})"


def _chosen(rows: Sequence[Example], first: int) -> Iterator[tuple[str, Sequence[Example]]]:
    """Yield the first rows, then those of the rest that a person should see."""
    yield "first", rows[:first]
    rest = rows[first:]
    longest = sorted(rest, key=_by_length)[:_WORST]
    yield "longest", longest
    lines = {row.line for row in longest}
    rest = [row for row in rest if row.line not in lines]
    yield "fewest trained", sorted(rest, key=_by_trained)[:_WORST]


def _by_length(example: Example) -> tuple[int, int]:
    return -example.tokens, example.line


def _by_trained(example: Example) -> tuple[int, int]:
    return example.answer.trained, example.line


def _row(
    file: Path, title: str, example: Example, tokenizer: Tokenizer, color: bool
) -> Iterator[str]:
    label = "" if example.row.label is None else f", label {str(example.row.label).lower()}"
    for name, tokens in (("", example.answer), (" (rejected)", example.rejected)):
        if tokens is not None:
            facts = f"{tokens.trained:,} of {len(tokens):,} tokens trained{label}"
            yield f"--- {title}: {file.name}, line {example.line}{name}: {facts}"
            yield marked_text(tokens, tokenizer, color=color)


def marked_text(tokens: Tokens, tokenizer: Tokenizer, *, color: bool) -> str:
    """Return the text of a row with its trained tokens marked, special tokens spelled out."""
    parts = []
    # The first token of a text is never a target of the loss.
    trained = [False, *(bool(on) for on in tokens.mask[1:])]
    pairs = zip(tokens.ids.tolist(), trained, strict=True)
    for on, run in groupby(pairs, key=lambda pair: pair[1]):
        ids = [token_id for token_id, _ in run]
        text = _shortened(tokenizer.decode(ids, skip_special_tokens=False))
        text = _CONTROL.sub("\N{REPLACEMENT CHARACTER}", text)
        if color:
            parts.append(f"{_GREEN if on else _DIM}{text}{_PLAIN}")
        else:
            parts.append(f"[[{text}]]" if on else text)
    return "".join(parts)


def _shortened(text: str) -> str:
    if len(text) <= _LONGEST:
        return text
    half = _LONGEST // 2
    return f"{text[:half]} ... {len(text) - 2 * half:,} characters ... {text[-half:]}"
