"""The rules of the code hold in this tree, and each rule fires on a planted violation.

The rules stand in `house_rules.py`; a violation names the file, the line and the rule. What breaks
a counted rule today is listed in `exceptions.json`, which may only shrink.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import exceptions
import house_rules as rules
import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "triptych"
TREE = rules.Tree(ROOT)

LISTED: dict[str, Callable[[rules.Tree], list[str]]] = {
    "imports go down only": rules.upward_imports,
    "folders of lm import downwards only": rules.upward_imports_of_lm,
    "only config reads the environment": rules.environment_reads,
    "names say what a thing is": rules.vague_names,
    "nothing is left unfinished": rules.unfinished_lines,
    "broad excepts stand at boundaries only": rules.broad_excepts,
    "every module says what lives in it": rules.modules_without_docstring,
    "pickle and remote code have no place": rules.pickles_and_remote_code,
}
LONG_FUNCTION = "def long() -> None:\n" + "    print()\n" * rules.FUNCTION_LINES
PLANTED: dict[str, dict[str, str]] = {
    "imports go down only": {"triptych/lm/a.py": "import triptych.hub.client"},
    "folders of lm import downwards only": {
        "triptych/lm/model/a.py": "from triptych.lm.train import b"
    },
    "only config reads the environment": {"triptych/lm/a.py": "import os\nos.environ['A']"},
    "names say what a thing is": {"triptych/lm/path_utils.py": ""},
    "nothing is left unfinished": {"triptych/lm/a.py": "# TO" + "DO: later"},
    "broad excepts stand at boundaries only": {
        "triptych/lm/a.py": "try:\n    pass\nexcept Exception:\n    pass"
    },
    "every module says what lives in it": {"triptych/lm/a.py": "A = 1"},
    "pickle and remote code have no place": {"triptych/lm/a.py": "import pickle"},
    "modules in circles": {
        "triptych/lm/a.py": "def f():\n    from triptych.lm.b import g",
        "triptych/lm/b.py": "if TYPE_CHECKING:\n    from triptych.lm.a import f",
    },
    "files over 400 lines": {"triptych/lm/a.py": "A = 1\n" * (rules.FILE_LINES + 1)},
    "functions over 60 lines": {"triptych/lm/a.py": LONG_FUNCTION},
    "folders over 20 files": {
        f"triptych/lm/a{number}.py": "" for number in range(rules.FOLDER_FILES + 1)
    },
    "tensors without Shape": {
        "triptych/lm/a.py": 'def scale(x: Tensor) -> None:\n    """Scale x in place."""'
    },
    "lists of the tier names": {"triptych/a.py": 'T = ["base", "company", "abstraction"]'},
}


def plant(root: Path, files: Mapping[str, str]) -> rules.Tree:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return rules.Tree(root)


@pytest.mark.parametrize("rule", sorted(LISTED))
def test_the_code_keeps(rule: str) -> None:
    wrong = LISTED[rule](TREE)
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("rule", sorted(exceptions.COUNTED))
def test_the_code_has_no_more_than_the_listed(rule: str) -> None:
    found = dict(exceptions.COUNTED[rule](TREE))
    wrong = exceptions.over(found, exceptions.load()[rule])
    assert not wrong, f"{rule}:\n" + "\n".join(wrong)


@pytest.mark.parametrize("rule", sorted(PLANTED))
def test_a_rule_fires_on_a_planted_violation(rule: str, tmp_path: Path) -> None:
    tree = plant(tmp_path, PLANTED[rule])
    assert LISTED[rule](tree) if rule in LISTED else dict(exceptions.COUNTED[rule](tree))


def test_every_rule_has_a_planted_violation() -> None:
    assert set(PLANTED) == set(LISTED) | set(exceptions.COUNTED)


def test_a_shape_in_the_docstring_satisfies_the_rule(tmp_path: Path) -> None:
    text = 'def scale(x: Tensor) -> None:\n    """Scale x.\n\n    Shape: x (B, T).\n    """'
    assert not rules.missing_shapes(plant(tmp_path, {"triptych/lm/a.py": text}))


@pytest.mark.parametrize("library", sorted(rules.ONLY_IN))
def test_heavy_and_foreign_libraries_stay_in_their_folders(library: str, tmp_path: Path) -> None:
    wrong = rules.foreign_imports(TREE, library)
    assert not wrong, "\n".join(wrong)
    planted = plant(tmp_path, {"triptych/tiers/a.py": f"import {library}"})
    assert rules.foreign_imports(planted, library)


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
def test_light_entry_points_load_neither_torch_nor_gradio(module: str) -> None:
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
    allowed = {"tests/conftest.py", "tests/test_house.py", "tests/test_programs.py"}
    wrong = []
    for path in sorted((ROOT / "tests").rglob("*.py")):
        place = path.relative_to(ROOT).as_posix()
        if place in allowed:
            continue
        text = path.read_text(encoding="utf-8")
        if re.search(r"skipif\(|pytest\.skip\(", text) and "CI" not in text:
            wrong.append(place)
    assert not wrong, f"these skip without asking whether CI runs them: {wrong}"


def test_migrations_are_numbered_once_and_in_a_row() -> None:
    versions = Path(rules.__file__).parents[1] / "triptych/tiers/store/migrations/versions"
    numbers = sorted(int(path.name[:4]) for path in versions.glob("[0-9]*.py"))
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
