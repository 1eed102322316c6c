"""What can be compared, and by whom: checkpoints of runs, models named at the start, the hub's.

A reference that a browser sends is never a path. It is one of the models on offer, a checkpoint
of a run, or, where the configuration allows it, a repository on the hub. Left out: loading.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from triptych.config import Config, environment
from triptych.errors import CheckpointError, GenerationError, RunError
from triptych.formatting import format_bytes
from triptych.hub.client import Hub
from triptych.hub.pull import is_repository, pull
from triptych.hub.repository import Repo, split_revision
from triptych.lm.model.adapter_record import is_adapter
from triptych.lm.runs.store import Run, RunStore
from triptych.lm.serve.service import UnknownModel

Resolve = Callable[[str], Path]
PER_RUN = 8
FOUND_AT_MOST = 20
LOOPBACK = ("127.0.0.1", "localhost", "::1")
_STEP = re.compile(r"step-0*(\d+)")


@dataclass(frozen=True)
class Choice:
    """One entry of the list of models: what is shown, and the reference behind it."""

    label: str
    reference: str


class ModelList:
    """Lists the models that a visitor may compare, and finds their folders."""

    def __init__(
        self, config: Config, store: RunStore, resolve: Resolve, named: Sequence[str] = ()
    ) -> None:
        self.store = store
        self.named = tuple(named)
        self.is_shared = is_shared(config)
        self.hub_models = config.panels.hub_models
        if self.hub_models == "auto":
            self.hub_models = "none" if self.is_shared else "all"
        self._resolve = resolve
        self._largest_bytes = config.generate.cache_memory_bytes

    def choices(self) -> list[Choice]:
        """List the models named at the start, then the newest runs' checkpoints, youngest last."""
        found = [Choice(self.label(name), name) for name in self.named]
        for run in self.store.list():
            for step, folder in spread(checkpoints(run.path), PER_RUN):
                found.append(Choice(_checkpoint_label(run, step), f"{run.run_id}/{folder}"))
        return found

    def label(self, reference: str) -> str:
        """Return the label of a reference."""
        found = self._checkpoint(reference)
        if found is not None:
            return _checkpoint_label(self.store.get(found.parents[1].name), step_of(found.name))
        if reference in self.named and Path(reference).is_dir():
            return Path(reference).name
        return reference

    def is_offered(self, reference: str) -> bool:
        """Return whether a reference is on offer without asking the hub."""
        return reference in self.named or self._checkpoint(reference) is not None

    def may_fetch(self, reference: str) -> bool:
        """Return whether a reference is a repository that visitors may open here."""
        run_id, _, folder = reference.partition("/")
        # A checkpoint that its run does not have any more is missing, and nothing to ask a hub for.
        is_run = bool(_STEP.fullmatch(folder)) and (self.store.root / run_id).is_dir()
        return self.hub_models != "none" and is_repository(reference) and not is_run

    def folder(self, reference: str) -> Path:
        """Return the folder of a model, fetching it from the hub where that is allowed.

        Raises: UnknownModel with the nearest names; what fetching it raises.
        """
        if reference in self.named:
            folder = self._resolve(reference)
        elif (found := self._checkpoint(reference)) is not None:
            folder = found
        elif self.may_fetch(reference):
            folder = self._pull(reference)
        else:
            raise self._unknown(reference)
        if not (folder / "config.json").is_file() and not is_adapter(folder):
            raise CheckpointError(
                f"{reference} holds no model", hint="a model repository has a config.json"
            )
        return folder

    def base_folder(self, base: str, adapter: str) -> Path:
        """Return the folder of the model that an adapter belongs to.

        An adapter trained or named here may stand on a folder of this machine; one that a visitor
        fetched may not.

        Raises: as `folder`.
        """
        if base.startswith("pypi:") or self.is_offered(adapter):
            return self._resolve(base)
        return self.folder(base)

    def search(self, words: str) -> list[str]:
        """Find repositories on the hub by words, or the tags of one by its name.

        Raises: HubError; GenerationError where this page may not look there.
        """
        hub = self._hub()
        name = words.strip().removeprefix("hf://").partition("@")[0]
        found = hub.models(name, limit=FOUND_AT_MOST)
        if name in found:
            tags = list(hub.tags(Repo(name)))[:FOUND_AT_MOST]
            milestones = sorted(tags, key=lambda tag: (step_of(tag), tag))
            found = [name, *(f"{name}@{tag}" for tag in milestones)]
        return found

    def _hub(self) -> Hub:
        if self.hub_models == "none":
            raise GenerationError(
                "this page model_list its own models only",
                hint="its owner can set panels.hub_models to public",
                code="unsupported",
            )
        return Hub(token="") if self.hub_models == "public" else Hub()

    def _pull(self, reference: str) -> Path:
        name, revision = split_revision(reference.removeprefix("hf://"))
        if self.hub_models == "all":
            return pull(reference)
        # Without a token: the cache may hold what the owner may read and visitors may not.
        hub, repo = self._hub(), Repo(name)
        commit = hub.head(repo, revision)
        weights = sum(
            file.size_bytes
            for path, file in hub.tree(repo, commit).items()
            if path.endswith(".safetensors")
        )
        if weights > self._largest_bytes:
            raise GenerationError(
                f"{reference} has {format_bytes(weights)} of weights, "
                f"{format_bytes(self._largest_bytes)} fit here",
                hint="choose a smaller model",
                code="memory",
            )
        return pull(f"{name}@{commit}", hub)

    def _checkpoint(self, reference: str) -> Path | None:
        run_id, _, folder = reference.partition("/")
        if not _STEP.fullmatch(folder):
            return None
        try:
            found = self.store.path(run_id) / "checkpoints" / folder
        except RunError:
            return None
        return found if found.is_dir() else None

    def _unknown(self, reference: str) -> UnknownModel:
        known = {choice.reference: choice.label for choice in self.choices()}
        near = difflib.get_close_matches(reference, [*known, *known.values()], n=3, cutoff=0.3)
        nearest = (
            list(dict.fromkeys(known.get(name, name) for name in near)) or list(known.values())[:3]
        )
        hint = f"nearest are: {', '.join(nearest)}" if nearest else "`triptych train` makes one"
        return UnknownModel(f"no model {reference!r} is offered here", hint=hint)


def is_shared(config: Config) -> bool:
    """Return whether others than this machine's user reach the page."""
    return environment.get("SPACE_ID") is not None or config.panels.host not in LOOPBACK


def checkpoints(run_dir: Path) -> list[tuple[int, str]]:
    """List a run's checkpoints by age."""
    places = run_dir / "checkpoints"
    if not places.is_dir():
        return []
    names = (path.name for path in places.iterdir())
    return sorted((step_of(name), name) for name in names if _STEP.fullmatch(name))


def step_of(name: str) -> int:
    """Read the step from a checkpoint's folder or tag; -1 where it is neither."""
    match = _STEP.fullmatch(name)
    return int(match.group(1)) if match else -1


def spread(steps: Sequence[tuple[int, str]], most: int) -> list[tuple[int, str]]:
    """Keep at most some of a list, evenly, first and last among them."""
    if len(steps) <= most:
        return list(steps)
    last = len(steps) - 1
    return [steps[round(index * last / (most - 1))] for index in range(most)]


def _checkpoint_label(run: Run, step: int) -> str:
    return f"{run.name} · step {step:,}"
