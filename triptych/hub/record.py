"""What is known about a checkpoint, read from the files beside it: shape, weights, run, corpus.

Nothing is guessed and nothing is typed in: a fact that no file holds is absent. The record that
is published leaves out this machine's folders. Left out: writing any of these files (`lm`).
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

from triptych.durable import sha256_file
from triptych.errors import PublishRefused
from triptych.wire.run_events import read_events, whole_split

FORMAT_VERSION = 1
# The files that loading a checkpoint takes; optimizer and trainer state are never published.
MODEL_FILES = (
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "tokenizer.model",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
    "adapter_config.json",
    "adapter_record.json",
)
ADAPTER_CONFIG, ADAPTER_RECORD = MODEL_FILES[-2:]
_NOT_WEIGHTS = ("optimizer.safetensors",)
_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")
_SAFETENSORS_HEADER_MAX_BYTES = 100 * 2**20


@dataclass(frozen=True)
class Weights:
    """Describe the tensors of a checkpoint."""

    parameters: int
    size_bytes: int
    dtypes: Mapping[str, int]
    files: Mapping[str, str]


@dataclass(frozen=True)
class Evaluation:
    """Hold what the model scored on the held-out documents of its corpus.

    Units: `loss` in nats per token, `bpb` in bits per byte.
    """

    loss: float
    bpb: float
    tokens: int | None
    whole_split: bool

    @property
    def perplexity(self) -> float:
        """Exponential of the loss."""
        return math.exp(self.loss)


@dataclass(frozen=True)
class Record:
    """Hold everything a model card may say about a checkpoint."""

    folder: Path
    shape: Mapping[str, Any]
    weights: Weights
    step: int | None = None
    tokens_seen: int | None = None
    run_folder: Path | None = None
    run: Mapping[str, Any] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)
    events: tuple[Mapping[str, Any], ...] = ()
    corpus: Mapping[str, Any] | None = None
    report: Mapping[str, Any] | None = None

    @property
    def is_adapter(self) -> bool:
        """Return whether the folder holds an adapter, which is no model without its base."""
        return (self.folder / ADAPTER_CONFIG).is_file()

    @property
    def recipe(self) -> Mapping[str, Any]:
        """Return the numbers the run was trained with."""
        recipe: Mapping[str, Any] = self.config.get("recipe") or {}
        return recipe

    @property
    def training(self) -> Mapping[str, Any]:
        """Return the run's settings of the section `train`."""
        sections: Mapping[str, Any] = self.config.get("config") or {}
        training: Mapping[str, Any] = sections.get("train") or {}
        return training

    @property
    def data_folder(self) -> Path | None:
        """Return the corpus folder the run learned from, where it is on this machine."""
        named = self.training.get("data")
        return Path(named) if named and Path(named).is_dir() else None

    @cached_property
    def evaluation(self) -> Evaluation | None:
        """Return what this very checkpoint scored during its run, if it was evaluated then."""
        found = [e for e in self.events if e["type"] == "eval" and e["step"] == self.step]
        if not found:
            return None
        whole = whole_split(found[-1])
        scores = whole or found[-1]
        return Evaluation(
            scores["val/loss"], scores["val/bpb"], scores.get("val/tokens"), whole is not None
        )

    @property
    def curve(self) -> list[Mapping[str, Any]]:
        """Return the evaluations of the run up to this checkpoint."""
        return [e for e in self.events if e["type"] == "eval" and self._by_now(e)]

    @property
    def seconds(self) -> float | None:
        """Return how long the run took to get here, pauses between resumes left out."""
        until = [e for e in self.events if self._by_now(e)]
        gaps = [
            later["time_s"] - earlier["time_s"]
            for earlier, later in pairwise(until)
            if later.get("state") != "running"
        ]
        return sum(gaps) if gaps else None

    def public(self) -> dict[str, Any]:
        """Return the record as it is published: facts, without this machine's folders."""
        return {
            "format_version": FORMAT_VERSION,
            "step": self.step,
            "tokens_seen": self.tokens_seen,
            "weights": {
                "parameters": self.weights.parameters,
                "bytes": self.weights.size_bytes,
                "dtypes": dict(self.weights.dtypes),
                "sha256": dict(self.weights.files),
            },
            "run": _public(self.run),
            "config": _public(self.config),
            "evaluations": [_public(e) for e in self.curve],
            "corpus": _public(self.corpus) if self.corpus else None,
        }

    def _by_now(self, event: Mapping[str, Any]) -> bool:
        return self.step is None or event.get("step", 0) <= self.step


def read_record(folder: Path) -> Record:
    """Read a checkpoint folder and, where it lies in a run folder, the run around it.

    Raises: PublishRefused naming what is missing from the folder, or is not safe to load.
    """
    folder = Path(folder)
    shape = _json(folder / "config.json") or _json(folder / ADAPTER_CONFIG)
    if shape is None:
        raise PublishRefused(
            f"{folder} is not a checkpoint: it has no config.json",
            hint="name a checkpoint folder, such as RUN/checkpoints/step-00001000",
        )
    weights = _weights(folder)
    state = _json(folder / "trainer_state.json") or {}
    run_folder = _run_folder(folder)
    if run_folder is None:
        return Record(folder, shape, weights, state.get("step"), state.get("tokens_seen"))
    config = _json(run_folder / "config.json") or {}
    corpus_folder = ((config.get("config") or {}).get("train") or {}).get("data")
    return Record(
        folder,
        shape,
        weights,
        state.get("step"),
        state.get("tokens_seen"),
        run_folder,
        _json(run_folder / "run.json") or {},
        config,
        tuple(read_events(run_folder / "events.jsonl")),
        _json(Path(corpus_folder) / "manifest.json") if corpus_folder else None,
        _json(run_folder / "report.json"),
    )


def milestones(run_folder: Path) -> dict[int, Path]:
    """Return the checkpoints of a run by step."""
    found = {}
    for folder in (run_folder / "checkpoints").glob("step-*"):
        number = folder.name.removeprefix("step-")
        described = (folder / name for name in ("config.json", ADAPTER_CONFIG))
        if number.isdigit() and any(file.is_file() for file in described):
            found[int(number)] = folder
    return dict(sorted(found.items()))


def find_checkpoint(path: Path) -> Path:
    """Return the checkpoint a path means: itself, or the best, else the latest, of a run.

    Raises: PublishRefused where the run has no checkpoint yet.
    """
    if (path / "checkpoints").is_dir():
        for pointer in ("best", "latest"):
            file = path / "checkpoints" / pointer
            if file.is_file():
                return path / "checkpoints" / file.read_text(encoding="utf-8").strip()
        raise PublishRefused(f"{path} has no checkpoint yet", hint="let it train a little longer")
    return path


def model_files(folder: Path) -> dict[str, Path]:
    """Return the files that loading this checkpoint takes, by name."""
    named = {name: folder / name for name in MODEL_FILES if (folder / name).is_file()}
    stored = {
        file.name: file
        for pattern in ("*.safetensors", "*.safetensors.index.json")
        for file in sorted(folder.glob(pattern))
        if file.name not in _NOT_WEIGHTS
    }
    return {**named, **stored}


def _weights(folder: Path) -> Weights:
    files = sorted(f for f in folder.glob("*.safetensors") if f.name not in _NOT_WEIGHTS)
    if not files:
        pickles = [f.name for f in folder.iterdir() if f.suffix in _PICKLES]
        raise PublishRefused(
            f"{folder} has no safetensors weights"
            + (f", only {', '.join(pickles)}" if pickles else ""),
            hint="pickled weights can run code when loaded; save the model as safetensors",
        )
    parameters, dtypes = 0, dict[str, int]()
    for file in files:
        for tensor in _tensors(file).values():
            count = math.prod(tensor["shape"])
            parameters += count
            dtypes[tensor["dtype"]] = dtypes.get(tensor["dtype"], 0) + count
    return Weights(
        parameters,
        sum(file.stat().st_size for file in files),
        dtypes,
        {file.name: sha256_file(file) for file in files},
    )


def _tensors(file: Path) -> dict[str, Any]:
    """Read the header of a safetensors file: 8 bytes of length, then JSON."""
    with file.open("rb") as stream:
        try:
            (length,) = struct.unpack("<Q", stream.read(8))
            if length > _SAFETENSORS_HEADER_MAX_BYTES:
                raise ValueError("its header is too long")
            header: dict[str, Any] = json.loads(stream.read(length))
            end = max((t["data_offsets"][1] for n, t in header.items() if n[:2] != "__"), default=0)
            if file.stat().st_size != 8 + length + end:
                raise ValueError("it is cut short")
        except (struct.error, ValueError, TypeError, KeyError, AttributeError) as error:
            raise PublishRefused(
                f"{file} is not a whole safetensors file: {error}", hint="save it again"
            ) from error
    header.pop("__metadata__", None)
    return header


def _run_folder(folder: Path) -> Path | None:
    folder = folder.resolve()
    around = folder.parent.parent
    inside = folder.parent.name == "checkpoints" and (around / "run.json").is_file()
    return around if inside else None


def _json(file: Path) -> dict[str, Any] | None:
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except ValueError as error:
        raise PublishRefused(f"{file} is not valid JSON: {error}", hint="is it torn?") from error
    return value if isinstance(value, dict) else None


def _public(value: Any) -> Any:
    """Shorten every absolute path in a value to its last part."""
    if isinstance(value, Mapping):
        return {key: _public(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_public(inner) for inner in value]
    if isinstance(value, str) and Path(value).is_absolute():
        return Path(value).name
    return value
