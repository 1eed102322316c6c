"""Post-training of a tiny random model: exact losses, exact accumulation, exact resume."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from triptych.config import Config, load_config
from triptych.errors import ConfigError, DataError, RunError
from triptych.lm.model.checkpoint import load_model, save_model
from triptych.lm.model.lora import load_lora
from triptych.lm.train.distribution import World
from triptych.lm.train.methods import prepare
from triptych.lm.train.trainer import Trainer

from .conftest import losses, record

SETTINGS = (
    "train.adapter=lora",
    "lora.rank=4",
    "train.context_length=128",
    "train.steps=8",
    "train.learning_rate=0.01",
    "posttrain.batch_rows=4",
    "train.eval_every=4",
    "train.checkpoint_every=2",
    "train.sample_every=8",
    "train.sample_tokens=2",
    "train.threads=1",
    "train.precision=float32",
)


def rows_of(method: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for n in range(24):
        prompt = f"Count to {n}, " * (1 + n % 3)
        good, bad = f"It is {n * n}." * (1 + n % 4), "No idea."
        if method == "sft":
            turns = [("user", prompt), ("assistant", good)]
            rows.append({"messages": [{"role": r, "content": c} for r, c in turns]})
        elif method == "dpo":
            rows.append({"prompt": prompt, "chosen": good, "rejected": bad})
        else:
            liked = n % 3 > 0
            rows.append({"prompt": prompt, "completion": good if liked else bad, "label": liked})
    return rows


@pytest.fixture
def make(qwen3_folder: Path, tmp_path: Path) -> Callable[..., Config]:
    """Make the configuration of a run of one method, with some settings changed."""

    def config(method: str, *changes: str) -> Config:
        file = tmp_path / f"{method}.jsonl"
        file.write_text("".join(json.dumps(row) + "\n" for row in rows_of(method)))
        given = [f"train.method={method}", f"train.init_from={qwen3_folder}", f"train.data={file}"]
        return load_config(None, [*SETTINGS, *given, *changes])

    return config


def adapter_of(run_dir: Path) -> list[bytes]:
    folder = run_dir / "checkpoints" / (run_dir / "checkpoints/latest").read_text().strip()
    names = ("adapter_model.safetensors", "optimizer.safetensors", "trainer_state.json")
    return [(folder / name).read_bytes() for name in names]


@pytest.mark.parametrize("method", ["sft", "dpo", "kto"])
def test_a_stopped_run_goes_on_bit_for_bit(
    method: str, make: Callable[..., Config], tmp_path: Path
) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    record(Trainer(make(method), whole))
    record(Trainer(make(method), cut), stop_after=3)
    record(Trainer.resume(cut))
    assert losses(cut) == losses(whole)
    assert adapter_of(cut) == adapter_of(whole)
    kind = json.loads((whole / "run.json").read_text())["kind"]
    assert kind == method


def test_a_killed_run_goes_on_bit_for_bit(make: Callable[..., Config], tmp_path: Path) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    config = make("sft", "train.steps=30", "train.eval_every=30")
    record(Trainer(config, whole))
    settings = [*SETTINGS, "train.steps=30", "train.eval_every=30"]
    settings += [f"train.{name}={getattr(config.train, name)}" for name in ("init_from", "data")]
    command = [sys.executable, "-m", "triptych.cli.main", "train", "--method", "sft"]
    child = subprocess.Popen([*command, "--quiet", "--run-dir", str(cut), *settings])
    deadline = time.monotonic() + 120
    while not list(cut.glob("checkpoints/step-0000000[4-9]")):
        assert child.poll() is None, "it ended before it was killed"
        assert time.monotonic() < deadline
        time.sleep(0.01)
    child.send_signal(signal.SIGKILL)
    child.wait()
    record(Trainer.resume(cut))
    assert adapter_of(cut) == adapter_of(whole)
    assert losses(cut) == losses(whole)


@pytest.mark.parametrize("method", ["sft", "dpo", "kto"])
def test_one_batch_has_one_gradient_however_it_is_divided(
    method: str, make: Callable[..., Config]
) -> None:
    gradients = []
    for size in (1, 3, 16):
        config = make(method, "posttrain.batch_rows=16", f"train.micro_batch={size}")
        setup = prepare(config, Path, World())
        nudge(setup.model)
        step = setup.make_step(World())
        result = step.step(0)
        gradients.append((result.loss, [p.grad for p in trained(setup.model)]))
    for loss, other in gradients[1:]:
        assert loss == pytest.approx(gradients[0][0], abs=1e-6)
        for mine, first in zip(other, gradients[0][1], strict=True):
            assert mine is not None
            torch.testing.assert_close(mine, first, atol=1e-6, rtol=1e-4)


def trained(model: torch.nn.Module) -> list[torch.nn.Parameter]:
    return [p for p in model.parameters() if p.requires_grad]


def nudge(model: torch.nn.Module) -> None:
    """Move a new adapter off zero, so that all of it has a gradient."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in trained(model):
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.05)


def logps_by_hand(model: Any, example: Any) -> tuple[float, int]:
    """Add up the log-probabilities of a text's trained tokens, one text at a time."""
    with torch.no_grad():
        logits = model(torch.from_numpy(example.ids)[None, :-1])[0].double()
    picked = logits.log_softmax(-1)[range(len(example.ids) - 1), example.ids[1:]]
    mask = torch.from_numpy(example.mask[1:])
    return float(picked[mask].sum()), int(mask.sum())


def test_the_losses_are_those_of_the_papers(make: Callable[..., Config]) -> None:
    def sigmoid(x: float) -> float:
        return float(torch.sigmoid(torch.tensor(x, dtype=torch.float64)))

    for method in ("sft", "dpo", "kto"):
        setup: Any = prepare(make(method), Path, World())
        step: Any = setup.make_step(World())  # the reference is taken here, before the nudge
        base = load_model(Path(setup.base.folder), dtype=torch.float32)
        nudge(setup.model)
        model = setup.model.eval()
        batch = step._order.batch(0, 4)
        rows = [setup.train.rows[i] for i in batch]
        if method == "sft":
            sums = [logps_by_hand(model, row.answer) for row in rows]
            expected = -sum(s for s, _ in sums) / sum(n for _, n in sums)
        elif method == "dpo":
            values = []
            for row in rows:
                gain = [
                    logps_by_hand(model, text)[0] - logps_by_hand(base, text)[0]
                    for text in (row.answer, row.rejected)
                ]
                values.append(-torch.tensor(sigmoid(0.1 * (gain[0] - gain[1]))).log().item())
            expected = sum(values) / len(values)
        else:
            others = [setup.reference.mismatched[i] for i in batch]
            kls = [logps_by_hand(model, t)[0] - logps_by_hand(base, t)[0] for t in others]
            kl = max(0.0, sum(kls) / len(kls))
            values = []
            for row in rows:
                answer = row.answer
                reward = logps_by_hand(model, answer)[0] - logps_by_hand(base, answer)[0]
                gain_of = reward - kl if row.row.label else kl - reward
                values.append(1 - sigmoid(0.1 * gain_of))
            expected = sum(values) / len(values)
        assert step.step(0).loss == pytest.approx(expected, rel=1e-4), method


def test_the_adapter_beside_its_base_answers_as_the_two_merged(
    make: Callable[..., Config], tmp_path: Path, qwen3_folder: Path
) -> None:
    from triptych.lm.model.lora import merge_lora

    record(Trainer(make("sft"), tmp_path / "run"))
    model = load_model(qwen3_folder, dtype=torch.float32)
    ids = torch.arange(40)[None] % 400
    with torch.no_grad():
        before = model(ids)
        load_lora(tmp_path / "run/checkpoints/step-00000008", model)
        beside = model(ids)
        merge_lora(model)
        save_model(tmp_path / "merged", model)
        merged = load_model(tmp_path / "merged")(ids)
    assert (beside - before).abs().max() > 0.1, "the adapter changes nothing"
    torch.testing.assert_close(merged, beside, atol=1e-3, rtol=0)


def test_answers_become_likelier_and_preferences_kept(
    make: Callable[..., Config], tmp_path: Path
) -> None:
    for method in ("sft", "dpo", "kto"):
        events = record(Trainer(make(method, "train.steps=24"), tmp_path / method))
        evals = [event for event in events if event.type == "eval"]
        assert evals[-1].loss < 0.95 * evals[0].loss, method  # type: ignore[attr-defined]
        assert evals[-1].general_bpb != evals[0].general_bpb  # type: ignore[attr-defined]
        if method != "sft":
            assert evals[-1].margin > 0.1, method  # type: ignore[attr-defined]


def test_kto_is_evaluated_with_its_divergence(make: Callable[..., Config]) -> None:
    setup: Any = prepare(make("kto"), Path, World())
    setup.make_step(World())
    reference = setup.reference.val_logps(setup.model)
    base = load_model(Path(setup.base.folder), dtype=torch.float32)
    nudge(setup.model)
    found = setup.measure(setup.model, None)
    model = setup.model.eval()
    others = setup.reference.val_mismatched
    moved = [logps_by_hand(model, text)[0] - logps_by_hand(base, text)[0] for text in others]
    kl = max(0.0, sum(moved) / len(moved))
    assert found.kl == pytest.approx(kl, rel=1e-3, abs=1e-4)
    losses = []
    for row, wanted in zip(setup.val.rows, reference[:, 0].tolist(), strict=True):
        reward = logps_by_hand(model, row.answer)[0] - wanted
        gain = reward - kl if row.row.label else kl - reward
        losses.append(1 - float(torch.sigmoid(torch.tensor(0.1 * gain))))
    assert found.loss == pytest.approx(sum(losses) / len(losses), rel=1e-3)


def test_what_cannot_be_trained_is_refused_before_a_folder_is_made(
    make: Callable[..., Config], tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=r"train\.init_from is not set"):
        record(Trainer(make("sft", "train.init_from="), tmp_path / "run"))
    with pytest.raises(DataError, match="a row of the format messages"):
        config = make("sft")
        record(Trainer(make("dpo", f"train.data={config.train.data}"), tmp_path / "run"))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("method", ["sft", "dpo"])
def test_with_upper_layers_only_the_frozen_ones_are_computed_once(
    method: str, make: Callable[..., Config], tmp_path: Path
) -> None:
    upper = (method, "lora.first_layer=2")
    kept: Any = prepare(make(*upper), Path, World()).make_step(World())
    each: Any = prepare(make(*upper), Path, World()).make_step(World())
    each._frozen = None
    for number in range(8):
        assert kept.step(number).loss == pytest.approx(each.step(number).loss, abs=1e-5)
    assert len(kept._frozen._kept) > 8

    whole, cut = tmp_path / "whole", tmp_path / "cut"
    record(Trainer(make(*upper), whole))
    record(Trainer(make(*upper), cut), stop_after=3)
    record(Trainer.resume(cut))
    assert adapter_of(cut) == adapter_of(whole)
    config = json.loads((whole / "checkpoints/step-00000008/adapter_config.json").read_text())
    assert config["layers_to_transform"] == [2]


def test_replay_adds_the_mean_loss_of_general_text(
    make: Callable[..., Config], tmp_path: Path
) -> None:
    text = tmp_path / "general.txt"
    text.write_text("".join(f"Line {n} of a general text. " for n in range(900)))
    replayed = (f"posttrain.general_data={text}", "posttrain.replay_frac=0.5")
    plain: Any = prepare(make("sft"), Path, World())
    mixed: Any = prepare(make("sft", *replayed), Path, World())
    step: Any = mixed.make_step(World())
    pieces = mixed.general.pieces(0, step._replayed, mixed.config.train.seed)
    measured = set(map(tuple, [mixed.general.measured[1:].tolist()]))
    assert all(tuple(piece.ids.tolist()) not in measured for piece in pieces)
    nats, tokens = zip(*(logps_by_hand(mixed.model, piece) for piece in pieces), strict=True)
    wanted = plain.make_step(World()).step(0).loss - 0.5 * sum(nats) / sum(tokens)
    assert step.step(0).loss == pytest.approx(wanted, rel=1e-4)

    whole, cut = tmp_path / "whole", tmp_path / "cut"
    record(Trainer(make("sft", *replayed), whole))
    record(Trainer(make("sft", *replayed), cut), stop_after=3)
    record(Trainer.resume(cut))
    assert adapter_of(cut) == adapter_of(whole)


def test_a_replay_without_text_is_refused(make: Callable[..., Config]) -> None:
    with pytest.raises(ConfigError, match="needs a text of at least"):
        prepare(make("sft", "posttrain.replay_frac=0.1"), Path, World())


def test_changed_rows_are_refused_on_resume(make: Callable[..., Config], tmp_path: Path) -> None:
    record(Trainer(make("sft"), tmp_path / "run"), stop_after=3)
    (tmp_path / "sft.jsonl").write_text(json.dumps(rows_of("sft")[0]) + "\n")
    with pytest.raises(RunError, match="have changed since the run began"):
        record(Trainer.resume(tmp_path / "run"))
