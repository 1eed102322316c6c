"""Reports, yardsticks and comparisons are written from the run's own record."""

from __future__ import annotations

import json
import lzma
import math
from pathlib import Path

import numpy as np
import pytest

from triptych.cli.main import main
from triptych.errors import EvaluationError
from triptych.lm.data.shards import TokenShards
from triptych.lm.evaluate import yardsticks
from triptych.lm.evaluate.comparison import read_text
from triptych.lm.evaluate.report import write_report
from triptych.lm.evaluate.run_history import read_run_history
from triptych.lm.evaluate.yardsticks import measure_yardsticks, text_bytes
from triptych.lm.model.tokenizer import Tokenizer
from triptych.wire.run_events import read_events, whole_split

PNG = b"\x89PNG\r\n\x1a\n"


def test_a_finished_run_has_a_report_of_its_own_figures(run: Path) -> None:
    report = json.loads((run / "report.json").read_text())
    history = read_run_history(run)
    assert report["val/bpb"] == (whole_split(history.evals[-1]) or {})["val/bpb"]
    assert report["tokens_seen"] == history.steps[-1]["tokens_seen"]
    text = (run / "report.md").read_text()
    assert f"{report['val/bpb']:.3f}" in text
    assert f"{report['yardsticks']['xz_bpb']:.3f}" in text
    assert report["samples"][0]["prompt"]
    assert (run / "loss.png").read_bytes().startswith(PNG)


def test_a_report_written_again_is_the_same(run: Path) -> None:
    before = (run / "report.md").read_bytes()
    write_report(run)
    assert (run / "report.md").read_bytes() == before


def test_a_folder_without_a_run_has_no_report(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match="not a run folder"):
        write_report(tmp_path)


def test_yardsticks_are_what_they_say(corpus: Path) -> None:
    train, val = TokenShards(corpus, "train"), TokenShards(corpus, "val")
    tokenizer = Tokenizer.load(corpus / "tokenizer")
    measured = measure_yardsticks(train, val, tokenizer)
    text = tokenizer.decode(val.read(0, len(val)).tolist()).encode()
    assert measured.xz_bpb == 8 * len(lzma.compress(text, preset=9)) / len(text)
    assert measured.xz_primed_bpb < measured.xz_bpb
    counts = np.bincount(train.read(0, len(train)), minlength=train.vocab_size) + 1
    bits = sum(-math.log2(counts[token] / counts.sum()) for token in val.read(0, len(val)))
    assert measured.unigram_bpb == pytest.approx(bits / len(text))


class CountedShards(TokenShards):
    """Shards that remember how much was read of them."""

    def read(self, start: int, count: int) -> np.ndarray:
        reads: list[int] = self.__dict__.setdefault("reads", [])
        reads.append(count)
        return super().read(start, count)


def test_s3_3_the_end_of_a_text_is_read_without_the_rest(
    corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(yardsticks, "_DECODED_TOKENS", 64)
    train, tokenizer = CountedShards(corpus, "train"), Tokenizer.load(corpus / "tokenizer")
    lengths = tokenizer.token_byte_lengths()
    whole = tokenizer.decode(train.read(0, len(train)).tolist()).encode()
    train.__dict__["reads"].clear()
    assert text_bytes(train, tokenizer, lengths, 2_000) == whole[-2_000:]
    assert sum(train.__dict__["reads"]) < len(train) / 2
    assert max(train.__dict__["reads"]) <= 64 + 3
    assert text_bytes(train, tokenizer, lengths, 10**9) == whole, "no character is cut"


def test_s3_3_measuring_says_how_far_it_is(corpus: Path) -> None:
    train, val = TokenShards(corpus, "train"), TokenShards(corpus, "val")
    said: list[str] = []
    measure_yardsticks(train, val, Tokenizer.load(corpus / "tokenizer"), said.append)
    assert "yardsticks: xz reads both, 0%" in said


def test_a_history_with_repeated_steps_reads_as_one(tmp_path: Path) -> None:
    lines = [("step", 1), ("step", 2), ("eval", 3), ("state", 3), ("step", 2), ("eval", 3)]
    lines += [("step", 4)]
    log = tmp_path / "events.jsonl"
    log.write_text("".join(json.dumps({"seq": s, "type": t}) + "\n" for t, s in lines))
    assert [(e["type"], e["seq"]) for e in read_events(log)] == [
        ("step", 1),
        ("step", 2),
        ("eval", 3),
        ("state", 3),
        ("step", 4),
    ]


def test_eval_prints_what_json_says(
    checkpoint: Path, corpus: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["eval", str(checkpoint), "--data", str(corpus), "--json"]) == 0
    values = json.loads(capsys.readouterr().out)
    assert values["tokens_seen"] == 30 * 512
    assert main(["eval", str(checkpoint), "--data", str(corpus)]) == 0
    assert f"{values['bpb']:.4f}" in capsys.readouterr().out


def test_compare_draws_and_ranks(
    run: Path, qwen3_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text, chart = tmp_path / "text.txt", tmp_path / "chart.png"
    text.write_text(Path(json.__file__).read_text())
    arguments = ["compare", str(qwen3_folder), str(run), "--text", str(text), "--out", str(chart)]
    assert main(arguments) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].startswith("small/step-00000030"), "the trained one is better"
    assert chart.read_bytes().startswith(PNG)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "cannot read"),
        (b"", "empty"),
        (b"\x00\x01binary", "binary"),
        (b"caf\xe9", "not UTF-8: byte 3"),
    ],
)
def test_a_text_that_cannot_be_read_is_an_error_with_a_hint(
    tmp_path: Path, content: bytes | None, words: str
) -> None:
    file = tmp_path / "text.txt"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(EvaluationError, match=words) as caught:
        read_text(file)
    assert caught.value.hint


def test_an_unknown_model_is_an_error_with_a_hint(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["eval", "/nowhere", "--text", "x"]) == 1
    assert "hint:" in capsys.readouterr().err
