"""The two calls of an upload: what each file is, and the commit that takes them all.

A commit arrives as lines of JSON and is worked on as it arrives: each ordinary file is written
to git and forgotten, so that memory holds one line, never the commit.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import AsyncIterator
from typing import Any

import pygit2
from starlette.responses import JSONResponse, Response

from triptych.errors import EntryNotFound, HubRefused, RevisionNotFound
from triptych.hub.server import limits
from triptych.hub.server.http.call import Access, Call
from triptych.hub.server.http.routing import Router
from triptych.hub.server.names import require_path
from triptych.hub.server.repositories import cards
from triptych.hub.server.repositories.claims import claim
from triptych.hub.server.repositories.heads import change_refs
from triptych.hub.server.storage.git import commits
from triptych.hub.server.storage.git.attributes import Attributes, Ignored
from triptych.hub.server.storage.git.commits import ATTRIBUTES, Change, Message
from triptych.hub.server.storage.git.packing import BlobWriter
from triptych.hub.server.storage.git.pointers import parse_pointer, write_pointer
from triptych.hub.server.storage.git.reading import Snapshot, head_of, open_repository
from triptych.hub.server.threads import in_thread

routes = Router()
_SHA256 = re.compile(r"[0-9a-f]{64}")
_PREUPLOAD_FILES = 1000
_PULL_REQUESTS = "This hub has no pull requests; commit to a branch instead"


@routes.post("{api}/preupload/{revision}", Access.WRITE)
async def preupload(call: Call) -> Response:
    """Return for each file whether it goes into git or is a large file, and what is there now."""
    if call.flag("create_pr"):
        raise HubRefused(501, _PULL_REQUESTS)
    body = await call.json(16 * 2**20)
    files = body.get("files")
    if not isinstance(files, list) or len(files) > _PREUPLOAD_FILES:
        raise HubRefused(400, f"`files` must be a list of at most {_PREUPLOAD_FILES}")
    return JSONResponse(await in_thread(_upload_modes, call, files, body.get("gitIgnore")))


def _upload_modes(call: Call, files: list[Any], ignore: object) -> dict[str, Any]:
    git = open_repository(call.hub.layout.repository(call.repository.uid))
    head = _branch_head(git, call.params["revision"])
    here = Snapshot(git, head)
    attributes = Attributes(here.read_path(ATTRIBUTES) or b"")
    if not isinstance(ignore, str):
        ignore = (here.read_path(".gitignore") or b"").decode(errors="replace")
    ignored = Ignored(ignore)
    answers = []
    for file in files:
        if not isinstance(file, dict):
            raise HubRefused(400, "`files` must be a list of {path, sample, size}")
        path = require_path(file.get("path"))
        size = file.get("size")
        large = attributes.is_large(path) or (
            isinstance(size, int) and size > call.hub.config.max_regular_file_bytes
        )
        large = large or _is_binary(file.get("sample"))
        try:
            entry = here.entry(path)
            oid = None if entry.is_folder else entry.etag
        except EntryNotFound:
            oid = None
        mode = "lfs" if large and size != 0 else "regular"
        answers.append(
            {"path": path, "uploadMode": mode, "shouldIgnore": ignored.match_file(path), "oid": oid}
        )
    return {"files": answers, "commitOid": here.sha}


@routes.post("{api}/commit/{revision}", Access.WRITE)
async def commit(call: Call) -> Response:
    """Make one commit from lines of operations."""
    if call.flag("create_pr"):
        raise HubRefused(501, _PULL_REQUESTS)
    git = open_repository(call.hub.layout.repository(call.repository.uid))
    branch = call.params["revision"].removeprefix("refs/heads/")
    await in_thread(_branch_head, git, branch)
    change = Change()
    header: dict[str, Any] = {}
    writer = BlobWriter(git, call.hub.layout.incoming)
    try:
        async for lines in _lines(call):
            header |= await in_thread(_collect, call, writer, change, lines)
        await in_thread(writer.finish)
    finally:
        writer.abandon()
    message = _message(call, header)
    parent = header.get("parentCommit")
    if parent is not None and not re.fullmatch(r"[0-9a-f]{7,40}", str(parent)):
        raise HubRefused(400, "parentCommit must be a commit id")
    large = list(set(change.large.values()))
    await in_thread(call.hub.objects.grant_known, call.repository.id, large)
    sha = await change_refs(
        call.hub,
        call.repository,
        call.identity,
        lambda fresh: commits.commit(fresh, branch, change, message, parent=parent),
    )
    return JSONResponse(
        {
            "success": True,
            "commitOid": sha,
            "commitUrl": f"{call.base_url}{call.repository.address}/commit/{sha}",
            "hookOutput": "",
        }
    )


def _collect(call: Call, writer: BlobWriter, change: Change, lines: list[bytes]) -> dict[str, Any]:
    """Take a run of operations; returns what they say about the commit as a whole."""
    header: dict[str, Any] = {}
    for line in lines:
        key, value = _operation(line)
        if key == "header":
            header = value
        else:
            _take(call, writer, change, key, value)
    if len(change) > call.hub.config.max_commit_operations:
        limit = call.hub.config.max_commit_operations
        raise HubRefused(413, f"A commit has at most {limit} operations")
    return header


def _take(call: Call, writer: BlobWriter, change: Change, key: str, value: dict[str, Any]) -> None:
    path = value.get("path")
    if key == "deletedFolder" and isinstance(path, str):
        path = path.removesuffix("/")
    path = require_path(path)
    if key == "file":
        content = _content(value)
        if len(content) > call.hub.config.max_regular_file_bytes:
            raise HubRefused(413, f"{path} is too large for git; upload it as a large file")
        if path == "README.md":
            _require_card(content, call.repository.kind)
        if pointer := parse_pointer(content):
            # The text of a pointer is the large file it names, so it needs the same right.
            claim(call.hub, call.repository, call.identity, pointer.sha256, pointer.size)
            change.large[path] = pointer.sha256
        change.files[path] = writer.add(content)
    elif key == "lfsFile":
        sha256 = value.get("oid")
        if not isinstance(sha256, str) or not _SHA256.fullmatch(sha256):
            raise HubRefused(400, f"{path} needs a sha256 as oid")
        size = claim(call.hub, call.repository, call.identity, sha256, value.get("size"))
        change.files[path] = writer.add(write_pointer(sha256, size))
        change.large[path] = sha256
    elif key == "deletedFile":
        change.deleted_files.append(path)
    elif key == "deletedFolder":
        change.deleted_folders.append(path)
    else:
        raise HubRefused(400, f"Unknown operation {key[:40]!r}")


async def _lines(call: Call) -> AsyncIterator[list[bytes]]:
    """Yield the body's lines, as many at once as have arrived."""
    limit = call.hub.config.max_regular_file_bytes * 4 // 3 + 65536
    pending = bytearray()
    async for block in call.request.stream():
        pending += block
        if b"\n" in block:
            *whole, rest = bytes(pending).split(b"\n")
            pending = bytearray(rest)
            yield [line for line in whole if line.strip()]
        if len(pending) > limit:
            raise HubRefused(413, "An operation is larger than a file in git may be")
    if pending.strip():
        yield [bytes(pending)]


def _operation(line: bytes) -> tuple[str, dict[str, Any]]:
    try:
        item = limits.read_json(line)
        key, value = item["key"], item["value"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise HubRefused(400, "A commit is lines of {key, value}") from error
    if not isinstance(key, str) or not isinstance(value, dict):
        raise HubRefused(400, "A commit is lines of {key, value}")
    return key, value


def _require_card(content: bytes, kind: str) -> None:
    errors, _ = cards.validate(content.decode(errors="replace"), kind)
    if errors:
        raise HubRefused(400, f"Invalid metadata in README.md: {errors[0]}")


def _content(value: dict[str, Any]) -> bytes:
    content = value.get("content", "")
    if value.get("encoding", "utf-8") == "base64":
        try:
            return base64.b64decode(content, validate=True)
        except (binascii.Error, ValueError, TypeError) as error:
            raise HubRefused(400, f"{value.get('path')} is not valid base64") from error
    return str(content).encode()


def _message(call: Call, header: dict[str, Any]) -> Message:
    summary = str(header.get("summary") or "Update files").replace("\0", "")
    description = str(header.get("description") or "").replace("\0", "")
    limits.require_message(summary, description)
    return Message(summary, description, call.who.name, call.who.email)


def _branch_head(git: pygit2.Repository, branch: str) -> pygit2.Commit:
    head = head_of(git, branch.removeprefix("refs/heads/"))
    if head is None:
        raise RevisionNotFound(f"There is no branch {branch[:200]}")
    return head


def _is_binary(sample: object) -> bool:
    try:
        return b"\0" in base64.b64decode(str(sample or ""))
    except (binascii.Error, ValueError):
        return False
