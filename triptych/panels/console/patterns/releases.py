"""Releases: the one that is served with its audit and coverage, and building the next."""

from __future__ import annotations

import asyncio
from typing import Any

from starlette.responses import Response
from starlette.routing import Route

from triptych.errors import LearningError
from triptych.learning.abstraction.build import Home
from triptych.learning.abstraction.releases import Release
from triptych.learning.abstraction.serving import is_open, set_open
from triptych.panels.console.accounts import Accounts, read_accounts
from triptych.panels.console.patterns import view
from triptych.panels.console.patterns.home import PATH, Patterns
from triptych.panels.gateway_client import segment
from triptych.panels.web.notices import Notice
from triptych.panels.web.site import Pages, Site, Visit


def routes(site: Site, patterns: Patterns) -> list[Route]:
    """Return the routes of releases."""
    pages = Pages(site)

    @pages.get(PATH, role="company_admin")
    async def patterns_home(visit: Visit) -> Response:
        accounts = await read_accounts(visit)
        if not accounts.is_admin and len(accounts.companies) == 1:
            return visit.go(f"{PATH}/companies/{segment(next(iter(accounts.companies)))}")
        if not accounts.is_admin:
            return visit.page("console/patterns/companies.html", accounts=accounts)
        return await _page(visit, patterns, accounts)

    @pages.post(PATH + "/build", role="admin")
    async def build(visit: Visit) -> Response:
        assert visit.session is not None
        patterns.start(site.sessions.gateway, visit.session.key)
        return await _page(visit, patterns, await read_accounts(visit))

    @pages.post(PATH + "/access", role="admin")
    async def access(visit: Visit) -> Response:
        for_all = visit.form.get("for_all") == "yes"
        patterns.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        await asyncio.to_thread(set_open, patterns.folder, for_all)
        who = "Every company" if for_all else "Only companies that contribute"
        notice = Notice(f"{who} may ask from the next question on")
        return await _page(visit, patterns, await read_accounts(visit), notice)

    return pages.routes


async def _page(
    visit: Visit, patterns: Patterns, accounts: Accounts, notice: Notice | None = None
) -> Response:
    def read() -> dict[str, Any]:
        home = patterns.home()
        release, report = _served(home)
        return {
            "release": release,
            "releases": view.releases(home),
            "audit": view.audit(report) if report else None,
            "report": report,
            "coverage": view.coverage(home, release),
            "contributors": view.contributors(home, accounts.companies),
            "k": home.rules.k,
            "is_open": is_open(patterns.folder),
        }

    return visit.page(
        "console/patterns/releases.html", fragment="patterns", building=patterns.building,
        accounts=accounts, notice=notice or Notice(), **await asyncio.to_thread(read),
    )  # fmt: skip


def _served(home: Home) -> tuple[Release | None, dict[str, Any] | None]:
    try:
        release = home.releases.current()
        return release, home.releases.report(release.number) if release else None
    except LearningError:
        return None, None  # a withdrawal may remove it between the two reads
