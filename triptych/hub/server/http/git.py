"""Routes that read a repository: tree, paths, refs, history; and those that move refs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pygit2
from starlette.responses import JSONResponse, Response

from triptych.errors import EntryNotFound, HubRefused
from triptych.hub.server import limits
from triptych.hub.server.http.call import Access, Call
from triptych.hub.server.http.routing import Router
from triptych.hub.server.repositories.heads import change_refs
from triptych.hub.server.storage.git import history, refs
from triptych.hub.server.storage.git.commits import Message
from triptych.hub.server.storage.git.reading import MAIN, Entry, Snapshot, open_repository, resolve
from triptych.hub.server.threads import in_thread

routes = Router()
_TREE_PAGE = 1000
_COMMIT_PAGE = 100


def snapshot(call: Call, revision: str | None = None) -> Snapshot:
    """Open the repository of a call at a revision."""
    repository = open_repository(call.hub.layout.repository(call.repository.uid))
    return resolve(repository, revision or call.params.get("revision", MAIN))


@routes.get("{api}/tree/{revision}", Access.READ)
@routes.get("{api}/tree/{revision}/{path:path}", Access.READ)
async def tree(call: Call) -> Response:
    """List a folder, a page at a time."""
    entries, following = await in_thread(_tree_page, call)
    headers = {}
    if following is not None:
        url = call.request.url.include_query_params(cursor=following)
        headers["Link"] = f'<{call.base_url}{call.request.url.path}?{url.query}>; rel="next"'
    return JSONResponse(entries, headers=headers)


def _tree_page(call: Call) -> tuple[list[dict[str, Any]], int | None]:
    here = snapshot(call)
    path = call.params.get("path", "").strip("/")
    expand = call.flag("expand")
    start = _whole(call.query("cursor", "0"), "cursor")
    limit = min(max(1, _whole(call.query("limit", str(_TREE_PAGE)), "limit")), _TREE_PAGE)
    page: list[Entry] = []
    following = None
    for number, entry in enumerate(here.listing(path, recursive=call.flag("recursive"))):
        if number < start:
            continue
        if len(page) == limit:
            following = number
            break
        page.append(entry)
    return describe_entries(call, here, page, expand=expand), following


@routes.post("{api}/paths-info/{revision}", Access.READ)
async def paths_info(call: Call) -> Response:
    """Describe the paths that exist among those asked for."""
    content_type = call.request.headers.get("content-type", "")
    if content_type.startswith("application/json"):
        body = await call.json()
        paths, expand = body.get("paths", []), bool(body.get("expand"))
        if not isinstance(paths, list) or not all(isinstance(path, str) for path in paths):
            raise HubRefused(400, "`paths` must be a list of texts")
    else:
        async with call.request.form(max_fields=10_000) as form:
            paths = [str(value) for value in form.getlist("paths")]
            expand = str(form.get("expand", "")).lower() in ("1", "true")

    def look_up() -> list[dict[str, Any]]:
        here = snapshot(call)
        found = []
        for path in paths:
            try:
                found.append(here.entry(path.strip("/")))
            except EntryNotFound:
                continue
        return describe_entries(call, here, found, expand=expand)

    return JSONResponse(await in_thread(look_up))


def describe_entries(
    call: Call, here: Snapshot, entries: list[Entry], *, expand: bool
) -> list[dict[str, Any]]:
    """Return entries as the clients read them."""
    last = history.last_commits(here, [e.path for e in entries]) if expand else {}
    xet = call.hub.objects.xet_hashes([e.pointer.sha256 for e in entries if e.pointer])
    described = []
    for entry in entries:
        one: dict[str, Any] = {
            "type": "directory" if entry.is_folder else "file",
            "oid": entry.oid,
            "size": entry.size,
            "path": entry.path,
        }
        if entry.pointer:
            one["lfs"] = {
                "oid": entry.pointer.sha256,
                "size": entry.pointer.size,
                "pointerSize": entry.pointer.pointer_size,
            }
            if entry.pointer.sha256 in xet:
                one["xetHash"] = xet[entry.pointer.sha256]
        if entry.path in last:
            one["lastCommit"] = last[entry.path]
        described.append(one)
    return described


@routes.get("{api}/refs", Access.SEE)
async def list_refs(call: Call) -> Response:
    """List branches and tags."""
    path = call.hub.layout.repository(call.repository.uid)
    return JSONResponse(await in_thread(lambda: refs.list_refs(open_repository(path))))


@routes.get("{api}/commits/{revision}", Access.SEE)
async def commits(call: Call) -> Response:
    """List the history of a revision, a page at a time."""
    page = _whole(call.query("p", "0"), "p")
    limit = min(max(1, _whole(call.query("limit", "50"), "limit")), _COMMIT_PAGE)

    def look_up() -> tuple[list[dict[str, Any]], int]:
        here = snapshot(call)
        return history.commits(here, page * limit, limit + 1), history.count_commits(here)

    listed, total = await in_thread(look_up)
    headers = {"X-Total-Count": str(total)}
    if len(listed) > limit:
        url = call.request.url.include_query_params(p=page + 1)
        headers["Link"] = f'<{call.base_url}{call.request.url.path}?{url.query}>; rel="next"'
    return JSONResponse(listed[:limit], headers=headers)


@routes.get("{api}/lfs-files", Access.WRITE)
async def large_files(call: Call) -> Response:
    """List the large files of all commits."""

    def look_up() -> list[dict[str, Any]]:
        folder = call.hub.layout.repository(call.repository.uid)
        return [
            {
                "fileOid": pointer.sha256,
                "oid": pointer.sha256,
                "filename": path,
                "size": pointer.size,
                "pushedAt": history.timestamp(call.repository.updated_at),
            }
            for path, pointer in history.large_files(folder)
        ]

    return JSONResponse(await in_thread(look_up))


@routes.post("{api}/branch/{branch}", Access.WRITE)
async def create_branch(call: Call) -> Response:
    """Create a branch from a starting point."""
    start = str((await call.json()).get("startingPoint") or MAIN)
    await change_refs(
        call.hub,
        call.repository,
        call.identity,
        lambda git: refs.create_branch(git, call.params["branch"], start),
    )
    return JSONResponse({"success": True})


@routes.delete("{api}/branch/{branch}", Access.WRITE)
async def delete_branch(call: Call) -> Response:
    """Delete a branch."""
    await change_refs(
        call.hub,
        call.repository,
        call.identity,
        lambda git: refs.delete_branch(git, call.params["branch"]),
    )
    return JSONResponse({"success": True})


@routes.post("{api}/tag/{revision}", Access.WRITE)
async def create_tag(call: Call) -> Response:
    """Tag a revision."""
    body = await call.json()
    tag = body.get("tag")
    if not isinstance(tag, str):
        raise HubRefused(400, "The body needs a tag")
    text = str(body.get("message") or "")
    limits.require_message(text)
    message = Message(text, "", call.who.name, call.who.email)
    revision = call.params["revision"]
    await change_refs(
        call.hub,
        call.repository,
        call.identity,
        lambda git: refs.create_tag(git, tag, revision, message),
    )
    return JSONResponse({"success": True})


@routes.delete("{api}/tag/{revision}", Access.WRITE)
async def delete_tag(call: Call) -> Response:
    """Delete a tag."""
    await change_refs(
        call.hub,
        call.repository,
        call.identity,
        lambda git: refs.delete_tag(git, call.params["revision"]),
    )
    return JSONResponse({"success": True})


@routes.post("{api}/super-squash/{revision}", Access.WRITE)
async def super_squash(call: Call) -> Response:
    """Replace a branch's history by one commit with the same files."""
    summary = str((await call.json()).get("message") or f"Squash {call.params['revision']}")
    limits.require_message(summary)
    message = Message(summary, "", call.who.name, call.who.email)
    await change_refs(
        call.hub,
        call.repository,
        call.identity,
        lambda git: refs.squash(git, call.params["revision"], message),
    )
    return JSONResponse({"success": True})


def _whole(text: str, name: str) -> int:
    if not text.isdecimal() or len(text) > 12:
        raise HubRefused(400, f"{name} must be a whole number, not {text[:40]!r}")
    return int(text)


async def _change_refs(call: Call, work: Callable[[pygit2.Repository], object]) -> None:
    await change_refs(call.hub, call.repository, call.identity, work)
