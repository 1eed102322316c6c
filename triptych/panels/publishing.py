"""Publish a run's checkpoint from a page: what its card will say, the act, how it goes.

The act is `triptych publish`, for every page that offers it. Left out: what publishing is
(`hub.publish`), and who may do it (the page).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from triptych.errors import TriptychError, UsageError
from triptych.hub.cards import summary
from triptych.hub.client import Hub
from triptych.hub.record import read_record
from triptych.hub.repository import Repo
from triptych.hub.upload import check_privacy
from triptych.lm.runs import control
from triptych.lm.runs.store import Run
from triptych.panels.command import Heard, run_triptych
from triptych.panels.visitor import Visitor

PUBLISH_S = 900.0


def best(run: Run) -> Path:
    """Return the folder of a run's best checkpoint, else of its newest."""
    try:
        return control.checkpoint_folder(run, "best")
    except TriptychError:
        return control.checkpoint_folder(run)


def publish(
    run: Run,
    repo: str,
    private: bool,
    visitor: Visitor,
    *,
    checkpoint: str = "",
    hub: str | None = None,
    heard: Heard | None = None,
) -> dict[str, Any]:
    """Publish a checkpoint of a run, the best unless named, in the visitor's name.

    `heard` is called with each step.

    Returns: what happened, as `hub.publish.Published` says it.
    Raises: AccessDenied for who has not signed in, UsageError in the command's own words.
    """
    visitor.hub()  # refuses before anything is run when no user is signed in
    _require_name(repo)
    folder = control.checkpoint_folder(run, checkpoint) if checkpoint else best(run)
    options = ["--private"] if private else []
    options += ["--endpoint", hub] if hub else []
    arguments = ["publish", str(folder), repo.strip(), "--json", *options]
    done: dict[str, Any] = json.loads(run_triptych(arguments, visitor, PUBLISH_S, heard))
    return done


def foresee(folder: Path, repo: str, private: bool, hub: Hub) -> tuple[str, str]:
    """Return what publishing would do to the repository, and the text of the card.

    Raises: PublishRefused, UsageError for what would be refused anyway.
    """
    _require_name(repo)
    record, place = read_record(folder), Repo.parse(repo.strip())
    if hub.exists(place):
        if private:
            check_privacy(hub, place)
        head = hub.head(place)[:12]
        does = f"is there already, at {head}, and gets one more commit; what it has stays behind it"
    else:
        does = f"is made, {'private' if private else 'for everybody to see'}, with one commit"
    scored = record.evaluation
    score = f" Loss {scored.loss:.4f}, {scored.bpb:.4f} bits per byte." if scored else ""
    return does, summary(record) + score


def _require_name(repo: str) -> None:
    if "/" not in (repo or ""):
        raise UsageError("name a repository", hint="write it as owner/name")
