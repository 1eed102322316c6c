"""The LFS protocol: what to upload where, single and in parts, verified while it streams in."""

from __future__ import annotations

import re
import secrets
import time
from typing import Any

from starlette.responses import JSONResponse, Response

from triptych.errors import HubRefused
from triptych.hub.server import tickets
from triptych.hub.server.http.bodies.streaming import stream_into
from triptych.hub.server.http.call import Access, Call
from triptych.hub.server.http.routing import Router
from triptych.hub.server.repositories.claims import known_size
from triptych.hub.server.storage.content.multipart import Part
from triptych.hub.server.storage.identity.access import Level
from triptych.hub.server.threads import in_thread
from triptych.hub.server.tickets import Ticket

routes = Router(git=True)
_MEDIA_TYPE = "application/vnd.git-lfs+json"
_SHA256 = re.compile(r"[0-9a-f]{64}")
_BATCH_OBJECTS = 1000


@routes.post("{repo}/info/lfs/objects/batch", Access.READ)
async def batch(call: Call) -> Response:
    """Return for each object whether it is needed and where it goes or comes from."""
    body = await call.json()
    objects = body.get("objects")
    if not isinstance(objects, list) or len(objects) > _BATCH_OBJECTS:
        raise HubRefused(422, f"`objects` must be a list of at most {_BATCH_OBJECTS}")
    if body.get("hash_algo", "sha256") != "sha256":
        raise HubRefused(409, "This hub knows large files by sha256 only")
    operation = body.get("operation")
    if operation == "upload":
        call.require(Level.WRITE)
        transfers = body.get("transfers")
        multipart = isinstance(transfers, list) and "multipart" in transfers
        answers = await in_thread(lambda: [_upload_action(call, one, multipart) for one in objects])
    elif operation == "download":
        answers = await in_thread(lambda: [_download_action(call, one) for one in objects])
    else:
        raise HubRefused(422, "`operation` must be upload or download")
    return JSONResponse({"transfer": "basic", "objects": answers}, media_type=_MEDIA_TYPE)


def _upload_action(call: Call, one: Any, multipart: bool) -> dict[str, Any]:
    sha256, size = _object(one)
    if size > call.hub.config.max_file_bytes:
        limit = call.hub.config.max_file_bytes
        return _error(sha256, size, 413, f"The file is larger than the {limit} bytes allowed")
    if known_size(call.hub, call.repository, call.identity, sha256) == size:
        call.hub.objects.touch(sha256)
        return {"oid": sha256, "size": size}
    part_bytes = call.hub.config.multipart_bytes
    if multipart and size > part_bytes:
        subject = f"{sha256}:{size}:{part_bytes}:{secrets.token_hex(8)}"
        ticket = _ticket(call, "lfs-parts", subject)
        parts = range(1, -(-size // part_bytes) + 1)
        urls = {str(n): f"{call.base_url}/lfs/parts/{n}?ticket={ticket}" for n in parts}
        href = f"{call.base_url}/lfs/complete?ticket={ticket}"
        upload = {"href": href, "header": {"chunk_size": str(part_bytes)} | urls}
    else:
        ticket = _ticket(call, "lfs-upload", f"{sha256}:{size}")
        upload = {"href": f"{call.base_url}/lfs/upload?ticket={ticket}"}
    verify = {"href": f"{call.base_url}{call.repository.address}/info/lfs/verify"}
    return {"oid": sha256, "size": size, "actions": {"upload": upload, "verify": verify}}


def _download_action(call: Call, one: Any) -> dict[str, Any]:
    sha256, size = _object(one)
    found = call.hub.objects.holders(sha256)
    if found is None or call.repository.id not in found[1]:
        return _error(sha256, size, 404, "Object does not exist on this hub")
    ticket = _ticket(call, "lfs-download", f"{sha256}:{found[0]}")
    href = f"{call.base_url}/lfs/download?ticket={ticket}"
    return {"oid": sha256, "size": found[0], "actions": {"download": {"href": href}}}


@routes.put("/lfs/upload", Access.TICKET, purposes=["lfs-upload"])
async def upload(call: Call) -> Response:
    """Take a whole file."""
    ticket, sha256, size = _granted(call)
    incoming = await in_thread(call.hub.objects.receive, sha256, size)
    try:
        await stream_into(call.request, incoming.write)
        await in_thread(incoming.finish)
    finally:
        incoming.abandon()
    await in_thread(call.hub.objects.grant, ticket.repository_id, sha256, size)
    return JSONResponse({"success": True})


@routes.put("/lfs/parts/{number}", Access.TICKET, purposes=["lfs-parts"])
async def take_part(call: Call) -> Response:
    """Take one part."""
    name, sha256, size, part_bytes = _granted_parts(call)
    text = call.params["number"]
    if not text.isdecimal() or len(text) > 6:
        raise HubRefused(400, "A part has a number")
    number = int(text)
    upload = await in_thread(call.hub.uploads.open, name, sha256, size, part_bytes)
    part = await in_thread(Part, upload, number)
    try:
        await stream_into(call.request, part.write)
        tag = part.finish()
    finally:
        part.close()
    return Response(status_code=200, headers={"ETag": tag})


@routes.post("/lfs/complete", Access.TICKET, purposes=["lfs-parts"])
async def complete(call: Call) -> Response:
    """Put the parts together."""
    assert call.ticket is not None
    name, sha256, size, _ = _granted_parts(call)
    body = await call.json()
    await in_thread(call.hub.uploads.complete, name, body.get("parts"))
    await in_thread(call.hub.objects.grant, call.ticket.repository_id, sha256, size)
    return JSONResponse({"success": True})


@routes.post("{repo}/info/lfs/verify", Access.WRITE)
async def verify(call: Call) -> Response:
    """Confirm that an upload arrived."""
    sha256, size = _object(await call.json())
    if await in_thread(known_size, call.hub, call.repository, call.identity, sha256) != size:
        raise HubRefused(404, f"The large file {sha256} has not arrived")
    return JSONResponse({"oid": sha256, "size": size}, media_type=_MEDIA_TYPE)


@routes.get("{repo}/info/lfs/locks", Access.READ)
async def locks(call: Call) -> Response:
    """List locks: this hub has none."""
    return JSONResponse({"locks": []}, media_type=_MEDIA_TYPE)


@routes.post("{repo}/info/lfs/locks/verify", Access.WRITE)
async def verify_locks(call: Call) -> Response:
    """Decline, so that git-lfs pushes without a word about locks."""
    raise HubRefused(501, "This hub has no file locks")


@routes.post("{repo}/info/lfs/locks", Access.WRITE)
async def lock(call: Call) -> Response:
    """Decline to lock a file."""
    raise HubRefused(501, "This hub has no file locks")


def _ticket(call: Call, purpose: str, subject: str) -> str:
    expires_at = int(time.time()) + call.hub.config.ticket_s
    account_id = call.identity.account_id if call.identity else 0
    return tickets.issue(
        call.hub.vault, Ticket(purpose, call.repository.id, account_id, subject, expires_at)
    )


def _granted(call: Call) -> tuple[Ticket, str, int]:
    assert call.ticket is not None
    sha256, _, size = call.ticket.subject.partition(":")
    return call.ticket, sha256, int(size)


def _object(one: Any) -> tuple[str, int]:
    if isinstance(one, dict):
        sha256, size = one.get("oid"), one.get("size")
        named = isinstance(sha256, str) and _SHA256.fullmatch(sha256)
        if named and isinstance(size, int) and not isinstance(size, bool) and size >= 0:
            return str(sha256), size
    raise HubRefused(422, "An object needs a sha256 as oid and a size")


def _error(sha256: str, size: int, code: int, message: str) -> dict[str, Any]:
    return {"oid": sha256, "size": size, "error": {"code": code, "message": message}}


def _granted_parts(call: Call) -> tuple[str, str, int, int]:
    assert call.ticket is not None
    sha256, size, part_bytes, name = call.ticket.subject.split(":")
    return name, sha256, int(size), int(part_bytes)
