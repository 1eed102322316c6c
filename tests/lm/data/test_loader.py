"""The order of training data: complete, shuffled, and a function of four numbers only."""

from __future__ import annotations

import itertools
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.lm.data.test_shards import write_corpus
from triptych.errors import DataError
from triptych.lm.data import loader
from triptych.lm.data.shards import TokenShards

# Every token names its document and its place in it, so that order can be read off.
DOCUMENTS = [[1 + d * 10 + i for i in range(3 + d % 6)] for d in range(25)]
GOLDEN = [[58, 0, 111, 112, 113, 114, 115, 116], [0, 81, 82, 83, 84, 85, 0, 41]]
SHAPE = {"batch_size": 2, "sequence_length": 8}


@pytest.fixture
def shards(tmp_path: Path) -> TokenShards:
    return TokenShards(write_corpus(tmp_path / "data", DOCUMENTS), "train")


def epoch_of(shards: TokenShards, *, seed: int = 0, epoch: int = 0) -> np.ndarray:
    batches = loader.batches_per_epoch(shards, **SHAPE)
    inputs = [
        loader.batch(shards, seed=seed, epoch=epoch, index=index, **SHAPE)[0]
        for index in range(batches)
    ]
    return np.concatenate(inputs)


def test_targets_are_the_inputs_shifted_by_one(shards: TokenShards) -> None:
    inputs, targets = loader.batch(shards, seed=0, epoch=0, index=1, **SHAPE)
    assert inputs.shape == targets.shape == (2, 8)
    assert inputs.dtype == targets.dtype == np.int64
    assert (inputs[:, 1:] == targets[:, :-1]).all()


def test_an_epoch_has_every_token_at_most_once_and_misses_few(shards: TokenShards) -> None:
    seen = epoch_of(shards).ravel()
    named = seen[seen != 0]
    assert len(set(named.tolist())) == len(named)
    assert len(shards) - seen.size <= 2 * 8


def test_documents_stay_whole_and_begin_with_the_boundary(shards: TokenShards) -> None:
    for row in epoch_of(shards):
        for left, right in itertools.pairwise(row):
            if right != 0 and left != 0:
                assert right == left + 1
            elif left == 0:
                assert (right - 1) % 10 == 0


def test_each_epoch_and_each_seed_has_its_own_order(shards: TokenShards) -> None:
    first = epoch_of(shards)
    assert (first == epoch_of(shards)).all()
    assert (first != epoch_of(shards, epoch=1)).any()
    assert (first != epoch_of(shards, seed=1)).any()


def test_other_data_has_another_order(tmp_path: Path, shards: TokenShards) -> None:
    changed = [*DOCUMENTS[:-1], [299]]
    other = TokenShards(write_corpus(tmp_path / "other", changed), "train")
    assert other.fingerprint != shards.fingerprint
    assert (
        loader.shuffled(25, other.fingerprint, 0, 0)
        != loader.shuffled(25, shards.fingerprint, 0, 0)
    ).any()


def test_the_order_is_a_permutation_without_bias() -> None:
    """Over many epochs every document comes first about equally often."""
    firsts = [int(loader.shuffled(10, "x", 0, epoch)[0]) for epoch in range(3000)]
    counts = np.bincount(firsts, minlength=10)
    assert counts.min() > 230
    assert counts.max() < 370
    assert sorted(loader.shuffled(1000, "x", 0, 0).tolist()) == list(range(1000))


def test_the_order_is_the_same_forever() -> None:
    """A checkpoint resumed under another version must meet the same batches."""
    assert loader.shuffled(8, "fingerprint", 7, 3).tolist() == [0, 1, 7, 5, 6, 3, 2, 4]


def test_a_batch_is_the_same_forever(shards: TokenShards) -> None:
    """Written down once: any change of the order, however sensible, breaks every resume."""
    assert loader.batch(shards, seed=5, epoch=2, index=3, **SHAPE)[0].tolist() == GOLDEN


def test_another_process_reads_the_same_batch(shards: TokenShards) -> None:
    here = loader.batch(shards, seed=5, epoch=2, index=3, **SHAPE)[0]
    program = (
        "import sys; from pathlib import Path\n"
        "from triptych.lm.data import loader; from triptych.lm.data.shards import TokenShards\n"
        "shards = TokenShards(Path(sys.argv[1]), 'train')\n"
        "x, _ = loader.batch(shards, seed=5, epoch=2, index=3, batch_size=2, sequence_length=8)\n"
        "print(x.tolist())"
    )
    command = [sys.executable, "-c", program, str(shards.folder)]
    there = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert there.strip() == str(here.tolist())


def test_a_step_is_located_without_any_state() -> None:
    assert [loader.locate(step, 3) for step in range(7)] == [
        (0, 0),
        (0, 1),
        (0, 2),
        (1, 0),
        (1, 1),
        (1, 2),
        (2, 0),
    ]


def test_a_corpus_smaller_than_one_batch_says_so(shards: TokenShards) -> None:
    with pytest.raises(DataError, match="less than one batch of 64 x 8") as error:
        loader.batch(shards, seed=0, epoch=0, index=0, batch_size=64, sequence_length=8)
    assert "smaller batch" in error.value.hint


def test_an_epoch_is_whole_batches(shards: TokenShards) -> None:
    batches = loader.batches_per_epoch(shards, **SHAPE)
    assert epoch_of(shards).size == batches * 2 * 8
    with pytest.raises(IndexError):
        loader.batch(shards, seed=0, epoch=0, index=batches, **SHAPE)
