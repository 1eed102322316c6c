"""The routes of the Overview: the page, what it reads again, its charts, and the test of all."""

from __future__ import annotations

from starlette.responses import Response
from starlette.routing import Route

from triptych.errors import NotFound
from triptych.panels.console.overview import view
from triptych.panels.web.charts import Chart, chart_data
from triptych.panels.web.site import Pages, Site, Visit


def routes(site: Site) -> list[Route]:
    """Return the routes of the Overview."""
    pages = Pages(site)

    @pages.get("/console/", role="company_admin")
    async def overview(visit: Visit) -> Response:
        span, role = _span(visit), visit.session.role if visit.session else ""
        now = await view.read_now(visit.gateway, span, role)
        charts: tuple[Chart, ...] = ()
        if not visit.by_htmx:
            charts = await view.read_charts(visit.gateway, span)
        return visit.page(
            "console/overview/page.html", fragment="now", now=now, span=span,
            ranges=view.RANGES.values(), api=f"{site.sessions.gateway}/v1", charts=charts,
        )  # fmt: skip

    @pages.get("/console/chart/{place:int}", role="company_admin")
    async def chart(visit: Visit) -> Response:
        drawn = await view.read_charts(visit.gateway, _span(visit))
        place = int(visit.path["place"])
        if place >= len(drawn):
            raise NotFound("there is no such chart")
        return chart_data(drawn[place])

    return pages.routes


def _span(visit: Visit) -> view.Range:
    return view.RANGES.get(visit.query.get("range", ""), view.RANGES["hour"])
