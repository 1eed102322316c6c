"""PDF pages become paragraphs and headings; pages without text are named, not guessed.

A heading is a short line set larger than most of the text. A paragraph ends where the gap between
two lines is wider than a line. Left out: tables (their cells are read as lines), pictures, forms,
and text recognition of scanned pages.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pypdfium2
import pypdfium2.raw as pdfium

from triptych.documents.blocks import Builder

_HEADING_CHARS = 160
_HEADING_SIZES = 4
_HYPHEN = re.compile(r"(?<=[a-z])-$")


@dataclass
class _Line:
    """One line of a page. `size` is its font's size and `top`, `bottom` its edges, in points."""

    text: str
    size: float
    top: float
    bottom: float
    page: int


def read_pdf(path: Path, builder: Builder) -> None:
    """Read every page that has text."""
    try:
        pdf = pypdfium2.PdfDocument(path)
    except pypdfium2.PdfiumError as error:
        protected = "password" in str(error).lower()
        reason = "it is protected by a password" if protected else "it is not a whole PDF file"
        builder.miss(path.name, "protected" if protected else "damaged", reason)
        return
    with pdf:
        builder.title = (pdf.get_metadata_dict().get("Title") or "").strip()
        lines: list[_Line] = []
        empty: list[int] = []
        for number in range(min(len(pdf), builder.limits.pages)):
            found = _page_lines(pdf, number, builder)
            lines += found
            if not found:
                empty.append(number + 1)
        if len(pdf) > builder.limits.pages:
            rest = len(pdf) - builder.limits.pages
            builder.miss(f"the last {rest} pages", "too_many_pages", "more pages than allowed")
    for page in empty:
        builder.miss(f"page {page}", "no_text", "the page has no text (a scanned picture?)")
    _add_lines(lines, builder)


def _page_lines(pdf: Any, number: int, builder: Builder) -> list[_Line]:
    try:
        page = pdf[number]
        text_page = page.get_textpage()
    except pypdfium2.PdfiumError:
        builder.miss(f"page {number + 1}", "damaged", "the page cannot be read")
        return []
    text = text_page.get_text_range()
    lines = []
    index = 0
    for part in re.split("(\r\n|\n|\r)", text):
        if part.strip():
            lead = index + len(part) - len(part.lstrip())
            lines.append(_line(text_page, lead, part.strip(), number + 1))
        index += len(part)
    text_page.close()
    page.close()
    return lines


def _line(text_page: Any, index: int, text: str, page: int) -> _Line:
    """Measure a line at its first visible character."""
    size = pdfium.FPDFText_GetFontSize(text_page.raw, index)
    try:
        _, bottom, _, top = text_page.get_charbox(index, loose=True)
    except pypdfium2.PdfiumError:
        bottom = top = 0.0
    # A font of size 1 that is scaled by the page's matrix has its height in the box alone.
    height = top - bottom
    return _Line(text, round(height if size <= 1 else size, 1), top, bottom, page)


def _add_lines(lines: list[_Line], builder: Builder) -> None:
    """Join lines to paragraphs and find headings by their size."""
    weights: Counter[float] = Counter()
    for line in lines:
        weights[line.size] += len(line.text)
    body = weights.most_common(1)[0][0] if weights else 0.0
    larger = sorted((size for size in weights if size > body * 1.12), reverse=True)
    levels = {size: min(rank, _HEADING_SIZES) for rank, size in enumerate(larger, start=1)}
    paragraph: list[str] = []
    last: _Line | None = None

    def flush() -> None:
        if paragraph:
            builder.add("paragraph", _joined(paragraph))
            paragraph.clear()

    for line in lines:
        builder_page = line.page
        level = levels.get(line.size, 0) if len(line.text) <= _HEADING_CHARS else 0
        if last is None or last.page != line.page or _is_gap(last, line) or level:
            flush()
        builder.page = builder_page
        if level:
            builder.heading(line.text, level)
        else:
            paragraph.append(line.text)
        last = line
    flush()


def _is_gap(above: _Line, below: _Line) -> bool:
    """Return whether the space between two lines is wider than belongs inside a paragraph."""
    height = max(below.top - below.bottom, 1.0)
    gap = above.bottom - below.top
    return gap > 0.8 * height or gap < -3 * height


def _joined(lines: list[str]) -> str:
    """Join lines, mending words that were divided at the end of one."""
    text = lines[0]
    for line in lines[1:]:
        divided = _HYPHEN.search(text) and line[:1].islower()
        text = text[:-1] + line if divided else f"{text} {line}"
    return text
