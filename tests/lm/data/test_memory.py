"""The promise of bounded memory, measured on a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.lm.data.conftest import prose

PROGRAM = """
import resource, sys
from pathlib import Path
from triptych.config.data import DataConfig
from triptych.lm.data.build import build_corpus
config = DataConfig(vocab_size=8192, tokenizer_sample_bytes=8_000_000)
build_corpus([sys.argv[1]], Path(sys.argv[2]), config)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def peak_mb(source: Path, out: Path) -> float:
    """Build a corpus and return the peak resident memory of the process."""
    command = [sys.executable, "-c", PROGRAM, str(source), str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return int(done.stdout) / 1024


@pytest.mark.prove
@pytest.mark.timeout(3600)
def test_one_gigabyte_of_short_documents_needs_less_than_1500_mb(tmp_path: Path) -> None:
    source = tmp_path / "big.jsonl"
    size_bytes = 0
    with source.open("w") as file:
        for seed in range(10_000):
            for text in prose(1000, seed=seed):
                size_bytes += file.write(json.dumps({"text": text}) + "\n")
            if size_bytes > 1_000_000_000:
                break
    assert peak_mb(source, tmp_path / "out") < 1500


@pytest.mark.prove
@pytest.mark.timeout(600)
def test_a_line_of_100_mb_is_cut_in_bounded_memory(tmp_path: Path) -> None:
    source = tmp_path / "line.txt"
    with source.open("w") as file:
        for seed in range(1600):
            file.write(" ".join(prose(160, seed=seed)).replace("\n", " ") + " ")
    assert source.stat().st_size > 100_000_000
    assert peak_mb(source, tmp_path / "out") < 1500
