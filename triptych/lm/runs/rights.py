"""What a user may request: quotas, and which files a request may name on a shared machine.

On one's own machine the only user is `local` and may name any file. Every other user may name
their own corpora and checkpoints of their own runs, and no other path. Left out: who the user is
(the application that mounts the API decides).
"""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path

from triptych.config import Config, environment
from triptych.config.runs import RunsConfig
from triptych.errors import RunError
from triptych.lm.runs.store import RunStore, slug

LOCAL = "local"
_SECRET = re.compile(r"TOKEN|SECRET|PASSWORD|API_KEY|CREDENTIAL")


def corpora_of(store: RunStore, user: str) -> Path:
    """Return the folder of a user's corpora, beside the runs."""
    data = store.root.parent / "data"
    # The hash keeps `a.b` and `a-b` apart.
    own = f".of-{slug(user)}-{hashlib.sha256(user.encode()).hexdigest()[:12]}"
    return data if user == LOCAL else data / own


def check_request(store: RunStore, limits: RunsConfig, config: Config, user: str) -> None:
    """Refuse a request that names what its user may not read, or that is over quota.

    `limits` are those of this machine; limits in the request are ignored.

    Raises: RunError naming the setting or the quota.
    """
    check_quota(store, limits, user, config.train.steps)
    if user == LOCAL:
        return
    data = config.train.data
    if data is not None and not _inside(data, corpora_of(store, user)):
        raise RunError(
            "train.data is not one of your corpora", hint="choose a corpus, or upload text"
        )
    start = config.train.init_from
    if start and not any(_inside(Path(start), run.path) for run in store.list(user=user)):
        raise RunError(
            "train.init_from is not a checkpoint of one of your runs",
            hint="choose one from the list",
        )


def check_backend(backend: str, user: str) -> None:
    """Refuse a backend that uses what belongs to the machine's owner to any other user.

    Raises: RunError.
    """
    if backend in ("jobs", "slurm", "ssh") and user != LOCAL:
        raise RunError(
            "only the owner of this machine may train in jobs elsewhere",
            hint="leave the backend out; the run trains on this machine",
            code="not_yours",
        )


def without_tokens() -> dict[str, str]:
    """Return the environment without secrets, for the processes of other users."""
    kept = {
        name: value
        for name, value in environment.snapshot().items()
        if not _SECRET.search(name.upper())
    }
    # A login stored in a file gives access as well.
    return {**kept, "HF_HUB_DISABLE_IMPLICIT_TOKEN": "1", "HF_TOKEN_PATH": os.devnull}


def check_quota(store: RunStore, config: RunsConfig, user: str, steps: int | None) -> None:
    """Refuse a request that a user's quota does not allow.

    Raises: RunError naming the quota.
    """
    runs = store.list(user=user)
    queued = sum(run.state == "queued" for run in runs)
    if queued >= config.max_queued_per_user:
        raise RunError(
            f"{user} has {queued} queued runs, {config.max_queued_per_user} are allowed",
            hint="wait for one to start, or cancel one",
            code="quota",
        )
    if config.max_steps is not None and (steps is None or steps > config.max_steps):
        raise RunError(
            f"a run may take {config.max_steps} steps here, not {steps or 'an open number'}",
            hint=f"set train.steps={config.max_steps} or less",
            code="quota",
        )
    if config.max_disk_bytes is not None:
        places = [corpora_of(store, user), *(run.path for run in runs)]
        used_bytes = sum(map(_size_bytes, places))
        if used_bytes > config.max_disk_bytes:
            raise RunError(
                f"{user}'s runs and corpora take {used_bytes / 1e9:.2f} GB, "
                f"{config.max_disk_bytes / 1e9:.2f} GB are allowed",
                hint="delete a run you no longer need",
                code="quota",
            )


def _inside(path: Path, folder: Path) -> bool:
    """Return whether a path is inside a folder, links followed."""
    return path.resolve().is_relative_to(folder.resolve())


def _size_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
