"""Delete for good: what goes, then the button; a document, or everything of a company."""

from __future__ import annotations

from starlette.responses import Response
from starlette.routing import Route

from triptych.errors import NotFound
from triptych.learning import deletion
from triptych.learning.company.store import Store
from triptych.panels.console.knowledge.place import COMPANY, At, Place
from triptych.panels.web.site import Pages, Site, Visit


def routes(site: Site, place: Place) -> list[Route]:
    """Return the routes of deletion."""
    pages = Pages(site)

    @pages.get(COMPANY + "/delete", role="company_admin")
    async def confirm(visit: Visit) -> Response:
        at = await place.at(visit)
        source, name = visit.query.get("source", ""), visit.query.get("name", "")
        goes = await _goes(place, at, source, name)
        return visit.page(
            "console/knowledge/delete.html", at=at, tab="documents", goes=goes, source=source,
            name=name,
        )  # fmt: skip

    @pages.post(COMPANY + "/delete", role="company_admin")
    async def delete(visit: Visit) -> Response:
        at = await place.at(visit)
        source, name = str(visit.form.get("source", "")), str(visit.form.get("name", ""))
        goes = await _goes(place, at, source, name)
        if name:
            await place.store(
                at.company,
                lambda store: deletion.delete_document(store, source, name, place.patterns),
            )
        else:
            await place.library(
                lambda library: deletion.delete_company(library, at.company, place.patterns)
            )
            place.syncs.pop(at.company, None)
        return visit.page(
            "console/knowledge/deleted.html", at=at, tab="documents", goes=goes, source=source,
            name=name,
        )  # fmt: skip

    return pages.routes


async def _goes(place: Place, at: At, source: str, name: str) -> deletion.Deletion:
    def read(store: Store) -> deletion.Deletion | None:
        if name:
            return deletion.of_document(store, source, name, place.patterns)
        return deletion.of_company(store, place.patterns)

    found = await place.store(at.company, read)
    if found is None:
        raise NotFound("there is nothing to delete", hint="it may be deleted already")
    return found
