"""How a source is taken: its own text column, and its weight in the mixture.

`notes/::weight=2` takes each training document of a folder twice, and
`old.jsonl::weight=0.25,column=body` a quarter of those of a file whose text is in the column
`body`. Validation text is never repeated and never left out, so that its bits per byte stay
comparable between mixtures.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from triptych.config.data import DataConfig
from triptych.errors import DataError

_MARK = "::"
_FORM = "SOURCE::weight=2,column=NAME"
_MOST = 100.0


@dataclass(frozen=True)
class MixedSource:
    """One source and how it is taken. Raises: DataError for an impossible weight."""

    name: str
    weight: float = 1.0
    column: str = ""

    def __post_init__(self) -> None:
        if not 0 < self.weight <= _MOST:
            raise DataError(
                f"the weight of {self.name} is {self.weight:g}; it must be above 0 and at most "
                f"{_MOST:g}",
                hint="leave a source out instead of a weight of 0",
            )

    def settings(self, config: DataConfig) -> DataConfig:
        """Return the settings with which this source is read."""
        return dataclasses.replace(config, text_column=self.column) if self.column else config

    def facts(self) -> dict[str, object]:
        """Return what a manifest says beside the name; nothing for an ordinary source."""
        weight = {} if self.weight == 1 else {"weight": self.weight}
        return weight | ({"column": self.column} if self.column else {})


def parse_source(text: str) -> MixedSource:
    """Read a source with its options.

    Raises: DataError for an option that does not exist.
    """
    name, mark, options = text.rpartition(_MARK)
    if not mark or Path(text).exists():
        return MixedSource(text)
    chosen: dict[str, str] = {}
    for option in options.split(","):
        key, equals, value = option.partition("=")
        if not equals or not value or key not in ("weight", "column"):
            raise DataError(f"{option!r} is no option of the source {name}", hint=f"write {_FORM}")
        chosen[key] = value
    try:
        weight = float(chosen.get("weight", 1.0))
    except ValueError as error:
        raise DataError(
            f"the weight of {name} is {chosen['weight']!r}, not a number", hint=f"write {_FORM}"
        ) from error
    return MixedSource(name, weight, chosen.get("column", ""))


def parse_sources(texts: Sequence[str]) -> list[MixedSource]:
    """Read every source with its options."""
    return [parse_source(text) for text in texts]


def times_taken(weight: float, text: str, seed: int) -> int:
    """Return how often a training document is taken; the fraction is decided by its text.

    So the choice is the same on every machine and whatever else is in the corpus.
    """
    whole = math.floor(weight)
    digest = hashlib.blake2b(f"{seed}\n{text}".encode(), digest_size=8).digest()
    return whole + (int.from_bytes(digest, "little") < (weight - whole) * 2**64)
