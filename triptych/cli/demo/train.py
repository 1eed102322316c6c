"""First stage: from text to a trained, evaluated model."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from triptych.cli.demo.tour import Tour

VOCAB_SIZE = 4096
# What the recipe chooses for a model of this size; half of it made the model worse than xz.
BATCH_TOKENS = 2048
# 351 steps took 90 s on two idle cores (Intel Xeon). Slower machines take the same steps, in up to
# BOUND times the seconds.
STEPS_PER_S = 4.0
BOUND = 3.0


def stage(tour: Tour) -> None:
    """Build a corpus, train a small model on it, evaluate it, and read what it writes."""
    tour.keep_aside(tour.data)
    tour.keep_aside(tour.run_dir)
    tour.title("1. Text becomes a corpus")
    if tour.sources == ["python-docs"]:
        tour.say("The text is what your own Python brings: its help, docstrings and source.")
    # The table of a larger vocabulary would be half the work of so small a model.
    tour.triptych(
        "data", "build", *tour.sources, "--out", tour.data, "--vocab-size", str(VOCAB_SIZE)
    )

    steps = max(1, round(tour.train_s * STEPS_PER_S))
    tour.title("2. A model learns it")
    tour.say("Bits per byte falls as the model learns; samples show what it would write.")
    tour.triptych(
        "train",
        f"train.data={tour.data}",
        "model.size=micro",
        f"train.steps={steps}",
        f"train.batch_tokens={BATCH_TOKENS}",
        f"train.budget_s={tour.train_s * BOUND:g}",
        "train.keep_last=8",
        # Young checkpoints, for the Playground: how it wrote before it had learned much.
        "train.milestones=[20,80]",
        "--run-dir",
        tour.run_dir,
    )

    taken = _steps_taken(tour)
    if taken < steps:
        tour.say(
            f"This machine is slow or busy: {taken} of {steps} steps fitted into "
            f"{tour.train_s * BOUND:.0f} s, so the model is worse than it could be."
        )
    tour.title("3. How good is it?")
    report = (tour.run_dir / "report.md").read_text(encoding="utf-8")
    tour.say(report)
    tour.say(f"the curve: {tour.run_dir / 'loss.png'}")

    tour.say("It writes:")
    tour.triptych(
        "generate", tour.run_dir, "def ", "--max-new-tokens", "60", "--temperature", "0.7",
        "--seed", "1",
    )  # fmt: skip
    tour.next_steps.append(
        (f'triptych generate {tour.run_dir} "import "', "let it continue anything you like")
    )
    tour.next_steps.append(
        ("triptych playground", "its checkpoints of several ages side by side in the browser")
    )
    tour.next_steps.append(
        ("triptych studio", "train the next one on your own text, and watch it learn")
    )
    tour.next_steps.append(
        (f"triptych train --resume {tour.run_dir}", "go on exactly where a run stopped")
    )


def _steps_taken(tour: Tour) -> int:
    """Return how many steps the run was given when its machine had been measured."""
    events = (tour.run_dir / "events.jsonl").read_text(encoding="utf-8").splitlines()
    return max(int(json.loads(line).get("step") or 0) for line in events)
