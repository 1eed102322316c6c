"""Branches and tags: list, create, delete."""

from __future__ import annotations

import re

import pygit2
from pygit2.enums import ObjectType

from triptych.errors import CommitConflict, HubRefused, RevisionNotFound
from triptych.hub.server.storage.git.commits import Message, move_branch
from triptych.hub.server.storage.git.reading import MAIN, head_of, resolve

_BRANCHES = "refs/heads/"
_TAGS = "refs/tags/"
# What a client may send to pin a commit, in SHA-1 or SHA-256, whole or shortened.
_COMMIT_ID = re.compile(r"[0-9a-fA-F]{7,64}")


def list_refs(repository: pygit2.Repository) -> dict[str, list[dict[str, str]]]:
    """Return branches, tags and pull requests as the clients read them."""
    refs: dict[str, list[dict[str, str]]] = {
        "branches": [], "converts": [], "tags": [], "pullRequests": [],
    }  # fmt: skip
    for name in sorted(repository.references):
        target = str(repository.references[name].peel(pygit2.Commit).id)
        if name.startswith(_BRANCHES):
            refs["branches"].append(_ref(name.removeprefix(_BRANCHES), name, target))
        elif name.startswith(_TAGS):
            refs["tags"].append(_ref(name.removeprefix(_TAGS), name, target))
        elif name.startswith("refs/convert/"):
            refs["converts"].append(_ref(name.removeprefix("refs/convert/"), name, target))
        elif name.startswith("refs/pr/"):
            refs["pullRequests"].append(_ref(name.removeprefix("refs/pr/"), name, target))
    return refs


def all_targets(repository: pygit2.Repository) -> dict[str, str]:
    """Return what every ref points to, for telling what a push moved."""
    return {
        name: str(repository.references[name].target)
        for name in repository.references
        if name != "HEAD"
    }


def create_branch(repository: pygit2.Repository, branch: str, starting_point: str) -> None:
    """Create a branch at a revision.

    Raises: HubRefused (409) when it exists, (400) when it cannot have this name.
    """
    _create(repository, _BRANCHES, branch, resolve(repository, starting_point).commit.id)


def delete_branch(repository: pygit2.Repository, branch: str) -> None:
    """Delete a branch; never the main one."""
    if branch == MAIN:
        raise HubRefused(403, f"The branch {MAIN} cannot be deleted")
    _delete(repository, _BRANCHES, branch)


def create_tag(repository: pygit2.Repository, tag: str, revision: str, message: Message) -> None:
    """Tag a revision; with a message the tag is an object of its own."""
    target = resolve(repository, revision).commit.id
    _require_name(_TAGS, tag)
    require_no_commit_id(tag)
    if repository.references.get(_TAGS + tag) is not None:
        raise HubRefused(409, f"The tag {tag} exists already")
    if message.summary:
        target = repository.create_tag(
            tag, target, ObjectType.COMMIT, message.signature(), message.text()
        )
    else:
        _create(repository, _TAGS, tag, target)


def delete_tag(repository: pygit2.Repository, tag: str) -> None:
    """Delete a tag."""
    _delete(repository, _TAGS, tag)


def squash(repository: pygit2.Repository, branch: str, message: Message) -> None:
    """Replace a branch's history by a single commit of its present files."""
    head = head_of(repository, branch)
    if head is None:
        raise RevisionNotFound(f"There is no branch {branch}")
    signature = message.signature()
    commit = repository.create_commit(None, signature, signature, message.text(), head.tree_id, [])
    if not move_branch(repository, branch, head, commit):
        raise CommitConflict("A commit has happened since. Please refresh and try again.")


def _create(repository: pygit2.Repository, prefix: str, name: str, target: pygit2.Oid) -> None:
    _require_name(prefix, name)
    require_no_commit_id(name)
    try:
        repository.references.create(prefix + name, target)
    except (pygit2.AlreadyExistsError, pygit2.GitError, ValueError, OSError) as error:
        raise HubRefused(409, f"Reference {name} already exists") from error


def _delete(repository: pygit2.Repository, prefix: str, name: str) -> None:
    _require_name(prefix, name)
    reference = repository.references.get(prefix + name)
    if reference is None:
        raise RevisionNotFound(f"There is no {name}")
    reference.delete()


def _require_name(prefix: str, name: str) -> None:
    valid = pygit2.reference_is_valid_name(prefix + name)
    if not valid or name.startswith(("refs/", "-")) or name == "HEAD" or len(name) > 200:
        raise HubRefused(400, f"Invalid reference name {name[:200]!r}")


def require_no_commit_id(name: str) -> None:
    """Refuse a branch or tag that could be taken for a commit.

    Raises: HubRefused (400).
    """
    if _COMMIT_ID.fullmatch(name):
        raise HubRefused(400, f"{name[:64]!r} looks like a commit id; choose another name")


def _ref(name: str, ref: str, target: str) -> dict[str, str]:
    return {"name": name, "ref": ref, "targetCommit": target}
