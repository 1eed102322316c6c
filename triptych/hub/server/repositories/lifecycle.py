"""Creating, duplicating, moving and deleting repositories: git folder first, row last.

A repository exists exactly while its row does. A crash leaves at worst a folder without a row,
which `triptych hub gc` sweeps.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping

import pygit2

from triptych.errors import AccessDenied, HubRefused
from triptych.hub.server.names import require_repository_name
from triptych.hub.server.repositories import catalog
from triptych.hub.server.repository import Repository
from triptych.hub.server.storage.git.commits import Message, create_bare
from triptych.hub.server.storage.git.reading import MAIN, Snapshot, head_of, open_repository
from triptych.hub.server.storage.hub import Hub
from triptych.hub.server.storage.identity.access import may_create, may_manage
from triptych.hub.server.storage.identity.accounts import Account, find_account
from triptych.hub.server.storage.identity.tokens import Identity


def namespace_for_creating(hub: Hub, identity: Identity, namespace: str | None) -> Account:
    """Return the account under which this identity may create repositories.

    Raises: AccessDenied when the namespace belongs to another account, or does not exist.
    """
    account = find_account(hub.database, namespace or identity.name)
    if account is None or not may_create(identity, account.id):
        raise AccessDenied(
            f"You don't have the rights to create a repository under the namespace"
            f' "{namespace or identity.name}"'
        )
    return account


def create(
    hub: Hub,
    identity: Identity,
    account: Account,
    *,
    kind: str,
    name: str,
    private: bool,
    sdk: str = "",
    files: Mapping[str, bytes] | None = None,
) -> Repository:
    """Create a repository with its first commit.

    Raises: HubRefused (409) when it exists.
    """
    require_repository_name(name)
    if catalog.find_folded(hub.database, kind, account.id, name) is not None:
        raise HubRefused(409, "You already created this repository", code="exists")
    uid = catalog.new_uid()
    message = Message("initial commit", "", identity.name, identity.email)
    path = hub.layout.repository(uid)
    head = create_bare(path, message, files or {})
    return _enter(hub, account, uid, kind=kind, name=name, private=private, sdk=sdk, head=head)


def duplicate(
    hub: Hub, source: Repository, account: Account, *, name: str, private: bool
) -> Repository:
    """Copy a repository's main branch with its history; large files are shared, not copied."""
    require_repository_name(name)
    uid = catalog.new_uid()
    path = hub.layout.repository(uid)
    path.parent.mkdir(parents=True, exist_ok=True)
    shutil.copytree(hub.layout.repository(source.uid), path)
    git = open_repository(path)
    for ref in list(git.references):
        if ref.startswith("refs/") and ref != f"refs/heads/{MAIN}":
            git.references.delete(ref)
    head = head_of(git, MAIN)
    copy = _enter(
        hub, account, uid, kind=source.kind, name=name, private=private, sdk=source.sdk,
        head=str(head.id) if head else "",
    )  # fmt: skip
    large = hub.database.query(
        "SELECT sha256 FROM repository_objects WHERE repository_id = ?", source.id
    )
    hub.objects.grant_known(copy.id, [row["sha256"] for row in large])
    return copy


def move(hub: Hub, identity: Identity, repository: Repository, target: str) -> Repository:
    """Rename a repository or hand it to another namespace.

    Raises: AccessDenied without the right to act for the target's namespace.
    """
    namespace, _, name = target.partition("/")
    account = find_account(hub.database, namespace)
    if account is None or not may_manage(identity, account.id):
        raise AccessDenied(f'You don\'t have the rights to move a repository to "{namespace}"')
    catalog.move(hub.database, repository, account.id, account.name, name)
    return catalog.by_id(hub.database, repository.id)


def delete(hub: Hub, repository: Repository) -> None:
    """Delete a repository: gone with its row, its folder follows."""
    catalog.delete(hub.database, repository)
    path = hub.layout.repository(repository.uid)
    doomed = hub.layout.trash / repository.uid
    if path.exists():
        path.rename(doomed)
        shutil.rmtree(doomed, ignore_errors=True)


def snapshot_of(hub: Hub, repository: Repository) -> Snapshot | None:
    """Return a repository's main branch, or None before its first commit."""
    git: pygit2.Repository = open_repository(hub.layout.repository(repository.uid))
    head = head_of(git, MAIN)
    return Snapshot(git, head) if head else None


def _enter(
    hub: Hub,
    account: Account,
    uid: str,
    *,
    kind: str,
    name: str,
    private: bool,
    sdk: str,
    head: str,
) -> Repository:
    try:
        catalog.insert(
            hub.database, uid=uid, kind=kind, namespace_id=account.id, name=name,
            private=private, sdk=sdk, head=head,
        )  # fmt: skip
    except BaseException:
        shutil.rmtree(hub.layout.repository(uid), ignore_errors=True)
        raise
    created = catalog.find(hub.database, kind, account.name, name)
    assert created is not None
    return created
