"""`extend` goes on: the next batches, the optimizer, the rate before it fell."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from triptych.lm.runs import control
from triptych.lm.runs.store import Run, RunStore
from triptych.lm.runs.worker import work


def test_s3_8_extend_goes_on_from_before_the_rate_fell(calm: Callable[..., Run]) -> None:
    parent = calm(10, "train.schedule=wsd", "train.warmup_steps=2")
    store = RunStore(parent.path.parent)
    child = control.extend(store, parent.run_id, 3)
    assert work(child.path, Path) == 0
    saved = json.loads((child.path / "config.json").read_text())
    assert store.get(child.run_id).record["parent"]["checkpoint"] == "step-00000005"
    recipe = json.loads((parent.path / "config.json").read_text())["recipe"]
    assert saved["recipe"]["first_batch"] == 5
    assert saved["recipe"]["steps"] == 10 - 5 + 3
    assert saved["recipe"]["warmup_steps"] == 0, "the rate is that of the plateau"
    assert saved["recipe"]["batch_tokens"] == recipe["batch_tokens"]
    assert saved["recipe"]["learning_rate"] == recipe["learning_rate"]


def test_s3_8_extend_without_such_a_checkpoint_goes_on_in_the_data(
    calm: Callable[..., Run],
) -> None:
    parent = calm(10, "train.schedule=cosine")
    child = control.extend(RunStore(parent.path.parent), parent.run_id, 3)
    assert work(child.path, Path) == 0
    saved = json.loads((child.path / "config.json").read_text())
    assert (saved["recipe"]["first_batch"], saved["recipe"]["steps"]) == (10, 3)
