"""Files as people have them become text, or a counted reason; the ids are of the observations."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests import document_files as files
from tests.lm.data.conftest import prose, write_documents
from triptych.cli.main import main
from triptych.config.data import DataConfig
from triptych.errors import DataError
from triptych.lm.data.document import Document, Reading
from triptych.lm.data.manifest import load_manifest
from triptych.lm.data.readers.sources import read_source

TEXTS = prose(6)
LONG = "It is long enough to be kept as a document of its own beyond the lower bound."


def read(source: Path | str, **settings: object) -> tuple[list[str], Reading]:
    documents, reading = read_documents(source, **settings)
    return [document.text for document in documents], reading


def read_documents(source: Path | str, **settings: object) -> tuple[list[Document], Reading]:
    reading = Reading()
    config = DataConfig(**settings)  # type: ignore[arg-type]
    return list(read_source(str(source), config, reading)), reading


def jsonl(*records: object) -> str:
    return "".join(json.dumps(record) + "\n" for record in records)


def rows(texts: list[str] = TEXTS) -> list[dict[str, str]]:
    return [{"id": str(number), "text": text} for number, text in enumerate(texts)]


def one_of_each(folder: Path) -> None:
    """Every kind of file that people have, three of them broken or hostile."""
    write_documents(folder, prose(30))
    files.docx_file(folder / "a.docx")
    files.pptx_file(folder / "a.pptx")
    files.xlsx_file(folder / "a.xlsx")
    files.handbook_pdf(folder / "a.pdf")
    files.epub_file(folder / "a.epub")
    files.notebook_file(folder / "a.ipynb")
    page = f"<html><body><h1>Page</h1><script>var hidden = 1;</script><p>{LONG}</p></body></html>"
    (folder / "a.html").write_text(page)
    (folder / "code.py").write_text(
        f'"""{prose(1, seed=3)[0]}"""\n\n\ndef add(a, b):\n    return a + b\n'
    )
    (folder / "really.txt").write_bytes((folder / "a.pdf").read_bytes())
    (folder / "broken.docx").write_bytes((folder / "a.docx").read_bytes()[:2000])
    (folder / "broken.pdf").write_bytes(b"%PDF-1.7\n" + os.urandom(500))
    (folder / "nested.jsonl").write_text("[" * 200_000 + "\n" + jsonl(*rows(prose(3, seed=9))))
    (folder / "chats.jsonl").write_text(jsonl({"messages": [{"role": "user", "content": LONG}]}))
    (folder / "numbers.csv").write_text("a,b\n1,2\n3,4\n")
    (folder / "damaged.txt.gz").write_bytes(b"\x1f\x8b\x08\x00broken")


def test_s3_5_a_folder_of_every_kind_builds_and_no_markup_is_learned(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, out = tmp_path / "mixed", tmp_path / "corpus"
    folder.mkdir()
    one_of_each(folder)
    assert (
        main(["data", "build", str(folder), "--out", str(out), "--set", "data.vocab_size=400"]) == 0
    )
    tables = [pq.read_table(file) for file in (out / "documents").glob("*.parquet")]
    text = "\n".join(t for table in tables for t in table["text"].to_pylist())
    for markup in ("%PDF", "endobj", "<p>", "<html", "var hidden", "word/document.xml", '"cells"'):
        assert markup not in text
    sources = {s for table in tables for s in table["source"].to_pylist()}
    assert {f"mixed/{name}" for name in ("a.docx", "a.pptx", "a.html", "code.py")} <= sources
    drops = load_manifest(out)["drops"]
    assert str(tmp_path) not in json.dumps(drops)
    named = {example for drop in drops.values() for example in drop["examples"]}
    for name in ("broken.docx", "broken.pdf", "chats.jsonl", "numbers.csv", "damaged.txt.gz"):
        assert f"mixed/{name}" in named
    assert "triptych train --method sft" in drops["chat"]["advice"]
    assert "chats.jsonl" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["a.pdf", "a.docx", "a.html", "a.ipynb", "a.epub", "really.txt"])
def test_s3_5_a_document_named_by_itself_is_read_as_text(name: str, tmp_path: Path) -> None:
    one_of_each(tmp_path)
    texts, _ = read(tmp_path / name)
    assert len(texts) == 1
    assert not any(mark in texts[0] for mark in ("%PDF", "<p>", "PK\x03", '"cell_type"'))


def test_s3_5_what_is_no_text_inside_a_compression_is_not_learned(tmp_path: Path) -> None:
    import gzip

    (tmp_path / "a.html.gz").write_bytes(gzip.compress(f"<html><p>{LONG}</p></html>".encode()))
    texts, reading = read(tmp_path / "a.html.gz")
    assert (texts, reading.dropped) == ([], {"compressed": 1})


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-8-sig", "utf-32"])
@pytest.mark.parametrize("name", ["a.tsv", "a.csv", "a.jsonl"])
def test_d03_records_are_read_in_every_encoding(name: str, encoding: str, tmp_path: Path) -> None:
    text = {
        "a.tsv": "id\ttext\r\n" + "".join(f"{r['id']}\t{LONG} {r['id']}\r\n" for r in rows()),
        "a.csv": "id,text\r\n" + "".join(f"{r['id']},{LONG} {r['id']}\r\n" for r in rows()),
        "a.jsonl": jsonl(*({"text": f"{LONG} {r['id']}"} for r in rows())),
    }[name]
    (tmp_path / name).write_bytes(text.encode(encoding))
    assert read(tmp_path / name)[0] == [f"{LONG} {number}" for number in range(6)]


@pytest.mark.parametrize("delimiter", [";", "\t", "|"])
def test_d04_the_delimiter_is_the_one_of_the_header(delimiter: str, tmp_path: Path) -> None:
    lines = [f"id{delimiter}text", *(f"{n}{delimiter}{LONG}, {n}" for n in range(5))]
    (tmp_path / "a.csv").write_text("\n".join(lines))
    assert read(tmp_path / "a.csv")[0] == [f"{LONG}, {n}" for n in range(5)]


def test_d21_a_first_line_that_names_the_delimiter_is_no_header(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(f"sep=;\nid;text\n1;{LONG}\n")
    assert read(tmp_path / "a.csv")[0] == [LONG]


def test_d04_advice_names_a_column_that_works(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(f"id;title;body\n1;x;{LONG}\n2;y;{LONG} again\n")
    with pytest.raises(DataError) as error:
        read(tmp_path / "a.csv")
    assert error.value.hint.endswith("data.text_column=body")
    assert len(read(tmp_path / "a.csv", text_column="body")[0]) == 2


def test_d04_without_a_column_of_text_no_column_is_advised(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("id;n\n1;2\n")
    with pytest.raises(DataError) as error:
        read(tmp_path / "a.csv")
    assert "text_column" not in error.value.hint


def test_d05_one_array_of_records_is_records(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps(rows(), indent=2))
    assert read(tmp_path / "a.json")[0] == TEXTS


ALPACA = {"instruction": LONG, "input": "", "output": LONG}
CHATS = {
    "alpaca.json": json.dumps([ALPACA] * 3),
    "messages.jsonl": jsonl({"messages": [{"role": "user", "content": LONG}]}),
    "sharegpt.jsonl": jsonl({"conversations": [{"from": "human", "value": LONG}]}),
    "pairs.jsonl": jsonl({"prompt": LONG, "chosen": LONG, "rejected": "no"}),
}


@pytest.mark.parametrize("name", CHATS)
def test_d06_conversations_are_pointed_to_post_training(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(CHATS[name])
    with pytest.raises(DataError) as error:
        read(tmp_path / name)
    method = "dpo" if name == "pairs.jsonl" else "sft"
    assert f"triptych train --method {method}" in error.value.hint
    write_documents(tmp_path, TEXTS)
    texts, reading = read(tmp_path)
    assert sorted(texts) == sorted(TEXTS)
    assert reading.dropped == {"chat": 1}


def test_d06_a_column_of_answers_that_is_named_is_read(tmp_path: Path) -> None:
    (tmp_path / "alpaca.json").write_text(CHATS["alpaca.json"])
    assert read(tmp_path / "alpaca.json", text_column="output")[0] == [LONG] * 3


def test_d07_a_first_record_about_the_others_does_not_end_the_build(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(jsonl({"_meta": 1}, *rows()))
    texts, reading = read(tmp_path / "a.jsonl")
    assert (texts, reading.dropped) == (TEXTS, {"missing_text": 1})


def test_d08_a_lone_quote_in_a_tsv_is_a_character(tmp_path: Path) -> None:
    sentences = [f"{chr(34) if number in (20, 70) else ''}{LONG} {number}" for number in range(120)]
    (tmp_path / "a.tsv").write_text("text\tn\n" + "".join(f"{s}\t1\n" for s in sentences))
    assert read(tmp_path / "a.tsv")[0] == sentences


def test_d08_what_a_spreadsheet_quoted_in_a_tsv_is_unquoted(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text(f'text\n"She said ""{LONG}"" twice"\n"{LONG}"\n')
    assert read(tmp_path / "a.tsv")[0] == [f'She said "{LONG}" twice', f'"{LONG}"']


def test_d09_a_record_nested_too_deeply_is_dropped_alone(tmp_path: Path) -> None:
    bad = '{"a":' * 200_000
    (tmp_path / "a.jsonl").write_text(jsonl(*rows()[:3]) + bad + "\n" + jsonl(*rows()[3:]))
    texts, reading = read(tmp_path / "a.jsonl")
    assert (texts, reading.dropped) == (TEXTS, {"invalid_json": 1})


def test_d10_a_file_name_that_is_no_utf_8_is_read(tmp_path: Path) -> None:
    write_documents(tmp_path / "notes", TEXTS)
    (tmp_path / "notes" / os.fsdecode(b"caf\xe9.txt")).write_text(LONG)
    documents, _ = read_documents(tmp_path / "notes")
    assert len(documents) == 7
    assert all(document.source.encode() for document in documents)
    out = tmp_path / "corpus"
    assert main(["data", "build", str(tmp_path / "notes"), "--out", str(out)]) == 0


def test_d15_linked_folders_are_counted_or_followed_once(tmp_path: Path) -> None:
    write_documents(tmp_path / "other", TEXTS[:3])
    notes = write_documents(tmp_path / "notes", TEXTS[3:])
    (notes / "linked").symlink_to(tmp_path / "other")
    (notes / "loop").symlink_to(notes)
    (notes / "nowhere").symlink_to(tmp_path / "gone")
    texts, reading = read(notes)
    assert (len(texts), reading.dropped) == (3, {"linked_folder": 2})
    texts, reading = read(notes, follow_links=True)
    assert (sorted(texts), reading.dropped) == (sorted(TEXTS), {"linked_folder": 1})


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.jsonl"])
def test_d20_carriage_returns_alone_end_lines(name: str, tmp_path: Path) -> None:
    delimiter = "\t" if name == "a.tsv" else ","
    lines = [f"id{delimiter}text", *(f"{n}{delimiter}{LONG} {n}" for n in range(5))]
    if name == "a.jsonl":
        lines = [json.dumps({"text": f"{LONG} {n}"}) for n in range(5)]
    (tmp_path / name).write_bytes("\r".join(lines).encode())
    assert read(tmp_path / name)[0] == [f"{LONG} {n}" for n in range(5)]


@pytest.mark.parametrize("indent", [None, 2])
def test_d23_jsonl_that_is_one_array_is_read(indent: int | None, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(json.dumps(rows(), indent=indent))
    assert read(tmp_path / "a.jsonl")[0] == TEXTS


def test_d23_jsonl_printed_over_several_lines_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("\n".join(json.dumps(row, indent=2) for row in rows()))
    assert read(tmp_path / "a.jsonl")[0] == TEXTS


def test_d23_the_hint_fits_the_fault(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.jsonl").write_text("no json\n" * 50)
    assert main(["data", "build", str(tmp_path / "a.jsonl"), "--out", str(tmp_path / "c")]) == 1
    assert "one JSON object a line" in capsys.readouterr().err


def test_d25_a_corpus_inside_the_folder_is_never_read(tmp_path: Path) -> None:
    notes = write_documents(tmp_path / "notes", prose(40))
    words = ["data", "build", str(notes), "--set", "data.vocab_size=400", "--out"]
    assert main([*words, str(notes / "corpus")]) == 0
    for number, text in enumerate(prose(40)):
        (notes / f"{number:04d}.txt").write_text(f"{text}\nEdited.")
    assert main([*words, str(tmp_path / "second")]) == 0
    tables = [pq.read_table(file) for file in (tmp_path / "second/documents").glob("*.parquet")]
    texts = [text for table in tables for text in table["text"].to_pylist()]
    assert len(texts) == 40
    assert all(text.endswith("Edited.") for text in texts)
    assert load_manifest(tmp_path / "second")["drops"]["corpus"]["examples"] == ["notes/corpus"]
    with pytest.raises(DataError, match="is a corpus that triptych wrote"):
        read(notes / "corpus")
