"""The closed vocabulary of practices: what can be said about a company at all, and by which words.

The list is `vocabulary.json` beside this file; an administrator may hand in another file of the
same format. Phrases are regular expressions over lower-case text in which a space also stands for
a hyphen or a line break. Left out: reading a company's passages by them (`extraction`).
"""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, get_args

from triptych.errors import LearningError

FORMAT = 1
FILE = Path(__file__).with_name("vocabulary.json")
Kind = Literal["yes_no", "choice", "number"]
YES, NO = "yes", "no"
_NEVER = re.compile(r"(?!)")


@dataclass(frozen=True)
class Practice:
    """One practice with its typed values and the phrases that show them.

    `values` are in the order in which they are shown. `never` matches sentences that are passed
    over; `near` must match in the sentence or its headings. `edges` are the upper ends of the
    buckets of a number, in `unit`. A passage without any of the `anchors` is not searched; the
    result is the same, sooner.
    """

    id: str
    topic: str
    kind: Kind
    text: str
    no_text: str
    words: str
    values: tuple[str, ...]
    phrases: tuple[re.Pattern[str], ...]
    never: re.Pattern[str]
    near: re.Pattern[str] | None
    number: re.Pattern[str] | None
    units: tuple[tuple[str, float], ...]
    unit: str
    edges: tuple[float, ...]
    industries: tuple[str, ...]
    least_passages: int
    anchors: tuple[str, ...]

    def serves(self, industry: str) -> bool:
        """Return whether the practice is asked of companies of an industry."""
        return not self.industries or industry in self.industries

    def bucket(self, number: float) -> str:
        """Return the bucket of a number, as it is shown."""
        for value, edge in zip(self.values, self.edges, strict=False):
            if number <= edge:
                return value
        return self.values[-1]


@dataclass(frozen=True)
class Vocabulary:
    """Every practice by its id. `sha256` is of the file."""

    version: str
    sha256: str
    practices: tuple[Practice, ...]
    industries: tuple[str, ...] = ()
    sizes: tuple[str, ...] = ()

    def __getitem__(self, practice: str) -> Practice:
        for one in self.practices:
            if one.id == practice:
                return one
        raise LearningError(
            f"no practice {practice!r} in vocabulary {self.version}",
            hint="list them: triptych abstraction vocabulary",
        )


@lru_cache(maxsize=8)
def load(path: Path = FILE) -> Vocabulary:
    """Return the vocabulary of a file.

    Raises: LearningError naming the practice and the field that is wrong.
    """
    try:
        data = path.read_bytes()
        values = json.loads(data)
    except (OSError, ValueError) as error:
        raise LearningError(f"{path} is not a vocabulary: {error}") from error
    if not isinstance(values, dict) or values.get("format") != FORMAT:
        raise LearningError(f"{path} is not a vocabulary of format {FORMAT}")
    practices = tuple(_practice(one) for one in values["practices"])
    ids = [one.id for one in practices]
    repeated = sorted({one for one in ids if ids.count(one) > 1})
    if repeated:
        raise LearningError(
            f"{path} has {repeated[0]!r} twice", hint="each practice has its own id"
        )
    return Vocabulary(
        str(values["version"]), hashlib.sha256(data).hexdigest(), practices,
        tuple(values.get("industries", ())), tuple(values.get("sizes", ())),
    )  # fmt: skip


def compiled(phrase: str) -> re.Pattern[str]:
    """Return a phrase as a pattern over lower-case text.

    Raises: LearningError where the phrase is not a regular expression.
    """
    loose = phrase.replace(" ?", r"[\s\-]*").replace(" ", r"[\s\-]+")
    lead = r"(?<!\w)" if re.match(r"[a-z0-9(]", phrase) else ""
    end = r"(?!\w)" if re.search(r"[a-z0-9)?]$", phrase) else ""
    try:
        return re.compile(f"{lead}(?:{loose}){end}")
    except re.error as error:
        raise LearningError(f"{phrase!r} is not a phrase: {error}") from error


def _practice(values: dict[str, Any]) -> Practice:
    name = values.get("id", "")
    if not re.fullmatch(r"[a-z][a-z0-9_]*", str(name)):
        raise LearningError(f"{name!r} is not an id of a practice", hint="use a-z, 0-9 and _")
    if values.get("kind") not in get_args(Kind):
        raise LearningError(
            f"{name}.kind is {values.get('kind')!r}", hint=f"one of {', '.join(get_args(Kind))}"
        )
    try:
        return _checked(values)
    except (KeyError, TypeError) as error:
        raise LearningError(f"practice {name}: {error} is missing or of a wrong type") from error


def _checked(values: dict[str, Any]) -> Practice:
    edges = tuple(float(edge) for edge in values.get("edges", ()))
    if list(edges) != sorted(set(edges)):
        raise LearningError(f"{values['id']}.edges do not grow: {list(edges)}")
    if values["kind"] == "number":
        shown = tuple(values.get("labels") or _buckets(edges, values["unit"]))
        phrases: tuple[re.Pattern[str], ...] = ()
        if len(shown) != len(edges) + 1:
            raise LearningError(f"{values['id']} has {len(edges)} edges and {len(shown)} labels")
    else:
        shown = tuple(values["values"])
        phrases = tuple(_any(listed) for listed in values["values"].values())
    if not shown:
        raise LearningError(f"{values['id']} has no values")
    return Practice(
        id=values["id"], topic=values["topic"], kind=values["kind"], text=values["text"],
        no_text=values.get("no_text", f"do not {values['text']}"), words=values["words"],
        values=shown, phrases=phrases, never=_any(values.get("never", ())),
        near=compiled(values["near"]) if values.get("near") else None,
        number=compiled(values["number"]) if values.get("number") else None,
        units=tuple(values.get("units", {}).items()), unit=values.get("unit", ""), edges=edges,
        industries=tuple(values.get("industries", ())),
        least_passages=int(values.get("least_passages", 1)),
        anchors=tuple(values.get("anchors", ())),
    )  # fmt: skip


def _any(phrases: Any) -> re.Pattern[str]:
    listed = [compiled(phrase).pattern for phrase in phrases]
    return re.compile("|".join(f"(?:{one})" for one in listed)) if listed else _NEVER


def _buckets(edges: tuple[float, ...], unit: str) -> tuple[str, ...]:
    if not edges:
        return ()
    names = [f"up to {edges[0]:g} {unit}"]
    names += [f"over {low:g}, up to {high:g} {unit}" for low, high in itertools.pairwise(edges)]
    return (*names, f"over {edges[-1]:g} {unit}")
