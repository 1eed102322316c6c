"""Files of every kind become blocks with headings, pages and offsets; the rest is named."""

from __future__ import annotations

import json
import os
import zipfile
from pathlib import Path

import document_files as files
import pytest
from hypothesis import given
from hypothesis import strategies as st

from triptych.documents import Document, DocumentReader, FolderReading, Limits, read_folder
from triptych.documents.blocks import Builder, clean_text
from triptych.documents.decoding import decode
from triptych.documents.texts import add_markdown, guess_delimiter

CODES_OF_BROKEN = {
    "cut.docx": "damaged",
    "cut.pdf": "damaged",
    "bomb.docx": "expansion",
    "old.doc": "unknown_type",
    "locked.xlsx": "damaged",
    "deep.json": "nested",
    "empty.txt": "empty",
    "binary.txt": "binary",
}


@pytest.fixture(scope="module")
def reader() -> object:
    with DocumentReader(Limits(time_s=20)) as one:
        yield one


def kinds(document: Document) -> list[tuple[str, str]]:
    return [(block.kind, block.text) for block in document.blocks]


def check(document: Document) -> Document:
    """Every block stands where it says, and nothing of a format's own is left in the text."""
    for block in document.blocks:
        assert document.text[block.start : block.end] == block.text
    for trace in ("%PDF", "endobj", "<p>", "function(", "w:t", "\r"):
        assert trace not in document.text
    return document


def test_docx_keeps_headings_lists_and_tables(reader: DocumentReader, tmp_path: Path) -> None:
    document = check(reader.read(files.docx_file(tmp_path / "a.docx")))
    assert document.title == "Handbook"
    assert kinds(document) == [
        ("heading", "Time off"),
        ("paragraph", files.WORDS),
        ("heading", "Carry over"),
        ("list", "- Five days carry over.\n- Ask your lead."),
        ("table", "Country | Days\nSpain | 30"),
    ]
    assert document.blocks[-1].headings == ("Time off", "Carry over")


def test_pptx_reads_notes_and_the_data_of_charts(reader: DocumentReader, tmp_path: Path) -> None:
    document = check(reader.read(files.pptx_file(tmp_path / "a.pptx")))
    assert ("note", "Mention the new office.") in kinds(document)
    table = next(block for block in document.blocks if block.kind == "table")
    assert "South | 20.5" in table.text
    assert table.page == 2
    assert table.headings == ("Sales",)


def test_a_workbook_gives_each_sheet_a_heading_and_names_empty_ones(
    reader: DocumentReader, tmp_path: Path
) -> None:
    document = check(reader.read(files.xlsx_file(tmp_path / "a.xlsx")))
    assert kinds(document) == [("heading", "Rates"), ("table", "City | Rate\nBonn | 3\nKyiv | 2.5")]
    assert [(item.where, item.code) for item in document.unread] == [("sheet Empty", "no_text")]


def test_pdf_joins_lines_finds_headings_and_names_pages_without_text(
    reader: DocumentReader, tmp_path: Path
) -> None:
    document = check(reader.read(files.handbook_pdf(tmp_path / "a.pdf")))
    assert kinds(document) == [
        ("heading", "Leave policy"),
        ("paragraph", files.WORDS),
        ("paragraph", "A second paragraph."),
        ("paragraph", "The third page."),
    ]
    assert [block.page for block in document.blocks] == [1, 1, 1, 3]
    assert [(item.where, item.code) for item in document.unread] == [("page 2", "no_text")]


def test_a_pdf_is_one_whatever_its_name(reader: DocumentReader, tmp_path: Path) -> None:
    document = check(reader.read(files.handbook_pdf(tmp_path / "a.txt")))
    assert document.kind == "pdf"
    assert document.is_read


def test_html_leaves_scripts_styles_and_menus_out(reader: DocumentReader, tmp_path: Path) -> None:
    path = tmp_path / "a.html"
    path.write_text(
        "<html><head><title>Leave</title><style>p{color:red}</style></head><body><nav>Menu</nav>"
        "<script>function(){}</script><h1>Time <b>off</b></h1><p>Employees have\n 25 days.</p>"
        "<ul><li>one<ul><li>inner</li></ul></li><li>two</li></ul>"
        "<table><tr><th>City</th></tr><tr><td><p>Bo<b>nn</b></p></td></tr></table>"
        "<pre>a\n  b</pre><img src=x alt='A chart'>tail</body></html>"
    )
    document = check(reader.read(path))
    assert document.title == "Leave"
    assert kinds(document) == [
        ("heading", "Time off"),
        ("paragraph", "Employees have 25 days."),
        ("list", "- one\n- inner\n- two"),
        ("table", "City\nBonn"),
        ("code", "a\n  b"),
        ("paragraph", "A charttail"),
    ]


def test_markdown_has_no_markup_and_front_matter_gives_the_title() -> None:
    builder = Builder(Limits())
    add_markdown(
        "---\ntitle: 'On call'\ntags: [a]\n---\n# Rota\n\nWe *rotate* "
        "[weekly](http://x).\nTwo lines.\n\n"
        "- one\n- `two`\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n```py\nx = 1\n```\n<b>bold</b>\n",
        builder,
    )
    assert builder.title == "On call"
    assert [(block.kind, block.text) for block in builder.blocks] == [
        ("heading", "Rota"),
        ("paragraph", "We rotate weekly. Two lines."),
        ("list", "- one\n- two"),
        ("table", "a | b\n1 | 2"),
        ("code", "x = 1"),
        ("paragraph", "bold"),
    ]


def test_books_notebooks_letters_and_subtitles(reader: DocumentReader, tmp_path: Path) -> None:
    book = check(reader.read(files.epub_file(tmp_path / "a.epub")))
    assert book.title == "Field guide"
    assert [block.text for block in book.blocks] == ["First", "Birds.", "Second", "Trees."]
    notebook = check(reader.read(files.notebook_file(tmp_path / "a.ipynb")))
    assert kinds(notebook)[1:] == [("paragraph", "What was found."), ("code", "print(1)")]
    letter = tmp_path / "a.eml"
    letter.write_bytes(files.LETTER)
    read = check(reader.read(letter))
    assert read.title == "Café hours"
    assert ("message", "The cafe opens at 8.") in kinds(read)
    assert [item.where for item in read.unread] == ["menu.pdf"]
    (tmp_path / "a.srt").write_text("1\n00:00:01,000 --> 00:00:02,000\n<i>Hello</i> there.\n\n2\n")
    assert [block.text for block in reader.read(tmp_path / "a.srt").blocks] == ["Hello there."]


def test_a_thread_of_slack_is_one_run_of_messages_with_its_tables(
    reader: DocumentReader, tmp_path: Path
) -> None:
    folder = files.slack_folder(tmp_path / "export")
    document = check(reader.read(folder / "general" / "2026-01-05.json"))
    messages = [block.text for block in document.blocks if block.kind == "message"]
    assert messages == [
        "Ann Lee: Where is the VPN page? @bo\nbo: See the wiki.\nPort | 8443",
        "Ann Lee: Unrelated.",
    ]


def test_whatsapp_and_confluence_exports(reader: DocumentReader, tmp_path: Path) -> None:
    chat = tmp_path / "chat.txt"
    chat.write_text("05/01/2026, 10:00 - Ann: Hi\nsecond line\n05/01/2026, 10:01 - Bo: Bye\n")
    assert kinds(reader.read(chat)) == [
        ("heading", "05/01/2026"),
        ("message", "Ann: Hi\nsecond line\nBo: Bye"),
    ]
    page = tmp_path / "page.xml"
    page.write_text(
        '<div><p>See below.</p><ac:structured-macro ac:name="jira"/><ac:structured-macro '
        'ac:name="code"><ac:plain-text-body><![CDATA[a < b]]></ac:plain-text-body>'
        "</ac:structured-macro></div>"
    )
    document = reader.read(page)
    assert ("code", "a < b") in kinds(document)
    assert [item.where for item in document.unread] == ["macro jira"]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "cp1252"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_a_table_is_read_in_every_encoding_and_with_every_delimiter(
    encoding: str, delimiter: str, reader: DocumentReader, tmp_path: Path
) -> None:
    rows = (("City", "Größe"), ("Bonn", 'a "b'), ("Kyiv", "c"))
    path = tmp_path / "a.csv"
    path.write_bytes("\r\n".join(delimiter.join(row) for row in rows).encode(encoding))
    text = reader.read(path).text
    assert text.startswith("City | Größe\nBonn | a "), text
    assert "Kyiv | c" in text


def broken_files(folder: Path) -> None:
    whole = files.docx_file(folder / "cut.docx").read_bytes()
    (folder / "cut.docx").write_bytes(whole[: len(whole) // 2])
    (folder / "cut.pdf").write_bytes(files.pdf_bytes([[(11, 700, "x")]])[:60])
    with zipfile.ZipFile(folder / "bomb.docx", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("word/document.xml", b"0" * (40 << 20))
    (folder / "old.doc").write_bytes(b"\xd0\xcf\x11\xe0 old")
    (folder / "locked.xlsx").write_bytes(b"\xd0\xcf\x11\xe0" + bytes(600))
    (folder / "deep.json").write_text("[" * 200_000)
    (folder / "empty.txt").touch()
    (folder / "binary.txt").write_bytes(b"abc\x00\x01\x02 some bytes " * 50)


def test_broken_and_hostile_files_end_as_reasons_and_the_others_are_read(tmp_path: Path) -> None:
    broken_files(tmp_path)
    files.docx_file(tmp_path / "zz-good.docx")
    (tmp_path / ".hidden").write_text("x")
    (tmp_path / "link").symlink_to(tmp_path.parent)
    with open(os.fsencode(tmp_path) + b"/caf\xe9.txt", "wb") as stream:  # noqa: PTH123
        stream.write(b"A name in Latin-1.")
    reading = FolderReading()
    limits = Limits(expanded_bytes=20 << 20, time_s=20)
    found = {one.name: one for one in read_folder(tmp_path, limits=limits, reading=reading)}
    assert {name: found[name].unread[0].code for name in CODES_OF_BROKEN} == CODES_OF_BROKEN
    assert found["zz-good.docx"].is_read
    assert found["caf?.txt"].text == "A name in Latin-1."
    assert reading.read == 2
    assert reading.unread.total() == len(CODES_OF_BROKEN)
    assert reading.passed_over == {"hidden": 1, "linked_folder": 1}
    assert "save it as .docx" in found["old.doc"].unread[0].reason


def test_a_file_that_takes_too_long_or_too_much_memory_is_given_up_alone(tmp_path: Path) -> None:
    many = tmp_path / "many.csv"
    many.write_text("a,b\n" + "1,2\n" * 3_000_000)
    small = tmp_path / "small.txt"
    small.write_text("Still read.")
    with DocumentReader(Limits(time_s=0.3)) as reader:
        assert reader.read(many).unread[0].code == "timeout"
        assert reader.read(small).text == "Still read."
    with DocumentReader(Limits(memory_bytes=450 << 20)) as reader:
        assert reader.read(many).unread[0].code in ("memory", "crashed")
        assert reader.read(small).text == "Still read."


def test_a_killed_server_costs_one_file(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("Read.")
    with DocumentReader() as reader:
        assert reader.read(path).is_read
        assert reader._server is not None
        reader._server.kill()
        reader._server.wait()
        assert reader.read(path).is_read


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with DocumentReader() as reader:
        document = reader.read(tmp_path / "gone.txt")
    assert [item.code for item in document.unread] == ["unreadable"]


def test_an_entity_bomb_in_office_xml_does_not_expand(tmp_path: Path) -> None:
    bomb = '<!DOCTYPE d [<!ENTITY a "aaaaaaaaaa">' + "".join(
        f'<!ENTITY a{n} "{("&a" + (str(n - 1) if n else "") + ";") * 10}">' for n in range(9)
    )
    path = tmp_path / "a.odt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("content.xml", bomb + "]><d>&a8;</d>")
    with DocumentReader(Limits(time_s=10)) as reader:
        document = reader.read(path)
    assert len(document.text) < 1_000


@given(st.text())
def test_cleaned_text_has_no_control_characters_and_joins_no_words(text: str) -> None:
    cleaned = clean_text(text)
    cleaned.encode()
    assert not set(cleaned) & set("\x00\x0b\x0c\x85\u2028\ufeff\r\t")
    assert clean_text(f"one\x0b{text}\x0ctwo").split("\n")[0] == "one"


def test_separators_end_lines_instead_of_gluing_words() -> None:
    assert clean_text("first\x0bsecond\x0cthird\x85fourth") == "first\nsecond\nthird\nfourth"


# UTF-16 of a zero byte and UTF-32 begin alike, so no text begins with one.
@given(st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=200))
def test_decoding_returns_what_was_encoded(text: str) -> None:
    for encoding in ("utf-8", "utf-8-sig", "utf-16", "utf-32"):
        plain = text.lstrip("\ufeff")
        assert decode(plain.encode(encoding)).lstrip("\ufeff") == plain


def test_the_delimiter_is_the_one_that_all_lines_share() -> None:
    assert guess_delimiter("id;text\n1;a, b, c\n2;d, e\n") == ";"
    assert guess_delimiter("just words\nand more\n") == ","


def test_a_document_survives_json(reader: DocumentReader, tmp_path: Path) -> None:
    document = reader.read(files.docx_file(tmp_path / "a.docx"))
    assert Document.from_json(json.loads(json.dumps(document.as_json()))) == document
