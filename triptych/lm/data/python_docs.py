"""The corpus that is on every machine: the Python installation's own words and code.

Help topics and docstrings are the English half, standard-library source is the other. The
docstrings are lifted out of the code, so that each text occurs once. Nothing is imported
but the documentation of compiled modules; nothing is downloaded.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import sys
import sysconfig
import tokenize
import warnings
from collections.abc import Iterator
from pathlib import Path

from triptych.lm.data.document import Document, Drops

LICENCE = "PSF-2.0"
_LEFT_OUT = {"site-packages", "dist-packages", "pydoc_data", "test", "tests", "idle_test"}


def read_python_docs(part: str, drops: Drops) -> Iterator[Document]:
    """Yield the `english` part, the `code` part, or with "" both, English first."""
    if part in ("", "english"):
        yield from _topics()
        yield from _compiled_modules()
        yield from _modules("english", drops)
    if part in ("", "code"):
        yield from _modules("code", drops)


def _topics() -> Iterator[Document]:
    from pydoc_data.topics import topics

    for name in sorted(topics):
        source = f"python-docs/topics/{name}"
        yield Document(topics[name], source, LICENCE, source)


def _compiled_modules() -> Iterator[Document]:
    for name in sorted(sys.builtin_module_names):
        module = importlib.import_module(name)
        entries = [(name, inspect.getdoc(module) or "")]
        for attribute in sorted(vars(module)):
            value = getattr(module, attribute)
            if attribute.startswith("_") or getattr(value, "__module__", name) != name:
                continue
            entries += _described(f"{name}.{attribute}", value)
        yield _page(name, entries)


def _described(name: str, value: object) -> Iterator[tuple[str, str]]:
    if inspect.isroutine(value) or inspect.isclass(value):
        yield name, inspect.getdoc(value) or ""
    if inspect.isclass(value):
        for member in sorted(vars(value)):
            if not member.startswith("_") and inspect.isroutine(getattr(value, member)):
                yield f"{name}.{member}", inspect.getdoc(getattr(value, member)) or ""


def _modules(part: str, drops: Drops) -> Iterator[Document]:
    root = Path(sysconfig.get_path("stdlib"))
    for file in sorted(root.rglob("*.py")):
        names = file.relative_to(root).with_suffix("").parts
        if _LEFT_OUT.intersection(names):
            continue
        name = ".".join(names).removesuffix(".__init__")
        try:
            with tokenize.open(file) as stream:
                text = stream.read()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                tree = ast.parse(text)
        except (SyntaxError, UnicodeDecodeError, OSError):
            # lib2to3 and others carry files that are broken, or Python 2, on purpose.
            drops.add("not_python", f"python-docs/{name}")
            continue
        if part == "english":
            yield _page(name, _docstrings(tree, name))
        else:
            code = _without_docstrings(text, tree)
            yield Document(code, f"python-docs/code/{name}", LICENCE, f"python-docs/{name}")


def _page(module: str, entries: list[tuple[str, str]]) -> Document:
    described = [f"{name}\n\n{text}" for name, text in entries if text]
    source = f"python-docs/english/{module}"
    return Document("\n\n".join(described), source, LICENCE, f"python-docs/{module}")


def _docstrings(node: ast.AST, name: str) -> list[tuple[str, str]]:
    entries = []
    if isinstance(node, _HAS_DOCSTRING):
        title = name
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            title = f"{name}({ast.unparse(node.args)})"
        entries.append((title, ast.get_docstring(node) or ""))
    for child in ast.iter_child_nodes(node):
        inner = getattr(child, "name", None) if isinstance(child, _HAS_DOCSTRING) else None
        entries += _docstrings(child, f"{name}.{inner}" if inner else name)
    return entries


def _without_docstrings(text: str, tree: ast.Module) -> str:
    lines = text.splitlines(keepends=True)
    for node in ast.walk(tree):
        if not isinstance(node, _HAS_DOCSTRING) or ast.get_docstring(node) is None:
            continue
        docstring = node.body[0]
        start, end = docstring.lineno - 1, docstring.end_lineno or docstring.lineno
        alone = not lines[start][: docstring.col_offset].strip()
        if alone and len(node.body) > 1 and node.body[1].lineno > end:
            lines[start:end] = [""] * (end - start)
    return "".join(lines)


_HAS_DOCSTRING = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
