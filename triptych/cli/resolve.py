"""Turn what a person types for a model into a local folder.

A folder is taken as it is; a run (its folder, or its id under the home) means its best
checkpoint; anything of the form `owner/name`, or `owner/name@revision`, is a repository on the hub.
"""

from __future__ import annotations

from pathlib import Path

from triptych.config import environment
from triptych.errors import CheckpointError


def resolve(reference: str) -> Path:
    """Give the local folder of a checkpoint, a run or a hub repository.

    Raises: CheckpointError where nothing of that name exists; RepositoryNotFound, HubUnavailable
    for a repository.
    """
    for folder in (Path(reference).expanduser(), environment.home() / "runs" / reference):
        if (folder / "checkpoints").is_dir():
            return _best(folder)
        if folder.is_dir():
            return folder
    from triptych.hub.pull import is_repository, pull

    if is_repository(reference):
        return pull(reference)
    raise CheckpointError(
        f"no checkpoint folder, run or repository {reference!r}",
        hint="`triptych runs list` names the runs; `triptych pull OWNER/NAME` fetches a repository",
    )


def _best(run_dir: Path) -> Path:
    places = run_dir / "checkpoints"
    for pointer in ("best", "latest"):
        if (places / pointer).is_file():
            folder = places / (places / pointer).read_text(encoding="utf-8").strip()
            if folder.is_dir():
                return folder
    raise CheckpointError(f"the run {run_dir} has no checkpoint yet", hint="wait for its first one")
