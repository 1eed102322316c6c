"""The routes of every page of the Console.

A new page adds its entry to `menu.MENU` and its routes here.
"""

from __future__ import annotations

from starlette.responses import Response
from starlette.routing import Route

from triptych.lm.runs.store import RunStore
from triptych.panels.console import (
    feedback,
    history,
    knowledge,
    learn,
    models,
    overview,
    patterns,
    people,
    privacy,
    providers,
    requests,
    spaces,
    switches,
)
from triptych.panels.console.menu import MENU, Entry
from triptych.panels.console.times import when
from triptych.panels.web.site import ROLES, Pages, Site, Visit


def routes(site: Site, hub: str | None = None, runs: RunStore | None = None) -> list[Route]:
    """Return the routes of the Console, for the hub that holds its Spaces and for runs at hand."""
    site.templates.globals["console_menu"] = _menu
    site.templates.filters["when"] = when
    pages = Pages(site)

    @pages.get("/console")
    async def first(visit: Visit) -> Response:
        return visit.go("/console/")

    return [
        *pages.routes,
        *feedback.routes(site),
        *history.routes(site),
        *knowledge.routes(site),
        *learn.routes(site),
        *models.routes(site, hub, runs),
        *overview.routes(site),
        *patterns.routes(site),
        *people.routes(site),
        *privacy.routes(site),
        *providers.routes(site),
        *requests.routes(site),
        *spaces.routes(site, hub),
        *switches.routes(site),
    ]  # fmt: skip


def _menu(role: str) -> list[Entry]:
    """Return the entries that a role may open."""
    return [entry for entry in MENU if role in ROLES[: ROLES.index(entry.role) + 1]]
