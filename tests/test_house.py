"""The rules of the house, read from the syntax trees: who may import what, how large a room is.

Each rule is one test; a violation names the file, the line and the rule.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "triptych"
# Programs of their own that a Space runs; tests/hub/test_spaces.py has their rules.
SPACES = PACKAGE / "spaces"
FILE_LINES = 420
FUNCTION_LINES = 70

# A layer may import itself and what stands below it. Wings never import each other.
GROUND = {"errors", "config", "durable", "processes", "wire", "formatting", "secrets", "documents"}
LAYERS: dict[str, set[str]] = {
    **dict.fromkeys(GROUND, GROUND),
    "lm": GROUND | {"lm"},
    "hub": GROUND | {"hub"},
    "tiers": GROUND | {"tiers"},
    "learning": GROUND | {"lm", "hub", "tiers", "learning"},
    "panels": GROUND | {"lm", "hub", "tiers", "learning", "panels"},
    "cli": GROUND | {"lm", "hub", "tiers", "learning", "panels", "cli"},
}
LM_ORDER = {
    "model": 0,
    "data": 1,
    "export": 2,
    "generate": 3,
    "evaluate": 4,
    "train": 5,
    "serve": 5,
    "runs": 6,
}
ONLY_IN = {
    "torch": ("triptych/lm/",),
    "gradio": ("triptych/panels/",),
    "huggingface_hub": ("triptych/hub/client.py",),
    "transformers": ("triptych/lm/",),
}
ENVIRONMENT = {"environ", "getenv", "putenv"}
# The tree of errors is one list, read from top to bottom.
LISTS = {"triptych/errors.py"}
BOUNDARY = "# boundary:"
FORBIDDEN_NAMES = re.compile(
    r"(^|_)(utils?|helpers?|common|managers?|improved|optimi[sz]ed|v2|misc)(_|$)"
)
UNFINISHED = re.compile(r"TODO|FIXME|XXX|NotImplementedError|in a real implementation", re.I)


@cache
def sources() -> tuple[Path, ...]:
    return tuple(p for p in sorted(PACKAGE.rglob("*.py")) if SPACES not in p.parents)


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the line and the full name of everything a file imports, at any depth."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno} uses a relative import"
            for alias in node.names:
                yield node.lineno, f"{node.module}.{alias.name}"


def place(path: Path) -> str:
    return str(path.relative_to(ROOT))


def test_imports_go_down_only() -> None:
    wrong = []
    for path in sources():
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        layer = parts[0]
        if layer not in LAYERS:
            continue
        for line, name in imports(path):
            target = name.split(".")
            if target[0] != "triptych" or len(target) < 2 or target[1] not in LAYERS:
                continue
            if target[1] not in LAYERS[layer]:
                wrong.append(f"{place(path)}:{line} {layer} imports {name}")
    assert not wrong, "\n".join(wrong)


def test_the_rooms_of_lm_import_downwards_only() -> None:
    wrong = []
    for path in sources():
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        if parts[0] != "lm" or len(parts) < 3:
            continue
        for line, name in imports(path):
            target = name.split(".")
            if target[:2] != ["triptych", "lm"] or len(target) < 3 or target[2] not in LM_ORDER:
                continue
            same = target[2] == parts[1]
            if not same and LM_ORDER[target[2]] >= LM_ORDER[parts[1]]:
                wrong.append(f"{place(path)}:{line} lm.{parts[1]} imports {name}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("library", sorted(ONLY_IN))
def test_heavy_and_foreign_libraries_stay_in_their_rooms(library: str) -> None:
    wrong = [
        f"{place(path)}:{line} imports {name}"
        for path in sources()
        for line, name in imports(path)
        if name.split(".")[0] == library and not place(path).startswith(ONLY_IN[library])
    ]
    assert not wrong, "\n".join(wrong)


def test_only_config_reads_the_environment() -> None:
    wrong = [
        f"{place(path)}:{node.lineno} os.{node.attr}"
        for path in sources()
        if "config" not in path.relative_to(PACKAGE).parts[:1]
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Attribute) and node.attr in ENVIRONMENT
        if isinstance(node.value, ast.Name) and node.value.id == "os"
    ]
    assert not wrong, "\n".join(wrong)


def test_rooms_and_functions_have_a_readable_size() -> None:
    wrong = []
    for path in sources():
        lines = len(path.read_text(encoding="utf-8").splitlines())
        if lines > FILE_LINES and place(path) not in LISTS:
            wrong.append(f"{place(path)} has {lines} lines (at most {FILE_LINES})")
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                length = (node.end_lineno or node.lineno) - node.lineno + 1
                if length > FUNCTION_LINES:
                    wrong.append(f"{place(path)}:{node.lineno} {node.name} has {length} lines")
    assert not wrong, "\n".join(wrong)


def test_names_say_what_a_thing_is() -> None:
    wrong = [place(path) for path in sources() if FORBIDDEN_NAMES.search(path.stem)]
    assert not wrong, wrong


def test_nothing_admits_to_being_unfinished() -> None:
    wrong = [
        f"{place(path)}:{number} {line.strip()}"
        for path in sources()
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if UNFINISHED.search(line)
    ]
    assert not wrong, "\n".join(wrong)


def test_broad_excepts_stand_at_the_boundaries_only() -> None:
    """`except Exception` needs the word of its boundary: worker, request handler or panel."""
    wrong = []
    for path in sources():
        lines = path.read_text(encoding="utf-8").splitlines()
        for node in ast.walk(tree(path)):
            if not isinstance(node, ast.ExceptHandler):
                continue
            names = ast.unparse(node.type) if node.type else "everything"
            if names == "everything" or re.search(r"\b(Base)?Exception\b", names):
                reraises = any(isinstance(inner, ast.Raise) for inner in ast.walk(node))
                if not reraises and BOUNDARY not in lines[node.lineno - 1]:
                    wrong.append(f"{place(path)}:{node.lineno} catches {names}")
    assert not wrong, "\n".join(wrong)


def test_every_room_says_what_lives_in_it() -> None:
    wrong = [place(path) for path in sources() if not ast.get_docstring(tree(path))]
    assert not wrong, wrong


def test_pickle_and_remote_code_have_no_place_here() -> None:
    wrong = []
    for path in sources():
        for line, name in imports(path):
            if name.split(".")[0] in {"pickle", "cloudpickle", "dill", "joblib", "shelve"}:
                wrong.append(f"{place(path)}:{line} imports {name}")
        text = path.read_text(encoding="utf-8")
        if re.search(r"trust_remote_code\s*=\s*True|\btorch\.(load|save)\(", text):
            wrong.append(f"{place(path)} loads pickles or remote code")
    assert not wrong, "\n".join(wrong)


def test_no_file_speaks_of_a_machine_or_a_registry() -> None:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, check=True, capture_output=True, text=True,
    ).stdout.split("\n")  # fmt: skip
    pattern = re.compile(r"/(w[o]rk|f[a]rm|r[o]ot)/[a-z.]|index-ur[l]|(pypi|npmjs)\.or[g]/")
    wrong = []
    for name in filter(None, listed):
        path = ROOT / name
        if path.suffix in {".png", ".bin", ".gz", ".zst", ".parquet", ".safetensors"}:
            continue
        if not path.is_file():
            continue
        text = path.read_text(encoding="utf-8", errors="replace")
        wrong += [f"{name}: {match.group(0)}" for match in pattern.finditer(text)]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("module", ["triptych.cli", "triptych.cli.main", "triptych.tiers.api"])
def test_light_doors_load_neither_torch_nor_gradio(module: str) -> None:
    path = PACKAGE.parent.joinpath(*module.split("."))
    if not (path.is_dir() or path.with_suffix(".py").exists()):
        pytest.skip(f"{module} is not built yet")
    code = (
        f"import sys, {module}; "
        "heavy = ('torch', 'gradio', 'transformers', 'huggingface_hub'); "
        "print([name for name in heavy if name in sys.modules])"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]"


def test_every_command_of_the_table_explains_itself() -> None:
    import argparse
    import importlib

    from triptych.cli import COMMANDS
    from triptych.cli.main import available

    for name, command in COMMANDS.items():
        if not available(name):
            continue
        module = importlib.import_module(f"triptych.cli.{command.module}")
        assert module.__doc__, name
        parser = argparse.ArgumentParser(prog=name)
        module.add_arguments(parser)
        assert parser.format_help()


def test_every_test_of_the_browser_or_a_database_runs_in_ci() -> None:
    """A skip that CI would swallow must go through a fixture that fails there."""
    allowed = {"tests/conftest.py", "tests/test_house.py"}
    wrong = []
    for path in sorted((ROOT / "tests").rglob("*.py")):
        if place(path) in allowed:
            continue
        text = path.read_text(encoding="utf-8")
        if re.search(r"skipif\(|pytest\.skip\(", text) and "CI" not in text:
            wrong.append(place(path))
    assert not wrong, f"these skip without asking whether CI runs them: {wrong}"
