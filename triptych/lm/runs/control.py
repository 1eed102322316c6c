"""What a user may do with a run: pause, resume, cancel, branch, extend.

Each action writes one small file whole, under a lock of the run, so that two users or two
processes never overwrite each other; the supervisor then acts on it. Left out: signals.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from triptych.config import Config
from triptych.durable import FolderLock
from triptych.errors import ConfigError, RunError
from triptych.lm.runs.states import ALLOWED, ENDED, LIVE, RESUMABLE, DesiredState
from triptych.lm.runs.store import (
    Request,
    Run,
    RunStore,
    desired_state,
    shaping,
    write_control,
    write_request,
)


def pause(store: RunStore, run_id: str, *, by: str = "local") -> Run:
    """Ask a run to finish its step, save and pause; `resume` continues from there.

    Raises: RunError where the run is in another state than queued, starting or running.
    """
    return _set_desired_state(store, run_id, "pause", by)


def resume(store: RunStore, run_id: str, *, by: str = "local") -> Run:
    """Queue a paused or interrupted run again; it continues exactly where it was.

    Raises: RunError where it is neither.
    """
    return _set_desired_state(store, run_id, "run", by)


def move(store: RunStore, run_id: str, backend: str) -> Run:
    """Let a paused or interrupted run go on elsewhere when it is resumed, bit for bit.

    Raises: RunError where it is neither.
    """
    path = store.path(run_id)
    with FolderLock(path / ".control.lock").wait():
        run = store.get(run_id)
        if run.state not in RESUMABLE:
            raise RunError(
                f"run {run_id} is {run.state}; it cannot be moved",
                hint=f"first: triptych runs stop {run_id}",
                code="illegal_transition",
            )
        if not run.request:
            raise RunError(
                f"run {run_id} was started outside the queue", hint="it goes on where it was"
            )
        write_request(path, {**run.request, "backend": backend})
    return store.get(run_id)


def cancel(store: RunStore, run_id: str, *, by: str = "local") -> Run:
    """End a run for good; its checkpoints stay and can be branched.

    Raises: RunError where it has ended.
    """
    return _set_desired_state(store, run_id, "cancel", by)


def branch(
    store: RunStore,
    run_id: str,
    settings: Sequence[str] = (),
    *,
    checkpoint: str = "latest",
    user: str = "local",
    name: str = "",
    key: str = "",
    check: Callable[[Config], None] = lambda config: None,
) -> Run:
    """Start a new run from one of a run's checkpoints, with other settings.

    `checkpoint` is `latest`, `best` or a folder name such as `step-00000100`. The new run
    records the old one as its parent. `check` may refuse the new configuration.

    Raises: RunError where there is no such checkpoint; ConfigError for wrong settings.
    """
    run = store.get(run_id)
    folder = checkpoint_folder(run, checkpoint)
    config = dict(_config_of(run))
    train = {**config.get("train", {}), "init_from": str(folder)}
    if train.get("method", "pretrain") == "pretrain":
        train["carry_state"] = True
    merged = apply_settings({**config, "train": train}, settings)
    check(read_config(merged))
    request = Request(
        config=merged,
        user=user,
        name=name or f"{run.name}-branch",
        key=key,
        backend=run.request.get("backend", "local"),
        parent={"run_id": run_id, "checkpoint": folder.name},
    )
    return store.create(request)


def extend(store: RunStore, run_id: str, more_steps: int, *, user: str = "local") -> Run:
    """Train an ended run for more steps, as a new run that goes on with its optimizer and data.

    It starts from the last checkpoint; under `wsd` from the newest one before the rate fell, where
    one was kept, and takes the steps after that again, at the full rate.

    Raises: RunError where the run has not ended.
    """
    if more_steps < 1:
        raise RunError(f"{more_steps} more steps is too few", hint="use at least 1")
    run = store.get(run_id)
    if run.state not in ENDED:
        raise RunError(
            f"run {run_id} is {run.state}", hint=f"first let it end, or pause and branch {run_id}"
        )
    recipe, train = _resolved(run)
    checkpoint, again = "latest", 0
    last = int(checkpoint_folder(run).name.removeprefix("step-"))
    if train["schedule"] == "wsd":
        falls_at = recipe["steps"] - round(train["cooldown_frac"] * recipe["steps"])
        before = [step for step in _steps(run) if recipe["warmup_steps"] <= step <= falls_at]
        if before:
            checkpoint, again = f"step-{before[-1]:08d}", last - before[-1]
    settings = [
        f"train.steps={more_steps + again}",
        # The same batches, so that the next one in the data is the next one here.
        f"train.batch_tokens={recipe['batch_tokens']}",
        f"train.context_length={recipe['context_length']}",
    ]
    if again:
        settings.append("train.warmup_steps=0")
    return branch(
        store, run_id, settings, checkpoint=checkpoint, user=user, name=f"{run.name}-more"
    )


def _resolved(run: Run) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the derived recipe and the settings of the section `train` of a run that began."""
    saved = json.loads((run.path / "config.json").read_bytes())
    return saved["recipe"], saved["config"]["train"]


def _steps(run: Run) -> list[int]:
    names = (path.name.removeprefix("step-") for path in run.path.glob("checkpoints/step-*"))
    return sorted(int(name) for name in names if name.isdigit())


def checkpoint_folder(run: Run, checkpoint: str = "latest") -> Path:
    """Return the folder of one of a run's checkpoints.

    Raises: RunError naming the checkpoints there are.
    """
    places = run.path / "checkpoints"
    there = sorted(path.name for path in places.glob("step-*")) if places.is_dir() else []
    name = checkpoint
    if checkpoint in ("latest", "best"):
        pointer = places / checkpoint
        name = pointer.read_text(encoding="utf-8").strip() if pointer.is_file() else ""
    if name not in there:
        known = ", ".join(there) or "none yet"
        raise RunError(f"run {run.run_id} has no checkpoint {checkpoint}", hint=f"it has: {known}")
    return places / name


def apply_settings(config: Mapping[str, Any], settings: Sequence[str]) -> dict[str, Any]:
    """Return a run's configuration with some settings changed, checked as a whole.

    Raises: ConfigError as `load_config` does.
    """
    from triptych.config.loader import parse_overrides

    merged = {section: dict(fields) for section, fields in config.items()}
    for section, name, value in parse_overrides(settings):
        merged.setdefault(section, {})[name] = value
    return shaping(read_config(merged))


def read_config(values: Mapping[str, Any]) -> Config:
    """Return the configuration that the plain values of a request describe.

    Raises: ConfigError where a value is not allowed.
    """
    try:
        config: Config = TypeAdapter(Config).validate_python(dict(values))
    except ValueError as error:
        raise ConfigError(f"the configuration is not valid: {error}") from error
    return config


def _config_of(run: Run) -> Mapping[str, Any]:
    if run.request:
        config: Mapping[str, Any] = run.request["config"]
        return config
    saved: Mapping[str, Any] = json.loads((run.path / "config.json").read_bytes())["config"]
    return saved


def _set_desired_state(store: RunStore, run_id: str, wanted: DesiredState, by: str) -> Run:
    path = store.path(run_id)
    with FolderLock(path / ".control.lock").wait():
        run = store.get(run_id)
        if run.state not in ALLOWED[wanted]:
            if run.control.get("wanted") == wanted and run.state not in ENDED:
                return run  # a repeated request; the first one is being carried out
            raise RunError(
                f"run {run_id} is {run.state}; it cannot be {_PARTICIPLE[wanted]}",
                hint=_advice(run),
                code="illegal_transition",
            )
        if wanted != "run" and run.state in LIVE and not run.worker:
            raise RunError(
                f"run {run_id} was started outside the queue",
                hint="stop it where it was started (Ctrl-C saves)",
            )
        ticket = int(run.control.get("ticket", 1)) + (1 if wanted == "run" else 0)
        write_control(path, desired_state(wanted, ticket, by))
    return store.get(run_id)


_PARTICIPLE = {"run": "resumed", "pause": "paused", "cancel": "cancelled"}


def _advice(run: Run) -> str:
    if run.state in ENDED:
        return f"start a new one from it: triptych runs branch {run.run_id}"
    if run.state in LIVE:
        return f"watch it: triptych runs logs {run.run_id} --follow"
    return f"see `triptych runs show {run.run_id}`"
