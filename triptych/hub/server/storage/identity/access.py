"""How far an identity reaches into a repository: the one place that decides it."""

from __future__ import annotations

from enum import IntEnum

from triptych.hub.server.repository import Repository
from triptych.hub.server.storage.identity.tokens import Identity


class Level(IntEnum):
    """Order what may be done with a repository; each level includes those below."""

    NONE = 0
    SEE = 1
    READ = 2
    WRITE = 3
    MANAGE = 4


_MEMBER = {"read": Level.READ, "write": Level.WRITE, "admin": Level.MANAGE}
_GRANT = {"read": Level.READ, "write": Level.WRITE}


def level(identity: Identity | None, repository: Repository) -> Level:
    """Return the highest level that an identity has on a repository.

    Everybody reads what is public; gated files are seen but not read by strangers. A token
    never reaches further than its owner, nor further than its role.
    """
    if repository.private:
        public = Level.NONE
    else:
        public = Level.SEE if repository.gated else Level.READ
    if identity is None:
        return public
    if identity.scope == "fineGrained":
        cap = _GRANT.get(identity.grants.get(repository.id, ""), Level.NONE)
    else:
        cap = Level.READ if identity.scope == "read" else Level.MANAGE
    return max(public, min(_standing(identity, repository.namespace_id), cap))


def may_create(identity: Identity, namespace_id: int) -> bool:
    """Return whether an identity may create repositories in a namespace."""
    return identity.scope == "write" and _standing(identity, namespace_id) >= Level.WRITE


def may_manage(identity: Identity, namespace_id: int) -> bool:
    """Return whether an identity may act for a whole namespace, as moving repositories into it."""
    return identity.scope == "write" and _standing(identity, namespace_id) >= Level.MANAGE


def _standing(identity: Identity, namespace_id: int) -> Level:
    if identity.is_admin or namespace_id == identity.account_id:
        return Level.MANAGE
    return _MEMBER.get(identity.memberships.get(namespace_id, ""), Level.NONE)
