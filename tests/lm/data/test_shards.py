"""Shards read as one array, and every kind of damage is named before a token is used."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from triptych.errors import DataError
from triptych.lm.data.manifest import data_fingerprint, load_manifest
from triptych.lm.data.shards import ShardWriter, TokenShards, shard_dtype


def write_corpus(folder: Path, documents: list[list[int]], *, vocab_size: int = 300) -> Path:
    """A data folder with nothing but shards, three documents in each."""
    folder.mkdir()
    dtype = shard_dtype(vocab_size)
    with ShardWriter(folder, "train", dtype=dtype, shard_tokens=1) as writer:
        for start in range(0, len(documents), 3):
            group = documents[start : start + 3]
            tokens = [token for document in group for token in (0, *document)]
            writer.append(np.array(tokens, dtype=dtype), len(group))
    manifest = {
        "format_version": 1,
        "fingerprint": data_fingerprint("none", writer.entries),
        "vocab_size": vocab_size,
        "boundary_id": 0,
        "dtype": dtype.name,
        "shards": writer.entries,
    }
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


DOCUMENTS = [[document + 1] * (document % 5 + 1) for document in range(20)]
FLAT = [token for document in DOCUMENTS for token in (0, *document)]


def test_shards_read_as_one_array(tmp_path: Path) -> None:
    shards = TokenShards(write_corpus(tmp_path / "data", DOCUMENTS), "train")
    assert len(shards) == len(FLAT)
    assert len(list((tmp_path / "data").glob("*.bin"))) == 7
    for start in range(0, len(FLAT), 3):
        for count in (0, 1, 5, 17, len(FLAT)):
            assert shards.read(start, count).tolist() == FLAT[start : start + count]


@pytest.mark.parametrize("scanned_at_once", [1, 7, 1 << 24])
def test_document_starts_are_the_boundaries(
    scanned_at_once: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("triptych.lm.data.shards._SCAN_TOKENS", scanned_at_once)
    shards = TokenShards(write_corpus(tmp_path / "data", DOCUMENTS), "train")
    expected = [position for position, token in enumerate(FLAT) if token == 0]
    assert shards.document_starts.tolist() == expected


def test_a_large_vocabulary_takes_four_bytes(tmp_path: Path) -> None:
    assert shard_dtype(1 << 16) == np.dtype("<u2")
    folder = write_corpus(tmp_path / "data", [[70_000, 5]], vocab_size=(1 << 16) + 5000)
    assert TokenShards(folder, "train").read(0, 9).tolist() == [0, 70_000, 5]
    assert (folder / "train-00000.bin").read_bytes()[4:8] == (70_000).to_bytes(4, "little")


def damaged(corpus: Path, folder: Path) -> Path:
    shutil.copytree(corpus, folder)
    return folder / "train-00000.bin"


def test_an_altered_shard_is_named(corpus: Path, tmp_path: Path) -> None:
    shard = damaged(corpus, tmp_path / "data")
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 1
    shard.write_bytes(data)
    with pytest.raises(DataError, match=r"train-00000\.bin is corrupted"):
        TokenShards(tmp_path / "data", "train")
    assert len(TokenShards(tmp_path / "data", "train", verify=False)) > 0


def test_a_cut_shard_is_named_even_unverified(corpus: Path, tmp_path: Path) -> None:
    shard = damaged(corpus, tmp_path / "data")
    shard.write_bytes(shard.read_bytes()[:-2])
    with pytest.raises(DataError, match="its manifest says"):
        TokenShards(tmp_path / "data", "train", verify=False)


def test_a_missing_shard_is_named(corpus: Path, tmp_path: Path) -> None:
    damaged(corpus, tmp_path / "data").unlink()
    with pytest.raises(DataError, match="is missing"):
        TokenShards(tmp_path / "data", "train")


def test_a_folder_that_is_no_corpus_says_how_to_build_one(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(DataError, match="is not a corpus") as error:
            load_manifest(folder)
        assert "triptych data build" in error.value.hint


@pytest.mark.parametrize("text", ["{", "[]", "{}", '"x"'])
def test_a_torn_manifest_is_named(text: str, tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(DataError, match="not a readable manifest"):
        load_manifest(tmp_path)


def test_a_newer_format_is_refused(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text('{"format_version": 2}')
    with pytest.raises(DataError, match="data format 2"):
        load_manifest(tmp_path)


def test_an_unknown_split_is_refused(corpus: Path) -> None:
    with pytest.raises(DataError, match="no split 'test'"):
        TokenShards(corpus, "test")
