"""The corpus of every machine: this Python's words and code, each text once."""

from __future__ import annotations

import ast
import io
import sysconfig
import tokenize
from pathlib import Path

import pytest

from triptych.lm.data.document import Document, Reading
from triptych.lm.data.readers.python_docs import read_python_docs


@pytest.fixture(scope="module")
def documents() -> dict[str, Document]:
    return {document.source: document for document in read_python_docs("", Reading())}


def test_there_is_enough_english_and_code(documents: dict[str, Document]) -> None:
    sizes = {"english": 0, "code": 0, "topics": 0}
    for source, document in documents.items():
        sizes[source.split("/")[1]] += len(document.text.encode(errors="replace"))
    assert sizes["english"] + sizes["topics"] > 1_500_000
    assert sizes["code"] > 6_000_000


def test_docstrings_are_lifted_out_of_the_code(documents: dict[str, Document]) -> None:
    english = documents["python-docs/english/textwrap"].text
    code = documents["python-docs/code/textwrap"].text
    sentence = "Object for wrapping/filling text."
    assert sentence in english
    assert sentence not in code
    assert "textwrap.TextWrapper.wrap(self, text)" in english
    original = (Path(sysconfig.get_path("stdlib")) / "textwrap.py").read_text()
    kept = ast.dump(ast.parse(code))
    for node in ast.walk(ast.parse(original)):
        if isinstance(node, ast.FunctionDef):
            assert f"name='{node.name}'" in kept


def test_the_code_still_parses_and_keeps_its_comments(documents: dict[str, Document]) -> None:
    for name in ("argparse", "asyncio.tasks", "dataclasses", "json.decoder", "typing"):
        code = documents[f"python-docs/code/{name}"].text
        ast.parse(code)
        tokens = tokenize.generate_tokens(io.StringIO(code).readline)
        assert any(token.type == tokenize.COMMENT for token in tokens)


def test_both_halves_of_a_module_share_a_group(documents: dict[str, Document]) -> None:
    english, code = documents["python-docs/english/json"], documents["python-docs/code/json"]
    assert english.group == code.group
    assert english.licence == code.licence == "PSF-2.0"


def test_compiled_modules_are_documented(documents: dict[str, Document]) -> None:
    assert "math.hypot" in documents["python-docs/english/math"].text
    assert "builtins.str.split" in documents["python-docs/english/builtins"].text


def test_one_part_can_be_asked_for() -> None:
    """Stops after the topics, which come first; reading both parts takes seconds."""
    first = next(read_python_docs("english", Reading()))
    assert first.source.startswith("python-docs/topics/")


def test_reading_knows_how_far_it_is() -> None:
    reading = Reading()
    first = next(read_python_docs("english", reading))
    assert first.text
    assert reading.read_bytes == 0 < reading.total_bytes
