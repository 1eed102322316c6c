"""Who may use which large file.

A file's hash is not a right to it. A repository may use a file that was uploaded to it, or one
that the person committing can read elsewhere on this hub, which is how copies work.
"""

from __future__ import annotations

from triptych.errors import HubRefused, RepositoryNotFound
from triptych.hub.server.repositories import catalog
from triptych.hub.server.repository import Repository
from triptych.hub.server.storage.hub import Hub
from triptych.hub.server.storage.identity.access import Level, level
from triptych.hub.server.storage.identity.tokens import Identity


def known_size(
    hub: Hub, repository: Repository, identity: Identity | None, sha256: str
) -> int | None:
    """Return the size of a file that this identity may use in this repository, or None."""
    found = hub.objects.holders(sha256)
    if found is None:
        return None
    size, holders = found
    if repository.id in holders:
        return size
    return size if any(_readable(hub, identity, holder) for holder in holders) else None


def holds(hub: Hub, repository: Repository, sha256: str) -> bool:
    """Return whether a repository has a large file, whatever a pointer in it names."""
    found = hub.objects.holders(sha256)
    return found is not None and repository.id in found[1]


def claim(
    hub: Hub, repository: Repository, identity: Identity | None, sha256: str, size: object
) -> int:
    """Return the size of a file that this identity may put into this repository.

    Raises: HubRefused (422) when it was not uploaded, or has another size.
    """
    known = known_size(hub, repository, identity, sha256)
    if known is None:
        raise HubRefused(422, f"The large file {sha256} was not uploaded to this repository")
    if size is not None and size != known:
        raise HubRefused(422, f"The large file {sha256} has {known} bytes, not {size}")
    return known


def _readable(hub: Hub, identity: Identity | None, repository_id: int) -> bool:
    try:
        repository = catalog.by_id(hub.database, repository_id)
    except RepositoryNotFound:
        return False
    return level(identity, repository) >= Level.READ
