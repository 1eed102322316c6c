"""Files of every kind, made by the libraries that people's programs are made with, or by hand."""

from __future__ import annotations

import io
import json
import zipfile
import zlib
from pathlib import Path

WORDS = "Employees have 25 days of paid leave a year."


def docx_file(path: Path) -> Path:
    import docx

    document = docx.Document()
    document.core_properties.title = "Handbook"
    document.add_heading("Time off", level=1)
    document.add_paragraph(WORDS)
    document.add_heading("Carry over", level=2)
    document.add_paragraph("Five days carry over.", style="List Bullet")
    document.add_paragraph("Ask your lead.", style="List Bullet")
    table = document.add_table(rows=2, cols=2)
    for row, cells in enumerate((("Country", "Days"), ("Spain", "30"))):
        for column, text in enumerate(cells):
            table.cell(row, column).text = text
    document.save(str(path))
    return path


def pptx_file(path: Path) -> Path:
    from pptx import Presentation
    from pptx.chart.data import CategoryChartData
    from pptx.enum.chart import XL_CHART_TYPE
    from pptx.util import Inches

    deck = Presentation()
    slide = deck.slides.add_slide(deck.slide_layouts[1])
    slide.shapes.title.text = "Plan for 2027"
    slide.placeholders[1].text = WORDS
    slide.notes_slide.notes_text_frame.text = "Mention the new office."
    data = CategoryChartData()
    data.categories = ["North", "South"]
    data.add_series("Sales", (10, 20.5))
    slide = deck.slides.add_slide(deck.slide_layouts[5])
    slide.shapes.title.text = "Sales"
    slide.shapes.add_chart(
        XL_CHART_TYPE.COLUMN_CLUSTERED, Inches(1), Inches(2), Inches(4), Inches(3), data
    )
    deck.save(str(path))
    return path


def xlsx_file(path: Path) -> Path:
    import xlsxwriter

    workbook = xlsxwriter.Workbook(str(path))
    sheet = workbook.add_worksheet("Rates")
    for row, cells in enumerate((("City", "Rate"), ("Bonn", 3), ("Kyiv", 2.5))):
        for column, value in enumerate(cells):
            sheet.write(row, column, value)
    workbook.add_worksheet("Empty")
    workbook.close()
    return path


def pdf_bytes(pages: list[list[tuple[float, float, str]]], *, compress: bool = False) -> bytes:
    """Write a PDF by hand. A page is lines of (font size, y in points, text)."""
    objects: list[bytes] = []
    kids = " ".join(f"{4 + 2 * number} 0 R" for number in range(len(pages)))
    objects.append(b"<< /Type /Catalog /Pages 2 0 R >>")
    objects.append(f"<< /Type /Pages /Kids [{kids}] /Count {len(pages)} >>".encode())
    objects.append(b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>")
    for number, lines in enumerate(pages):
        objects.append(
            f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Contents {5 + 2 * number} 0 R "
            "/Resources << /Font << /F1 3 0 R >> >> >>".encode()
        )
        content = "".join(
            f"BT /F1 {size} Tf 72 {y} Td ({text}) Tj ET\n" for size, y, text in lines
        ).encode()
        head = b""
        if compress:
            content, head = zlib.compress(content), b"/Filter /FlateDecode "
        objects.append(b"<< %s/Length %d >>\nstream\n%s\nendstream" % (head, len(content), content))
    out = io.BytesIO(b"%PDF-1.4\n")
    out.seek(0, io.SEEK_END)
    offsets = []
    for number, body in enumerate(objects, start=1):
        offsets.append(out.tell())
        out.write(b"%d 0 obj\n%s\nendobj\n" % (number, body))
    start = out.tell()
    out.write(b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1))
    for offset in offsets:
        out.write(b"%010d 00000 n \n" % offset)
    out.write(
        b"trailer << /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (len(objects) + 1, start)
    )
    return out.getvalue()


def handbook_pdf(path: Path) -> Path:
    pages = [
        [(20, 780, "Leave policy"), (11, 740, "Employees have 25 days of"),
         (11, 726, "paid leave a year."), (11, 690, "A second paragraph.")],
        [],
        [(11, 780, "The third page.")],
    ]  # fmt: skip
    path.write_bytes(pdf_bytes(pages, compress=True))
    return path


def epub_file(path: Path) -> Path:
    package = (
        '<package xmlns="http://www.idpf.org/2007/opf"><metadata><title '
        'xmlns="http://purl.org/dc/elements/1.1/">Field guide</title></metadata><manifest>'
        '<item id="b" href="two.xhtml"/><item id="a" href="one.xhtml"/></manifest>'
        '<spine><itemref idref="a"/><itemref idref="b"/></spine></package>'
    )
    container = (
        '<container xmlns="urn:oasis:names:tc:opendocument:xmlns:container"><rootfiles>'
        '<rootfile full-path="OPS/book.opf"/></rootfiles></container>'
    )
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("META-INF/container.xml", container)
        archive.writestr("OPS/book.opf", package)
        archive.writestr("OPS/one.xhtml", "<html><body><h1>First</h1><p>Birds.</p></body></html>")
        archive.writestr("OPS/two.xhtml", "<html><body><h1>Second</h1><p>Trees.</p></body></html>")
    return path


def notebook_file(path: Path) -> Path:
    cells = [
        {"cell_type": "markdown", "source": ["# Analysis\n", "What was *found*."]},
        {"cell_type": "code", "source": "print(1)", "outputs": [{"text": "1"}]},
    ]
    path.write_text(json.dumps({"cells": cells, "nbformat": 4}))
    return path


def slack_folder(folder: Path) -> Path:
    channel = folder / "general"
    channel.mkdir(parents=True)
    users = [{"id": "U1", "name": "ann", "real_name": "Ann Lee"}, {"id": "U2", "name": "bo"}]
    (folder / "users.json").write_text(json.dumps(users))
    table = {"type": "table", "rows": [[{"type": "raw_text", "text": "Port"}, {"text": "8443"}]]}
    messages = [
        {"type": "message", "user": "U1", "ts": "1", "text": "Where is the VPN page? <@U2>"},
        {"type": "message", "user": "U1", "ts": "2", "text": "Unrelated."},
        {"type": "message", "user": "U2", "ts": "3", "thread_ts": "1", "text": "See the wiki.",
         "attachments": [{"blocks": [table]}]},
    ]  # fmt: skip
    (channel / "2026-01-05.json").write_text(json.dumps(messages))
    return folder


LETTER = b"""From: Ann <ann@example.org>
To: bo@example.org
Subject: =?utf-8?q?Caf=C3=A9_hours?=
Date: Mon, 5 Jan 2026 10:00:00 +0000
MIME-Version: 1.0
Content-Type: multipart/mixed; boundary=XX

--XX
Content-Type: text/plain; charset=utf-8

The cafe opens at 8.
> quoted before
--XX
Content-Type: application/pdf; name="menu.pdf"
Content-Disposition: attachment; filename="menu.pdf"

x
--XX--
"""
