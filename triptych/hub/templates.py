"""The Space templates that this package brings: `minimal`, `playground`, `studio`, `tier`.

Each is a folder under `triptych/spaces` with an `app.py`, its requirements and its card, so a wheel
has them as a checkout does. Left out: deploying them (`deployments`).
"""

from __future__ import annotations

from pathlib import Path

from triptych.errors import UsageError

FOLDER = Path(__file__).resolve().parents[1] / "spaces"


def app_folder(given: str | Path) -> Path:
    """Return the folder of a Space's app: a folder on disk, or a template by its name.

    Raises: UsageError when it is neither.
    """
    folder = Path(given).expanduser()
    if folder.is_dir():
        return folder
    if str(given) in names():
        return FOLDER / given
    raise UsageError(
        f"{given} is neither a folder nor a Space template",
        hint=f"templates: {', '.join(names())}",
    )


def names() -> list[str]:
    """List the templates."""
    return sorted(file.parent.name for file in FOLDER.glob("*/app.py"))
