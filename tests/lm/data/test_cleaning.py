"""Cleaning keeps what carries meaning and gives every drop a reason."""

from __future__ import annotations

import time
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.lm.data.conftest import prose
from triptych.lm.data.cleaning import clean, reason_to_drop


def test_cleaning_gives_one_plain_form() -> None:
    dirty = "\ufeffcafe\u0301 \t\r\nx\x00y\x1b[0m\r\rz\u2028w   \n\n\n\n\n\nend\n\n"
    assert clean(dirty) == "café\nxy[0m\n\nz\nw\n\n\nend"


def test_indentation_and_tabs_survive() -> None:
    code = "def f(x):\n\treturn {\n\t    'a': x,\n\t}"
    assert clean(code) == code


@given(st.text(max_size=200))
@settings(max_examples=200, deadline=None)
def test_cleaning_twice_changes_nothing_more(text: str) -> None:
    once = clean(text)
    assert clean(once) == once
    assert unicodedata.is_normalized("NFC", once)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (" \n\t ", "empty"),
        ("too little", "too_short"),
        ("A key follows: " + "QUJD" * 200, "encoded_blob"),
        ("the same line again and again\n" * 40, "repetitive"),
        (prose(1)[0], None),
        ("東京は日本の首都です。" * 6, None),
    ],
)
def test_every_drop_has_its_reason(text: str, reason: str | None) -> None:
    assert reason_to_drop(clean(text), min_chars=32) == reason


@pytest.mark.parametrize(
    "text",
    [" " * 500_000 + "x", "\t \n" * 200_000, "a" * 500_000, "a" + "\u0301\u0323" * 250_000],
    ids=["spaces", "blank lines", "one word", "combining marks"],
)
def test_no_text_makes_cleaning_slow(text: str) -> None:
    """Quadratic patterns would take minutes here; the bound is loose on purpose."""
    start = time.monotonic()
    reason_to_drop(clean(text), min_chars=32)
    assert time.monotonic() - start < 20


@pytest.mark.parametrize("mark", ["\x0b", "\x0c", "\x85", "\x1c", "\u2028"])
def test_d12_separators_do_not_glue_words(mark: str) -> None:
    assert clean(f"first{mark}second") == "first\nsecond"
