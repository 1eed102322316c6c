"""What can be compared: checkpoints of the runs on this machine, and repositories on the hub."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from triptych.config import Config
from triptych.errors import TriptychError
from triptych.lm.generate.cache import Lease, ModelCache
from triptych.lm.generate.choose import choose_engine, open_engine, weights_bytes
from triptych.lm.runs.metrics import series
from triptych.lm.runs.store import RunStore

Resolve = Callable[[str], Path]
_STEP = re.compile(r"step-0*(\d+)")
PER_RUN = 8


@dataclass(frozen=True)
class Choice:
    """One entry of the list of models: what is shown, and the reference behind it."""

    label: str
    reference: str


def choices(store: RunStore, extra: Sequence[str] = ()) -> list[Choice]:
    """List the models named at the start, then the newest runs' checkpoints, youngest last."""
    found = [Choice(Path(name).name if Path(name).is_dir() else name, name) for name in extra]
    for run in store.list():
        steps = checkpoints(run.path)
        for step, folder in spread(steps, PER_RUN):
            found.append(Choice(f"{run.name} · step {step:,}", f"{run.run_id}/{folder}"))
    return found


def checkpoints(run_dir: Path) -> list[tuple[int, str]]:
    """List a run's checkpoints by age."""
    places = run_dir / "checkpoints"
    if not places.is_dir():
        return []
    matched = [(_STEP.fullmatch(path.name), path.name) for path in places.iterdir()]
    return sorted((int(match.group(1)), name) for match, name in matched if match)


def spread(steps: Sequence[tuple[int, str]], most: int) -> list[tuple[int, str]]:
    """Keep at most some of a list, evenly, first and last among them."""
    if len(steps) <= most:
        return list(steps)
    last = len(steps) - 1
    return [steps[round(index * last / (most - 1))] for index in range(most)]


def journey(store: RunStore, references: Sequence[str]) -> dict[str, list[tuple[float, float]]]:
    """Read how the runs behind some checkpoints got better, in bits per byte by step."""
    curves: dict[str, list[tuple[float, float]]] = {}
    for reference in references:
        run_id = reference.split("/")[0]
        if (store.root / run_id / "events.jsonl").is_file():
            run = store.get(run_id)
            points = series(run.path, ["val/bpb"], max_points=200)["val/bpb"]
            curves[run.name] = [(float(step), value) for step, value in points]
    return curves


class Shelf:
    """Keep the models that are being compared loaded, within the memory budget."""

    def __init__(self, config: Config, store: RunStore, resolve: Resolve) -> None:
        self._config = config
        self._store = store
        self._resolve = resolve
        self._folders: dict[str, Path] = {}
        self._guard = threading.Lock()
        self._cache = ModelCache(
            lambda key: open_engine(
                self._folders[key], config.generate, model=key, revision=_revision(key)
            ),
            lambda key: weights_bytes(self._folders[key], config.generate),
            memory_bytes=config.generate.cache_memory_bytes,
        )

    def lease(self, reference: str) -> Lease:
        """Give a model, loading it first where needed.

        Raises: what finding and opening it raises.
        """
        folder = self.folder(reference)
        with self._guard:
            self._folders[reference] = folder
        return self._cache.lease(reference)

    def folder(self, reference: str) -> Path:
        """Find the folder of a checkpoint of a run, or of anything else that has a name."""
        run_id, _, checkpoint = reference.partition("/")
        if _STEP.fullmatch(checkpoint):
            return self._store.path(run_id) / "checkpoints" / checkpoint
        return self._resolve(reference)

    def describe(self, reference: str) -> str:
        """Say in a line what a model is: its size, and what runs it."""
        try:
            folder = self.folder(reference)
            shape = json.loads((folder / "config.json").read_text(encoding="utf-8"))
            engine = choose_engine(folder, self._config.generate)
        except (TriptychError, OSError, ValueError) as error:
            return str(error).splitlines()[0]
        layers, width = shape.get("num_hidden_layers", "?"), shape.get("hidden_size", "?")
        return f"{shape['model_type']}, {layers} layers, width {width}; engine {engine.engine}"

    def close(self) -> None:
        """Close every model."""
        self._cache.close()


def _revision(reference: str) -> str:
    return reference.partition("@")[2]
