"""`triptych data`: one command from text to tokens, one to look at them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.lm.conftest import write_random_model
from tests.lm.data.conftest import prose, write_documents
from triptych.cli.main import main
from triptych.cli.train.data import parse_bytes
from triptych.errors import UsageError


@pytest.fixture
def built(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    notes = write_documents(tmp_path / "notes", [*prose(40), "short"])
    out = tmp_path / "corpus"
    arguments = ["--out", str(out), "--vocab-size", "300", "--licence", "CC0-1.0"]
    assert main(["data", "build", str(notes), *arguments]) == 0
    captured = capsys.readouterr()
    assert "from notes: 40 documents" in captured.out
    assert "dropped 1 too short" in captured.out
    assert "tokenising  done" in captured.err
    return out


def test_a_corpus_is_built_and_shown(built: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "show", str(built), "--samples", "2", "--verify"]) == 0
    captured = capsys.readouterr()
    assert "CC0-1.0 (40)" in captured.out
    assert "vocabulary 300" in captured.out
    assert captured.out.count("--- sample") == 2
    assert "2 shards match their checksums" in captured.err


def test_the_manifest_is_printed_for_scripts(
    built: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["data", "show", str(built), "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed == json.loads((built / "manifest.json").read_text())


def test_a_corrupted_shard_is_found(built: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shard = built / "train-00000.bin"
    shard.write_bytes(shard.read_bytes()[:-2] + b"\x01\x00")
    assert main(["data", "show", str(built), "--verify"]) == 1
    assert "is corrupted" in capsys.readouterr().err


def test_mistakes_are_told_with_a_hint(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = ["--out", str(tmp_path / "out")]
    cases = {
        1: [["data", "build", str(tmp_path / "none.txt"), *out], ["data", "show", str(tmp_path)]],
        2: [
            ["data", "build", "python-docs", "--vocab-size", "9", *out],
            ["data", "build", "python-docs", "--set", "data.vocab=9", *out],
            ["data", "build", "python-docs", "--max-bytes", "many", *out],
        ],
    }
    for code, commands in cases.items():
        for command in commands:
            assert main(command) == code, command
            said = capsys.readouterr().err
            assert "hint:" in said
            assert "Traceback" not in said
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("text", "size"),
    [("500000", 500_000), ("5MB", 5_000_000), ("1.5 gb", 1_500_000_000), ("2k", 2_000)],
)
def test_sizes_are_read_as_people_write_them(text: str, size: int) -> None:
    assert parse_bytes(text) == size


@pytest.mark.parametrize("text", ["", "MB", "-5", "5 XB", "five"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="is no size"):
        parse_bytes(text)


def test_the_trained_tokens_of_a_file_of_rows_are_marked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def row(question: str, answer: str) -> str:
        turns = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
        return json.dumps({"messages": turns})

    lines = [
        row("one", "two"),
        row("add", "a fox"),
        "not json",
        row("long " * 40, "short \x1b[31m"),
        json.dumps({"messages": [{"role": "user", "content": "no answer"}]}),
        json.dumps({"messages": [{"role": "user", "content": "none either"}]}),
    ]
    file = tmp_path / "chats.jsonl"
    file.write_text("\n".join(lines) + "\n")
    model = write_random_model(tmp_path / "model", "qwen3")
    arguments = ["--tokens", "--samples", "2", "--tokenizer", str(model)]
    assert main(["data", "show", str(file), *arguments]) == 0
    out = capsys.readouterr().out
    assert "method sft" in out
    assert "[[two<|im_end|>" in out
    assert "user\none" in out and "[[one" not in out
    assert "--- longest: chats.jsonl, line 4" in out
    assert "\x1b" not in out, "a row cannot steer the terminal"
    assert "3 rows are refused" in out
    assert "2: the last message is the user's" in out and "(chats.jsonl, lines 5, 6)" in out
    assert main(["data", "show", str(file)]) == 2
    assert "--tokens" in capsys.readouterr().err
