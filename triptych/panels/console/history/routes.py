"""The routes of the history: its pages, and the check that no entry was changed or removed."""

from __future__ import annotations

import asyncio
from urllib.parse import urlencode

from starlette.responses import Response
from starlette.routing import Route

from triptych.errors import TierError
from triptych.panels.console.accounts import read_accounts
from triptych.panels.console.history.view import ABOUT, PAGE, SHOWN, entries
from triptych.panels.web.notices import Notice, attempt
from triptych.panels.web.site import Pages, Site, Visit


def routes(site: Site) -> list[Route]:
    """Return the routes of the history."""
    pages = Pages(site)
    pages.get(PAGE, role="admin")(_show)
    pages.post(f"{PAGE}/verify", role="admin")(_verify)
    return pages.routes


async def _show(visit: Visit) -> Response:
    """Show the newest entries, or those before one."""
    return await _answer(visit, Notice())


async def _verify(visit: Visit) -> Response:
    """Verify the chain of entries."""

    async def verify() -> str:
        found = await visit.gateway.ask("POST", "/admin/audit/verify")
        if found["broken_at"] is not None:
            raise TierError(
                f"entry {found['broken_at']} was changed or is missing;"
                f" {found['sound_entries']} entries before it are sound",
                hint="compare with a backup: the database was changed outside Triptych",
            )
        return f"{found['sound_entries']} entries, every one sound"

    return await _answer(visit, await attempt(verify()))


async def _answer(visit: Visit, notice: Notice) -> Response:
    about = visit.query.get("about", "")
    about = about if about in ABOUT else ""
    before = visit.query.get("before", "")
    found, accounts = await asyncio.gather(
        visit.gateway.ask(
            "GET", "/admin/audit", subject=f"{about}*" if about else None,
            before=before if before.isdecimal() else None, limit=SHOWN,
        ),
        read_accounts(visit),
    )  # fmt: skip
    rows = entries(found["entries"], accounts)
    older = {"about": about, "before": rows[-1].sequence} if len(rows) == SHOWN else {}
    return visit.page(
        "console/history/page.html", fragment="entries", page=PAGE, entries=rows, about=about,
        choices=ABOUT.items(), older=f"{PAGE}?{urlencode(older)}" if older else "", notice=notice,
    )  # fmt: skip
