"""Repositories as the clients read them: one shape for lists, single answers and searches."""

from __future__ import annotations

from typing import Any

from triptych.hub.server.repositories.cards import read_card
from triptych.hub.server.repository import Repository
from triptych.hub.server.storage.git.history import timestamp
from triptych.hub.server.storage.git.reading import Snapshot


def summary(repository: Repository) -> dict[str, Any]:
    """Return what a list says of a repository."""
    described: dict[str, Any] = {
        "_id": repository.uid,
        "id": repository.repo_id,
        "author": repository.namespace,
        "sha": repository.head,
        "lastModified": timestamp(repository.updated_at),
        "createdAt": timestamp(repository.created_at),
        "private": repository.private,
        "gated": repository.gated or False,
        "disabled": False,
        "downloads": repository.downloads,
        "likes": 0,
        "tags": list(repository.tags),
    }
    if repository.kind == "model":
        described["modelId"] = repository.repo_id
        for name in ("pipeline_tag", "library_name"):
            if isinstance(repository.card.get(name), str):
                described[name] = repository.card[name]
    if repository.kind == "space":
        described["sdk"] = repository.sdk or None
        described["subdomain"] = subdomain(repository)
    return described


def detail(repository: Repository, here: Snapshot, *, blobs: bool) -> dict[str, Any]:
    """Return what the page of a repository says at a revision."""
    described = summary(repository)
    described["sha"] = here.sha
    described["lastModified"] = timestamp(here.commit.commit_time)
    described["cardData"] = read_card(here.read_path("README.md"))
    described["xetEnabled"] = True
    if not blobs:
        described["siblings"] = [{"rfilename": path} for path in sorted(here.paths())]
        return described
    siblings: list[dict[str, Any]] = []
    for entry in here.files():
        sibling = {"rfilename": entry.path, "size": entry.size, "blobId": entry.oid}
        if entry.pointer:
            sibling["lfs"] = {
                "sha256": entry.pointer.sha256,
                "size": entry.pointer.size,
                "pointerSize": entry.pointer.pointer_size,
            }
        siblings.append(sibling)
    described["siblings"] = siblings
    described["usedStorage"] = sum(sibling["size"] for sibling in siblings)
    return described


def subdomain(repository: Repository) -> str:
    """Return the first label of a Space's own address."""
    return "".join(c if c.isalnum() else "-" for c in repository.repo_id.lower())
