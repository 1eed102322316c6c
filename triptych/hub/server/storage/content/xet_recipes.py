"""From a range of a file to the parts of blocks that hold it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from triptych.hub.server.storage.content.xet_shard import Term
from triptych.hub.server.storage.content.xet_xorb import Chunk


@dataclass(frozen=True)
class Part:
    """Name a run of chunks in a block and the bytes it takes there; ends are exclusive."""

    start: int
    end: int
    start_byte: int
    end_byte: int


def select(
    terms: Sequence[Term], tables: Mapping[bytes, Sequence[Chunk]], start: int, end: int
) -> tuple[list[Term], int]:
    """Return the terms that hold a range, cut to whole chunks, and where it starts in the first."""
    chosen: list[Term] = []
    offset = 0
    position = 0
    for term in terms:
        if position < end and position + term.size > start:
            first, last, size = -1, -1, 0
            here = position
            for number in range(term.start, term.end):
                length = tables[term.xorb][number].size
                if here < end and here + length > start:
                    if first < 0:
                        first = number
                        if not chosen:
                            offset = max(0, start - here)
                    last, size = number + 1, size + length
                here += length
            chosen.append(Term(term.xorb, first, last, size))
        position += term.size
    return chosen, offset


def fetch_parts(
    terms: Sequence[Term], tables: Mapping[bytes, Sequence[Chunk]]
) -> dict[bytes, list[Part]]:
    """Return for each block the parts to fetch, merged so that none overlap or touch.

    A client that is given overlapping parts of one block fails on them.
    """
    wanted: defaultdict[bytes, list[tuple[int, int]]] = defaultdict(list)
    for term in terms:
        wanted[term.xorb].append((term.start, term.end))
    parts: dict[bytes, list[Part]] = {}
    for xorb, spans in wanted.items():
        merged: list[tuple[int, int]] = []
        for start, end in sorted(spans):
            if merged and start <= merged[-1][1]:
                merged[-1] = (merged[-1][0], max(merged[-1][1], end))
            else:
                merged.append((start, end))
        chunks = tables[xorb]
        parts[xorb] = [
            Part(start, end, chunks[start].start, chunks[end - 1].end) for start, end in merged
        ]
    return parts
