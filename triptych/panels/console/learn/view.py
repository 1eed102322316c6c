"""What the Learn page shows: each step with its state, one sentence, and what may be done."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from triptych.learning.loop.status import LoopStatus, Step
from triptych.panels.web.tables import Row, Table

#: A step's actions that one button does, in the words of the page. The first is the next one.
BUTTONS = {
    "dataset": "Make a data set",
    "prompt": "Put the corrections into the prompt",
    "approve": "Approve the next share",
    "hold": "Hold",
    "release": "Go on",
    "back": "Back",
}
CONFIRM = {"back": "All traffic returns to the champion at once."}
#: Actions that need files or names: the command to type.
COMMANDS = {
    "gate": "triptych learn plan, measure and gate",
}
MARKS = {"done": "good", "failed": "bad", "waiting": "warn", "open": "soft"}
WORDS = {"done": "done", "failed": "failed", "waiting": "waiting", "open": "not begun"}
TITLES = {"data set": "Data set", "train": "Train", "gate": "Gate", "shadow": "Shadow",
          "rollout": "Rollout", "all": "All users"}  # fmt: skip


@dataclass(frozen=True)
class Shown:
    """One step: its title, state in words, sentence, buttons, forms, and a command to type."""

    title: str
    state: str
    mark: str
    sentence: str
    buttons: tuple[tuple[str, str, str], ...]
    form: str
    command: str
    is_now: bool


@dataclass(frozen=True)
class Line:
    """The whole line of one tier, the rows that were left out, and the latest decisions."""

    steps: tuple[Shown, ...]
    removed: Table | None
    decisions: Table


def line(status: LoopStatus) -> Line:
    """Return the line of a tier."""
    now = status.now
    removed = None
    if status.dataset is not None:
        left_out: Mapping[str, int] = status.dataset["removed"]
        removed = Table(
            "Left out of the data set", ("Reason", "Rows"),
            tuple(Row((reason.replace("_", " "), count)) for reason, count in left_out.items()),
            empty="Nothing was left out.", numbers=frozenset({1}),
        )  # fmt: skip
    decisions = tuple(
        Row((str(one["decision"].get("action", "")).replace("_", " "),
             one["decision"].get("reason", ""), f"{float(one['state']['share']):.0%}"))
        for one in status.decisions[:10]
    )  # fmt: skip
    table = Table(
        "Latest decisions", ("Decision", "Why", "Share after it"), decisions,
        empty="No rollout was started yet.", numbers=frozenset({2}),
    )  # fmt: skip
    return Line(tuple(_shown(one, one is now) for one in status.steps), removed, table)


def _shown(step: Step, is_now: bool) -> Shown:
    needs = f" Needs {step.needs} more." if step.needs and "needs" not in step.sentence else ""
    sentence = step.sentence[:1].upper() + step.sentence[1:]
    buttons = tuple(
        (action, BUTTONS[action], CONFIRM.get(action, ""))
        for action in step.actions
        if action in BUTTONS and (action != "dataset" or step.name == "data set")
    )
    at = {"data set": "", "train": "train", "shadow": "start", "rollout": "start"}
    form = at.get(step.name, "")
    return Shown(
        TITLES.get(step.name, f"{step.name} of the users"), WORDS[step.state], MARKS[step.state],
        f"{sentence}.{needs}" if sentence else "", buttons,
        form if form in step.actions else "",
        next((COMMANDS[one] for one in step.actions if one in COMMANDS), ""), is_now,
    )  # fmt: skip
