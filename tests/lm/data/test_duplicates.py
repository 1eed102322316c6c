"""Near duplicates go, everything else stays, and no validation text is repeated in training."""

from __future__ import annotations

import random
import re
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from tests.lm.data.conftest import prose
from triptych.lm.data.duplicates import NearDuplicates
from triptych.lm.data.leakage import LeakageCheck
from triptych.lm.data.shingles import word_shingles


def edited(text: str, share: float, seed: int = 0) -> str:
    """Replace a share of the words."""
    generator = random.Random(seed)
    words = text.split(" ")
    for position in generator.sample(range(len(words)), int(share * len(words))):
        words[position] = "edited"
    return " ".join(words)


def jaccard(left: str, right: str) -> float:
    """The exact similarity that MinHash estimates, by another way."""
    sets = []
    for text in (left, right):
        words = re.findall(r"[0-9a-z\u0080-\U0010ffff]+", text.lower())
        sets.append(set(zip(*(words[start:] for start in range(5)), strict=False)))
    return len(sets[0] & sets[1]) / len(sets[0] | sets[1])


def kept(texts: list[str], folder: Path, *, batch: int = 7, threshold: float = 0.8) -> list[bool]:
    with NearDuplicates(folder / "signatures", min_similarity_frac=threshold) as duplicates:
        for start in range(0, len(texts), batch):
            duplicates.add(texts[start : start + batch])
        marks: list[bool] = duplicates.kept().tolist()
    assert not list(folder.iterdir())
    return marks


def test_of_each_cluster_the_first_stays(tmp_path: Path) -> None:
    originals = prose(20, words=400)
    copies = [edited(text, 0.01, seed) for seed, text in enumerate(originals[:10])]
    again = [text.upper().replace(".", " !") for text in originals[5:15]]
    texts = originals + copies + again
    assert min(jaccard(a, b) for a, b in zip(originals, copies, strict=False)) > 0.85
    assert kept(texts, tmp_path) == [True] * 20 + [False] * 20


def test_documents_below_the_threshold_stay(tmp_path: Path) -> None:
    originals = prose(30, words=400)
    copies = [edited(text, 0.12, seed) for seed, text in enumerate(originals)]
    assert max(jaccard(a, b) for a, b in zip(originals, copies, strict=True)) < 0.7
    assert all(kept(originals + copies, tmp_path))


def test_batches_do_not_change_the_result(tmp_path: Path) -> None:
    texts = prose(30) + [edited(text, 0.002) for text in prose(30)]
    assert kept(texts, tmp_path, batch=1) == kept(texts, tmp_path, batch=60)


def test_real_passages_lose_exactly_their_duplicates(shared_data: Path, tmp_path: Path) -> None:
    """A tenth of the original system's passages: 197 occur twice, none nearly twice."""
    lines = (shared_data / "squad-passages.txt").read_text(encoding="utf-8").splitlines()
    passages = [line for line in lines if line.strip()]
    assert sum(kept(passages, tmp_path, batch=500)) == len(set(passages)) == len(passages) - 197


def test_shingles_are_the_runs_of_words_of_each_text() -> None:
    texts = ["One two, three four.", "three FOUR five", "a", "...", "", "one TWO three: four"]
    hashes, offsets = word_shingles(texts, 3)
    of = [hashes[int(a) : int(b)] for a, b in pairwise(offsets)]
    assert [len(shingles) for shingles in of] == [2, 1, 1, 1, 1, 2]
    assert of[0].tolist() == of[5].tolist()
    assert len(set(hashes.tolist())) == 6


def test_shingles_do_not_depend_on_neighbours() -> None:
    texts = [*prose(12), "東京は日本の首都です。" * 3, "héllo wörld ünd mehr als fünf wörter", "x"]
    together, offsets = word_shingles(texts, 5)
    for number, text in enumerate(texts):
        alone, _ = word_shingles([text], 5)
        assert alone.tolist() == together[int(offsets[number]) : int(offsets[number + 1])].tolist()


def test_shingles_hash_the_same_on_every_machine() -> None:
    """The definition in whole numbers, without arrays or their overflow."""
    modulus, mask = 1 << 64, (1 << 64) - 1
    base, word_base = 0x9E3779B97F4A7C15, 0xD6E8FEB86659FD93

    def mix(x: int) -> int:
        x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & mask
        x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & mask
        return x ^ (x >> 31)

    def word(text: str) -> int:
        letters = enumerate(text.encode())
        return mix(sum(byte * pow(base, at, modulus) for at, byte in letters) % modulus)

    combined = 0
    for text in ["the", "quick", "brown", "fox"]:
        combined = (combined * word_base + word(text)) % modulus
    hashes, _ = word_shingles(["The quick -- brown fox!"], 4)
    assert hashes.tolist() == [mix(combined)] == [7018284380139750631]


def test_scripts_without_spaces_have_shingles() -> None:
    shingles, _ = word_shingles(["東京は日本の首都です"], 5)
    assert len(shingles) == 6


@pytest.mark.parametrize("position", ["whole", "start", "middle"])
def test_a_validation_document_quoted_in_training_is_seen(position: str) -> None:
    validation = prose(5, seed=1)
    around = prose(40, seed=2)
    quoted = {
        "whole": validation[2],
        "start": validation[2] + "\n" + " ".join(around[:20]),
        "middle": " ".join(around[:20]) + "\n" + validation[2] + "\n" + " ".join(around[20:]),
    }[position]
    check = LeakageCheck(iter([validation[:3], validation[3:]]))
    check.add_training(around)
    assert check.overlap_frac().max() == 0
    check.add_training([quoted])
    assert check.overlap_frac().tolist() == [0, 0, 1, 0, 0]


def test_overlap_is_the_share_of_shingles_in_training() -> None:
    words = [f"word{number}" for number in range(80)]
    check = LeakageCheck(iter([[" ".join(words)]]))
    check.add_training([" ".join(words[:44])])
    assert check.overlap_frac() == pytest.approx([(44 - 7) / (80 - 7)])
    assert check.overlap_frac().dtype == np.float64
