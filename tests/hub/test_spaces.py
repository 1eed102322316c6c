"""Every Space of this repository starts anywhere: small app, complete requirements, valid card."""

from __future__ import annotations

import ast
import importlib.metadata
import sys
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
SPACES = sorted(
    folder for folder in (ROOT / "triptych" / "spaces").iterdir() if (folder / "app.py").is_file()
)
COLORS = {"red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray"}
# Gradio and what comes with it are installed by the sdk itself; httpx2 comes with the hub client.
WITH_OTHERS = {"gradio", "starlette", "httpx2", "packaging", "pydantic_core"}

named = pytest.mark.parametrize("space", SPACES, ids=lambda folder: folder.name)


def front_matter(space: Path) -> dict[str, object]:
    return yaml.safe_load((space / "README.md").read_text().split("---")[1])


def file_of(module: str) -> Path | None:
    path = ROOT.joinpath(*module.split("."))
    candidates = (path / "__init__.py", path.with_suffix(".py"))
    return next((file for file in candidates if file.is_file()), None)


def foreign_imports(file: Path) -> set[str]:
    """Follow imports through our own modules and return the top names of everybody else's."""
    waiting, seen, foreign = [file], set(), set()
    while waiting:
        file = waiting.pop()
        if file in seen:
            continue
        seen.add(file)
        for node in ast.walk(ast.parse(file.read_text())):
            names: list[str] = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module:
                names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
            for name in names:
                if name.split(".")[0] == "triptych":
                    waiting += [found] if (found := file_of(name)) else []
                else:
                    foreign.add(name.split(".")[0])
    return foreign - set(sys.stdlib_module_names)


@named
def test_an_app_is_at_most_fifteen_lines(space: Path) -> None:
    assert len((space / "app.py").read_text().splitlines()) <= 15


@named
def test_a_card_has_what_the_hub_asks_of_a_space(space: Path) -> None:
    card = front_matter(space)
    assert card["sdk"] == "gradio"
    assert (space / str(card["app_file"])).is_file()
    assert {card["colorFrom"], card["colorTo"]} <= COLORS
    assert len(str(card["short_description"])) <= 60
    if "triptych" in (space / "app.py").read_text():
        assert card["python_version"] == "3.11", "the hub's default is older than we need"
        pins = (ROOT / "constraints.txt").read_text().splitlines()
        assert f"gradio=={card['sdk_version']}" in pins


@named
def test_the_requirements_cover_what_the_app_imports(space: Path) -> None:
    """Under the package's own name, a public index may hold somebody else's project."""
    lines = (space / "requirements.txt").read_text().splitlines()
    wishes = [Requirement(line) for line in lines if line and not line.startswith("#")]
    wanted = {canonicalize_name(wish.name) for wish in wishes}
    assert "triptych" not in wanted

    owners = importlib.metadata.packages_distributions()
    for name in foreign_imports(space / "app.py") - WITH_OTHERS:
        assert {canonicalize_name(owner) for owner in owners[name]} & wanted, name
    for wish in wishes:
        assert wish.specifier.contains(importlib.metadata.version(wish.name), prereleases=True)
