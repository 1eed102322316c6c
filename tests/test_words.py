"""No banned word is added to code, pages, messages or guides, and the lists only shrink.

The words stand in `word_rules.py`, each with the better one beside it.
"""

from __future__ import annotations

from pathlib import Path

import exceptions
import pytest
import word_rules

ROOT = Path(__file__).resolve().parents[1]

SENTENCES = {
    "couriers?": "# the courier waits",
    "outposts?": "OUTPOST = 1",
    "purses?": "class TokenPurse: ...",
    "wish(es|ed)?": "def read_wish(): ...",
    "chores?": "chores = 1",
    "whoever": '"""Whoever calls this."""',
    "(some|any)body": '"""Return somebody."""',
    "nobody": "raise E('nobody answers')",
    "(is|are|was|were|be) told": "# the caller is told",
    "who asks?": "# who asks gets it",
    "(?<!hugging )(?<!font-)faces?": "class ModelFace: ...",
    "rooms?": "def rooms(): ...",
    "doors?": "class Doors: ...",
    "(?<!test )(?<!in-)houses?": "# parts of the house",
    "shel(f|ves)": "shelf = 1",
    "judged": "def judged(): ...",
    "journeys?": "class Journey: ...",
    "twins?": "twins = 2",
    "ballots?": "ballot = 1",
    "arenas?": "class Arena: ...",
    "parking": "parking = 1",
    "(lends?|lent|lending|borrow(s|ed|ing)?)": "def lend(): ...",
    "(?<!there )is none(?! of)": "raise E('this address is none')",
    "stages?": "class Stage: ...",
    "grounds?": "class Ground: ...",
}


def plant(root: Path, name: str, text: str) -> dict[str, int]:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text + "\n", encoding="utf-8")
    return word_rules.counts(root)


def test_no_file_has_more_banned_words_than_listed() -> None:
    found, allowed = word_rules.counts(ROOT), exceptions.load()["banned words"]
    wrong = {key.split(":")[0] for key in exceptions.over(found, allowed)}
    listed = [
        f"{place}:{line} {what}"
        for place, line, what in word_rules.violations(ROOT)
        if place in wrong
    ]
    assert not wrong, "\n".join(listed)


@pytest.mark.parametrize("word", word_rules.WORDS, ids=lambda word: word.pattern)
def test_every_banned_word_is_found(word: word_rules.Word, tmp_path: Path) -> None:
    folder = word.inside or "triptych/lm"
    assert plant(tmp_path, f"{folder}/a.py", SENTENCES[word.pattern])
    assert word.better


@pytest.mark.parametrize(
    "name",
    ["docs/guides/a.md", "README.md", "triptych/hub/a.html", "triptych/hub/a.js", "spaces/a.css"],
)
def test_pages_and_guides_are_read_too(name: str, tmp_path: Path) -> None:
    assert plant(tmp_path, name, "Whoever reads this page.") == {name: 1}


def test_a_file_name_counts_as_a_name(tmp_path: Path) -> None:
    assert plant(tmp_path, "triptych/lm/model_face.py", "")


@pytest.mark.parametrize(
    "text",
    [
        "if value is None: ...",
        "# a model of Hugging Face",
        'FACE = "@font-face { }"'.replace("FACE", "RULE"),
        "surface = stage = 1",
        "# see tests/test_house.py",
    ],
)
def test_the_field_s_own_words_stay_allowed(text: str, tmp_path: Path) -> None:
    assert not plant(tmp_path, "triptych/lm/a.py", f'"""A module."""\n{text}')


@pytest.mark.parametrize("verb", ["Say", "Give", "Tell"])
def test_a_docstring_that_commands_the_code_is_found(verb: str, tmp_path: Path) -> None:
    assert plant(tmp_path, "triptych/lm/a.py", f'def f():\n    """{verb} what it is."""')


@pytest.mark.parametrize("rule", sorted(exceptions.load()))
def test_the_list_of_exceptions_only_shrinks(rule: str) -> None:
    left = exceptions.stale(exceptions.found()[rule], exceptions.load()[rule])
    assert not left, "run `python tests/exceptions.py`:\n" + "\n".join(left)
