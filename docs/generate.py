"""Write the reference pages from the code, and the table that all Spaces share.

`make docs` runs this; `make check` fails when a page does not match. `--check` only compares.
"""

from __future__ import annotations

import argparse
import ast
import dataclasses
import importlib
import io
import itertools
import json
import re
import statistics
import sys
from collections.abc import Iterator
from contextlib import redirect_stdout
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
REFERENCE = ROOT / "docs" / "reference"
BEGIN, END = "<!-- which Space: written by `make docs` -->", "<!-- end -->"
NOTICE = "<!-- written by `make docs` from the code; edit the code instead -->\n\n"


def commands() -> str:
    """Describe every command as its own `--help` does."""
    from triptych.cli import COMMANDS, GROUPS
    from triptych.cli.main import available

    lines = ["# Commands", ""]
    for group, title in GROUPS.items():
        rows = [name for name in COMMANDS if COMMANDS[name].group == group and available(name)]
        if not rows:
            continue
        lines += [f"## {title}", ""]
        for name in rows:
            module = importlib.import_module(f"triptych.cli.{COMMANDS[name].module}")
            parser = argparse.ArgumentParser(
                prog=f"triptych {name}",
                description=module.__doc__,
                formatter_class=lambda prog: argparse.RawDescriptionHelpFormatter(prog, width=100),
            )
            module.add_arguments(parser)
            lines += [f"### triptych {name}", "", "```text"]
            lines += [part for help_text in _help(parser) for part in help_text.splitlines()]
            lines += ["```", ""]
    return "\n".join(line.rstrip() for line in lines)


def _help(parser: argparse.ArgumentParser) -> Iterator[str]:
    yield parser.format_help()
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for child in dict.fromkeys(action.choices.values()):
                child.formatter_class = lambda prog: argparse.RawDescriptionHelpFormatter(
                    prog, width=100
                )
                yield ""
                yield from _help(child)


def settings() -> str:
    """List every setting with its type, default and meaning."""
    from triptych.config import Config
    from triptych.config.loader import to_dict

    lines = [
        "# Settings",
        "",
        "Defaults < TOML file < `TRIPTYCH_SECTION__FIELD` < `section.field=value`.",
        "",
    ]
    defaults = to_dict(Config())
    for section in dataclasses.fields(Config):
        values = getattr(Config(), section.name)
        meanings = _field_docs(type(values))
        module = sys.modules[type(values).__module__]
        lines += [f"## {section.name}", "", (module.__doc__ or "").strip().split("\n\n")[0], ""]
        lines += ["| setting | type | default | meaning |", "| --- | --- | --- | --- |"]
        for field in dataclasses.fields(values):
            kind = str(field.type).replace("|", "\\|")
            default = json.dumps(defaults[section.name][field.name])
            meaning = meanings.get(field.name, "").replace("\n", " ").replace("|", "\\|")
            lines.append(f"| `{section.name}.{field.name}` | `{kind}` | `{default}` | {meaning} |")
        lines.append("")
    return "\n".join(lines)


def _field_docs(section: type) -> dict[str, str]:
    """Read the docstring that stands under each field of a section."""
    path = Path(sys.modules[section.__module__].__file__ or "")
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef) and node.name == section.__name__:
            return dict(_docs_of(node.body))
    return {}


def _docs_of(body: list[ast.stmt]) -> Iterator[tuple[str, str]]:
    for field, following in itertools.pairwise(body):
        if (
            isinstance(field, ast.AnnAssign)
            and isinstance(field.target, ast.Name)
            and isinstance(following, ast.Expr)
            and isinstance(following.value, ast.Constant)
            and isinstance(following.value.value, str)
        ):
            yield field.target.id, " ".join(following.value.value.split())


def errors() -> str:
    """Draw the error tree with codes and exit codes."""
    from triptych import errors as tree
    from triptych.errors import TriptychError

    lines = ["# Errors", "", "```text", (tree.__doc__ or "").strip(), "```", ""]
    lines += ["| class | code | exit | retry |", "| --- | --- | --- | --- |"]
    drawn = re.findall(r"[├└]── (\w+)", tree.__doc__ or "")
    for name in ("TriptychError", *drawn):
        value: type[TriptychError] = getattr(tree, name)
        retry = "yes" if value.default_retryable else "no"
        row = f"| `{name}` | `{value.default_code}` | {value.exit_code} | {retry} |"
        lines.append(row)
    return "\n".join([*lines, ""])


def which_space() -> str:
    """Say what each Space is for; the figures are those of `benchmarks/results`."""
    first_curve = _figure("stranger", "first_curve_s")
    spoken = _figure("generate", "micro", "prompt 32: first token under load, s", "p50")
    deployed = _figure("deployments", "spaces", "tier", "seconds", "deploy")
    small = _figure("deployments", "spaces", "minimal", "seconds", "deploy")
    rows = [
        ("studio", "train a model and watch it learn", "signs in; own runs, own token",
         f"first curve after {first_curve} s"),
        ("playground", "compare what some models write", "chooses among the models of `MODELS`",
         f"first word after {spoken} s (micro, by llama.cpp)"),
        ("tier", "have one model that applications ask", "has the token, where one is set",
         f"a new version serves after {deployed} s"),
        ("minimal", "see how little a Space is", "everybody", f"a new version after {small} s"),
    ]  # fmt: skip
    lines = ["| Space | to | a visitor | measured |", "|---|---|---|---|"]
    lines += [
        f"| `triptych/spaces/{name}` | {use} | {may} | {took} |" for name, use, may, took in rows
    ]
    return "\n".join([
        *lines, "",
        "Train in the Studio, publish, compare in the Playground, then deploy the better one as a",
        "tier. The Studio hands a run to the Playground by a link; a tier is pinned to a commit.",
    ])  # fmt: skip


def _figure(name: str, *keys: str) -> str:
    """Read a figure, of several the median, in two digits."""
    value = json.loads((ROOT / "benchmarks" / "results" / f"{name}.json").read_bytes())
    for key in keys:
        value = value[key]
    return f"{statistics.median(value) if isinstance(value, list) else value:.2g}"


def sections() -> dict[Path, str]:
    """Return the pages in which a part between two marks is written from here."""
    places = [ROOT / "docs" / "guides" / "spaces.md"]
    places += [
        ROOT / "triptych" / "spaces" / name / "README.md"
        for name in ("studio", "playground", "tier")
    ]
    found = {}
    for path in places:
        before, rest = path.read_text(encoding="utf-8").split(BEGIN)
        after = rest.split(END)[1]
        found[path] = f"{before}{BEGIN}\n{which_space()}\n{END}{after}"
    return found


def flags() -> str:
    """Describe every feature flag, with the names it had in the original systems."""
    from triptych.tiers.rules.flags import REGISTRY

    lines = [
        "# Feature flags",
        "",
        "Who sets them and how they are resolved: [architecture](../guides/architecture.md). The",
        "last column maps the original systems' names to ours.",
        "",
        "| flag | default | what it does | also off with | originals' names |",
        "| --- | --- | --- | --- | --- |",
    ]
    for spec in REGISTRY.values():
        default = spec.default if spec.choices else ("on" if spec.default else "off")
        says = spec.description + (f" ({', '.join(spec.choices)})" if spec.choices else "")
        parent = f"`{spec.parent}`" if spec.parent else ""
        names = ", ".join(f"`{name}`" for name in spec.originals)
        lines.append(f"| `{spec.key}` | {default} | {says} | {parent} | {names} |")
    lines += [
        "",
        "Theirs without one of ours: `analytics` and `errorReporting` (metrics and traces are"
        " settings of the gateway), `CONTINUOUS_LEARNING` (training starts when it is started).",
    ]
    return "\n".join([*lines, ""])


_FAULT = re.compile(r"def (test_found_((?:[a-z]\d+_)+)\w+)")
_PLAIN_FAULT = re.compile(r"def (test_([abc]\d+_)\w+)")
#: Tests that were named by the fault before the prefix was.
_PLAINLY_NAMED = ("test_accumulator.py", "test_idioms.py")


def faults() -> str:
    """List the faults that were found in use, each with the tests that hold it off."""
    found: dict[str, list[str]] = {}
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        pattern = _PLAIN_FAULT if path.name in _PLAINLY_NAMED else _FAULT
        for name, ids in pattern.findall(path.read_text("utf-8")):
            words = name.removeprefix("test_").removeprefix("found_").removeprefix(ids)
            line = f"{words.replace('_', ' ')} (`{path.relative_to(ROOT)}`)"
            for one in ids.strip("_").upper().split("_"):
                found.setdefault(one, []).append(line)
    lines = [
        "# Faults found in use", "",
        "Each was found by using the hub and the gateway as users, companies and hostile clients",
        "would. The tests carry its id in their name and fail when it comes back.", "",
        "| id | what holds now |", "|---|---|",
    ]  # fmt: skip
    for one in sorted(found, key=lambda name: (name[0], int(name[1:]))):
        lines.append(f"| {one} | {'<br>'.join(found[one])} |")
    return "\n".join(lines)


def pages() -> dict[Path, str]:
    """Return every generated page with its text."""
    texts = {
        "commands.md": commands(), "settings.md": settings(), "errors.md": errors(),
        "flags.md": flags(), "found-faults.md": faults(),
    }  # fmt: skip
    written = {REFERENCE / name: NOTICE + text.rstrip() + "\n" for name, text in texts.items()}
    return written | sections()


def main() -> int:
    """Write the pages, or with `--check` name those that drifted."""
    check = "--check" in sys.argv[1:]
    captured = io.StringIO()
    with redirect_stdout(captured):
        wanted = pages()
    stale = [p for p, text in wanted.items() if not p.exists() or p.read_text() != text]
    if check:
        for path in stale:
            print(f"{path.relative_to(ROOT)} does not match the code; run `make docs`")
        return 1 if stale else 0
    REFERENCE.mkdir(parents=True, exist_ok=True)
    for path in stale:
        path.write_text(wanted[path], encoding="utf-8")
        print(f"wrote {path.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
