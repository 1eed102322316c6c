"""The corpus that is on every machine: the Python installation's own words and code.

Help topics and docstrings are the English half, standard-library source is the other. The
docstrings are lifted out of the code, so that each text occurs once; the two halves of a
module share a group, so that neither validates the other. Nothing is downloaded, and nothing
is imported but compiled modules, whose documentation is nowhere else.
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

from triptych.lm.data.document import Document, Reading

LICENCE = "PSF-2.0"
_CODE = "python-docs/code/"
PARTS = ("english", "code")
_LEFT_OUT = {"site-packages", "dist-packages", "pydoc_data", "test", "tests", "idle_test"}
# Compiled modules whose import opens windows or exists for Python's own tests.
_NOT_IMPORTED = ("_test", "_tkinter", "xx", "_xx", "_ctypes_test")
_Named = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def read_python_docs(part: str, reading: Reading) -> Iterator[Document]:
    """Yield the `english` part, the `code` part, or with "" both, English first."""
    files = list(_stdlib_files())
    reading.total_bytes += sum(file.stat().st_size for file, _ in files)
    if part != "code":
        yield from _topics()
        for name in _compiled_modules():
            yield from _compiled_page(name)
    code: list[Document] = []
    for file, name in files:
        for document in _read_module(file, name, reading):
            if document.source.startswith(_CODE):
                code.append(document)
            elif part != "code":
                yield document
        reading.read_bytes += file.stat().st_size
    if part != "english":
        yield from code


def _topics() -> Iterator[Document]:
    try:
        from pydoc_data.topics import topics
    except ModuleNotFoundError:
        # Some distributions leave the help topics out.
        return
    for name in sorted(topics):
        source = f"python-docs/topics/{name}"
        yield Document(topics[name], source, LICENCE, source)


def _compiled_modules() -> list[str]:
    shared = Path(str(sysconfig.get_config_var("DESTSHARED") or ""))
    extensions = {file.name.split(".")[0] for file in shared.glob("*.so")}
    names = extensions | set(sys.builtin_module_names)
    return sorted(name for name in names if not name.startswith(_NOT_IMPORTED))


def _compiled_page(name: str) -> Iterator[Document]:
    try:
        module = importlib.import_module(name)
    except ImportError:
        # A system library it was built against is not installed here.
        return
    entries = [(name, inspect.getdoc(module) or "")]
    for attribute in sorted(vars(module)):
        value = getattr(module, attribute)
        if not attribute.startswith("_") and getattr(value, "__module__", name) == name:
            entries += _described(f"{name}.{attribute}", value)
    yield _page(name, entries)


def _described(name: str, value: object) -> Iterator[tuple[str, str]]:
    if inspect.isroutine(value) or inspect.isclass(value):
        yield name, inspect.getdoc(value) or ""
    if inspect.isclass(value):
        for member in sorted(vars(value)):
            if not member.startswith("_") and inspect.isroutine(getattr(value, member)):
                yield f"{name}.{member}", inspect.getdoc(getattr(value, member)) or ""


def _stdlib_files() -> Iterator[tuple[Path, str]]:
    root = Path(sysconfig.get_path("stdlib"))
    for file in sorted(root.rglob("*.py")):
        names = file.relative_to(root).with_suffix("").parts
        if not _LEFT_OUT.intersection(names):
            yield file, ".".join(names).removesuffix(".__init__")


def _read_module(file: Path, name: str, reading: Reading) -> Iterator[Document]:
    """Yield the words and the code of one module."""
    try:
        with tokenize.open(file) as stream:
            text = stream.read()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(text)
    except (SyntaxError, UnicodeDecodeError, OSError):
        # lib2to3 and others carry files that are broken, or Python 2, on purpose.
        reading.drop("not_python", f"{_CODE}{name}", file.stat().st_size)
        return
    yield _page(name, _docstrings(tree, name))
    code = _without_docstrings(text, tree)
    yield Document(code, f"{_CODE}{name}", LICENCE, f"python-docs/{name}")


def _page(module: str, entries: list[tuple[str, str]]) -> Document:
    described = [f"{name}\n\n{text}" for name, text in entries if text]
    source = f"python-docs/english/{module}"
    return Document("\n\n".join(described), source, LICENCE, f"python-docs/{module}")


def _docstrings(tree: ast.Module, module: str) -> list[tuple[str, str]]:
    entries = []
    for name, node in _definitions(tree, module):
        text = ast.get_docstring(node)
        if text and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            name = f"{name}({ast.unparse(node.args)})"
        entries.append((name, text or ""))
    return entries


def _definitions(node: ast.AST, name: str) -> Iterator[tuple[str, ast.Module | _Named]]:
    """Yield a module, its classes and its functions in order, with their full names."""
    if isinstance(node, ast.Module | _Named):
        yield name, node
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.stmt | ast.ExceptHandler):
            inner = f".{child.name}" if isinstance(child, _Named) else ""
            yield from _definitions(child, name + inner)


def _without_docstrings(text: str, tree: ast.Module) -> str:
    lines = text.splitlines(keepends=True)
    for _, node in _definitions(tree, ""):
        if ast.get_docstring(node) is None:
            continue
        docstring = node.body[0]
        start, end = docstring.lineno - 1, docstring.end_lineno or docstring.lineno
        alone = not lines[start][: docstring.col_offset].strip()
        # A body that is only a docstring keeps it: the code must stay valid.
        if alone and len(node.body) > 1 and node.body[1].lineno > end:
            lines[start:end] = [""] * (end - start)
    return "".join(lines)
