"""`triptych generate`: the answer on standard output, facts and errors on standard error."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
import torch

from triptych.cli.main import main
from triptych.lm.model.checkpoint import save_model
from triptych.lm.model.config import ModelConfig
from triptych.lm.model.tokenizer import Tokenizer
from triptych.lm.model.transformer import Transformer


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    tokenizer = Tokenizer.train(
        iter(["the quick brown fox jumps over the lazy dog"] * 9), vocab_size=300
    )
    config = ModelConfig(
        vocab_size=tokenizer.vocab_size,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        head_dim=16,
        max_position_embeddings=64,
    )
    path = tmp_path_factory.mktemp("models") / "fox"
    save_model(path, Transformer(config), tokenizer)
    return path


def generate(folder: Path, *arguments: str) -> int:
    return main(["generate", str(folder), *arguments, "--engine", "torch"])


def test_the_answer_streams_to_stdout_and_the_facts_to_stderr(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert generate(folder, "the quick", "--seed", "7", "--max-new-tokens", "9") == 0
    first = capsys.readouterr()
    assert "9 written (length)" in first.err
    assert "tokens/s" in first.err
    generate(folder, "the quick", "--seed", "7", "--max-new-tokens", "9", "--json")
    answer = json.loads(capsys.readouterr().out)
    assert answer["text"] == first.out.removesuffix("\n")
    assert answer["output_tokens"] == 9


def test_json_holds_the_probability_of_every_token(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    generate(
        folder, "the", "--temperature", "0", "--max-new-tokens", "3", "--logprobs", "2", "--json"
    )
    tokens = json.loads(capsys.readouterr().out)["tokens"]
    assert len(tokens) == 3
    for token in tokens:
        assert token["alternatives"][0]["token_id"] == token["token_id"]
        assert token["logprob"] == token["alternatives"][0]["logprob"] < 0


def test_a_chat_is_rendered_and_a_prompt_can_come_from_standard_input(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("the fox"))
    assert generate(folder, "--chat", "--system", "be brief", "--json") == 0
    assert json.loads(capsys.readouterr().out)["input_tokens"] > 20


def test_every_wrong_setting_is_named_at_once(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert generate(folder, "the", "--temperature", "-1", "--top-p", "2", "--top-k", "many") == 2
    said = capsys.readouterr().err
    for name in ("generate.temperature", "generate.top_p", "generate.top_k"):
        assert name in said
    assert generate(folder, "the", "generate.temprature=1") == 2
    assert "did you mean generate.temperature?" in capsys.readouterr().err


def test_a_prompt_over_the_context_and_a_missing_model_are_said(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert generate(folder, "fox " * 100) == 1
    assert "reads at most 64" in capsys.readouterr().err
    assert generate(folder / "nothing", "the") == 1
    assert "hint:" in capsys.readouterr().err
    assert generate(folder, "the", "--system", "be brief") == 2
    assert "--chat" in capsys.readouterr().err
