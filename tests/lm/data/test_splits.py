"""Whole documents validate; a single document gives its end."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from triptych.lm.data.document import Document
from triptych.lm.data.splits import hold_out

documents = st.lists(st.tuples(st.integers(1, 5000), st.integers(0, 30)), min_size=2, max_size=80)


@given(documents, st.floats(0.01, 0.5), st.integers(0, 9))
@settings(max_examples=200, deadline=None)
def test_groups_are_never_divided(rows: list[tuple[int, int]], frac: float, seed: int) -> None:
    sizes, groups = zip(*rows, strict=True)
    held = hold_out(sizes, groups, validation_frac=frac, seed=seed)
    if len(set(groups)) > 1:
        assert held.by == "document"
        assert 0 < held.validation.sum() < len(rows)
        chosen = np.asarray(groups)[held.validation]
        assert not set(chosen) & set(np.asarray(groups)[~held.validation])
        again = hold_out(sizes, groups, validation_frac=frac, seed=seed)
        assert (held.validation == again.validation).all()


def test_the_share_is_measured_in_bytes() -> None:
    sizes = [100] * 1000
    held = hold_out(sizes, range(1000), validation_frac=0.05, seed=0)
    assert held.validation.sum() == 50
    other = hold_out(sizes, range(1000), validation_frac=0.05, seed=1)
    assert (held.validation != other.validation).any()


def test_a_document_larger_than_the_share_stays_in_training() -> None:
    sizes = [1_000_000] + [1000] * 200
    for seed in range(20):
        held = hold_out(sizes, range(201), validation_frac=0.02, seed=seed)
        assert not held.validation[0]
        assert held.validation.any()


def test_the_end_of_a_single_document_validates() -> None:
    text = "".join(f"line {number}\n" for number in range(1000))
    lines = text.splitlines(keepends=True)
    parts = ["".join(lines[start : start + 70]) for start in range(0, len(lines), 70)]
    held = hold_out(list(map(len, parts)), [0] * len(parts), validation_frac=0.1, seed=0)
    assert held.by == "end of the only document"
    pieces: dict[str, str] = {"train": "", "val": ""}
    for number, part in enumerate(parts):
        for split, piece in held.place(number, Document(part, "s", "l", "g")):
            pieces[split] += piece.text
    assert pieces["train"] + pieces["val"] == text
    assert pieces["train"].endswith("\n")
    assert 0.08 < len(pieces["val"]) / len(text) < 0.16
