"""Readers of what is text already: plain text, Markdown, subtitles, source code, CSV, notebooks.

Left out: the chat exports that are text files too (exports.py recognises them first).
"""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path
from typing import Any

from markdown_it import MarkdownIt
from markdown_it.token import Token

from triptych.documents.blocks import Builder
from triptych.documents.decoding import decode, is_binary
from triptych.documents.exports import read_whatsapp
from triptych.documents.html import add_html

_PARAGRAPHS = re.compile(r"\n[^\S\n]*\n+")
_FRONT_MATTER = re.compile(
    r"\A(?:---|\+\+\+)[^\S\n]*\n(.{0,65536}?)\n(?:---|\+\+\+)[^\S\n]*\n", re.S
)
_TITLE = re.compile(r"^title\s*[:=]\s*(.+?)\s*$", re.M | re.I)
_TIMES = re.compile(r"^\s*(\d+\s*$|(\d+:)?\d+:\d+[.,]\d+\s*-->.*$|WEBVTT.*$|NOTE\b.*$|STYLE\s*$)")
_TAG = re.compile(r"<[^>\n]{1,200}>")
_CODE_LINES = 60
_TABLE_ROWS = 50


def read_text(path: Path, builder: Builder) -> None:
    """Read paragraphs between blank lines."""
    data = path.read_bytes()
    if is_binary(data):
        builder.miss(path.name, "binary", "the file holds binary data")
        return
    text = decode(data).replace("\r\n", "\n").replace("\r", "\n")
    if read_whatsapp(text, builder):
        return
    for paragraph in _PARAGRAPHS.split(text):
        builder.add("paragraph", paragraph)


def read_markdown(path: Path, builder: Builder) -> None:
    """Read Markdown; front matter gives the title and is not text."""
    data = path.read_bytes()
    if is_binary(data):
        builder.miss(path.name, "binary", "the file holds binary data")
        return
    add_markdown(decode(data).replace("\r\n", "\n"), builder)


def add_markdown(text: str, builder: Builder) -> None:
    """Add the blocks of a Markdown text."""
    if match := _FRONT_MATTER.match(text):
        if title := _TITLE.search(match[1]):
            builder.title = title[1].strip("\"' ")
        text = text[match.end() :]
    parser = MarkdownIt("commonmark", {"maxNesting": 40}).enable(["table", "strikethrough"])
    tokens = parser.parse(text)
    items: list[str] = []
    rows: list[list[str]] = []
    depth = 0
    for number, token in enumerate(tokens):
        if token.type in ("bullet_list_open", "ordered_list_open"):
            depth += 1
        elif token.type in ("bullet_list_close", "ordered_list_close"):
            depth -= 1
            if not depth:
                builder.add("list", "\n".join(items))
                items = []
        elif token.type == "tr_open":
            rows.append([])
        elif token.type == "table_close":
            builder.table(rows)
            rows = []
        elif token.type in ("fence", "code_block"):
            builder.add("code", token.content)
        elif token.type == "html_block":
            _add_html(token.content, builder)
        elif token.type == "inline":
            before = tokens[number - 1].type
            content = _inline(token)
            if before == "heading_open":
                builder.heading(content, int(tokens[number - 1].tag[1]))
            elif before in ("th_open", "td_open"):
                rows[-1].append(content)
            elif depth:
                items.append("- " + " ".join(content.split()))
            else:
                builder.add("paragraph", content)


def _add_html(content: str, builder: Builder) -> None:
    if "<" in content and not content.lstrip().startswith("<!--"):
        add_html(content, builder, keep_title=True)


def _inline(token: Token) -> str:
    """Return the words of an inline token: link texts and picture descriptions, no markup."""
    words = []
    for child in token.children or []:
        if child.type in ("text", "code_inline") or child.type == "image":
            words.append(child.content)
        elif child.type == "softbreak":
            words.append(" ")
        elif child.type == "hardbreak":
            words.append("\n")
    return "".join(words)


def read_code(path: Path, builder: Builder) -> None:
    """Read source code in pieces of at most 60 lines, cut at blank lines where there are any."""
    data = path.read_bytes()
    if is_binary(data):
        builder.miss(path.name, "binary", "the file holds binary data")
        return
    builder.title = path.name
    piece: list[str] = []
    for line in decode(data).splitlines():
        if len(piece) >= _CODE_LINES and (not line.strip() or len(piece) >= 2 * _CODE_LINES):
            builder.add("code", "\n".join(piece))
            piece = []
        piece.append(line)
    builder.add("code", "\n".join(piece))


def read_subtitles(path: Path, builder: Builder) -> None:
    """Read what is spoken in .srt and .vtt files, without numbers, times and tags."""
    spoken: list[str] = []
    for line in decode(path.read_bytes()).splitlines():
        words = "" if _TIMES.match(line) else _TAG.sub("", line).strip()
        if words and (not spoken or spoken[-1] != words):
            spoken.append(words)
        if sum(map(len, spoken[-40:])) > 800 and words.endswith((".", "!", "?")):
            builder.add("paragraph", " ".join(spoken))
            spoken = []
    builder.add("paragraph", " ".join(spoken))


def read_csv(path: Path, builder: Builder) -> None:
    """Read a table with whichever delimiter its lines share; `sep=;` names it."""
    data = path.read_bytes()
    if is_binary(data):
        builder.miss(path.name, "binary", "the file holds binary data")
        return
    text = decode(data).replace("\r\n", "\n").replace("\r", "\n")
    delimiter = ""
    first, _, rest = text.partition("\n")
    if first.lower().startswith("sep=") and len(first) == 5:
        delimiter, text = first[4], rest
    delimiter = delimiter or guess_delimiter(text)
    # Tab-separated files have no quoting rule: a lone quotation mark is a character.
    quoting: Any = csv.QUOTE_NONE if delimiter == "\t" else csv.QUOTE_MINIMAL
    csv.field_size_limit(1 << 24)
    rows = list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, quoting=quoting))
    add_rows(rows, builder)


def guess_delimiter(text: str) -> str:
    """Return the delimiter that splits the first lines into the same number of cells."""
    lines = [line for line in text.split("\n")[:20] if line.strip()]

    def score(delimiter: str) -> tuple[bool, int]:
        counts = [line.count(delimiter) for line in lines]
        return (bool(counts) and min(counts) > 0 and min(counts) == max(counts), sum(counts))

    best = max((",", ";", "\t", "|"), key=score)
    return best if score(best)[1] else ","


def add_rows(rows: list[list[str]], builder: Builder) -> None:
    """Add a table in pieces of 50 rows, each headed by the table's first row."""
    rows = [row for row in rows if any(cell.strip() for cell in row)]
    if not rows:
        return
    head, body = rows[0], rows[1:]
    if not body:
        builder.table([head])
    for start in range(0, len(body), _TABLE_ROWS):
        builder.table([head, *body[start : start + _TABLE_ROWS]])


def read_notebook(path: Path, builder: Builder) -> None:
    """Read the cells of a Jupyter notebook; outputs are not text that was written."""
    notebook: Any = json.loads(decode(path.read_bytes()))
    cells = notebook.get("cells") if isinstance(notebook, dict) else None
    if not isinstance(cells, list):
        builder.miss(path.name, "damaged", "the notebook has no cells")
        return
    outputs = 0
    for cell in cells:
        if not isinstance(cell, dict):
            continue
        source = cell.get("source", "")
        text = "".join(map(str, source)) if isinstance(source, list) else str(source)
        if cell.get("cell_type") == "markdown":
            add_markdown(text, builder)
        elif cell.get("cell_type") == "code":
            builder.add("code", text)
            outputs += len(cell.get("outputs") or [])
    if outputs:
        builder.miss(path.name, "outputs", f"{outputs} outputs of code cells")
