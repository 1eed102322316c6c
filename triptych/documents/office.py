"""Word and PowerPoint files, workbooks and OpenDocument texts become blocks.

Text boxes, pictures, charts without data and macros are counted in `unread`. Left out: layout.
"""

from __future__ import annotations

import datetime
import zipfile
from pathlib import Path
from typing import Any

from lxml import etree

from triptych.documents.blocks import Builder, TooLarge
from triptych.documents.texts import add_rows

_WORD = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"
_OFFICE = "{urn:oasis:names:tc:opendocument:xmlns:text:1.0}"
_TABLE = "{urn:oasis:names:tc:opendocument:xmlns:table:1.0}"
_CELLS = 2_000_000
_GROUP_DEPTH = 20


def read_docx(path: Path, builder: Builder) -> None:
    """Read paragraphs, headings, lists, tables and footnotes in the order of the document."""
    import docx
    from docx.table import Table

    document = docx.Document(str(path))
    builder.title = (document.core_properties.title or "").strip()
    items: list[str] = []
    for part in document.iter_inner_content():
        if isinstance(part, Table):
            _end_list(items, builder)
            _word_table(part, builder)
            continue
        text, style = part.text, (part.style.name if part.style else "") or ""
        level = _heading_level(style)
        is_item = style.startswith("List") or part._p.find(f".//{_WORD}numPr") is not None
        if not (is_item and not level):
            _end_list(items, builder)
        if level:
            builder.heading(text, level)
        elif is_item and text.strip():
            items.append("- " + " ".join(text.split()))
        else:
            builder.add("paragraph", text)
    _end_list(items, builder)
    _word_notes(document, builder)
    body = document.element.body
    for name, code, words in (
        ("txbxContent", "text_boxes", "text boxes"),
        ("drawing", "pictures", "pictures or charts"),
        ("object", "objects", "embedded objects"),
    ):
        if count := sum(1 for _ in body.iter(f"{_WORD}{name}")):
            builder.miss(path.name, code, f"{count} {words}")


def _heading_level(style: str) -> int:
    if style == "Title":
        return 1
    last = style.rsplit(" ", 1)[-1]
    return int(last) if style.startswith("Heading ") and last.isdigit() else 0


def _end_list(items: list[str], builder: Builder) -> None:
    builder.add("list", "\n".join(items))
    items.clear()


def _word_table(table: Any, builder: Builder) -> None:
    rows = []
    for row in table.rows:
        cells: list[str] = []
        seen: set[int] = set()
        for cell in row.cells:
            # A merged cell is listed once for each column it covers.
            if id(cell._tc) not in seen:
                seen.add(id(cell._tc))
                cells.append(cell.text)
        rows.append(cells)
    builder.table(rows)


def _word_notes(document: Any, builder: Builder) -> None:
    for relation in document.part.rels.values():
        if relation.is_external or not relation.reltype.endswith(("/footnotes", "/endnotes")):
            continue
        parser = etree.XMLParser(resolve_entities=False, no_network=True)
        root = etree.fromstring(relation.target_part.blob, parser)
        for note in root:
            text = "".join(node.text or "" for node in note.iter(f"{_WORD}t"))
            builder.add("note", text)


def read_pptx(path: Path, builder: Builder) -> None:
    """Read slides: title, text, tables, data of charts, notes. A slide is a page."""
    from pptx import Presentation

    presentation = Presentation(str(path))
    builder.title = (presentation.core_properties.title or "").strip()
    for number, slide in enumerate(presentation.slides, start=1):
        builder.page = number
        builder.end_headings()
        title = slide.shapes.title
        builder.heading(title.text if title is not None else f"Slide {number}", 1)
        title_id = title.shape_id if title is not None else None
        pictures = 0
        for shape in _flat(slide.shapes, _GROUP_DEPTH):
            if shape.shape_id == title_id:
                continue
            if getattr(shape, "has_table", False):
                builder.table([[cell.text for cell in row.cells] for row in shape.table.rows])
            elif getattr(shape, "has_chart", False):
                _chart(shape.chart, builder)
            elif shape.has_text_frame:
                builder.add("paragraph", shape.text_frame.text)
            elif hasattr(shape, "image"):
                pictures += 1
        if pictures:
            builder.miss(f"slide {number}", "pictures", f"{pictures} pictures")
        if slide.has_notes_slide and slide.notes_slide.notes_text_frame is not None:
            builder.add("note", slide.notes_slide.notes_text_frame.text)


def _flat(shapes: Any, depth: int) -> Any:
    for shape in shapes:
        if hasattr(shape, "shapes"):
            if depth:
                yield from _flat(shape.shapes, depth - 1)
        else:
            yield shape


def _chart(chart: Any, builder: Builder) -> None:
    if chart.has_title and chart.chart_title.has_text_frame:
        builder.add("paragraph", chart.chart_title.text_frame.text)
    for plot in chart.plots:
        series = list(plot.series)
        rows = [["", *(str(one.name) for one in series)]]
        for position, category in enumerate(plot.categories):
            values = (one.values[position] if position < len(one.values) else "" for one in series)
            rows.append([str(category), *(cell_text(value) for value in values)])
        builder.table(rows)


def read_workbook(path: Path, builder: Builder) -> None:
    """Read the sheets of an .xlsx, .xls, .xlsb or .ods file; formulas give their last value."""
    from python_calamine import CalamineError, CalamineWorkbook, PasswordError

    try:
        workbook = CalamineWorkbook.from_path(str(path))
    except PasswordError:
        builder.miss(path.name, "protected", "it is protected by a password")
        return
    except CalamineError as error:
        builder.miss(path.name, "damaged", f"it is not a whole workbook: {error}")
        return
    cells = 0
    for name in workbook.sheet_names:
        rows = workbook.get_sheet_by_name(name).to_python(skip_empty_area=True)
        cells += sum(map(len, rows))
        if cells > _CELLS:
            raise TooLarge("too_many_cells", f"more than {_CELLS:,} cells")
        builder.end_headings()
        if not rows:
            builder.miss(f"sheet {name}", "no_text", "the sheet is empty")
            continue
        builder.heading(name, 1)
        add_rows([[cell_text(cell) for cell in row] for row in rows], builder)


def cell_text(value: Any) -> str:
    """Return a cell's value as a person reads it: 3, not 3.0; a date without midnight."""
    if value is None or value == "":
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() and abs(value) < 1e15 else f"{value:g}"
    if isinstance(value, datetime.datetime) and value.time() == datetime.time():
        return value.date().isoformat()
    return str(value)


def read_odt(path: Path, builder: Builder) -> None:
    """Read headings, paragraphs, lists and tables of an OpenDocument text."""
    with zipfile.ZipFile(path) as archive, archive.open("content.xml") as stream:
        parser = etree.XMLParser(resolve_entities=False, no_network=True)
        root = etree.parse(stream, parser).getroot()
    items: list[str] = []
    in_table = 0
    rows: list[list[str]] = []
    for event, element in etree.iterwalk(root, events=("start", "end")):
        tag = element.tag
        if tag == f"{_TABLE}table":
            in_table += 1 if event == "start" else -1
            if event == "end" and not in_table:
                builder.table(rows)
                rows = []
        elif tag == f"{_TABLE}table-row" and event == "start":
            rows.append([])
        elif tag == f"{_TABLE}table-cell" and event == "end" and rows:
            rows[-1].append("".join(element.itertext()))
        elif event == "end" and not in_table and tag in (f"{_OFFICE}h", f"{_OFFICE}p"):
            text = "".join(element.itertext())
            if tag.endswith("}h"):
                builder.heading(text, int(element.get(f"{_OFFICE}outline-level") or 1))
            elif any(parent.tag == f"{_OFFICE}list-item" for parent in element.iterancestors()):
                items.append("- " + " ".join(text.split()))
            else:
                builder.add("paragraph", text)
        elif event == "end" and tag == f"{_OFFICE}list":
            _end_list(items, builder)
