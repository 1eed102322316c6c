"""The dial: every number follows from shape, corpus and machine, unless it was set by hand."""

from __future__ import annotations

import dataclasses

import pytest

from triptych.config.train import TrainConfig
from triptych.errors import ConfigError, RunError
from triptych.lm.model.config import SIZES, ModelConfig
from triptych.lm.train.recipe import HardwareChoice, Recipe, derive, flops_per_token

CHOICE = HardwareChoice(
    device="cpu",
    machine="",
    threads=2,
    precision="bfloat16",
    compile=False,
    machine_flops=1e12,
    tok_per_s=10_000.0,
)
PLENTY = 10**12


def recipe(size: str, tokens: int = PLENTY, **train: object) -> Recipe:
    return derive(TrainConfig(**train), ModelConfig.of_size(size), CHOICE, train_tokens=tokens)  # type: ignore[arg-type]


def test_the_dial_turns_everything_with_it() -> None:
    recipes = [recipe(size) for size in SIZES]
    tokens = [r.steps * r.batch_tokens for r in recipes]
    assert tokens == sorted(tokens)
    assert [r.batch_tokens for r in recipes] == sorted(r.batch_tokens for r in recipes)
    assert recipes[0].batch_tokens < recipes[-1].batch_tokens


@pytest.mark.parametrize("size", SIZES)
def test_every_size_has_a_recipe_that_adds_up(size: str) -> None:
    r = recipe(size)
    assert r.batch_tokens == r.batch_size * r.context_length
    assert r.batch_size % r.micro_batch == 0
    assert r.context_length <= ModelConfig.of_size(size).max_position_embeddings
    assert r.warmup_steps < r.steps


def test_what_is_set_by_hand_is_taken_as_it_is() -> None:
    given = {
        "steps": 17,
        "context_length": 64,
        "batch_tokens": 1024,
        "micro_batch": 4,
        "learning_rate": 0.5,
        "embedding_lr": 0.25,
        "head_lr": 0.125,
        "gain_lr": 0.0625,
        "weight_decay": 0.0,
        "warmup_steps": 0,
        "dropout": 0.3,
        "ema_decay": 0.5,
        "eval_every": 0,
        "sample_every": 3,
        "checkpoint_every": 5,
    }
    r = recipe("tiny", **given)
    assert {name: getattr(r, name) for name in given} == given


def test_a_small_corpus_shortens_the_run_instead_of_repeating_it_for_ever() -> None:
    assert recipe("small", tokens=1_000_000).epochs <= 4.5
    assert recipe("small", tokens=1_000_000, max_epochs=1.0).epochs <= 1.5


def test_a_time_becomes_steps_at_the_measured_speed() -> None:
    r = recipe("micro", budget_s=90.0)
    assert r.steps * r.batch_tokens == pytest.approx(90 * CHOICE.tok_per_s, rel=0.05)


def test_a_long_run_is_saved_every_minute_and_watched_every_ten() -> None:
    r = recipe("medium")
    step_s = r.batch_tokens / CHOICE.tok_per_s
    assert r.eval_every * step_s <= 700
    assert r.checkpoint_every % r.eval_every == 0


def test_a_short_run_is_looked_at_ten_times_with_fewer_tokens() -> None:
    r = recipe("micro", budget_s=60.0)
    assert 8 <= r.steps // r.eval_every <= 12
    assert 8192 <= r.eval_tokens < TrainConfig().eval_tokens
    scored = r.steps // r.eval_every * r.eval_tokens
    assert scored / 3 <= 0.06 * r.steps * r.batch_tokens, "a third of a step's work for a token"


def test_a_run_of_before_is_read_with_the_tokens_it_evaluated() -> None:
    saved = recipe("micro").to_dict()
    del saved["eval_tokens"]
    assert Recipe.from_dict(saved).eval_tokens == 65_536


def test_operations_per_token_are_six_per_weight_and_attention() -> None:
    shape = ModelConfig.of_size("small", model_type="llama", tie_word_embeddings=False)
    matrices = shape.num_parameters - shape.vocab_size * 512
    assert flops_per_token(shape, 512) == pytest.approx(6 * matrices + 12 * 6 * 512 * 512)
    tied = ModelConfig.of_size("small", model_type="llama", tie_word_embeddings=True)
    assert flops_per_token(tied, 512) == flops_per_token(shape, 512)


def test_a_recipe_reads_back_and_one_of_another_version_is_refused() -> None:
    r = recipe("tiny")
    assert Recipe.from_dict(r.to_dict()) == r
    with pytest.raises(RunError, match="surprise"):
        Recipe.from_dict({**r.to_dict(), "surprise": 1})


def test_what_cannot_be_shared_or_filled_is_refused() -> None:
    with pytest.raises(ConfigError, match="less than one batch"):
        recipe("tiny", tokens=1000, batch_tokens=8192)
    with pytest.raises(ConfigError, match="cannot be shared by 3 processes"):
        derive(
            TrainConfig(batch_tokens=8192),
            ModelConfig.of_size("tiny"),
            CHOICE,
            train_tokens=PLENTY,
            processes=3,
        )


def test_every_setting_is_documented() -> None:
    from pydantic import TypeAdapter

    described = TypeAdapter(TrainConfig).json_schema()["properties"]
    for field in dataclasses.fields(TrainConfig):
        assert described[field.name].get("description"), field.name
