"""Try: one question, answered from the documents with the rights of a member, or refused."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel
from pydantic import Field as Limits
from starlette.responses import Response
from starlette.routing import Route

from triptych.learning.company.answer import answer
from triptych.learning.company.retrieval import Ranked, Retriever
from triptych.panels.console.knowledge import view
from triptych.panels.console.knowledge.place import COMPANY, At, Place
from triptych.panels.web.forms import Field, Form, FormSpec
from triptych.panels.web.site import Pages, Site, Visit
from triptych.wire.evidence import Evidence


class Try(BaseModel):
    """A question, and the member whose rights it is answered with; empty: all rights."""

    question: str = Limits(min_length=1, max_length=2000)
    user: str = ""


TRY = FormSpec(
    Try,
    (
        Field("question", "Question", placeholder="How many days of leave do we have?"),
        Field("user", "See as", "pick"),
    ),
)


def routes(site: Site, place: Place) -> list[Route]:
    """Return the routes of Try."""
    pages = Pages(site)

    @pages.get(COMPANY + "/try", role="company_admin")
    async def try_page(visit: Visit) -> Response:
        return await _page(visit, place, await place.at(visit), TRY.empty(**_asked(visit)))

    @pages.post(COMPANY + "/try", role="company_admin")
    async def try_question(visit: Visit) -> Response:
        at = await place.at(visit)
        form = TRY.read(visit.form)
        answered = None
        if form.value is not None:
            answered = await _answer(place, at, form.value)
        return await _page(visit, place, at, form, answered)

    return pages.routes


def _asked(visit: Visit) -> dict[str, Any]:
    return {"question": visit.query["question"]} if "question" in visit.query else {}


async def _answer(place: Place, at: At, value: Try) -> view.Answered | None:
    def work(retriever: Retriever) -> tuple[Evidence, list[Ranked]]:
        groups = retriever.store.groups_of(value.user) if value.user else None
        ranked, _ = retriever.find(value.question, groups)
        return answer(retriever, value.question, groups), ranked

    found = await place.retriever(at.company, work)
    return None if found is None else view.answered(at.company, *found)


async def _page(
    visit: Visit, place: Place, at: At, form: Form[Try], answered: view.Answered | None = None
) -> Response:
    there = await place.store(at.company, lambda store: store.counts())
    users = at.accounts.choices_of_users(("", "An administrator who may read everything"))
    return visit.page(
        "console/knowledge/try.html", fragment="trying", status=form.http_status, at=at, tab="try",
        form=form.with_choices(user=users), answered=answered, there=bool(there and there[1]),
    )  # fmt: skip
