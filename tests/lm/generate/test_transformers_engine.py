"""Models of other shapes run through transformers, exactly and labelled as such."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from triptych.config.generate import GenerateConfig, Sampling
from triptych.errors import CheckpointError
from triptych.lm.generate.engine import Engine, GenerateRequest
from triptych.lm.generate.select_engine import open_engine
from triptych.lm.model.tokenizer import Tokenizer

TEXT = "The company sells tools, doesn't it? Käse 🙂"


@pytest.fixture(scope="module")
def gpt2_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A GPT-2-shaped folder, random weights, with a tokenizer of ours."""
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("models") / "gpt2"
    Tokenizer.train(iter([TEXT] * 20), vocab_size=300).save(folder)
    config = GPT2Config(
        vocab_size=300,
        n_positions=128,
        n_embd=32,
        n_layer=2,
        n_head=2,
        bos_token_id=0,
        eos_token_id=0,
    )
    model = GPT2LMHeadModel(config)
    for weight in model.parameters():
        if weight.dim() > 1:
            weight.data.normal_(std=0.3)
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def engine(gpt2_folder: Path) -> Iterator[Engine]:
    running = open_engine(gpt2_folder, GenerateConfig(dtype="float32"))
    yield running
    running.close()


def test_it_is_labelled(engine: Engine) -> None:
    assert engine.info.engine == "transformers" and "gpt2" in engine.info.note
    assert engine.info.context_length == 128


def test_greedy_answers_are_those_of_transformers_generate(
    engine: Engine, gpt2_folder: Path
) -> None:
    from transformers import AutoModelForCausalLM

    ids = engine.encode(TEXT)
    model = AutoModelForCausalLM.from_pretrained(gpt2_folder, dtype=torch.float32)
    truth = model.generate(torch.tensor([ids]), max_new_tokens=20, do_sample=False, pad_token_id=0)[
        0, len(ids) :
    ].tolist()
    sampling = Sampling(temperature=0, max_new_tokens=20)
    answer = engine.generate(GenerateRequest(prompt=TEXT, sampling=sampling))
    given = [token.token_id for token in answer.tokens]
    assert given == [token for token in truth if token != 0]


def test_a_text_is_scored(engine: Engine) -> None:
    score = engine.score(TEXT, alternatives=2)
    assert b"".join(token.bytes for token in score.tokens).decode() == TEXT
    assert 0 < score.bits_per_byte < 20


def test_answers_wait_for_each_other_and_can_be_cancelled(engine: Engine) -> None:
    ended: list[str] = []
    sampling = Sampling(max_new_tokens=100, ignore_eos=True)
    requests = [GenerateRequest(prompt=TEXT, sampling=sampling) for _ in range(4)]
    for request in requests:
        engine.start(request, lambda chunk: ended.append(chunk.finish_reason or ""))
    assert all(engine.cancel(request.request_id) for request in requests[1:])
    deadline = time.monotonic() + 60
    while sum(reason != "" for reason in ended) < 4:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert ended.count("cancelled") == 3 and ended.count("length") == 1


def test_a_folder_it_cannot_load_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "no-such-model"}')
    with pytest.raises(CheckpointError, match="cannot load"):
        open_engine(tmp_path, GenerateConfig())
