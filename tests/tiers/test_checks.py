"""The written table of acceptance checks names tests that exist, for every check."""

from __future__ import annotations

import ast
import re
from pathlib import Path

WANTED = {
    *(f"A{n}" for n in range(1, 6)), *(f"B{n}" for n in range(1, 9)),
    *(f"C{n}" for n in range(1, 11)), *(f"D{n}" for n in range(1, 5)),
    *(f"F{n}" for n in range(1, 8)), "H3", "I1", "J1", "J2", "J3", "J5", "J6",
}  # fmt: skip


def test_every_acceptance_check_has_a_test_of_its_name_and_the_table_is_true(
    repository: Path,
) -> None:
    table = (repository / "docs" / "reference" / "gateway-checks.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| ([A-J]\d+) \| .* \| (.*) \|$", table, re.MULTILINE))
    assert set(rows) == WANTED
    for check, cell in rows.items():
        assert cell, check
        for part in cell.split("<br>"):
            file, *tests = re.findall(r"`([^`]+)`", part)
            tree = ast.parse((repository / "tests" / file).read_text(encoding="utf-8"))
            defined = {getattr(node, "name", "") for node in ast.walk(tree)}
            for test in tests:
                assert test in defined, f"{check}: {file} has no {test}"
                assert test.startswith(f"test_{check.lower()}_"), f"{check}: {test}"
