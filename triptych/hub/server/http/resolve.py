"""How files leave the hub: by revision and path, whole or in part, from git or the store."""

from __future__ import annotations

import mimetypes
import re
from dataclasses import dataclass
from urllib.parse import quote

from starlette.responses import Response, StreamingResponse

from triptych.errors import EntryNotFound, HubRefused
from triptych.hub.server import limits
from triptych.hub.server.http import failures
from triptych.hub.server.http.bodies.streaming import FileResponse, threaded
from triptych.hub.server.http.call import Access, Call
from triptych.hub.server.http.routing import Router
from triptych.hub.server.repositories.claims import holds
from triptych.hub.server.storage.git.pointers import Pointer
from triptych.hub.server.storage.git.reading import Entry, Snapshot, open_repository, resolve
from triptych.hub.server.threads import in_thread

routes = Router(cookies=True)
_RANGE = re.compile(r"bytes=(\d*)-(\d*)")


@dataclass(frozen=True)
class Span:
    """Name a part of a file."""

    start: int
    length: int


@routes.get("{repo}/resolve/{revision}/{path:path}", Access.READ)
@routes.get("{repo}/raw/{revision}/{path:path}", Access.READ)
async def download(call: Call) -> Response:
    """Send a file, or the part of it that was asked for."""
    return await send_entry(call, call.params["revision"], call.params["path"])


async def send_entry(call: Call, revision: str, path: str) -> Response:
    """Send a file of the call's repository."""

    def look_up() -> tuple[Snapshot, Entry | None]:
        git = open_repository(call.hub.layout.repository(call.repository.uid))
        here = resolve(git, revision)
        try:
            entry = here.entry(path)
        except EntryNotFound:
            return here, None
        return here, None if entry.is_folder else entry

    here, entry = await in_thread(look_up)
    if entry is not None and entry.pointer:
        # A hash in a pointer is no right to the file: the repository must have been given it.
        sha256 = entry.pointer.sha256
        if not await in_thread(holds, call.hub, call.repository, sha256):
            entry = None
    if entry is None:
        missing = EntryNotFound(f"Entry not found: {path[:300]} on {revision[:100]}")
        return failures.answer(missing, commit=here.sha)
    headers = {
        "X-Repo-Commit": here.sha,
        "ETag": f'"{entry.etag}"',
        "Accept-Ranges": "bytes",
        "Content-Disposition": f"inline; filename*=UTF-8''{quote(path.rsplit('/', 1)[-1])}",
        # Uploaded bytes are never a page of this origin, whatever they look like.
        "Content-Security-Policy": "default-src 'none'; sandbox",
        "X-Content-Type-Options": "nosniff",
    }
    if entry.pointer:
        headers["X-Linked-Etag"] = f'"{entry.pointer.sha256}"'
        headers["X-Linked-Size"] = str(entry.size)
        xet = await in_thread(call.hub.objects.xet_hashes, [entry.pointer.sha256])
        if entry.pointer.sha256 in xet:
            headers["X-Xet-Hash"] = xet[entry.pointer.sha256]
            headers["X-Xet-Refresh-Route"] = (
                f"{call.base_url}/api/{call.repository.kind}s/{call.repository.repo_id}"
                f"/xet-read-token/{here.sha}"
            )
    if call.request.headers.get("if-none-match") == headers["ETag"]:
        return Response(status_code=304, headers=headers)
    content = None if entry.pointer else await in_thread(here.read, entry)
    return send_bytes(call, entry, content, headers)


def send_bytes(
    call: Call, entry: Entry, content: bytes | None, headers: dict[str, str]
) -> Response:
    """Send content that is in hand, or else the large file an entry points to."""
    span = requested_span(call, entry.size, headers["ETag"])
    media_type = _media_type(entry)
    headers["Content-Length"] = str(entry.size if span is None else span.length)
    if span is not None:
        end = span.start + span.length - 1
        headers["Content-Range"] = f"bytes {span.start}-{end}/{entry.size}"
    status = 200 if span is None else 206
    if call.request.method == "HEAD":
        return Response(status_code=status, headers=headers, media_type=media_type)
    part = span or Span(0, entry.size)
    if content is not None:
        body = content[part.start : part.start + part.length]
        return Response(body, status_code=status, headers=headers, media_type=media_type)
    assert entry.pointer is not None
    path = call.hub.objects.path(entry.pointer.sha256)
    if path is not None:
        return FileResponse(
            path, part.start, part.length, status_code=status, headers=headers,
            media_type=media_type,
        )  # fmt: skip
    blocks = call.hub.objects.read(entry.pointer.sha256, part.start, part.length)
    return StreamingResponse(
        threaded(blocks), status_code=status, headers=headers,
        media_type=media_type,
    )  # fmt: skip


def _media_type(entry: Entry) -> str:
    """Return a type that a browser shows but never runs."""
    guessed = mimetypes.guess_type(entry.path)[0] or ""
    if guessed.startswith(("image/", "audio/", "video/")) or guessed == "application/json":
        return guessed
    return "application/octet-stream" if entry.pointer else "text/plain; charset=utf-8"


def requested_span(call: Call, size: int, etag: str) -> Span | None:
    """Return the part a Range header asks for, or None for the whole.

    Raises: HubRefused (416) when the part is not in the file.
    """
    text = call.request.headers.get("range", "")
    condition = call.request.headers.get("if-range")
    match = _RANGE.fullmatch(text.strip())
    if match is None or match.groups() == ("", "") or (condition and condition != etag):
        return None
    first, last = match.groups()
    if not first:
        start = max(0, size - _number(last))
        end = size - 1
    else:
        start = _number(first)
        end = min(_number(last), size - 1) if last else size - 1
    if start > end or start >= size:
        raise HubRefused(416, f"The file has {size} bytes")
    return Span(start, end - start + 1)


def _number(digits: str) -> int:
    return limits.whole(digits, limits.LARGEST_NUMBER) or 0


@routes.get("/lfs/download", Access.TICKET, purposes=["lfs-download"])
async def download_object(call: Call) -> Response:
    """Send a large file to a git-lfs client that was given this address."""
    assert call.ticket is not None
    sha256, _, size = call.ticket.subject.partition(":")
    entry = Entry("", sha256, False, 0, Pointer(sha256, int(size), 0))
    headers = {"ETag": f'"{sha256}"', "Accept-Ranges": "bytes"}
    return send_bytes(call, entry, None, headers)
