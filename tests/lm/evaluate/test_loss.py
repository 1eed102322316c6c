"""Loss and bits per byte: the right tokens, each once, in the right units."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st

from triptych.config.evaluate import EvaluateConfig
from triptych.errors import EvaluationError
from triptych.lm.evaluate.comparison import evaluate_corpus, evaluate_text
from triptych.lm.evaluate.loss import measure, window_starts
from triptych.lm.model.checkpoint import load_model, load_tokenizer

TEXT = "def add(first, second):\n    return first + second  # crème brûlée 🙂\n" * 5


@given(st.integers(2, 500), st.integers(1, 70))
@settings(max_examples=50, deadline=None)
def test_windows_predict_every_token_but_the_first_once(length: int, context: int) -> None:
    predicted = [
        position
        for start in window_starts(length, context, None)
        for position in range(start + 1, min(start + context, length - 1) + 1)
    ]
    assert predicted == list(range(1, length))


def test_fewer_windows_are_spread_over_the_whole_text() -> None:
    starts = window_starts(10_000, 10, 100)
    assert len(starts) == 10
    assert starts[0] == 0 and starts[-1] == 9000


def test_the_loss_is_the_one_transformers_gives(checkpoint: Path) -> None:
    tokenizer = load_tokenizer(checkpoint)
    ids = [tokenizer.boundary_id, *tokenizer.encode(TEXT)][:64]
    ours = measure(
        load_model(checkpoint),
        lambda start, count: np.array(ids)[start : start + count],
        len(ids),
        tokenizer.token_byte_lengths(),
        context_length=64,
        batch_size=2,
    )
    theirs = transformers.AutoModelForCausalLM.from_pretrained(checkpoint)
    batch = torch.tensor([ids])
    with torch.no_grad():
        expected = float(theirs(batch, labels=batch).loss)
    assert ours.loss == pytest.approx(expected, abs=1e-5)


def test_bits_per_byte_count_the_bytes_of_the_text(checkpoint: Path) -> None:
    scored = evaluate_text(checkpoint, TEXT, EvaluateConfig()).measurement
    assert scored.text_bytes == len(TEXT.encode())
    assert scored.tokens == len(load_tokenizer(checkpoint).encode(TEXT))
    assert scored.bpb == pytest.approx(scored.nats / math.log(2) / len(TEXT.encode()))
    assert scored.perplexity == pytest.approx(math.exp(scored.loss))


def test_the_batch_size_does_not_change_the_score(checkpoint: Path) -> None:
    scores = [
        evaluate_text(checkpoint, TEXT, EvaluateConfig(batch_size=size)).measurement.nats
        for size in (1, 3, 8)
    ]
    assert scores == pytest.approx([scores[0]] * 3, rel=1e-6)


def test_a_model_that_knows_nothing_needs_the_bits_of_its_vocabulary(checkpoint: Path) -> None:
    model, tokenizer = load_model(checkpoint), load_tokenizer(checkpoint)
    with torch.no_grad():
        model.lm_head.weight.zero_()
    ids = np.array(tokenizer.encode(TEXT))
    scored = measure(
        model,
        lambda start, count: ids[start : start + count],
        len(ids),
        tokenizer.token_byte_lengths(),
        context_length=32,
        batch_size=4,
    )
    assert scored.loss == pytest.approx(math.log(model.config.vocab_size), rel=1e-5)


def test_the_corpus_and_the_end_of_training_score_the_same(
    run: Path, checkpoint: Path, corpus: Path
) -> None:
    from triptych.lm.evaluate.run_history import read_run_history

    at_the_end = read_run_history(run).evals[-1]
    again = evaluate_corpus(checkpoint, corpus, EvaluateConfig(context_length=64)).measurement
    # The curve keeps its sample; what the whole split scores has names of its own.
    assert again.loss == pytest.approx(at_the_end["val_whole/loss"], abs=1e-5)
    assert again.bpb == pytest.approx(at_the_end["val_whole/bpb"], abs=1e-5)


def test_what_cannot_be_evaluated_is_refused(checkpoint: Path, corpus: Path) -> None:
    with pytest.raises(EvaluationError, match="empty"):
        evaluate_text(checkpoint, "", EvaluateConfig())
    with pytest.raises(EvaluationError, match="64 positions"):
        evaluate_text(checkpoint, TEXT, EvaluateConfig(context_length=65))


def test_a_corpus_of_another_tokenizer_is_refused(qwen3_folder: Path, corpus: Path) -> None:
    with pytest.raises(EvaluationError, match="another tokenizer"):
        evaluate_corpus(qwen3_folder, corpus, EvaluateConfig())
