"""Routes of repositories as a whole: create, list, describe, settings, move, duplicate, delete."""

from __future__ import annotations

from typing import Any

from starlette.responses import JSONResponse, Response

from triptych.errors import HubRefused, RepositoryNotFound
from triptych.hub.server import limits
from triptych.hub.server.events import Created, Deleted, Moved
from triptych.hub.server.http.call import Access, Call
from triptych.hub.server.http.routing import Router
from triptych.hub.server.repositories import (
    cards,
    catalog,
    describing,
    lifecycle,
    listing,
    variables,
)
from triptych.hub.server.repositories.heads import record
from triptych.hub.server.repositories.listing import Search
from triptych.hub.server.repository import KINDS, Repository
from triptych.hub.server.storage.git.history import timestamp
from triptych.hub.server.storage.git.reading import MAIN, open_repository, resolve
from triptych.hub.server.storage.identity.access import Level, level
from triptych.hub.server.threads import in_thread

routes = Router()


@routes.post("/api/repos/create", Access.SIGNED_IN)
async def create(call: Call) -> Response:
    """Create a repository in a namespace of the caller's."""
    body = await call.json()
    if body.get("template") or body.get("volumes"):
        raise HubRefused(501, "This hub has no Space templates and no volumes")
    kind, private = _kind(body), _private(body) or False
    namespace, name = _target(body)

    def work() -> tuple[Repository, bool]:
        account = lifecycle.namespace_for_creating(call.hub, call.who, namespace)
        present = catalog.find_folded(call.hub.database, kind, account.id, name)
        if present is not None:
            found = catalog.find(call.hub.database, kind, account.name, present)
            assert found is not None
            return found, False
        created = lifecycle.create(
            call.hub, call.who, account, kind=kind, name=name, private=private,
            sdk=str(body.get("sdk") or ""),
        )  # fmt: skip
        variables.put_all(call.hub, created, body, by_admin=call.who.administers)
        record(call.hub, created, open_repository(call.hub.layout.repository(created.uid)))
        return created, True

    repository, is_new = await in_thread(work)
    url = f"{call.base_url}{repository.address}"
    if not is_new:
        return JSONResponse({"error": _EXISTS, "url": url}, status_code=409)
    call.hub.events.publish(Created(repository, body))
    return JSONResponse({"url": url, "name": repository.repo_id, "id": repository.uid})


@routes.delete("/api/repos/delete", Access.SIGNED_IN)
async def delete(call: Call) -> Response:
    """Delete a repository."""
    body = await call.json()
    namespace, name = _target(body)
    repository = await in_thread(_managed, call, _kind(body), namespace or call.who.name, name)
    await in_thread(lifecycle.delete, call.hub, repository)
    call.hub.events.publish(Deleted(repository))
    return JSONResponse({"success": True})


@routes.post("/api/repos/move", Access.SIGNED_IN)
async def move(call: Call) -> Response:
    """Rename a repository, or move it to another namespace."""
    body = await call.json()
    source, target = str(body.get("fromRepo") or ""), str(body.get("toRepo") or "")
    namespace, _, name = source.partition("/")
    repository = await in_thread(_managed, call, _kind(body), namespace, name)
    moved = await in_thread(lifecycle.move, call.hub, call.who, repository, target)
    call.hub.events.publish(Moved(moved, repository.repo_id))
    return JSONResponse({"success": True, "url": f"{call.base_url}{moved.address}"})


@routes.put("{api}/settings", Access.MANAGE)
async def settings(call: Call) -> Response:
    """Change who sees and who reads a repository."""
    body = await call.json()
    gated = body.get("gated")
    if "gated" in body and gated not in (False, None, "auto", "manual"):
        raise HubRefused(400, "`gated` is false, auto or manual")
    private = _private(body)
    new_gated = (gated or "") if "gated" in body else None
    await in_thread(
        lambda: catalog.update_settings(
            call.hub.database, call.repository, private=private, gated=new_gated
        )
    )
    return JSONResponse({"private": private, "gated": gated})


@routes.post("{api}/duplicate", Access.READ)
async def duplicate(call: Call) -> Response:
    """Copy a repository into a namespace of the caller's."""
    body = await call.json()
    namespace, _, name = str(body.get("repository") or "").rpartition("/")
    asked = _private(body)
    private = call.repository.private if asked is None else asked

    def work() -> Repository:
        account = lifecycle.namespace_for_creating(call.hub, call.who, namespace)
        copy = lifecycle.duplicate(call.hub, call.repository, account, name=name, private=private)
        variables.copy(call.hub, call.repository, copy)
        variables.put_all(call.hub, copy, body, by_admin=call.who.administers)
        record(call.hub, copy, open_repository(call.hub.layout.repository(copy.uid)))
        return copy

    try:
        copy = await in_thread(work)
    except HubRefused as error:
        if error.code != "exists":
            raise
        prefix = call.repository.address.removesuffix(call.repository.repo_id)
        url = f"{call.base_url}{prefix}{namespace}/{name}"
        return JSONResponse({"error": _EXISTS, "url": url}, status_code=409)
    call.hub.events.publish(Created(copy, body))
    return JSONResponse({"url": f"{call.base_url}{copy.address}", "name": copy.repo_id})


@routes.get("{api}", Access.SEE)
@routes.get("{api}/revision/{revision}", Access.SEE)
async def info(call: Call) -> Response:
    """Describe a repository at a revision."""

    def look_up() -> dict[str, Any]:
        git = open_repository(call.hub.layout.repository(call.repository.uid))
        here = resolve(git, call.params.get("revision", MAIN))
        described = describing.detail(call.repository, here, blobs=call.flag("blobs"))
        return described | call.services.spaces.describe(call.repository, call.base_url)

    return JSONResponse(await in_thread(look_up))


@routes.get("{api}/auth-check", Access.READ)
async def may_read(call: Call) -> Response:
    """Answer whether the caller reads the files."""
    return JSONResponse({"success": True})


@routes.get("{api}/auth-check/write", Access.WRITE)
async def may_write(call: Call) -> Response:
    """Answer whether the caller writes."""
    return JSONResponse({"success": True})


@routes.get("/api/models", Access.PUBLIC)
async def list_models(call: Call) -> Response:
    """List models, a page at a time."""
    return await _list(call, "model")


@routes.get("/api/datasets", Access.PUBLIC)
async def list_datasets(call: Call) -> Response:
    """List datasets, a page at a time."""
    return await _list(call, "dataset")


@routes.get("/api/spaces", Access.PUBLIC)
async def list_spaces(call: Call) -> Response:
    """List Spaces, a page at a time."""
    return await _list(call, "space")


@routes.get("/api/settings/repositories", Access.SIGNED_IN)
async def own_repositories(call: Call) -> Response:
    """List the caller's repositories with what they store."""
    return JSONResponse(await in_thread(_stored_of, call, call.who.name))


@routes.get("/api/organizations/{organization}/settings/repositories", Access.SIGNED_IN)
async def repositories_of_organization(call: Call) -> Response:
    """List an organization's repositories that the caller sees, with what they store."""
    return JSONResponse(await in_thread(_stored_of, call, call.params["organization"]))


def _stored_of(call: Call, author: str) -> list[dict[str, Any]]:
    database = call.hub.database
    rows = database.query(
        "SELECT repository_id, SUM(size) AS bytes FROM repository_objects"
        " JOIN objects USING (sha256) GROUP BY repository_id"
    )
    stored = {row["repository_id"]: row["bytes"] for row in rows}
    return [
        {
            "id": one.repo_id,
            "type": kind,
            "updatedAt": timestamp(one.updated_at),
            "visibility": "private" if one.private else "public",
            "storage": stored.get(one.id, 0),
        }
        for kind in KINDS
        for one in listing.page(database, Search(kind=kind, author=author), call.identity)[0]
    ]


@routes.get("/api/models-tags-by-type", Access.PUBLIC)
async def model_tags(call: Call) -> Response:
    """List the tags of the models that the caller sees, by type."""
    return JSONResponse(await in_thread(_tags_by_type, call, "model"))


@routes.get("/api/datasets-tags-by-type", Access.PUBLIC)
async def dataset_tags(call: Call) -> Response:
    """List the tags of the datasets that the caller sees, by type."""
    return JSONResponse(await in_thread(_tags_by_type, call, "dataset"))


def _tags_by_type(call: Call, kind: str) -> dict[str, list[dict[str, str]]]:
    found: dict[str, dict[str, dict[str, str]]] = {}
    for one in listing.page(call.hub.database, Search(kind=kind), call.identity)[0]:
        for tag in one.tags:
            group, _, label = tag.rpartition(":")
            by_id = found.setdefault(group or "other", {})
            by_id[tag] = {"id": tag, "label": label, "type": group or "other"}
    return {group: [by_id[tag] for tag in sorted(by_id)] for group, by_id in sorted(found.items())}


@routes.post("/api/validate-yaml", Access.PUBLIC)
async def validate_yaml(call: Call) -> Response:
    """Return the errors and warnings of a README's metadata."""
    body = await call.json()
    content = body.get("content")
    if not isinstance(content, str):
        raise HubRefused(400, "The body needs a content")
    kind = str(body.get("repoType") or "model")
    errors, warnings = await in_thread(cards.validate, content, kind)
    described = {
        "errors": [{"message": text} for text in errors],
        "warnings": [{"message": text} for text in warnings],
    }
    return JSONResponse(described, status_code=400 if errors else 200)


#: What a list is narrowed or described by; a wrong list would be worse than none.
_LIST_QUERIES = frozenset({
    "author", "search", "filter", "sort", "direction", "limit", "cursor", "full", "cardData",
    "expand", "pipeline_tag", "gated",
})  # fmt: skip


def _gated(text: str) -> bool | None:
    if text.lower() not in ("", "true", "false", "1", "0"):
        raise HubRefused(400, f"`gated` is true or false, not {text[:40]!r}")
    return text.lower() in ("true", "1") if text else None


async def _list(call: Call, kind: str) -> Response:
    query = call.request.query_params
    if strange := sorted(set(query) - _LIST_QUERIES):
        raise HubRefused(501, f"This hub cannot list by {', '.join(strange)[:200]}")
    searches = query.getlist("search")
    wanted = Search(
        kind=kind,
        author=query.get("author", ""),
        search=searches[0] if searches else "",
        also=tuple(searches[1:]),
        pipeline_tag=query.get("pipeline_tag", ""),
        gated=_gated(query.get("gated", "")),
        tags=tuple(tag for text in query.getlist("filter") for tag in text.split(",") if tag),
        sort=query.get("sort", ""),
        descending=query.get("direction", "-1") != "1",
        limit=limits.whole(query.get("limit", ""), listing.MAXIMUM_PAGE) or listing.MAXIMUM_PAGE,
        cursor=query.get("cursor", ""),
    )
    found, following = await in_thread(listing.page, call.hub.database, wanted, call.identity)
    headers = {}
    if following is not None:
        url = call.request.url.include_query_params(cursor=following)
        headers["Link"] = f'<{call.base_url}{call.request.url.path}?{url.query}>; rel="next"'
    with_card = call.flag("cardData") or call.flag("full")
    described = []
    for repository in found:
        one = describing.summary(repository)
        if with_card:
            one["cardData"] = dict(repository.card)
        described.append(one)
    return JSONResponse(described, headers=headers)


def _managed(call: Call, kind: str, namespace: str, name: str) -> Repository:
    """Return a repository named in a body that the caller manages."""
    repository = catalog.find(call.hub.database, kind, namespace, name)
    reached = level(call.identity, repository) if repository else Level.NONE
    if repository is None or reached < Level.SEE:
        raise RepositoryNotFound("Repository not found")
    if reached < Level.MANAGE:
        raise HubRefused(403, f"You are not allowed to manage {repository.repo_id}")
    return repository


def _target(body: dict[str, Any]) -> tuple[str | None, str]:
    name = body.get("name")
    if not isinstance(name, str):
        raise HubRefused(400, "The body needs a name")
    if not isinstance(body.get("organization") or "", str):
        raise HubRefused(400, "`organization` must be a text")
    organization, _, short = name.rpartition("/")
    return body.get("organization") or organization or None, short


def _kind(body: dict[str, Any]) -> str:
    kind = body.get("type") or "model"
    if kind not in KINDS:
        raise HubRefused(501, f"This hub has models, datasets and Spaces, no {str(kind)[:40]}")
    return str(kind)


def _private(body: dict[str, Any]) -> bool | None:
    visibility = body.get("visibility")
    if visibility is None:
        return bool(body["private"]) if body.get("private") is not None else None
    if visibility not in ("public", "private"):
        raise HubRefused(400, f"Visibility is public or private, not {str(visibility)[:40]!r}")
    return bool(visibility == "private")


_EXISTS = "You already created this repository"
