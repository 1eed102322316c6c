"""The events of a run, typed; the console, the log file and the pages read them.

Every event has a sequence number. Steps, evaluations, samples and scheduled checkpoints take the
next number (`wire/run_events.NUMBERED`), and the number of each is the same however often the run
was interrupted and resumed. `State` and `Log` are about the process, not the model; they share
the number of the event they follow. Left out: the file that holds them (`folder`).
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, ClassVar, Literal

RunState = Literal["running", "stopped", "finished", "failed"]


@dataclass(frozen=True, kw_only=True)
class Event:
    """The base of all events.

    Units: `time_s` is Unix time.
    """

    type: ClassVar[str] = ""
    names: ClassVar[dict[str, str]] = {}

    seq: int
    time_s: float

    def record(self) -> dict[str, Any]:
        """Return the event as one line of `events.jsonl` holds it."""
        values = {
            self.names.get(field.name, field.name): getattr(self, field.name)
            for field in fields(self)
        }
        return {"seq": values.pop("seq"), "time_s": values.pop("time_s"), "type": self.type} | {
            name: value for name, value in values.items() if value is not None
        }


@dataclass(frozen=True, kw_only=True)
class State(Event):
    """The run began, stopped where it can be resumed, finished, or failed.

    `steps` is how many steps the whole run takes.
    """

    type: ClassVar[str] = "state"

    state: RunState
    step: int
    steps: int
    message: str = ""


@dataclass(frozen=True, kw_only=True)
class Log(Event):
    """A message for a person, such as a torn checkpoint that was skipped."""

    type: ClassVar[str] = "log"

    level: Literal["info", "warning"]
    message: str


@dataclass(frozen=True, kw_only=True)
class Step(Event):
    """One optimizer step was taken.

    Units: `loss` in nats per token over this batch; `mfu` is the share of the machine's
    measured matrix-product rate; `grad_norm` before clipping.
    """

    type: ClassVar[str] = "step"
    names: ClassVar[dict[str, str]] = {
        "loss": "train/loss",
        "lr": "train/lr",
        "grad_norm": "train/grad_norm",
        "tok_per_s": "train/tok_per_s",
        "mfu": "train/mfu",
    }

    step: int
    tokens_seen: int
    loss: float
    lr: float
    grad_norm: float
    tok_per_s: float
    mfu: float
    memory_bytes: int
    eta_s: float


@dataclass(frozen=True, kw_only=True)
class Eval(Event):
    """The model was evaluated on the validation split.

    `loss`, `bpb` and `tokens` are of the same part of the split in every evaluation of a run. The
    last evaluation also has those of the whole split, where that part is not all of it already.

    Units: losses in nats per token, or of DPO or KTO, `bpb` in bits per byte; `margin` and
        `accuracy` of preferences only, `kl` of KTO, `general_bpb` of post-training.
    """

    type: ClassVar[str] = "eval"
    names: ClassVar[dict[str, str]] = {
        "loss": "val/loss",
        "bpb": "val/bpb",
        "tokens": "val/tokens",
        "whole_loss": "val_whole/loss",
        "whole_bpb": "val_whole/bpb",
        "whole_tokens": "val_whole/tokens",
        "margin": "val/margin",
        "accuracy": "val/accuracy",
        "kl": "val/kl",
        "general_bpb": "val/general_bpb",
    }

    step: int
    tokens_seen: int
    loss: float
    bpb: float
    tokens: int
    whole_split: bool
    whole_loss: float | None = None
    whole_bpb: float | None = None
    whole_tokens: int | None = None
    margin: float | None = None
    accuracy: float | None = None
    kl: float | None = None
    general_bpb: float | None = None


@dataclass(frozen=True, kw_only=True)
class Sample(Event):
    """The model continued a prompt."""

    type: ClassVar[str] = "sample"

    step: int
    prompt: str
    text: str


@dataclass(frozen=True, kw_only=True)
class Checkpoint(Event):
    """A scheduled checkpoint is on disk, complete."""

    type: ClassVar[str] = "checkpoint"

    step: int
    name: str
