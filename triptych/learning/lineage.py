"""What came from what: record, data set, run, adapter, release, requests.

An append-only log of edges. Erasure follows it forward: everything that was made with an erased
record has to be made again without it. Left out: making it again.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterable
from pathlib import Path
from typing import Literal, NamedTuple

from triptych.durable import AppendLog, read_jsonl
from triptych.errors import LearningError

FORMAT = 1
Kind = Literal["record", "dataset", "run", "adapter", "release", "request"]
ORDER: tuple[Kind, ...] = ("record", "dataset", "run", "adapter", "release", "request")


class Thing(NamedTuple):
    """Something with an id: a data set by its hash, a run and a release by their names."""

    kind: Kind
    id: str


class Lineage:
    """Read and write the edges of one installation's log."""

    def __init__(self, file: Path) -> None:
        self.file = Path(file)

    def add(self, made: Thing, sources: Iterable[Thing]) -> None:
        """Record what something was made from.

        Raises: LearningError where a source comes later than what is made from it.
        """
        with AppendLog(self.file) as log:
            for source in sources:
                if ORDER.index(source.kind) >= ORDER.index(made.kind):
                    raise LearningError(f"a {made.kind} is never made from a {source.kind}")
                log.append({"format": FORMAT, "from": list(source), "to": list(made)})

    def sources(self, made: Thing) -> list[Thing]:
        """Return what something was made from directly."""
        lines = read_jsonl(self.file) if self.file.exists() else ()
        return [Thing(*line["from"]) for line in lines if Thing(*line["to"]) == made]

    def made_with(self, things: Iterable[Thing]) -> dict[Kind, list[str]]:
        """Return everything that was made with any of these, by kind in the order of making."""
        onward: dict[Thing, list[Thing]] = defaultdict(list)
        for line in read_jsonl(self.file):
            onward[Thing(*line["from"])].append(Thing(*line["to"]))
        seen: set[Thing] = set()
        waiting = deque(things)
        while waiting:
            for one in onward.get(waiting.popleft(), ()):
                if one not in seen:
                    seen.add(one)
                    waiting.append(one)
        return {
            kind: sorted(one.id for one in seen if one.kind == kind)
            for kind in ORDER
            if any(one.kind == kind for one in seen)
        }
