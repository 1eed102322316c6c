"""Routes of the Xet protocol: access tokens, blocks in and out, shards, recipes of files."""

from __future__ import annotations

import re
import time
from typing import Any

from starlette.responses import JSONResponse, Response

from triptych.errors import EntryNotFound, HubRefused
from triptych.hub.server import tickets
from triptych.hub.server.http.bodies.streaming import FileResponse, stream_into
from triptych.hub.server.http.call import Access, Call
from triptych.hub.server.http.routing import Router
from triptych.hub.server.storage.content import xet_hashes as hashes
from triptych.hub.server.storage.content.xet_recipes import Part, fetch_parts, select
from triptych.hub.server.storage.content.xet_shard import MAXIMUM_BYTES, read_shard
from triptych.hub.server.threads import in_thread
from triptych.hub.server.tickets import Ticket

routes = Router()
READ, WRITE, BLOCK = "xet-read", "xet-write", "xet-block"
_RANGE = re.compile(r"bytes=(\d{1,18})-(\d{1,18})")


@routes.get("{api}/xet-read-token/{revision:path}", Access.READ)
async def read_token(call: Call) -> Response:
    """Grant downloads from a repository."""
    return await _token(call, READ)


@routes.get("{api}/xet-write-token/{revision:path}", Access.WRITE)
async def write_token(call: Call) -> Response:
    """Grant uploads to a repository."""
    if call.flag("create_pr"):
        raise HubRefused(501, "This hub has no pull requests; commit to a branch instead")
    return await _token(call, WRITE)


async def _token(call: Call, purpose: str) -> Response:
    expires_at = int(time.time()) + call.hub.config.ticket_s
    account_id = call.identity.account_id if call.identity else 0
    ticket = Ticket(purpose, call.repository.id, account_id, "", expires_at)
    token = tickets.issue(call.hub.vault, ticket)
    generation = await in_thread(call.hub.objects.xet.generation)
    url = f"{call.base_url}/xet/{generation}"
    headers = {
        "X-Xet-Cas-Url": url,
        "X-Xet-Access-Token": token,
        "X-Xet-Token-Expiration": str(expires_at),
    }
    return JSONResponse({"casUrl": url, "accessToken": token, "exp": expires_at}, headers=headers)


@routes.post("/xet/{generation}/v1/xorbs/default/{hash}", Access.TICKET, purposes=[WRITE])
async def take_block(call: Call) -> Response:
    """Take a block of chunks."""
    name = call.params["hash"]
    hashes.from_text(name)
    if await in_thread(call.hub.objects.xet.has_xorb, name):
        return JSONResponse({"was_inserted": False})
    incoming = await in_thread(call.hub.objects.xet.receive, name)
    try:
        await stream_into(call.request, incoming.write)
        await in_thread(incoming.finish)
    finally:
        incoming.abandon()
    return JSONResponse({"was_inserted": True})


@routes.post("/xet/{generation}/v1/shards", Access.TICKET, purposes=[WRITE])
async def take_shard(call: Call) -> Response:
    """Take the recipes of uploaded files."""
    assert call.ticket is not None
    repository_id = call.ticket.repository_id
    files = read_shard(await call.body(MAXIMUM_BYTES))
    most_bytes = call.hub.config.max_file_bytes
    await in_thread(call.hub.objects.xet.register, repository_id, files, most_bytes)
    return JSONResponse({"result": 1})


@routes.get("/xet/{generation}/v1/reconstructions/{hash}", Access.TICKET, purposes=[READ, WRITE])
async def recipe(call: Call) -> Response:
    """Return which blocks make a file, or a range of it."""
    return JSONResponse(await in_thread(_recipe, call))


def _recipe(call: Call) -> dict[str, Any]:
    assert call.ticket is not None
    name = call.params["hash"]
    hashes.from_text(name)
    terms, size, sha256 = call.hub.objects.xet.recipe(name)
    holders = call.hub.objects.holders(sha256)
    if holders is None or call.ticket.repository_id not in holders[1]:
        raise EntryNotFound("The file does not exist")
    start, end = 0, size
    if match := _RANGE.fullmatch(call.request.headers.get("range", "")):
        start, end = int(match[1]), min(int(match[2]) + 1, size)
        if start >= end:
            raise HubRefused(416, f"The file has {size} bytes")
    tables = {term.xorb: call.hub.objects.xet.chunks(term.xorb) for term in terms}
    chosen, offset = select(terms, tables, start, end)
    fetch: dict[str, list[dict[str, Any]]] = {}
    for xorb, parts in fetch_parts(chosen, tables).items():
        text = hashes.to_text(xorb)
        fetch[text] = [_fetch(call, call.ticket, text, part) for part in parts]
    return {
        "offset_into_first_range": offset,
        "terms": [
            {
                "hash": hashes.to_text(term.xorb),
                "unpacked_length": term.size,
                "range": {"start": term.start, "end": term.end},
            }
            for term in chosen
        ],
        "fetch_info": fetch,
    }


def _fetch(call: Call, granted: Ticket, xorb: str, part: Part) -> dict[str, Any]:
    last = part.end_byte - 1
    ticket = Ticket(
        BLOCK, granted.repository_id, granted.account_id,
        f"{xorb}:{part.start_byte}-{last}", granted.expires_at,
    )  # fmt: skip
    return {
        "range": {"start": part.start, "end": part.end},
        "url": f"{call.base_url}/xet/blocks?ticket={tickets.issue(call.hub.vault, ticket)}",
        "url_range": {"start": part.start_byte, "end": last},
    }


@routes.get("/xet/blocks", Access.TICKET, purposes=[BLOCK])
async def give_block(call: Call) -> Response:
    """Send the part of a block that an address was made for."""
    assert call.ticket is not None
    xorb, _, span = call.ticket.subject.partition(":")
    first, _, last = span.partition("-")
    match = _RANGE.fullmatch(call.request.headers.get("range", f"bytes={first}-{last}"))
    start, end = (int(match[1]), int(match[2])) if match else (0, -1)
    if not int(first) <= start <= end <= int(last):
        raise HubRefused(403, "This address is for another part of the block")
    path = call.hub.layout.xorb(xorb)
    total = await in_thread(lambda: path.stat().st_size)
    return FileResponse(
        path, start, end - start + 1,
        status_code=206, headers={"Content-Range": f"bytes {start}-{end}/{total}"},
        media_type="application/octet-stream",
    )  # fmt: skip
