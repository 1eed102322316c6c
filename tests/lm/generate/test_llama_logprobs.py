"""Log-probabilities of llama.cpp are complete: an entry for every token, also inside characters."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from triptych.config import load_config
from triptych.config.generate import Sampling
from triptych.lm.generate.engine import Engine, GenerateRequest
from triptych.lm.generate.select_engine import open_engine
from triptych.lm.model.tokenizer import Tokenizer


@pytest.fixture(scope="module")
def engines(qwen3_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    opened = {}
    for name in ("llama_cpp", "torch"):
        settings = [f"generate.engine={name}", "generate.threads=1", "generate.dtype=float32"]
        config = load_config(None, settings).generate
        opened[name] = open_engine(qwen3_folder, config, model="tiny", revision="")
    yield opened
    for engine in opened.values():
        engine.close()


def written(engine: Engine, ids: list[int], bias: list[int], **more: Any) -> Any:
    sampling = Sampling(
        max_new_tokens=9, temperature=0, logprobs=2, ignore_eos=True,
        logit_bias=tuple((token, 60.0 - 6 * n) for n, token in enumerate(bias)),
        presence_penalty=2.0, **more,
    )  # fmt: skip
    chunks = list(engine.stream(GenerateRequest(prompt=ids, sampling=sampling)))
    tokens = [token for chunk in chunks for token in chunk.tokens]
    return "".join(chunk.text for chunk in chunks), tokens, chunks[-1]


@pytest.mark.parametrize("text", ["\u65e5\u672c", "\U0001f389 a", "plain words"])
def test_f9_every_token_has_its_entry_and_its_true_probability(
    engines: dict[str, Engine], qwen3_folder: Path, text: str
) -> None:
    ids = Tokenizer.load(qwen3_folder).encode(text)
    prompt = [300, 301]
    _, tokens, last = written(engines["llama_cpp"], prompt, list(dict.fromkeys(ids)))
    assert len(tokens) == last.output_tokens == 9
    scored = engines["torch"].score([*prompt, *(token.token_id for token in tokens)])
    true = [token.logprob for token in scored.tokens[len(prompt) :]]
    assert [token.logprob for token in tokens] == pytest.approx(true, abs=5e-3)
    assert [token.bytes for token in tokens] == [t.bytes for t in scored.tokens[len(prompt) :]]
    assert all(len(token.alternatives) == 2 for token in tokens)


def test_f9_the_end_token_has_no_entry(engines: dict[str, Engine], qwen3_folder: Path) -> None:
    tokenizer = Tokenizer.load(qwen3_folder)
    end = tokenizer.eos_id
    for engine in engines.values():
        sampling = Sampling(max_new_tokens=5, temperature=0, logprobs=0, logit_bias=((end, 100.0),))
        answer = engine.generate(GenerateRequest(prompt=[300, 301], sampling=sampling))
        assert (answer.finish_reason, answer.output_tokens, answer.tokens) == ("stop", 0, ())
