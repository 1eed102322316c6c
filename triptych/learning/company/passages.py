"""Divide a document into passages: contiguous slices of its text under one heading path.

A passage never crosses a heading, so that its path says what it is about. Long sections are cut
between blocks, long blocks between sentences or lines. The size is a choice; other sizes were not
compared.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from triptych.documents import Block, Document

WORDS = 170
_LONGEST_WORDS = 230
_SENTENCE_END = re.compile(r"(?<=[.!?。])[\"')\]]*\s+|\n")


@dataclass(frozen=True)
class Piece:
    """A slice of a document's text. `start` and `end` are character offsets."""

    headings: tuple[str, ...]
    page: int | None
    start: int
    end: int
    text: str


def divide(document: Document) -> list[Piece]:
    """Return the passages of a document in reading order; headings alone make none."""
    pieces: list[Piece] = []
    run: list[Block] = []
    for block in document.blocks:
        starts_new = bool(run) and (
            block.kind == "heading"
            or block.headings != run[-1].headings
            or _words(run) + len(block.text.split()) > _LONGEST_WORDS
            or _words(run) >= WORDS
        )
        if starts_new:
            pieces += _cut(document, run)
            run = []
        if block.kind != "heading":
            run.append(block)
    pieces += _cut(document, run)
    return pieces


def _words(run: list[Block]) -> int:
    return sum(len(block.text.split()) for block in run)


def _cut(document: Document, run: list[Block]) -> Iterator[Piece]:
    """Yield one piece for a run of blocks, or several where it is a single long block."""
    if not run:
        return
    first, last = run[0], run[-1]
    if len(run) > 1 or len(first.text.split()) <= _LONGEST_WORDS:
        text = document.text[first.start : last.end]
        yield Piece(first.headings, first.page, first.start, last.end, text)
        return
    start = first.start
    count = 0
    at = first.start
    for match in _SENTENCE_END.finditer(first.text):
        end = first.start + match.end()
        count += len(document.text[at:end].split())
        at = end
        if count >= WORDS:
            yield _slice(document, first, start, end)
            start, count = end, 0
    if start < first.end:
        yield from _hard_cut(document, first, start)


def _hard_cut(document: Document, block: Block, start: int) -> Iterator[Piece]:
    """Yield what is left of a block, cut between words where it has no sentence ends."""
    words = list(re.finditer(r"\S+\s*", document.text[start : block.end]))
    for first in range(0, len(words), WORDS):
        last = min(first + WORDS, len(words)) - 1
        yield _slice(document, block, start + words[first].start(), start + words[last].end())


def _slice(document: Document, block: Block, start: int, end: int) -> Piece:
    text = document.text[start:end].rstrip()
    return Piece(block.headings, block.page, start, start + len(text), text)
