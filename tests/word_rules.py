"""Words that have a better one: each pattern with the word to write instead.

Names in code are split at `_` and at capitals before they are read, so that `ModelFace` and
`model_face` count as "model face". Comments, docstrings, messages, pages and guides are read as
they stand.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

SUFFIXES = {".py", ".html", ".js", ".css", ".md", ".toml"}
# docs/reference is generated from the code; docs/log.md is a diary of experiments.
PLACES = ("triptych", "spaces", "docs/guides", "docs/decisions", "README.md", "CONTRIBUTING.md")
VENDORED = "/vendor/"


@dataclass(frozen=True)
class Word:
    """A banned word: its pattern, what to write instead, and where the ban holds."""

    pattern: str
    better: str
    inside: str = ""


WORDS = (
    Word(r"couriers?", "remote controller"),
    Word(r"outposts?", "entrypoint"),
    Word(r"purses?", "budget ledger"),
    Word(r"wish(es|ed)?", "desired state, or request"),
    Word(r"chores?", "background tasks"),
    Word(r"whoever", "the caller, the user, the process that"),
    Word(r"(some|any)body", "a user, an administrator, a caller"),
    Word(r"nobody", "no user, no process, none"),
    Word(r"(is|are|was|were|be) told", "receives, gets, is sent"),
    Word(r"who asks?", "the caller"),
    Word(r"(?<!hugging )(?<!font-)faces?", "server, API, page"),
    Word(r"rooms?", "folder, page, tab, space"),
    Word(r"doors?", "sign-in, entry point, address"),
    Word(r"(?<!test )(?<!in-)houses?", "project, service, installation"),
    Word(r"shel(f|ves)", "loaded models, cache"),
    Word(r"judged", "eval model, evaluated"),
    Word(r"journeys?", "run history, quality curve"),
    Word(r"twins?", "duplicate, copy"),
    Word(r"ballots?", "vote"),
    Word(r"arenas?", "comparison"),
    Word(r"parking", "standby"),
    Word(r"(lends?|lent|lending|borrow(s|ed|ing)?)", "take, hand over"),
    Word(r"(?<!there )is none(?! of)", "is not valid"),
    Word(r"stages?", "context", inside="triptych/panels/playground"),
    Word(r"grounds?", "services", inside="triptych/hub"),
)
SHOUTED = re.compile(r"(Say|Give|Tell)s?\b")
_CAPITALS = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


def plain(text: str) -> str:
    """Split names into their words: `ModelFace_of` becomes `Model Face of`."""
    return _CAPITALS.sub(" ", text).replace("_", " ")


def violations(root: Path) -> Iterator[tuple[str, int, str]]:
    """Yield file, line and what is wrong there, for every banned word below a root."""
    for path in _files(root):
        place = path.relative_to(root).as_posix()
        words = [word for word in WORDS if place.startswith(word.inside)]
        patterns = [(re.compile(rf"\b{word.pattern}\b"), word.better) for word in words]
        lines = path.read_text("utf-8").splitlines()
        for number, line in enumerate([plain(path.stem), *map(plain, lines)]):
            # `is None` is Python; `is none` is English, and this rule is about English.
            text = re.sub(r"(?<=is )None\b", "", line).lower()
            for pattern, better in patterns:
                for match in pattern.finditer(text):
                    yield place, number, f"{match.group(0)!r}: write {better}"
        if path.suffix == ".py":
            for number in _commanding(path.read_text("utf-8")):
                yield place, number, "a docstring says what a caller gets: not 'Say/Give/Tell'"


def counts(root: Path) -> dict[str, int]:
    """Return how many banned words each file has."""
    found: dict[str, int] = {}
    for place, _, _ in violations(root):
        found[place] = found.get(place, 0) + 1
    return found


def _files(root: Path) -> Iterator[Path]:
    for place in PLACES:
        start = root / place
        for path in sorted(start.rglob("*")) if start.is_dir() else [start]:
            if path.suffix in SUFFIXES and path.is_file() and VENDORED not in path.as_posix():
                yield path


def _commanding(text: str) -> Iterator[int]:
    documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, documented) and SHOUTED.match(ast.get_docstring(node) or ""):
            yield node.body[0].lineno
