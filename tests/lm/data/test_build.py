"""Building a corpus: complete, repeatable, honest about drops, and never half done."""

from __future__ import annotations

import dataclasses
import gzip
import itertools
import json
import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from tests.lm.data.conftest import SMALL, as_nobody, prose, write_documents
from triptych.config.data import DataConfig
from triptych.durable import sha256_file
from triptych.errors import DataError, StorageError
from triptych.lm.data.build import build_corpus
from triptych.lm.data.manifest import load_manifest
from triptych.lm.data.shards import TokenShards
from triptych.lm.model.tokenizer import Tokenizer


def build(out: Path, *sources: Path | str, **settings: Any) -> dict[str, Any]:
    config = dataclasses.replace(SMALL, **settings)
    return build_corpus([str(source) for source in sources], out, config)


def texts(corpus: Path, split: str) -> list[str]:
    column: list[str] = pq.read_table(corpus / "documents" / f"{split}.parquet")["text"].to_pylist()
    return column


def contents(folder: Path) -> dict[str, str]:
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    return {str(file.relative_to(folder)): sha256_file(file) for file in files}


def test_every_document_is_in_one_split_and_in_its_shard(corpus: Path) -> None:
    assert sorted(texts(corpus, "train") + texts(corpus, "val")) == sorted(prose(120))
    tokenizer = Tokenizer.load(corpus / "tokenizer")
    for split in ("train", "val"):
        shards = TokenShards(corpus, split)
        starts = [*shards.document_starts.tolist(), len(shards)]
        decoded = [
            tokenizer.decode(shards.read(start + 1, stop - start - 1).tolist())
            for start, stop in itertools.pairwise(starts)
        ]
        assert decoded == texts(corpus, split)


def test_the_manifest_counts_what_is_there(corpus: Path) -> None:
    manifest = load_manifest(corpus)
    lengths = Tokenizer.load(corpus / "tokenizer").token_byte_lengths()
    for split, count in manifest["counts"].items():
        shards = TokenShards(corpus, split)
        assert count["documents"] == len(texts(corpus, split)) == len(shards.document_starts)
        assert count["tokens"] == len(shards)
        assert count["bytes"] == sum(len(text.encode()) for text in texts(corpus, split))
        assert count["bytes"] == int(lengths[np.asarray(shards.read(0, len(shards)))].sum())
    assert manifest["licences"] == {"unknown": 120}
    assert manifest["sources"] == [
        {
            "source": "notes",
            "documents": 120,
            "bytes": manifest["counts"]["train"]["bytes"] + manifest["counts"]["val"]["bytes"],
        }
    ]
    assert manifest["split"]["overlap_max_frac"] == 0


def test_the_documents_name_source_licence_and_split(corpus: Path) -> None:
    table = pq.read_table(corpus / "documents" / "val.parquet")
    assert table.column_names == ["text", "source", "licence", "split"]
    assert set(table["split"].to_pylist()) == {"val"}
    assert all(source.startswith("notes/") for source in table["source"].to_pylist())


def test_same_inputs_and_seed_give_the_same_bytes(
    text_folder: Path, corpus: Path, tmp_path: Path
) -> None:
    """In another process too, where hashes of strings and threads differ."""
    program = (
        "import sys; from pathlib import Path\n"
        "from tests.lm.data.conftest import SMALL\n"
        "from triptych.lm.data.build import build_corpus\n"
        "build_corpus([sys.argv[1]], Path(sys.argv[2]), SMALL)"
    )
    command = [sys.executable, "-c", program, str(text_folder), str(tmp_path / "again")]
    environment = {**os.environ, "TOKENIZERS_PARALLELISM": "true", "PYTHONHASHSEED": "99"}
    subprocess.run(command, check=True, env=environment)
    assert contents(tmp_path / "again") == contents(corpus)


def test_another_seed_gives_another_split(text_folder: Path, corpus: Path, tmp_path: Path) -> None:
    other = build(tmp_path / "other", text_folder, seed=1)
    assert texts(tmp_path / "other", "val") != texts(corpus, "val")
    assert other["fingerprint"] != load_manifest(corpus)["fingerprint"]


def test_duplicates_go_and_each_drop_is_counted(tmp_path: Path) -> None:
    documents = prose(60, words=300)
    near = documents[3].replace("\n", " ") + " And one word more."
    folder = write_documents(tmp_path / "notes", [*documents, documents[7], near, "short"])
    manifest = build(tmp_path / "out", folder)
    dropped = {reason: drop["documents"] for reason, drop in manifest["drops"].items()}
    assert dropped == {"exact_duplicate": 1, "near_duplicate": 1, "too_short": 1}
    assert manifest["drops"]["near_duplicate"]["examples"] == ["notes/0061.txt"]


def test_a_validation_document_quoted_in_training_is_dropped(tmp_path: Path) -> None:
    """The leak of the original system: held-out passages that training contains verbatim."""
    short = prose(40, words=60)
    quoting = " ".join(short) + " " + " ".join(prose(60, seed=5))
    folder = write_documents(tmp_path / "notes", [*short, *prose(40, seed=9), quoting])
    manifest = build(tmp_path / "out", folder, validation_frac=0.2)
    held_out, training = texts(tmp_path / "out", "val"), texts(tmp_path / "out", "train")
    assert quoting in training
    assert manifest["drops"]["near_duplicate_of_training"]["documents"] > 0
    assert not [text for text in held_out if text in quoting]
    assert manifest["split"]["overlap_max_frac"] < 0.5


def test_a_single_text_gives_its_end_for_validation(tmp_path: Path) -> None:
    text = "\n\n".join(prose(200))
    (tmp_path / "book.txt").write_text(text)
    manifest = build(tmp_path / "out", tmp_path / "book.txt")
    assert manifest["split"]["by"] == "end of the only document"
    (train,), (val,) = texts(tmp_path / "out", "train"), texts(tmp_path / "out", "val")
    assert text.startswith(train)
    assert text.endswith(val)
    assert 0.08 < len(val) / len(text) < 0.12


def test_an_existing_tokenizer_is_used_as_it_is(
    corpus: Path, text_folder: Path, tmp_path: Path
) -> None:
    asked = []

    def resolve(reference: str) -> Path:
        asked.append(reference)
        return corpus / "tokenizer"

    config = dataclasses.replace(SMALL, tokenizer="owner/model", vocab_size=9999)
    manifest = build_corpus([str(text_folder)], tmp_path / "out", config, resolve=resolve)
    assert asked == ["owner/model"]
    assert contents(tmp_path / "out") == contents(corpus)
    assert manifest == load_manifest(corpus)


def test_each_source_is_bounded_in_whole_documents(text_folder: Path, tmp_path: Path) -> None:
    other = write_documents(tmp_path / "other", prose(50, seed=3))
    manifest = build(tmp_path / "out", text_folder, other, max_bytes=10_000)
    assert [source["source"] for source in manifest["sources"]] == ["notes", "other"]
    for source in manifest["sources"]:
        assert 9_000 < source["bytes"] <= 10_000


def test_the_tokenizer_sees_a_bounded_sample(text_folder: Path, tmp_path: Path) -> None:
    few = build(tmp_path / "few", text_folder, tokenizer_sample_bytes=5_000)
    assert few["counts"]["train"]["documents"] > 100
    sampled = Tokenizer.load(tmp_path / "few" / "tokenizer")
    assert sampled.vocab_size == 400


def test_progress_names_each_stage_and_never_passes_its_total(
    text_folder: Path, tmp_path: Path
) -> None:
    seen: dict[str, list[tuple[float, float | None]]] = {}

    def note(stage: str, done: float, total: float | None) -> None:
        seen.setdefault(stage, []).append((done, total))

    build_corpus([str(text_folder)], tmp_path / "out", SMALL, on_progress=note)
    assert list(seen) == [
        f"reading {text_folder}",
        "finding near duplicates",
        "writing documents",
        "checking the split",
        "reading the tokenizer's sample",
        "training the tokenizer",
        "tokenising",
    ]
    for steps in seen.values():
        assert [done for done, _ in steps] == sorted(done for done, _ in steps)
        assert all(total is None or done <= total for done, total in steps)


BAD_SOURCES = {
    "an empty file": (b"", "dropped: 1 empty"),
    "a binary file": (b"\x89PNG\x00\x00" * 99, "dropped: 1 binary"),
    "broken UTF-8": (b"gr\xf6\xdfer als alles andere " * 9, "dropped: 1 invalid utf8"),
    "only spaces": (b" \n" * 999, "dropped: 1 empty"),
    "too little": (b"a few words", "dropped: 1 too short"),
}


@pytest.mark.parametrize("case", BAD_SOURCES)
def test_a_source_without_text_stops_the_build_and_leaves_nothing(
    case: str, tmp_path: Path
) -> None:
    data, message = BAD_SOURCES[case]
    (tmp_path / "bad.txt").write_bytes(data)
    good = write_documents(tmp_path / "good", prose(20))
    out = tmp_path / "place" / "out"
    with pytest.raises(DataError, match=r"bad\.txt holds no usable text") as error:
        build(out, good, tmp_path / "bad.txt")
    assert message in error.value.message or case == "only spaces"
    assert error.value.hint
    assert not list((tmp_path / "place").iterdir())


def test_no_source_is_a_usage_to_learn_from(tmp_path: Path) -> None:
    with pytest.raises(DataError) as error:
        build(tmp_path / "out")
    assert "python-docs" in error.value.hint


def test_text_too_short_to_divide_is_refused(tmp_path: Path) -> None:
    (tmp_path / "one.txt").write_text("x" * 20 + " " + "y" * 20)
    with pytest.raises(DataError, match="too little text to hold some out"):
        build(tmp_path / "out", tmp_path / "one.txt", validation_frac=0.99)
    assert not (tmp_path / "out").exists()


def test_a_missing_tokenizer_is_told_before_the_work(text_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no tokenizer\.json"):
        build(tmp_path / "out", text_folder, tokenizer=str(tmp_path))


def test_an_existing_folder_is_never_overwritten(text_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("years of work")
    with pytest.raises(StorageError, match="already exists"):
        build(tmp_path / "out", text_folder)
    assert (tmp_path / "out" / "thesis.txt").read_text() == "years of work"


def test_a_folder_that_appears_meanwhile_is_not_overwritten(
    text_folder: Path, tmp_path: Path
) -> None:
    """Two builds of one name: the second to finish loses, and says so."""

    def someone_else(stage: str, done_bytes: float, total_bytes: float | None) -> None:
        (tmp_path / "out").mkdir(exist_ok=True)
        (tmp_path / "out" / "manifest.json").write_text("theirs")

    with pytest.raises(StorageError, match="already exists"):
        build_corpus([str(text_folder)], tmp_path / "out", SMALL, on_progress=someone_else)
    assert [file.name for file in tmp_path.iterdir() if "out" in file.name] == ["out"]
    assert (tmp_path / "out" / "manifest.json").read_text() == "theirs"


def test_an_empty_folder_may_be_filled(text_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    assert build(tmp_path / "out", text_folder)["counts"]


def test_a_place_without_permission_is_named() -> None:
    with as_nobody() as folder:
        (folder / "book.txt").write_text("\n\n".join(prose(100)))
        (folder / "locked").mkdir(mode=0o500)
        with pytest.raises(StorageError, match="no permission to write"):
            build(folder / "locked" / "out", folder / "book.txt")


@contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """Mount a disk of 300 kB, or where that is not allowed let no file grow so large."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode == 0:
        try:
            yield folder
        finally:
            subprocess.run(["umount", "--lazy", str(folder)], check=True)
        return
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, before[1]))
    try:
        yield folder
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("name", ["notes.jsonl.gz", "notes.jsonl"])
def test_a_full_disk_leaves_nothing_behind(name: str, tmp_path: Path) -> None:
    """Compressed text passes the check of free space, and fills the disk halfway."""
    lines = "".join(json.dumps({"text": text}) + "\n" for text in prose(2500))
    data = gzip.compress(lines.encode()) if name.endswith(".gz") else lines.encode()
    (tmp_path / name).write_bytes(data)
    with small_disk(tmp_path / "disk") as disk:
        with pytest.raises(StorageError) as error:
            build(disk / "out", tmp_path / name)
        assert error.value.code == "disk_full"
        assert not list(disk.iterdir())


@pytest.mark.parametrize(
    ("field", "value"),
    [("vocab_size", 10), ("validation_frac", 0), ("validation_frac", 1.5), ("min_chars", 0)],
)
def test_an_impossible_setting_is_refused(field: str, value: float) -> None:
    with pytest.raises(ValueError, match=field):
        DataConfig(**{field: value})
