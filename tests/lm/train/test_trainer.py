"""A run from its first step to its end: what it learns, tells and leaves behind."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from triptych.config import Config
from triptych.errors import ConfigError, DataError, RunError, StorageError, TrainingError
from triptych.lm.evaluate.run_history import read_run_history
from triptych.lm.model.checkpoint import load_model, load_tokenizer, save_model
from triptych.lm.train import checkpoints
from triptych.lm.train import speed as speed_module
from triptych.lm.train.events import Checkpoint, Eval, Event, Sample, State, Step
from triptych.lm.train.folder import RunFolder
from triptych.lm.train.trainer import Trainer
from triptych.wire.run_events import NUMBERED

from .conftest import losses, record, weights_of

Settings = Callable[..., Config]


def of(seen: list[Event], kind: type[Event]) -> list[Event]:
    return [event for event in seen if isinstance(event, kind)]


def test_a_run_learns(settings: Settings, tmp_path: Path) -> None:
    seen = record(Trainer(settings("train.steps=60", "train.sample_every=0"), tmp_path / "run"))
    evals = [event.loss for event in seen if isinstance(event, Eval)]
    assert evals[-1] < evals[0] - 1.2


def test_events_come_in_order_and_are_numbered_without_gaps(
    settings: Settings, tmp_path: Path
) -> None:
    seen = record(Trainer(settings(), tmp_path / "run"))
    assert [event.state for event in seen if isinstance(event, State)] == ["running", "finished"]
    numbered = [event for event in seen if event.type in NUMBERED]
    assert [event.seq for event in numbered] == list(range(1, len(numbered) + 1))
    assert [event.step for event in seen if isinstance(event, Step)] == list(range(1, 13))
    assert [event.step for event in seen if isinstance(event, Checkpoint)] == [4, 8, 12]
    assert [event.step for event in seen if isinstance(event, Eval)] == [0, 4, 8, 12]
    assert {event.step for event in seen if isinstance(event, Sample)} == {6, 12}
    kinds = [event.type for event in numbered if getattr(event, "step", 0) == 12]
    assert kinds[:3] == ["step", "checkpoint", "eval"], "saved before it is evaluated"


def test_the_run_folder_is_complete(settings: Settings, tmp_path: Path) -> None:
    run = tmp_path / "run"
    record(Trainer(settings(), run, parent="somewhere"))
    history = read_run_history(run)
    assert history.record["state"] == "finished"
    assert history.record["parent"] == "somewhere"
    assert history.config["recipe"]["steps"] == 12
    assert len(history.steps) == 12
    assert {"train/loss", "train/lr", "train/grad_norm", "train/tok_per_s", "train/mfu"} <= set(
        history.steps[0]
    )
    assert {"tokens_seen", "memory_bytes", "eta_s", "seq", "time_s"} <= set(history.steps[0])
    assert history.steps[-1]["tokens_seen"] == 12 * 256
    assert (run / "checkpoints/latest").read_text() == "step-00000012\n"
    assert (run / "checkpoints/best").is_file()


def test_two_runs_of_one_seed_are_equal_and_of_two_seeds_are_not(
    settings: Settings, tmp_path: Path
) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        record(Trainer(settings(f"train.seed={seed}", "train.dropout=0.1"), tmp_path / name))
    assert losses(tmp_path / "a") == losses(tmp_path / "b")
    assert list(weights_of(tmp_path / "a")) == list(weights_of(tmp_path / "b"))
    assert losses(tmp_path / "a") != losses(tmp_path / "c")


@pytest.mark.parametrize(
    ("optimizer", "schedule"),
    [("muon", "wsd"), ("adamw", "cosine"), ("adam", "linear"), ("sgd", "constant")],
)
def test_every_optimizer_and_every_schedule_learns(
    settings: Settings, tmp_path: Path, optimizer: str, schedule: str
) -> None:
    config = settings(
        f"train.optimizer={optimizer}", f"train.schedule={schedule}", "train.steps=20"
    )
    evals = [e.loss for e in record(Trainer(config, tmp_path / "run")) if isinstance(e, Eval)]
    assert evals[-1] < evals[0] - 0.02


def test_accumulation_does_not_change_what_is_learned(settings: Settings, tmp_path: Path) -> None:
    for size in (8, 2):
        record(Trainer(settings(f"train.micro_batch={size}"), tmp_path / str(size)))
    eight, two = (read_run_history(tmp_path / name).steps for name in ("8", "2"))
    for a, b in zip(eight, two, strict=True):
        assert a["train/loss"] == pytest.approx(b["train/loss"], rel=1e-4)


def test_gradient_checkpointing_computes_the_same(settings: Settings, tmp_path: Path) -> None:
    for value in ("false", "true"):
        overrides = (f"train.gradient_checkpointing={value}", "train.dropout=0.2")
        record(Trainer(settings(*overrides), tmp_path / value))
    assert losses(tmp_path / "true") == losses(tmp_path / "false")


def test_averaged_weights_are_what_is_saved_and_evaluated(
    settings: Settings, tmp_path: Path
) -> None:
    trainer = Trainer(settings("train.ema_decay=0.9"), tmp_path / "run")
    record(trainer)
    saved = load_model(checkpoints.read_pointer(tmp_path / "run/checkpoints", "latest") or tmp_path)
    trained = trainer.train_step.model.lm_head.weight
    with trainer.train_step.evaluated() as averaged:
        assert torch.equal(saved.lm_head.weight, averaged.lm_head.weight)
    assert not torch.equal(saved.lm_head.weight, trained)


def test_early_stopping_ends_the_run_and_keeps_the_best(settings: Settings, tmp_path: Path) -> None:
    run = tmp_path / "run"
    config = settings(
        "train.learning_rate=99.0",
        "train.embedding_lr=99.0",
        "train.early_stopping=2",
        "train.eval_every=2",
        "train.steps=40",
    )
    seen = record(Trainer(config, run))
    ended_at = of(seen, State)[-1].step  # type: ignore[attr-defined]
    assert ended_at < 40
    numbers = [event.seq for event in seen]
    assert read_run_history(run).record["state"] == "finished"
    assert (run / "checkpoints/latest").read_text().strip() == checkpoints.checkpoint_name(ended_at)
    assert {event.seq for event in record(Trainer.resume(run))} <= set(numbers)
    assert read_run_history(run).steps[-1]["step"] == ended_at


def test_the_last_the_best_and_the_milestones_are_kept(settings: Settings, tmp_path: Path) -> None:
    run = tmp_path / "run"
    config = settings("train.milestones=[3]", "train.keep_last=1", "train.checkpoint_every=2")
    record(Trainer(config, run))
    best = checkpoints.read_pointer(run / "checkpoints", "best")
    assert best is not None
    kept = {folder.name for folder in (run / "checkpoints").glob("step-*")}
    assert kept == {"step-00000003", "step-00000012", best.name}


def test_the_best_is_judged_on_the_same_tokens_every_time(
    settings: Settings, tmp_path: Path
) -> None:
    trainer = Trainer(settings(), tmp_path / "run")
    record(trainer)
    history = read_run_history(tmp_path / "run")
    last = history.evals[-1]
    assert last["val/tokens"] == history.evals[0]["val/tokens"] == 256
    assert trainer._best == trainer._score(256).loss == last["val/loss"]
    assert trainer._best < history.evals[0]["val/loss"]


def test_a_checkpoint_is_a_start_for_another_run(settings: Settings, tmp_path: Path) -> None:
    record(Trainer(settings("train.steps=40"), tmp_path / "first"))
    start = checkpoints.read_pointer(tmp_path / "first/checkpoints", "latest")
    asked: list[str] = []

    def resolve(reference: str) -> Path:
        asked.append(reference)
        return start or tmp_path

    config = settings("train.init_from=owner/model")
    seen = record(Trainer(config, tmp_path / "second", resolve=resolve))
    assert asked == ["owner/model"]
    first_loss = read_run_history(tmp_path / "first").evals[-1]["val/loss"]
    at_start = next(event.loss for event in seen if isinstance(event, Eval))
    assert at_start == pytest.approx(first_loss, rel=0.05)
    assert read_run_history(tmp_path / "second").record["parent"] == "owner/model"


def test_a_checkpoint_of_another_tokenizer_is_refused(
    settings: Settings, tmp_path: Path, qwen3_folder: Path
) -> None:
    trainer = Trainer(settings(f"train.init_from={qwen3_folder}"), tmp_path / "run")
    with pytest.raises(Exception, match="tokenizer") as caught:
        record(trainer)
    assert "--tokenizer" in caught.value.hint  # type: ignore[attr-defined]
    assert not (tmp_path / "run").exists()


def test_a_loss_that_is_not_finite_stops_the_run_with_advice(
    settings: Settings, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    config = settings("train.optimizer=sgd", "train.learning_rate=99", "train.grad_clip=0")
    trainer = Trainer(config, run)
    with pytest.raises(TrainingError, match="not finite at step") as caught:
        for event in trainer.events():
            if isinstance(event, Checkpoint):
                with torch.no_grad():
                    trainer.train_step.model.lm_head.weight.fill_(float("inf"))
    assert "learning rate" in caught.value.hint
    found, skipped = checkpoints.newest(run / "checkpoints")
    assert found is not None and found.state["step"] == 4 and not skipped


@pytest.mark.parametrize(
    ("override", "error", "words"),
    [
        ("train.data=/nowhere", DataError, "not a corpus"),
        ("train.batch_tokens=100000000", ConfigError, "less than one batch"),
        ("train.context_length=65", ConfigError, "max_position_embeddings"),
        ("model.num_attention_heads=3", ConfigError, "cannot be shared"),
        ("train.micro_batch=3", ConfigError, "does not divide"),
        ("train.init_from=/nowhere", Exception, "config.json|no checkpoint"),
        ("train.device=abacus", ConfigError, "not a device"),
    ],
)
def test_what_cannot_be_trained_is_refused_before_anything_is_written(
    settings: Settings, tmp_path: Path, override: str, error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words) as caught:
        record(Trainer(settings(override), tmp_path / "run"))
    assert caught.value.hint  # type: ignore[attr-defined]
    assert not (tmp_path / "run").exists()


def test_a_full_disk_is_noticed_before_the_first_step_and_at_every_checkpoint(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = shutil.disk_usage(tmp_path)._replace(free=1000)
    with monkeypatch.context() as patched:
        patched.setattr("shutil.disk_usage", lambda path: full)
        with pytest.raises(StorageError, match="GB free"):
            record(Trainer(settings(), tmp_path / "refused"))
    assert not (tmp_path / "refused").exists()
    run = tmp_path / "run"
    with monkeypatch.context() as patched, pytest.raises(StorageError, match="GB free"):
        for event in Trainer(settings(), run).events():
            if isinstance(event, Checkpoint):
                patched.setattr("shutil.disk_usage", lambda path: full)
    assert [folder.name for folder in (run / "checkpoints").glob("*step*")] == ["step-00000004"]


def test_a_file_is_no_place_for_a_run(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "run").write_text("something else")
    with pytest.raises(RunError, match="is a file"):
        record(Trainer(settings(), tmp_path / "run"))


def test_a_used_folder_is_not_trained_into(settings: Settings, tmp_path: Path) -> None:
    record(Trainer(settings("train.steps=1"), tmp_path / "run"))
    with pytest.raises(RunError, match="already holds a run"):
        record(Trainer(settings(), tmp_path / "run"))


def test_a_live_run_is_not_resumed_twice(settings: Settings, tmp_path: Path) -> None:
    alive = Trainer(settings(), tmp_path / "run").events()
    next(alive)
    with pytest.raises(StorageError, match="in use by process"):
        record(Trainer.resume(tmp_path / "run"))
    alive.close()


def test_a_folder_that_is_no_run_is_not_resumed(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="not a run folder"):
        Trainer.resume(tmp_path)


def test_a_corpus_that_changed_is_not_resumed_on(settings: Settings, tmp_path: Path) -> None:
    run = tmp_path / "run"
    record(Trainer(settings(), run), stop_after=2)
    config = json.loads((run / "config.json").read_text())
    config["data_fingerprint"] = "another"
    RunFolder(run).write_config(config)
    with pytest.raises(RunError, match="has changed"):
        record(Trainer.resume(run))


def test_a_saved_checkpoint_reads_and_writes_as_a_model_folder(
    settings: Settings, tmp_path: Path
) -> None:
    record(Trainer(settings(), tmp_path / "run"))
    folder = checkpoints.read_pointer(tmp_path / "run/checkpoints", "latest")
    assert folder is not None
    save_model(tmp_path / "copy", load_model(folder), load_tokenizer(folder))
    assert (tmp_path / "copy/model.safetensors").is_file()


def test_a_first_step_that_compiles_is_forgotten_with_the_second(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = iter((0.0, 40.0, 40.0, 42.0, 42.0, 44.0, 44.0))
    monkeypatch.setattr(speed_module.time, "perf_counter", lambda: next(clock))
    speed, seen = speed_module.Speed(batch_tokens=100), []
    for _ in range(3):
        speed.tick()
        seen.append(round(speed.tok_per_s, 6))
    assert seen == [2.5, 50.0, 50.0]
