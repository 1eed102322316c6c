"""Time, memory, tokens and disk of a run, estimated from a few of its steps on this machine.

Nothing is written. It runs in a process of its own (`triptych runs estimate`), so that the
memory it reports is that of one worker.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from triptych.config import Config

# What one step and one evaluation add to `events.jsonl`, on average.
_EVENT_BYTES = 300


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """What a run would take.

    Units: `tokens` are read by all steps together; `seconds` count steps and evaluations, not
    the start; `memory_bytes` is the measured size of the process; `disk_bytes` the folder's.
    """

    steps: int
    tokens: int
    epochs: float
    parameters: int
    step_s: float
    seconds: float
    memory_bytes: int
    disk_bytes: int
    recipe: str

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return asdict(self)


def estimate(config: Config, resolve: Callable[[str], Path] = Path, *, tries: int = 3) -> Estimate:
    """Set up a run, time a few steps, and scale them to all steps.

    Raises: what starting the run would raise.
    """
    from triptych.lm.train import probe
    from triptych.lm.train.distribution import World
    from triptych.lm.train.methods import prepare

    setup = prepare(config, resolve, World())
    recipe, train = setup.recipe, setup.config.train
    parameters = sum(weight.numel() for weight in setup.model.parameters())
    train_step = setup.make_step(World())
    train_step.step(0)
    step_s = min(probe.seconds(lambda: train_step.step(1), recipe.device) for _ in range(tries))
    state = train_step.state_tensors().values()
    checkpoint_bytes = setup.checkpoint_bytes() + sum(t.numel() * t.element_size() for t in state)
    kept = train.keep_last + 1 + len(train.milestones)
    saved = recipe.steps // recipe.checkpoint_every if recipe.checkpoint_every else 1
    evaluations = recipe.steps // recipe.eval_every if recipe.eval_every else 1
    # A forward pass alone is about a third of a step.
    eval_s = evaluations * recipe.eval_tokens / recipe.batch_tokens * step_s / 3
    return Estimate(
        steps=recipe.steps,
        tokens=recipe.steps * recipe.batch_tokens,
        epochs=recipe.epochs,
        parameters=parameters,
        step_s=step_s,
        seconds=recipe.steps * step_s + eval_s,
        memory_bytes=probe.memory_bytes(recipe.device),
        disk_bytes=min(kept, max(1, saved)) * checkpoint_bytes + recipe.steps * _EVENT_BYTES,
        recipe=recipe.summary(),
    )
