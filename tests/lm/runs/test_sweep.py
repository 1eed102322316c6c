"""Grids, means with intervals, estimates, warnings, and files that repeat a run to the bit."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from triptych.config import load_config
from triptych.durable import sha256_file
from triptych.errors import RunError, UsageError
from triptych.lm.runs.advice import warnings
from triptych.lm.runs.control import read_config
from triptych.lm.runs.reproduce import config_toml
from triptych.lm.runs.rights import check_request, corpora_of, without_tokens
from triptych.lm.runs.store import Run, RunStore
from triptych.lm.runs.sweep import Interval, grid, runs_of, start_sweep, summarise, sweeps, to_csv


def finish(run: Run, loss: float) -> None:
    event = {"seq": 1, "time_s": 0.0, "type": "eval", "step": 5, "val/loss": loss, "val/bpb": 1.0}
    (run.path / "events.jsonl").write_text(json.dumps(event) + "\n")
    (run.path / "run.json").write_text('{"format_version": 1, "state": "finished", "step": 5}')


def test_a_grid_spells_out_every_combination() -> None:
    assert grid(["train.seed=1,2", "train.learning_rate=0.1"]) == [
        ["train.seed=1", "train.learning_rate=0.1"],
        ["train.seed=2", "train.learning_rate=0.1"],
    ]
    with pytest.raises(UsageError, match="cannot read"):
        grid(["train.seed"])
    with pytest.raises(UsageError, match="too many"):
        grid(["train.seed=" + ",".join(map(str, range(100)))])


def test_an_interval_is_the_mean_and_its_95_percent_confidence() -> None:
    interval = Interval.of([1.0, 2.0, 3.0])
    assert interval is not None and interval.half is not None
    assert interval.mean == 2.0
    assert interval.half == pytest.approx(4.303 / 3**0.5)
    assert str(Interval.of([1.5])) == "1.5000"
    assert Interval.of([]) is None


def test_a_sweep_is_found_again_averaged_over_seeds_and_exported(
    store: RunStore, request_for
) -> None:
    config = read_config(request_for(5).config)
    vary = ["train.learning_rate=0.001,0.01", "train.seed=1,2"]
    runs = start_sweep(store, config, vary, name="rates")
    (sweep,) = sweeps(store)
    assert [run.run_id for run in runs_of(store, sweep)] == [run.run_id for run in runs]
    for run, loss in zip(runs, (3.0, 3.2, 2.0, 2.2), strict=True):
        finish(run, loss)
    best, worst = summarise(runs_of(store, sweep))
    assert best.settings == {"train.learning_rate": 0.01}
    assert best.results["val/loss"].mean == pytest.approx(2.1)
    assert worst.results["val/loss"].count == 2
    header, *rows = to_csv(runs_of(store, sweep)).splitlines()
    assert header.startswith("run,train.learning_rate,train.seed,state,")
    assert len(rows) == 4


def test_a_wrong_setting_queues_nothing(store: RunStore, request_for) -> None:
    config = read_config(request_for(5).config)
    with pytest.raises(Exception, match="not valid"):
        start_sweep(store, config, ["train.optimizer=adamw,nonsense"])
    assert store.list() == []


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        (["train.optimizer=adamw", "train.learning_rate=1"], "diverge"),
        (["train.optimizer=sgd", "train.learning_rate=0.0001"], "hardly fall"),
        (["train.learning_rate=0.0003"], "Muon needs"),
        (["train.steps=1000", "train.warmup_steps=1000"], "Warming up"),
        (["train.optimizer=adamw", "train.warmup_steps=0"], "Without warmup"),
        (["train.grad_clip=0"], "clipping"),
        (["train.schedule=constant"], "constant learning rate"),
        (["train.cooldown_frac=0"], "never decays"),
        (["train.steps=100", "train.ema_decay=0.999"], "averages about"),
        (["train.max_epochs=100"], "memorise"),
        (["train.dropout=0.5"], "activations"),
    ],
)
def test_a_combination_known_to_fail_is_warned_about(settings: list[str], word: str) -> None:
    assert any(word in warning for warning in warnings(load_config(None, settings)))


def test_the_recipe_s_own_values_are_not_warned_about() -> None:
    assert warnings(load_config(None, [])) == []


def test_a_stranger_may_name_only_what_is_theirs(store: RunStore, tmp_path: Path) -> None:
    def ask(*settings: str, user: str = "ann") -> None:
        config = load_config(None, settings)
        check_request(store, load_config().runs, config, user)

    own = corpora_of(store, "ann") / "corpus"
    others = corpora_of(store, "an-n") / "corpus"
    ask(f"train.data={own}")
    ask("train.data=/etc", user="local")
    for data in ("/etc", str(others), f"{own}/../../{others.parent.name}/corpus"):
        with pytest.raises(RunError, match="not one of your corpora"):
            ask(f"train.data={data}")
    for start in ("owner/model", "/etc", str(store.root / "someone" / "checkpoints")):
        with pytest.raises(RunError, match="not a checkpoint of one of your runs"):
            ask(f"train.init_from={start}")


def test_a_stranger_s_worker_gets_no_token(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HF_TOKEN", "VITE_HUGGINGFACE_API_KEY", "OAUTH_CLIENT_SECRET", "DB_PASSWORD"):
        monkeypatch.setenv(name, "very-plain-secret")
    assert "very-plain-secret" not in without_tokens().values()


def test_an_estimate_and_a_repetition_agree_with_the_run(
    store: RunStore, request_for, tmp_path: Path
) -> None:
    from triptych.lm.runs.estimate import estimate
    from triptych.lm.train.loop import run_to_end
    from triptych.lm.train.trainer import Trainer

    config = read_config(request_for(6, "train.sample_every=3").config)
    found = estimate(config)
    assert (found.steps, found.tokens) == (6, 6 * 64)
    assert found.seconds > 0 and found.memory_bytes > 1e6 and found.disk_bytes > 1e5
    run = store.create(request_for(6, "train.sample_every=3"))
    assert run_to_end(Trainer(config, run.path)) == "finished"

    file = tmp_path / "again.toml"
    file.write_text(config_toml(store.get(run.run_id)))
    again = load_config(file, [f"train.data={config.train.data}"])
    assert run_to_end(Trainer(again, tmp_path / "again")) == "finished"
    weights = [
        sha256_file(folder / "checkpoints" / "step-00000006" / "model.safetensors")
        for folder in (run.path, tmp_path / "again")
    ]
    assert weights[0] == weights[1]
