"""Sources with weights and columns of their own; a second build says what changed."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.lm.data.conftest import SMALL, prose, write_documents
from triptych.cli.main import main
from triptych.durable import sha256_file
from triptych.errors import DataError
from triptych.lm.data.build import build_corpus
from triptych.lm.data.manifest import load_manifest
from triptych.lm.data.mixture import parse_source, times_taken
from triptych.lm.data.rebuild import rebuild_corpus


def texts(corpus: Path, split: str) -> list[str]:
    column: list[str] = pq.read_table(corpus / "documents" / f"{split}.parquet")["text"].to_pylist()
    return column


def contents(folder: Path) -> dict[str, str]:
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    return {str(file.relative_to(folder)): sha256_file(file) for file in files}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "notes"
    write_documents(made, prose(60))
    return made


def test_a_weight_repeats_training_documents_and_never_validation(
    folder: Path, tmp_path: Path
) -> None:
    rows = prose(100)[60:]
    file = tmp_path / "rows.jsonl"
    file.write_text("\n".join(json.dumps({"body": row, "id": n}) for n, row in enumerate(rows)))
    manifest = build_corpus(
        [f"{folder}::weight=0.5", f"{file}::weight=3,column=body"], tmp_path / "out", SMALL
    )
    train, val = Counter(texts(tmp_path / "out", "train")), Counter(texts(tmp_path / "out", "val"))
    assert {train[row] for row in rows if row not in val} == {3}
    assert set(val.values()) == {1}
    kept = sum(text in train for text in prose(60))
    assert 15 <= kept <= 45, "about half of the documents with half a weight"
    assert manifest["sources"][0]["weight"] == 0.5
    assert manifest["sources"][1]["column"] == "body"
    assert manifest["drops"]["by_weight"]["documents"] == 60 - kept - sum(
        t in val for t in prose(60)
    )


def test_a_fraction_of_a_weight_is_met_on_average_and_decided_by_the_text() -> None:
    drawn = [times_taken(1.25, f"text {n}", 0) for n in range(4000)]
    assert set(drawn) == {1, 2}
    assert abs(sum(drawn) / 4000 - 1.25) < 0.03
    assert drawn == [times_taken(1.25, f"text {n}", 0) for n in range(4000)]


@pytest.mark.parametrize(
    "text", ["a::weight=0", "a::weight=nan", "a::weight=1e9", "a::weight=x", "a::wieght=2", "a::b"]
)
def test_a_mistaken_option_is_refused_with_the_form_to_write(text: str) -> None:
    with pytest.raises(DataError, match="a"):
        parse_source(text)


def test_a_second_build_of_an_unchanged_folder_leaves_every_byte(
    folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    build_corpus([str(folder)], out, SMALL)
    before, inode = contents(out), out.stat().st_ino
    _, changes = rebuild_corpus([str(folder)], out, SMALL, apply=True)
    assert not changes
    assert contents(out) == before
    assert out.stat().st_ino == inode
    assert [entry.name for entry in tmp_path.iterdir() if ".again-" in entry.name] == []


def test_a_changed_folder_is_named_first_and_replaces_the_corpus_only_when_asked(
    folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    build_corpus([str(folder)], out, SMALL)
    before = contents(out)
    files = sorted(folder.iterdir())
    files[0].unlink()
    files[1].write_text(files[1].read_text() + " An added sentence, which was not there before.")
    (folder / "zz-new.txt").write_text("A wholly new document about the price of copper in May.")
    _, changes = rebuild_corpus([str(folder)], out, SMALL, apply=False)
    assert changes.new == ("notes/zz-new.txt",)
    assert changes.changed == (f"notes/{files[1].name}",)
    assert changes.gone == (f"notes/{files[0].name}",)
    assert contents(out) == before
    manifest, _ = rebuild_corpus([str(folder)], out, SMALL, apply=True)
    assert load_manifest(out) == manifest
    assert contents(out) != before


def test_a_corpus_is_put_back_where_a_replacement_was_killed_half_way(
    folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    build_corpus([str(folder)], out, SMALL)
    before = contents(out)
    (tmp_path / ".out.again-x").mkdir()
    shutil.move(out, tmp_path / ".out.again-x" / "old")
    rebuild_corpus([str(folder)], out, SMALL, apply=False)
    assert contents(out) == before


def test_the_command_says_what_changed_and_what_to_type(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["data", "build", str(folder), "--out", str(tmp_path / "out"), "--vocab-size", "300"]
    assert main(command) == 0
    assert main(command) == 0
    assert "unchanged" in capsys.readouterr().err
    (folder / "zz-new.txt").write_text("A wholly new document about the price of copper in May.")
    assert main(command) == 0
    said = capsys.readouterr().err
    assert "new 1: notes/zz-new.txt" in said
    assert "add --update" in said
    assert main([*command, "--update"]) == 0
    assert "the corpus was replaced" in capsys.readouterr().err
