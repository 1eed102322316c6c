"""Pages for looking around: repositories by kind, a repository, its files, its history."""

from __future__ import annotations

import mimetypes
from typing import Any
from urllib.parse import quote, urlencode

from starlette.responses import Response

from triptych.errors import EntryNotFound, RevisionNotFound
from triptych.hub.server.http import spaces as spaces_routes
from triptych.hub.server.http.call import Access, Call
from triptych.hub.server.http.pages import changes
from triptych.hub.server.http.pages.cards import render_card
from triptych.hub.server.http.pages.previews import preview
from triptych.hub.server.http.pages.render import render, static_file
from triptych.hub.server.http.routing import Router
from triptych.hub.server.repositories import listing
from triptych.hub.server.repositories.claims import holds
from triptych.hub.server.repositories.listing import Search
from triptych.hub.server.storage.git import history, refs
from triptych.hub.server.storage.git.reading import MAIN, Snapshot, open_repository, resolve
from triptych.hub.server.storage.identity.access import Level
from triptych.hub.server.storage.identity.accounts import find_account, members_of, organisations_of
from triptych.hub.server.threads import in_thread

routes = Router(page=True)
_PAGE = 30
_FOLDER_ENTRIES = 1000
KIND_NAMES = {"model": "Models", "dataset": "Datasets", "space": "Spaces"}


@routes.get("/static/{file}", Access.PUBLIC)
async def static(call: Call) -> Response:
    """Send a style sheet, script or picture of the pages."""
    content = static_file(call.params["file"])
    if content is None:
        raise EntryNotFound("Nothing is here")
    media_type = mimetypes.guess_type(call.params["file"])[0]
    return Response(content, media_type=media_type, headers={"Cache-Control": "max-age=3600"})


@routes.get("/health", Access.PUBLIC)
async def health(call: Call) -> Response:
    """Answer a health check."""
    return Response('{"status":"ok"}', media_type="application/json")


@routes.get("/", Access.PUBLIC)
async def home(call: Call) -> Response:
    """Show what changed last, of each kind."""

    def look_up() -> dict[str, Any]:
        return {
            kind: listing.page(call.hub.database, Search(kind=kind, limit=8), call.identity)[0]
            for kind in KIND_NAMES
        }

    return render("home.html", call, found=await in_thread(look_up), names=KIND_NAMES)


@routes.get("/models", Access.PUBLIC)
async def models(call: Call) -> Response:
    """List models."""
    return await _list(call, "model")


@routes.get("/datasets", Access.PUBLIC)
async def datasets(call: Call) -> Response:
    """List datasets."""
    return await _list(call, "dataset")


@routes.get("/spaces", Access.PUBLIC)
async def spaces(call: Call) -> Response:
    """List Spaces."""
    return await _list(call, "space")


async def _list(call: Call, kind: str) -> Response:
    tag = call.query("tag")
    wanted = Search(
        kind=kind, search=call.query("search"), tags=(tag,) if tag else (), limit=_PAGE,
        cursor=call.query("cursor"),
    )  # fmt: skip
    found, following = await in_thread(listing.page, call.hub.database, wanted, call.identity)
    onwards = ""
    if following:
        onwards = "?" + urlencode({"search": wanted.search, "tag": tag, "cursor": following})
    return render(
        "list.html", call,
        found=found, title=KIND_NAMES[kind], search=wanted.search, tag=tag, onwards=onwards,
    )  # fmt: skip


@routes.get("/{namespace:owner}", Access.PUBLIC)
async def account(call: Call) -> Response:
    """Show an account and what it has that the caller may see."""

    def look_up() -> dict[str, Any]:
        database = call.hub.database
        found = find_account(database, call.params["namespace"])
        if found is None:
            raise EntryNotFound("There is no such account")
        wanted = [Search(kind=kind, author=found.name, limit=100) for kind in KIND_NAMES]
        belongs = members_of if found.kind == "org" else organisations_of
        return {
            "account": found,
            "found": {one.kind: listing.page(database, one, call.identity)[0] for one in wanted},
            "others": [(other.name, role) for other, role in belongs(database, found.id)]
            if call.identity
            else [],
        }

    return render("account.html", call, names=KIND_NAMES, **await in_thread(look_up))


@routes.get("{repo}", Access.SEE)
async def repository(call: Call) -> Response:
    """Show a repository's card; of a Space also how it is."""
    values = await in_thread(_repository_values, call, MAIN)
    if call.repository.kind == "space":
        described = call.services.spaces.describe(call.repository, call.base_url)
        values["space"] = described.get("runtime", {})
        account_id = call.identity.account_id if call.identity else None
        values["address"] = call.services.spaces.entry_address(
            call.repository, call.base_url, account_id
        )
    return render("repository.html", call, **values)


def _repository_values(call: Call, revision: str) -> dict[str, Any]:
    here = _snapshot(call, revision, empty_ok=True)
    readme = here.read_path("README.md") if here else None
    base = f"{call.repository.address}%{quote(revision, safe='')}/"
    return {
        "repository": call.repository,
        "revision": revision,
        "head": here.sha if here else "",
        "may_read": call.level >= Level.READ,
        "card": render_card(readme.decode(errors="replace"), base) if readme else "",
        "space": {},
        "address": "",
    }


@routes.get("{repo}/tree/{revision}", Access.READ)
@routes.get("{repo}/tree/{revision}/{path:path}", Access.READ)
async def tree(call: Call) -> Response:
    """Show a folder."""

    def look_up() -> dict[str, Any]:
        here = _snapshot(call, call.params["revision"])
        assert here is not None
        path = call.params.get("path", "").strip("/")
        entries = sorted(here.listing(path), key=lambda e: (not e.is_folder, e.path))
        listed = refs.list_refs(here.repository)
        shown = entries[:_FOLDER_ENTRIES]
        return {
            "entries": shown,
            "hidden_count": len(entries) - len(shown),
            "last": history.last_commits(here, [e.path for e in shown[:200]]),
            "crumbs": _crumbs(path),
            "branches": [ref["name"] for ref in listed["branches"]],
            "tags": [ref["name"] for ref in listed["tags"]],
        }

    return render("tree.html", call, **_place(call), **await in_thread(look_up))


@routes.get("{repo}/blob/{revision}/{path:path}", Access.READ)
async def blob(call: Call) -> Response:
    """Show a file, as far as it can be shown."""

    def look_up() -> dict[str, Any]:
        here = _snapshot(call, call.params["revision"])
        assert here is not None
        entry = here.entry(call.params["path"])
        if entry.is_folder:
            raise EntryNotFound(f"{entry.path} is a folder")
        if entry.pointer and not holds(call.hub, call.repository, entry.pointer.sha256):
            raise EntryNotFound(f"the large file of {entry.path} is not in this repository")
        base = f"{call.repository.address}%{quote(call.params['revision'], safe='')}/"
        return {
            "entry": entry,
            "crumbs": _crumbs(entry.path),
            "shown": preview(call.hub, here, entry, base),
        }

    return render("blob.html", call, **_place(call), **await in_thread(look_up))


@routes.get("{repo}/commits/{revision}", Access.SEE)
async def commits(call: Call) -> Response:
    """Show the history of a revision."""
    text = call.query("p", "0")
    page = int(text) if text.isdecimal() and len(text) < 7 else 0

    def look_up() -> list[dict[str, Any]]:
        here = _snapshot(call, call.params["revision"])
        assert here is not None
        return history.commits(here, page * _PAGE, _PAGE + 1)

    listed = await in_thread(look_up)
    return render(
        "commits.html", call, **_place(call),
        commits=listed[:_PAGE], onwards=f"?p={page + 1}" if len(listed) > _PAGE else "",
    )  # fmt: skip


@routes.get("{repo}/commit/{revision}", Access.READ)
async def commit(call: Call) -> Response:
    """Show what a commit changed."""

    def look_up() -> dict[str, Any]:
        here = _snapshot(call, call.params["revision"])
        assert here is not None
        return {
            "commit": history.describe(here.commit),
            "parents": [str(parent) for parent in here.commit.parent_ids],
            "changed": changes.of(here),
        }

    return render("commit.html", call, **_place(call), **await in_thread(look_up))


@routes.get("{repo}/logs", Access.WRITE, kinds=["space"])
async def logs(call: Call) -> Response:
    """Show what a Space wrote while it was built and while it runs."""
    return render("logs.html", call, **_place(call))


# The same streams as on the programming interface, for the page's own session.
routes.get("{repo}/logs/build", Access.WRITE, kinds=["space"])(spaces_routes.build_log)
routes.get("{repo}/logs/run", Access.WRITE, kinds=["space"])(spaces_routes.run_log)


def _place(call: Call) -> dict[str, Any]:
    return {"repository": call.repository, "revision": call.params.get("revision", MAIN)}


def _crumbs(path: str) -> list[tuple[str, str]]:
    parts = path.split("/") if path else []
    return [(part, "/".join(parts[: number + 1])) for number, part in enumerate(parts)]


def _snapshot(call: Call, revision: str, *, empty_ok: bool = False) -> Snapshot | None:
    git = open_repository(call.hub.layout.repository(call.repository.uid))
    try:
        return resolve(git, revision)
    except RevisionNotFound:
        if empty_ok:
            return None
        raise
