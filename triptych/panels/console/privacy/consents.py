"""Consents of a company: what it allows now, since when and by whom, and both buttons."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from starlette.responses import Response
from starlette.routing import Route

from triptych.panels.console.accounts import Accounts, read_accounts
from triptych.panels.console.patterns.home import Patterns
from triptych.panels.console.times import when
from triptych.panels.web.notices import Notice, attempt
from triptych.panels.web.site import Pages, Site, Visit
from triptych.panels.web.tables import Row, Table

PATH = "/console/privacy/consents"
PURPOSES = {
    "serve": "Answer its requests",
    "improve": "Keep its content to train its own tier",
    "abstraction": "Count its practices for patterns across companies",
}
WITHDRAWAL = {
    "serve": "The requests of this company are refused from the next one on.",
    "improve": "What was kept before is no longer exported for training.",
    "abstraction": "Releases of patterns that counted this company are removed.",
}


@dataclass(frozen=True)
class Consent:
    """One purpose: whether it is allowed, and what a withdrawal does."""

    purpose: str
    words: str
    granted: bool
    withdrawal: str


def routes(site: Site) -> list[Route]:
    """Return the routes of consents."""
    pages = Pages(site)

    @pages.get(PATH, role="company_admin")
    async def consents(visit: Visit) -> Response:
        return await _page(visit, visit.query.get("company", ""), Notice())

    @pages.post(PATH, role="company_admin")
    async def set_consent(visit: Visit) -> Response:
        company_id = str(visit.form.get("company", ""))
        return await _page(visit, company_id, await attempt(_set(visit, company_id)))

    return pages.routes


async def _set(visit: Visit, company_id: str) -> str:
    purpose, granted = str(visit.form.get("purpose", "")), visit.form.get("granted") == "yes"
    body = {"purpose": purpose, "granted": granted, "company_id": company_id}
    await visit.gateway.ask("PUT", "/api/consent", body)
    if purpose == "abstraction" and not granted:
        # What was counted goes at once, not only at the next build.
        await asyncio.to_thread(Patterns().withdraw, company_id)
    return f"{'Allowed' if granted else 'Withdrawn'}: {PURPOSES[purpose].lower()}"


async def _page(visit: Visit, company_id: str, notice: Notice) -> Response:
    accounts = await read_accounts(visit)
    company_id = company_id or next(iter(accounts.companies), "")
    given: tuple[Consent, ...] = ()
    history = None
    if company_id:
        found = await visit.gateway.ask("GET", "/api/consent", company_id=company_id)
        given, history = _consents(found), _history(found, accounts)
    return visit.page(
        "console/privacy/consents.html", fragment="consents", accounts=accounts, at="consents",
        company_id=company_id, given=given, history=history, notice=notice,
    )  # fmt: skip


def _consents(found: Mapping[str, Any]) -> tuple[Consent, ...]:
    now = dict(found["defaults"])
    for row in sorted(found["history"], key=lambda row: float(row["created_at"])):
        if row["user_id"] is None:
            now[row["purpose"]] = row["granted"]
    return tuple(
        Consent(name, words, bool(now.get(name)), WITHDRAWAL[name])
        for name, words in PURPOSES.items()
    )


def _history(found: Mapping[str, Any], accounts: Accounts) -> Table:
    rows = sorted(found["history"], key=lambda row: -float(row["created_at"]))
    return Table(
        "History",
        ("When", "Purpose", "Decision", "For", "By"),
        tuple(
            Row((
                when(row["created_at"]), PURPOSES.get(row["purpose"], row["purpose"]),
                "allowed" if row["granted"] else "withdrawn",
                row["user_id"] or accounts.company(row["company_id"]),
                accounts.key(row["actor"]),
            ))
            for row in rows
        ),
        empty="Nothing was decided yet: these are the defaults.",
        stack=True,
    )  # fmt: skip
