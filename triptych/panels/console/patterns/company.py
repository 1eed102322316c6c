"""A company's page of patterns: what it gives, what it gets, agree and withdraw."""

from __future__ import annotations

import asyncio
from typing import Any

from pydantic import BaseModel
from pydantic import Field as Limits
from starlette.responses import Response
from starlette.routing import Route

from triptych.errors import TriptychError
from triptych.learning.abstraction.answering import Answer, Index, answer
from triptych.learning.abstraction.serving import is_open
from triptych.panels.console.accounts import Accounts
from triptych.panels.console.patterns import view
from triptych.panels.console.patterns.home import COMPANY, PATH, Patterns, agrees
from triptych.panels.gateway_client import segment
from triptych.panels.web.forms import Field, Form, FormSpec
from triptych.panels.web.notices import Notice, attempt
from triptych.panels.web.site import Pages, Site, Visit


class Agreement(BaseModel):
    """What a company says of itself when it agrees, and what may not leave."""

    industry: str = ""
    size: str = ""


class Question(BaseModel):
    """A question about companies."""

    question: str = Limits(min_length=1, max_length=2000)


AGREE = FormSpec(
    Agreement,
    (
        Field("industry", "Industry", "pick"),
        Field("size", "Employees", "pick"),
    ),
)
ASK = FormSpec(Question, (Field("question", "Question", placeholder="How do others do on-call?"),))


def routes(site: Site, patterns: Patterns) -> list[Route]:
    """Return the routes of a company's patterns."""
    pages = Pages(site)

    @pages.get(COMPANY, role="company_admin")
    async def company_patterns(visit: Visit) -> Response:
        return await _page(visit, patterns)

    @pages.get(COMPANY + "/preview", role="company_admin")
    async def preview(visit: Visit) -> Response:
        return await _preview(visit, patterns, Notice())

    @pages.post(COMPANY + "/agree", role="company_admin")
    async def agree(visit: Visit) -> Response:
        form = AGREE.read(visit.form)
        notice = Notice()
        if form.value is not None:
            notice = await attempt(_agree(visit, patterns, form.value))
        return await _page(visit, patterns, notice)

    @pages.post(COMPANY + "/withdraw", role="company_admin")
    async def withdraw(visit: Visit) -> Response:
        return await _page(visit, patterns, await attempt(_withdraw(visit, patterns)))

    @pages.post(COMPANY + "/strike", role="company_admin")
    async def strike(visit: Visit) -> Response:
        return await _preview(visit, patterns, await attempt(_strike(visit, patterns)))

    @pages.post(COMPANY + "/ask", role="company_admin")
    async def ask(visit: Visit) -> Response:
        return await _asked(visit, patterns)

    return pages.routes


async def _consent(visit: Visit, company: str) -> tuple[bool, str]:
    found = await visit.gateway.ask("GET", "/api/consent", company_id=company)
    return agrees(found["history"])


def _names(accounts: Accounts, company: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys((company, accounts.company(company))))


async def _page(visit: Visit, patterns: Patterns, notice: Notice | None = None) -> Response:
    accounts, company = await patterns.at(visit)
    agreed, _ = await _consent(visit, company)

    def read() -> dict[str, Any]:
        home = patterns.home()
        member = home.register.members.get(company)
        release = home.releases.current()
        may_read = member is not None or is_open(patterns.folder)
        removed = home.releases.counting(member.id) if member else []
        known = home.vocabulary
        return {
            "state": view.state(member, home) if agreed or member else view.state(None, home),
            "agreed": agreed or member is not None,
            "release": release,
            "may_read": may_read,
            "topics": view.topics(release) if release and may_read else (),
            "removed": removed,
            "k": home.rules.k,
            "form": AGREE.empty(industry=member.industry, size=member.size) if member
            else AGREE.empty(),
            "industries": [("", "Not said"), *((one, one) for one in known.industries)],
            "sizes": [("", "Not said"), *((one, one) for one in known.sizes)],
        }  # fmt: skip

    found = await asyncio.to_thread(read)
    form = found.pop("form").with_choices(industry=found.pop("industries"), size=found.pop("sizes"))
    return visit.page(
        "console/patterns/company.html", accounts=accounts, company=company, form=form,
        name=accounts.company(company), path=f"{PATH}/companies/{segment(company)}",
        notice=notice or Notice(), ask=ASK.empty(), **found,
    )  # fmt: skip


async def _preview(visit: Visit, patterns: Patterns, notice: Notice) -> Response:
    accounts, company = await patterns.at(visit)

    def read() -> tuple[tuple[view.Given, ...] | None, bool]:
        home = patterns.home()
        member = home.register.members.get(company)
        reading = patterns.preview(company, _names(accounts, company))
        struck = member.struck if member else ()
        shown = None if reading is None else view.given(reading, home, struck)
        return shown, member is not None

    found, is_member = await asyncio.to_thread(read)
    return visit.page(
        "console/patterns/preview.html", fragment="preview", accounts=accounts, company=company,
        given=found, is_member=is_member, name=accounts.company(company), notice=notice,
        path=f"{PATH}/companies/{segment(company)}",
    )  # fmt: skip


async def _agree(visit: Visit, patterns: Patterns, value: Agreement) -> str:
    accounts, company = await patterns.at(visit)
    body = {"purpose": "abstraction", "granted": True, "company_id": company}
    await visit.gateway.ask("PUT", "/api/consent", body)
    _, consent = await _consent(visit, company)
    await asyncio.to_thread(
        patterns.agree, company, consent, _names(accounts, company), industry=value.industry,
        size=value.size,
    )  # fmt: skip
    return f"{accounts.company(company)} agreed"


async def _withdraw(visit: Visit, patterns: Patterns) -> str:
    accounts, company = await patterns.at(visit)
    body = {"purpose": "abstraction", "granted": False, "company_id": company}
    await visit.gateway.ask("PUT", "/api/consent", body)
    removed = await asyncio.to_thread(patterns.withdraw, company)
    numbers = f"; releases {', '.join(map(str, removed))} are removed" if removed else ""
    return f"{accounts.company(company)} has withdrawn{numbers}"


async def _strike(visit: Visit, patterns: Patterns) -> str:
    accounts, company = await patterns.at(visit)
    reading = await asyncio.to_thread(patterns.preview, company, _names(accounts, company))
    kept = {str(one) for one in visit.form.getlist("kept")}
    struck = tuple(name for name in (reading.votes if reading else ()) if name not in kept)
    await asyncio.to_thread(patterns.strike, company, struck)
    return f"Saved: {len(struck)} practices may not leave" if struck else "Saved: all may leave"


async def _asked(visit: Visit, patterns: Patterns) -> Response:
    accounts, company = await patterns.at(visit)
    form: Form[Question] = ASK.read(visit.form)
    said: Answer | None = None
    if form.value is not None:
        question = form.value.question

        def read() -> Answer:
            home = patterns.home()
            own = home.own_votes(company)
            if own is None and not is_open(patterns.folder):
                return Answer("Only companies that contribute are answered.", refused=True)
            return answer(question, home.releases.current(), Index(home.vocabulary), own)

        try:
            said = await asyncio.to_thread(read)
        except TriptychError as error:
            form = form.refused(error)
    return visit.page(
        "console/patterns/answer.html", fragment="answer", status=form.http_status, ask=form,
        said=said, path=f"{PATH}/companies/{segment(company)}", name=accounts.company(company),
    )  # fmt: skip
