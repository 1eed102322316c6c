"""The tree in the docstring of `triptych.errors` is the tree of the classes."""

from __future__ import annotations

import re

from triptych import errors


def test_every_error_is_drawn_once_under_its_parent() -> None:
    drawn = {"TriptychError": "Exception"}
    above: dict[int, str] = {4: "TriptychError"}
    for line in (errors.__doc__ or "").splitlines():
        if found := re.match(r"([ │]*)[├└]── (\w+)", line):
            depth, name = len(found[1]), found[2]
            above[depth + 4] = name
            assert name not in drawn
            drawn[name] = above[depth]
    classes = {name: getattr(errors, name) for name in errors.__all__}
    assert {name: kind.__bases__[0].__name__ for name, kind in classes.items()} == drawn


def test_every_error_has_a_code_of_its_own_and_a_sentence() -> None:
    classes = [getattr(errors, name) for name in errors.__all__]
    codes = [kind.default_code for kind in classes]
    assert len(set(codes)) == len(codes)
    assert all(kind.__doc__ and kind.__doc__.strip().endswith(".") for kind in classes)
