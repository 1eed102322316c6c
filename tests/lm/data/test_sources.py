"""Every kind of source is read alike, and broken ones say what is wrong."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.lm.data.conftest import as_nobody, prose
from triptych.config.data import DataConfig
from triptych.errors import DataError
from triptych.lm.data.document import Document, Reading
from triptych.lm.data.readers.sources import display_name, read_source

DOCUMENTS = prose(5)
LICENCES = ["MIT", "", "CC0-1.0", "", ""]
CONFIG = DataConfig(licence="own")


def zstd(data: bytes) -> bytes:
    compressed: bytes = pa.compress(data, codec="zstd", asbytes=True)
    return compressed


def read(source: Path | str, config: DataConfig = CONFIG) -> tuple[list[Document], Reading]:
    reading = Reading()
    return list(read_source(str(source), config, reading)), reading


def jsonl() -> bytes:
    rows = [{"text": t, "licence": c} for t, c in zip(DOCUMENTS, LICENCES, strict=True)]
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def as_csv() -> bytes:
    quoted = ['"' + text.replace('"', '""') + '"' for text in DOCUMENTS]
    lines = [f"{text},{licence}" for text, licence in zip(quoted, LICENCES, strict=True)]
    return ("text,licence\r\n" + "\r\n".join(lines)).encode("utf-8-sig")


def write_parquet(path: Path) -> None:
    pq.write_table(pa.table({"text": DOCUMENTS, "licence": LICENCES, "n": range(5)}), path)


WRITERS: dict[str, Callable[[Path], object]] = {
    "a.jsonl": lambda path: path.write_bytes(jsonl()),
    "a.jsonl.gz": lambda path: path.write_bytes(gzip.compress(jsonl())),
    "a.jsonl.zst": lambda path: path.write_bytes(zstd(jsonl())),
    "a.csv": lambda path: path.write_bytes(as_csv()),
    "a.csv.gz": lambda path: path.write_bytes(gzip.compress(as_csv())),
    "a.parquet": write_parquet,
}


@pytest.mark.parametrize("name", WRITERS)
def test_records_read_alike_in_every_format(name: str, tmp_path: Path) -> None:
    WRITERS[name](tmp_path / name)
    documents, reading = read(tmp_path / name)
    assert [document.text for document in documents] == DOCUMENTS
    assert [d.licence for d in documents] == ["MIT", "own", "CC0-1.0", "own", "own"]
    assert len({document.group for document in documents}) == 5
    assert reading.read_bytes == reading.total_bytes == (tmp_path / name).stat().st_size


@pytest.mark.parametrize("name", ["a.txt", "a.md", "a.txt.gz", "a.md.zst", "a.log"])
def test_a_text_file_is_one_document(name: str, tmp_path: Path) -> None:
    data = DOCUMENTS[0].encode()
    compress = {".gz": gzip.compress, ".zst": zstd}.get(Path(name).suffix)
    (tmp_path / name).write_bytes(compress(data) if compress else data)
    documents, _ = read(tmp_path / name)
    assert documents == [Document(DOCUMENTS[0], name, "own", name)]


def test_several_zst_frames_are_one_file(tmp_path: Path) -> None:
    frames = [zstd(text.encode()) for text in ("first half, ", "second half")]
    (tmp_path / "a.txt.zst").write_bytes(b"".join(frames))
    documents, _ = read(tmp_path / "a.txt.zst")
    assert documents[0].text == "first half, second half"


def test_lines_and_paragraphs_can_be_documents(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"one\r\ntwo\r\n\r\nthree\nfour")
    by_line, _ = read(tmp_path / "a.txt", DataConfig(text_documents="line"))
    assert [document.text for document in by_line] == ["one", "two", "three", "four"]
    blocks, _ = read(tmp_path / "a.txt", DataConfig(text_documents="paragraph"))
    assert [document.text for document in blocks] == ["one\ntwo", "three\nfour"]
    assert len({document.group for document in by_line}) == 4


def test_a_folder_is_read_in_name_order_without_hidden_files(tmp_path: Path) -> None:
    folder = tmp_path / "docs"
    (folder / "sub").mkdir(parents=True)
    (folder / ".git").mkdir()
    for name in ("b.md", "a.txt", "sub/c.md", ".git/x.txt", ".hidden.md", "photo.jpg"):
        (folder / name).write_text(name)
    documents, reading = read(folder)
    assert [d.source for d in documents] == ["docs/a.txt", "docs/b.md", "docs/sub/c.md"]
    assert reading.dropped == {"unknown_type": 1}


def test_a_long_document_is_cut_into_parts_of_one_group(tmp_path: Path) -> None:
    text = "\n\n".join(prose(40))
    (tmp_path / "book.txt").write_text(text)
    documents, _ = read(tmp_path / "book.txt", DataConfig(max_document_chars=2000))
    assert "".join(document.text for document in documents) == text
    assert max(len(document.text) for document in documents) <= 2000
    assert {document.group for document in documents} == {"book.txt"}
    assert all(document.text.endswith("\n\n") for document in documents[:-1])


def test_utf_16_is_understood_by_its_mark(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("größer\nals", encoding="utf-16")
    assert read(tmp_path / "a.txt")[0][0].text == "größer\nals"


def test_broken_utf_8_is_dropped_and_counted(tmp_path: Path) -> None:
    (tmp_path / "latin.txt").write_bytes("größer".encode("latin-1"))
    (tmp_path / "good.txt").write_text("good")
    documents, reading = read(tmp_path)
    assert [document.text for document in documents] == ["good"]
    assert reading.dropped == {"invalid_utf8": 1}


@pytest.mark.parametrize("data", [b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR", b"\x7fELF\x02\x01\x00"])
def test_a_binary_file_is_dropped_whatever_its_name(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(data * 50)
    documents, reading = read(tmp_path / "a.txt")
    assert not documents
    assert reading.dropped == {"binary": 1}


def test_broken_records_are_dropped_one_by_one(tmp_path: Path) -> None:
    lines = [b'{"text": "good"}', b"{broken", b'{"text": null}', b'{"text": 7}', b"[1]", b""]
    lines += [b'{"text": "\xff"}', b'{"text": "\\ud800"}', b'{"text": "fine"}']
    (tmp_path / "a.jsonl").write_bytes(b"\n".join(lines))
    documents, reading = read(tmp_path / "a.jsonl")
    assert [document.text for document in documents] == ["good", "fine"]
    expected = {"invalid_json": 2, "missing_text": 1, "not_text": 1, "invalid_utf8": 2}
    assert reading.dropped == expected


def test_a_line_of_100_mb_is_cut_as_text_and_dropped_as_a_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The real size is proven with the memory bound, in test_memory.py."""
    monkeypatch.setattr("triptych.lm.data.readers.records.MAX_RECORD_BYTES", 100_000)
    line = "word " * 60_000
    (tmp_path / "a.txt").write_text(line)
    documents, _ = read(tmp_path / "a.txt", DataConfig(max_document_chars=50_000))
    assert len(documents) == 6
    (tmp_path / "a.jsonl").write_text(json.dumps({"text": line}) + '\n{"text": "short"}\n')
    documents, reading = read(tmp_path / "a.jsonl")
    assert [document.text for document in documents] == ["short"]
    assert reading.dropped == {"too_long": 1}
    (tmp_path / "a.csv").write_text("text\n" + line)
    assert read(tmp_path / "a.csv")[1].dropped == {"too_long": 1}


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv", "a.parquet"])
def test_a_missing_column_is_answered_with_the_columns_there_are(name: str, tmp_path: Path) -> None:
    WRITERS[name](tmp_path / name)
    with pytest.raises(DataError, match="has no column 'texts'; its columns are text") as error:
        read(tmp_path / name, DataConfig(text_column="texts"))
    assert "data.text_column=text" in error.value.hint


def test_a_parquet_column_that_is_no_text_is_named(tmp_path: Path) -> None:
    write_parquet(tmp_path / "a.parquet")
    with pytest.raises(DataError, match=r"column .n. of a\.parquet holds int64"):
        read(tmp_path / "a.parquet", DataConfig(text_column="n"))


@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.jsonl.zst", "a.parquet"])
def test_a_damaged_file_is_named(name: str, tmp_path: Path) -> None:
    WRITERS[name](tmp_path / name)
    data = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(data[: len(data) // 2])
    with pytest.raises(DataError, match=f"{name} is damaged"):
        read(tmp_path / name)


@pytest.mark.parametrize("locked", ["a.txt", "."])
def test_a_file_without_permission_is_named(locked: str) -> None:
    with as_nobody() as folder:
        (folder / "a.txt").write_text("secret")
        (folder / locked).chmod(0)
        with pytest.raises(DataError, match=r"no permission to read .*a\.txt"):
            read(folder / "a.txt")
        folder.chmod(0o700)


def test_a_missing_path_suggests_its_neighbour(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(DataError, match="no file or folder") as error:
        read(tmp_path / "note.txt")
    assert "notes.txt" in error.value.hint


def test_an_unknown_part_of_python_docs_is_refused() -> None:
    with pytest.raises(DataError, match="no part 'French'"):
        read("python-docs:French")


def test_a_manifest_names_no_folder_of_this_machine(tmp_path: Path) -> None:
    assert display_name(str(tmp_path)) == tmp_path.name
    assert display_name("owner/name") == "owner/name"
    assert display_name("python-docs").startswith("python-docs of Python 3.")
