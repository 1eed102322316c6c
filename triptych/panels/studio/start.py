"""Turn what a visitor chose into settings, a corpus and a queued run."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from triptych.config import Config, load_config
from triptych.config.train import TrainConfig
from triptych.errors import UsageError
from triptych.hub.pull import is_repository, pull
from triptych.lm.data.manifest import load_manifest
from triptych.lm.model.config import ModelConfig
from triptych.lm.runs.advice import warnings
from triptych.lm.runs.control import checkpoint_folder
from triptych.lm.runs.rights import check_request, corpora_of
from triptych.lm.runs.store import Request, Run, RunStore
from triptych.lm.train.recipe import context_for
from triptych.panels.command import run_triptych
from triptych.panels.studio import corpus
from triptych.panels.visitor import Visitor

PRESETS = {"quick": 120.0, "medium": 600.0, "extended": 3600.0}
ESTIMATE_S = 300.0
SAMPLE = "train.sample_tokens=48"
# Kept, so that the Playground can set what a model wrote as a child beside what it writes now.
EARLY_STEP = 20


@dataclass(frozen=True)
class Choice:
    """What the form holds. `settings` are lines such as `train.steps=100`."""

    text: str = ""
    files: Sequence[str] = ()
    dataset: str = ""
    corpus: str = ""
    start: str = ""
    preset: str = "quick"
    minutes: str = ""
    size: str = "nano"
    name: str = ""
    batch: int | None = None
    accumulation: int | None = None
    settings: Sequence[str] = field(default_factory=list)


def start_run(store: RunStore, config: Config, choice: Choice, visitor: Visitor) -> Run:
    """Build the corpus if there is none yet, and queue the run.

    Raises: UsageError without text, DataError for text that cannot be learned from, ConfigError
        for a wrong setting, RunError over quota, AccessDenied for a caller who has not signed in.
    """
    resolved = configure(store, config, choice, visitor)
    started = Request.of(resolved, name=name_of(choice), user=visitor.user)
    return store.create(replace(started, parent=_parent(choice.start)))


def configure(store: RunStore, config: Config, choice: Choice, visitor: Visitor) -> Config:
    """Resolve a choice to a configuration that is allowed, building its corpus."""
    visitor.require_name()
    # Checked before anything is built, so that a typing mistake costs nothing.
    asked = load_config(None, [*_timing(choice), *choice.settings])
    check_request(store, config.runs, asked, visitor.user)
    begin = _start_folder(store, choice.start, visitor)
    data = asked.train.data or _data(store, config, choice, visitor, str(begin or ""))
    # Before anything is read from it: it may be another user's.
    check_request(
        store, config.runs, replace(asked, train=replace(asked.train, data=data)), visitor.user
    )
    settings = [
        f"model.size={choice.size}",
        *_timing(choice),
        *_watching(data),
        *_batch(choice, data),
        *choice.settings,
        f"train.data={data}",
    ]
    resolved = load_config(None, settings)
    check_request(store, config.runs, resolved, visitor.user)
    if begin:
        # Named only now: it was looked up with the visitor's own rights.
        return load_config(None, [*settings, f"train.init_from={begin}"])
    return resolved


def estimate(store: RunStore, config: Config, choice: Choice, visitor: Visitor) -> dict[str, Any]:
    """Measure what the run would take, in a process of its own.

    Returns: the values of `lm/runs/estimate`, and `warnings`.
    """
    resolved = configure(store, config, choice, visitor)
    made = Request.of(resolved)
    settings = [
        f"{section}.{name}={_written(value)}"
        for section in ("model", "train")
        for name, value in made.config[section].items()
        if value is not None
    ]
    told = run_triptych(
        ["runs", "estimate", "--json", *settings], Visitor(visitor.user), ESTIMATE_S
    )
    values: dict[str, Any] = json.loads(told.strip().splitlines()[-1])
    return {**values, "warnings": warnings(resolved)}


def starts(store: RunStore, user: str) -> list[tuple[str, str]]:
    """List what a run can start from: nothing, or the checkpoints of one's own runs."""
    found = [("from scratch", "")]
    for run in store.list(user=user):
        places = run.path / "checkpoints"
        for folder in sorted(places.glob("step-*"), reverse=True)[:3] if places.is_dir() else ():
            step = int(folder.name.removeprefix("step-"))
            found.append((f"{run.name} · step {step:,}", f"{run.run_id}/{folder.name}"))
    return found


def _timing(choice: Choice) -> list[str]:
    if choice.minutes.strip():
        return [f"train.budget_s={60 * _minutes(choice.minutes):g}"]
    seconds = PRESETS.get(choice.preset)
    return [f"train.budget_s={seconds:g}"] if seconds else []


def _minutes(text: str) -> float:
    try:
        minutes = float(text)
    except ValueError:
        minutes = 0.0
    if not 0 < minutes < float("inf"):
        raise UsageError(f"minutes are {text!r}, not a number above 0", hint="write 5, or 0.5")
    return minutes


def name_of(choice: Choice) -> str:
    """Call a run as its maker did, or after what it reads."""
    opening = re.findall(r"\w+", choice.text[:200])[:4]
    file = Path(choice.files[0]).stem if choice.files else ""
    source = choice.dataset.rpartition("/")[2] or file
    corpus_name = Path(choice.corpus).name if choice.corpus else ""
    return choice.name.strip() or corpus_name or source or " ".join(opening)[:40] or "a run"


def _watching(data: Path) -> list[str]:
    """Have enough to look at: an early checkpoint, and evaluations as small as the text is."""
    held_out = load_manifest(data)["counts"]["val"]["tokens"]
    tokens = max(1, min(TrainConfig().eval_tokens, held_out))
    return [f"train.milestones=[{EARLY_STEP}]", f"train.eval_tokens={tokens}", SAMPLE]


def _batch(choice: Choice, data: Path) -> list[str]:
    """Turn sequences and accumulations into tokens, at the length the recipe will choose."""
    if choice.batch is None and choice.accumulation is None:
        return []
    sequences, times = choice.batch or 8, choice.accumulation or 1
    tokens = load_manifest(data)["counts"]["train"]["tokens"]
    asked = load_config(None, choice.settings).train
    context = context_for(asked, ModelConfig.of_size(choice.size), tokens)
    return [
        f"train.context_length={context}",
        f"train.micro_batch={sequences}",
        f"train.batch_tokens={sequences * times * context}",
    ]


def _data(
    store: RunStore, config: Config, choice: Choice, visitor: Visitor, tokenizer: str
) -> Path:
    own = corpora_of(store, visitor.user)
    if choice.corpus:
        return Path(choice.corpus)
    return corpus.build(
        own,
        config,
        visitor,
        text=choice.text,
        files=choice.files,
        dataset=choice.dataset.strip(),
        tokenizer=tokenizer,
        name=choice.name,
    )


def _start_folder(store: RunStore, start: str, visitor: Visitor) -> Path | None:
    if not start:
        return None
    run_id, _, checkpoint = start.partition("/")
    if checkpoint.startswith("step-"):
        run = store.get(run_id)
        if run.user != visitor.user:
            raise UsageError(f"no run {run_id}", hint="choose one of your own")
        return checkpoint_folder(run, checkpoint)
    if not is_repository(start):
        raise UsageError(
            f"{start!r} names no checkpoint", hint="choose one from the list, or write owner/name"
        )
    return pull(start, visitor.hub())


def _parent(start: str) -> Mapping[str, Any] | None:
    run_id, _, checkpoint = start.partition("/")
    return {"run_id": run_id, "checkpoint": checkpoint} if checkpoint.startswith("step-") else None


def _written(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
