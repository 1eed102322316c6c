"""After an erasure: data sets with erased rows go, and what learned from them is trained anew.

A record that the gateway no longer exports (erased, or its consent withdrawn) is followed through
the lineage to runs, adapters and releases. Left out: the gateway's own erasure, and training.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from triptych.durable import write_atomic
from triptych.learning.lineage import Lineage, Thing

FORMAT = 1
FILE = "tainted.json"


@dataclass(frozen=True)
class Tainted:
    """What was made with records that are gone; empty tuples where nothing was."""

    datasets: tuple[str, ...] = ()
    runs: tuple[str, ...] = ()
    adapters: tuple[str, ...] = ()
    releases: tuple[str, ...] = ()
    records: int = 0

    def __bool__(self) -> bool:
        return bool(self.adapters or self.runs)


def walk(folder: Path, lineage: Lineage, present: Iterable[str]) -> Tainted:
    """Remove a place's data sets that hold records which are gone, and mark what learned from them.

    `present` are the ids of the requests that may still be trained on.

    Returns: everything that is marked now, from earlier walks too.
    """
    kept = set(present)
    before = read(folder)
    gone: set[str] = set()
    for manifest in (folder / "datasets").glob("*/manifest.json"):
        name = str(json.loads(manifest.read_text(encoding="utf-8"))["hash"])
        sources = {one.id for one in lineage.sources(Thing("dataset", name))}
        if not sources <= kept:
            gone |= sources - kept
            shutil.rmtree(manifest.parent)
    if not gone:
        return before
    made = lineage.made_with(Thing("record", one) for one in gone)
    found = Tainted(
        _both(before.datasets, made.get("dataset", [])), _both(before.runs, made.get("run", [])),
        _both(before.adapters, made.get("adapter", [])),
        _both(before.releases, made.get("release", [])), before.records + len(gone),
    )  # fmt: skip
    values = {"format": FORMAT, **asdict(found)}
    write_atomic(folder / FILE, json.dumps(values, indent=1, sort_keys=True) + "\n")
    return found


def read(folder: Path) -> Tainted:
    """Return what is marked."""
    try:
        values = json.loads((folder / FILE).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return Tainted()
    values.pop("format", None)
    lists = {name: tuple(one) for name, one in values.items() if isinstance(one, list)}
    return Tainted(**{**values, **lists})


def trained_anew(folder: Path) -> None:
    """Take the marks away: a new session ended on a data set without the records."""
    (folder / FILE).unlink(missing_ok=True)


def _both(old: tuple[str, ...], new: list[str]) -> tuple[str, ...]:
    return tuple(sorted({*old, *new}))
