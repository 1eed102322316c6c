"""Lessons: small experiments with a question before and an honest check afterwards.

A lesson is a few runs that differ in one thing, a question with some answers, and a function
that reads from the finished runs which answer was right. No answer is stored; the finished runs
decide it. Left out: drawing (`panels/studio`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from triptych.errors import UsageError
from triptych.lm.runs.metrics import series
from triptych.lm.runs.store import Run

Level = Literal["beginner", "intermediate", "advanced"]
Verdict = tuple[int, str]
"""The index of the answer that turned out right, and the figures that show it."""

_SMALL = (
    "model.size=nano",
    "train.context_length=64",
    "train.batch_tokens=1024",
    "train.compile=off",
    "train.eval_tokens=8192",
    "train.sample_tokens=48",
    "train.milestones=[20]",
)


@dataclass(frozen=True, kw_only=True)
class Lesson:
    """One experiment. `runs` maps the name of each run to its settings, in order."""

    name: str
    level: Level
    title: str
    story: str
    question: str
    answers: tuple[str, ...]
    runs: Mapping[str, tuple[str, ...]]
    verdict: Callable[[Sequence[Run]], Verdict]
    afterwards: str

    def settings(self, run: str) -> list[str]:
        """Return all settings of one of the lesson's runs."""
        return [*_SMALL, *self.runs[run]]


def lesson(name: str) -> Lesson:
    """Return a lesson.

    Raises: UsageError naming the lessons there are.
    """
    for one in LESSONS:
        if one.name == name:
            return one
    raise UsageError(f"no lesson {name!r}", hint=f"there are {', '.join(x.name for x in LESSONS)}")


def check(one: Lesson, runs: Sequence[Run]) -> Verdict | None:
    """Return which answer was right; None while a run still trains.

    Raises: UsageError when a run was paused or cancelled.
    """
    decided = {"succeeded", "failed"}
    if any(run.state in ("cancelled", "paused") for run in runs):
        raise UsageError(
            "a run of this lesson was paused or cancelled",
            hint="resume it, or start the lesson again",
        )
    if len(runs) < len(one.runs) or any(run.state not in decided for run in runs):
        return None
    return one.verdict(runs)


def _loss(run: Run, name: str = "val/loss") -> float:
    """Return the last value of a curve; infinite for a run that diverged."""
    if run.state == "failed":
        return math.inf
    points = series(run.path, [name], max_points=500)[name]
    return points[-1][1] if points else math.inf


def _shown(value: float) -> str:
    return "diverged" if math.isinf(value) else f"{value:.3f}"


def _first_curve(runs: Sequence[Run]) -> Verdict:
    points = series(runs[0].path, ["train/loss"])["train/loss"]
    first, last = points[0][1], points[-1][1]
    half = points[len(points) // 2][1]
    share = (first - half) / (first - last) if first > last else 0.0
    right = 0 if share > 0.6 else 1 if share > 0.4 else 2
    return right, (
        f"Loss {first:.2f} at the first step, {half:.2f} half way, {last:.2f} at the end: "
        f"{share:.0%} of the fall came in the first half."
    )


def _rates(runs: Sequence[Run]) -> Verdict:
    losses = [_loss(run) for run in runs]
    best = losses.index(min(losses))
    figures = ", ".join(f"{run.name}: {_shown(v)}" for run, v in zip(runs, losses, strict=True))
    return best, f"Validation loss at the end. {figures}."


def _steps_or_batch(runs: Sequence[Run]) -> Verdict:
    many, large = (_loss(run) for run in runs)
    right = 2 if abs(many - large) < 0.02 else 0 if many < large else 1
    return right, f"Validation loss: many small steps {_shown(many)}, few large {_shown(large)}."


def _overfitting(runs: Sequence[Run]) -> Verdict:
    run = runs[0]
    curve = [value for _, value in series(run.path, ["val/loss"])["val/loss"]]
    train = _loss(run, "train/loss")
    if not curve:
        return 2, "The run failed before it was evaluated."
    lowest, last = min(curve), curve[-1]
    right = 1 if last > lowest + 0.02 else 0
    return right, (
        f"Validation loss was lowest at {lowest:.3f} and ended at {last:.3f}, while the training "
        f"loss ended at {train:.3f}."
    )


def _cooldown(runs: Sequence[Run]) -> Verdict:
    losses = [_loss(run) for run in runs]
    falling, constant = losses
    right = 2 if abs(falling - constant) < 0.01 else 0 if falling < constant else 1
    return right, f"Validation loss: decaying {_shown(falling)}, constant {_shown(constant)}."


LESSONS: tuple[Lesson, ...] = (
    Lesson(
        name="first-curve",
        level="beginner",
        title="Your first curve",
        story="At first every token is equally likely. One short run shows the model learning.",
        question="When does most of the improvement come?",
        answers=("In the first half", "Evenly over the run", "In the second half"),
        runs={"one run": ("train.steps=120",)},
        verdict=_first_curve,
        afterwards="Common letters and words are learned quickly; rare ones take long. That is "
        "why a loss curve is steep first and flat later, and why its end still matters. Open the "
        "checkpoints in the Playground and read what each of them writes.",
    ),
    Lesson(
        name="learning-rate",
        level="beginner",
        title="The learning rate",
        story="The learning rate scales every step. Three runs differ in nothing else.",
        question="Which AdamW learning rate ends at the lowest validation loss?",
        answers=("0.0001", "0.003", "1"),
        runs={
            f"rate {rate}": (
                "train.steps=120",
                "train.optimizer=adamw",
                f"train.learning_rate={rate}",
            )
            for rate in ("0.0001", "0.003", "1")
        },
        verdict=_rates,
        afterwards="Too small, and the run ends before the model has learned much; too large, and "
        "each step overshoots and the loss does not fall.",
    ),
    Lesson(
        name="batch-or-steps",
        level="intermediate",
        title="Many small steps or few large ones?",
        story="Both runs read the same number of tokens: 240 steps of 512, or 60 steps of 2048.",
        question="Which ends at the lower validation loss?",
        answers=("Many small steps", "Few large steps", "No clear difference"),
        runs={
            "240 small steps": ("train.steps=240", "train.batch_tokens=512"),
            "60 large steps": ("train.steps=60", "train.batch_tokens=2048"),
        },
        verdict=_steps_or_batch,
        afterwards="A larger batch gives a better direction, but each token is used for fewer "
        "steps. Early in training more steps usually win; large batches pay on many devices.",
    ),
    Lesson(
        name="overfitting",
        level="intermediate",
        title="Overfitting",
        story="One run trains on little text for many epochs. Choose a corpus of a few pages.",
        question="What does the validation loss do in the end?",
        answers=("It keeps falling", "It falls, then rises", "It cannot be measured"),
        runs={
            "many epochs": (
                "train.steps=400",
                "train.max_epochs=1000",
                "train.eval_every=20",
                "train.dropout=0",
            )
        },
        verdict=_overfitting,
        afterwards="When validation loss rises while training loss falls, the model memorises the "
        "text. More text helps most; then dropout, or early stopping.",
    ),
    Lesson(
        name="cooldown",
        level="advanced",
        title="The end of the schedule",
        story="Two runs with the same peak learning rate; one decays it over the second half.",
        question="Which ends at the lower validation loss?",
        answers=("The decaying rate", "The constant rate", "No clear difference"),
        runs={
            "falling": ("train.steps=200", "train.schedule=wsd", "train.cooldown_frac=0.5"),
            "constant": ("train.steps=200", "train.schedule=constant"),
        },
        verdict=_cooldown,
        afterwards="A high rate moves fast and a low one refines. Compare the curves: most of "
        "the difference appears in the last steps.",
    ),
)
