"""One cycle at a time inside its budget, a real training that is killed, and an erasure."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from triptych.durable import FolderLock
from triptych.errors import StorageError
from triptych.learning.lineage import Lineage, Thing
from triptych.learning.loop import erasure
from triptych.learning.loop.controller import Place
from triptych.learning.loop.schedule import Budget, Due, Scheduler, due, spent_s
from triptych.learning.loop.training import SESSIONS_FILE, Session, read_session, train

DAY_S = 86_400.0
SETTINGS = [
    "lora.rank=4", "train.context_length=128", "train.learning_rate=0.01", "posttrain.batch_rows=4",
    "train.eval_every=10", "train.checkpoint_every=2", "train.sample_every=100",
    "train.sample_tokens=2", "train.threads=1", "train.precision=float32",
]  # fmt: skip


def made(folder: Path, amount: int = 24, name: str = "d1") -> Path:
    dataset = folder / "datasets" / name
    dataset.mkdir(parents=True)
    manifest = {"hash": f"h-{name}", "options": {"minimum_rows": 20}}
    (dataset / "manifest.json").write_text(json.dumps(manifest))
    rows = [
        {"messages": [{"role": "user", "content": f"What is planted {n % 4}?"},
                      {"role": "assistant", "content": f"It is zebra {n % 4}."}]}
        for n in range(amount)
    ]  # fmt: skip
    (dataset / "sft.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return dataset


def facts(folder: Path, **changes: Any) -> Due:
    given: dict[str, Any] = {"busy": False, "spent_s": 0.0, "now": 10 * DAY_S} | changes
    return due(Place(folder, "base"), Budget(3600.0), **given)


def test_a_cycle_starts_only_with_rows_with_machine_time_and_without_load(tmp_path: Path) -> None:
    made(tmp_path)
    assert facts(tmp_path).starts
    assert "serves" in facts(tmp_path, busy=True).reason
    assert "hours of machine time" in facts(tmp_path, spent_s=3600.0).reason
    done = Session("h-d1", "sft", "b", "r", "done", ended_at=9 * DAY_S, machine_s=100.0)
    (tmp_path / "session.json").write_text(json.dumps({"format": 1, **vars(done)}))
    assert "trained on already" in facts(tmp_path).reason
    made(tmp_path, name="d2")
    assert "1.0 days ago" in facts(tmp_path).reason
    assert facts(tmp_path, now=17 * DAY_S).starts
    root = tmp_path / "all"
    (root / "base").mkdir(parents=True)
    (root / "base" / SESSIONS_FILE).write_text(json.dumps({"format": 1, **vars(done)}) + "\n")
    assert spent_s(root, 10 * DAY_S) == 100.0
    assert spent_s(root, 20 * DAY_S) == 0.0


def test_d6_erasure_removes_data_sets_and_schedules_training_whatever_the_calendar_says(
    tmp_path: Path,
) -> None:
    first = made(tmp_path)
    other = made(tmp_path, name="d2")
    lineage = Lineage(tmp_path / "lineage.jsonl")
    for name, records in (("h-d1", ("r1", "r2")), ("h-d2", ("r2",))):
        lineage.add(Thing("dataset", name), [Thing("record", one) for one in records])
    lineage.add(Thing("run", "run-1"), [Thing("dataset", "h-d1")])
    lineage.add(Thing("adapter", "run-1"), [Thing("run", "run-1")])
    lineage.add(Thing("release", "rel"), [Thing("adapter", "run-1")])
    assert not erasure.walk(tmp_path, lineage, ["r1", "r2"])
    found = erasure.walk(tmp_path, lineage, ["r2"])
    assert (found.runs, found.adapters, found.releases) == (("run-1",), ("run-1",), ("rel",))
    assert not first.exists()
    assert other.exists()
    done = Session("h-d2", "sft", "b", "r", "done", ended_at=10 * DAY_S)
    (tmp_path / "session.json").write_text(json.dumps({"format": 1, **vars(done)}))
    assert facts(tmp_path) == Due(True, "1 records were erased: it is trained anew without them")
    # A second walk does not forget what was found before.
    assert erasure.walk(tmp_path, lineage, ["r2"]) == found
    erasure.trained_anew(tmp_path)
    assert not facts(tmp_path).starts


def test_g4_a_second_trigger_of_the_same_tier_meets_the_first_session(tmp_path: Path) -> None:
    dataset = made(tmp_path)
    with FolderLock(tmp_path / "session.lock"), pytest.raises(StorageError, match="in use"):
        train(tmp_path, dataset, "base", tmp_path / "run")


def test_one_training_of_the_machine_runs_at_a_time(tmp_path: Path) -> None:
    for name in ("base", "company-acme"):
        made(tmp_path / name)
    places = [Place(tmp_path / "base", "base"), Place(tmp_path / "company-acme", "company", "acme")]
    waits = [sys.executable, "-c", "import time; time.sleep(60)"]
    scheduler = Scheduler(
        tmp_path, Budget(), lambda: False, lambda place: ([sys.executable, "-c", ""], waits)
    )
    assert [one.starts for one in scheduler.turn(places, time.time()).values()] == [True]
    assert scheduler.turn(places, time.time()) == {}
    scheduler.close()


def test_g5_training_changes_the_weights_and_a_killed_session_ends_as_if_undisturbed(
    tmp_path: Path,
) -> None:
    base = tiny_model(tmp_path / "tiny")
    dataset = made(tmp_path)
    whole = train(
        tmp_path / "whole", _copied(dataset, tmp_path / "whole"), str(base), tmp_path / "run-1",
        settings=[*SETTINGS, "train.steps=8"],
    )  # fmt: skip
    assert whole.state == "done", whole.reason
    losses = _losses(tmp_path / "run-1")
    assert losses[-1] < losses[0] - 0.1

    code = (
        "from pathlib import Path; from triptych.learning.loop.training import train\n"
        f"train(Path({str(tmp_path / 'cut')!r}), Path({str(dataset)!r}), {str(base)!r}, "
        f"Path({str(tmp_path / 'run-2')!r}), settings={[*SETTINGS, 'train.steps=8']!r})"
    )
    (tmp_path / "cut").mkdir()
    process = subprocess.Popen([sys.executable, "-c", code], start_new_session=True)
    events = tmp_path / "run-2" / "events.jsonl"
    for _ in range(600):
        if events.exists() and b'"checkpoint"' in events.read_bytes():
            break
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)  # the loop and the trainer alike
    process.wait()
    session = read_session(tmp_path / "cut")
    assert session is not None
    assert session.state == "running"
    again = train(tmp_path / "cut", dataset, str(base), tmp_path / "unused")
    assert (again.state, again.run) == ("done", str(tmp_path / "run-2"))
    assert _adapter(tmp_path / "run-2") == _adapter(tmp_path / "run-1")


def tiny_model(folder: Path) -> Path:
    import torch

    from triptych.lm.model.checkpoint import save_model
    from triptych.lm.model.config import ModelConfig
    from triptych.lm.model.tokenizer import Tokenizer
    from triptych.lm.model.transformer import Transformer

    torch.manual_seed(0)
    config = ModelConfig(
        model_type="llama", vocab_size=384, hidden_size=32, intermediate_size=64,
        num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=1, head_dim=16,
        max_position_embeddings=256,
    )  # fmt: skip
    texts = iter(["What is planted? It is zebra 1 2 3."] * 20)
    save_model(folder, Transformer(config).eval(), Tokenizer.train(texts, vocab_size=380))
    return folder


def _copied(dataset: Path, folder: Path) -> Path:
    folder.mkdir()
    return dataset


def _losses(run: Path) -> list[float]:
    lines = [json.loads(line) for line in (run / "events.jsonl").read_text().splitlines()]
    return [line["train/loss"] for line in lines if "train/loss" in line]


def _adapter(run: Path) -> str:
    name = (run / "checkpoints" / "latest").read_text().strip()
    weights = run / "checkpoints" / name / "adapter_model.safetensors"
    return hashlib.sha256(weights.read_bytes()).hexdigest()
