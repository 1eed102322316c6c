"""Test questions: those a company keeps, how each is answered now, and the scores over time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel
from pydantic import Field as Limits
from starlette.responses import Response
from starlette.routing import Route

from triptych.learning.company.evaluate import (
    Outcome,
    Question,
    evaluate,
    outcomes,
    past_scores,
    questions,
    record_scores,
    save_questions,
)
from triptych.learning.company.retrieval import Retriever
from triptych.learning.company.store import Store
from triptych.panels.console.knowledge.place import COMPANY, At, Place
from triptych.panels.web.charts import Chart, Curve
from triptych.panels.web.forms import Field, Form, FormSpec
from triptych.panels.web.notices import Notice
from triptych.panels.web.site import Pages, Site, Visit
from triptych.panels.web.tables import Row, Table

SHOWN = {
    "answered_right": "Answered right",
    "refused_rightly": "Refused rightly",
    "refused_wrongly": "Refused wrongly",
    "recall_5": "Passage among the first five",
    "answer_holds": "Found sentence holds the answer",
}
MARKS = {"right": "good", "refused rightly": "good", "wrong": "bad", "refused wrongly": "warn"}


class NewQuestion(BaseModel):
    """A test question; without a document it must be refused."""

    question: str = Limits(min_length=1, max_length=2000)
    document: str = ""
    words: str = ""


NEW = FormSpec(
    NewQuestion,
    (
        Field("question", "Question"),
        Field("document", "Document that answers it", "pick"),
        Field("words", "Words that the answer must hold", "area",
              hint="One a line, alternatives with | between them: 25 days | twenty-five days"),
    ),
)  # fmt: skip


def routes(site: Site, place: Place) -> list[Route]:
    """Return the routes of test questions."""
    pages = Pages(site)

    @pages.get(COMPANY + "/questions", role="company_admin")
    async def company_questions(visit: Visit) -> Response:
        typed = {"question": visit.query["question"]} if "question" in visit.query else {}
        return await _page(visit, place, NEW.empty(**typed))

    @pages.post(COMPANY + "/questions", role="company_admin")
    async def add_question(visit: Visit) -> Response:
        form = NEW.read(visit.form)
        if form.value is not None:
            await place.store((await place.at(visit)).company, _adding(form.value))
            form = NEW.empty(status="Question added")
        return await _page(visit, place, form)

    @pages.post(COMPANY + "/questions/remove", role="company_admin")
    async def remove_question(visit: Visit) -> Response:
        gone = str(visit.form.get("question", ""))

        def remove(store: Store) -> None:
            save_questions(store, [one for one in questions(store) if one.question != gone])

        await place.store((await place.at(visit)).company, remove)
        return await _page(visit, place, NEW.empty(), Notice("Question removed"))

    @pages.post(COMPANY + "/questions/evaluate", role="company_admin")
    async def evaluate_questions(visit: Visit) -> Response:
        await place.retriever((await place.at(visit)).company, _evaluate)
        return await _page(visit, place, NEW.empty(), Notice("All questions answered"))

    return pages.routes


def _adding(value: NewQuestion) -> Any:
    words = tuple(line.strip() for line in value.words.splitlines() if line.strip())
    new = Question(value.question, value.document, words if value.document else ())

    def add(store: Store) -> None:
        kept = [one for one in questions(store) if one.question != new.question]
        save_questions(store, [*kept, new])

    return add


def _evaluate(retriever: Retriever) -> None:
    asked = questions(retriever.store)
    if asked:
        record_scores(retriever.store, evaluate(retriever, asked))


def _read(retriever: Retriever) -> tuple[list[Outcome], list[dict[str, Any]], list[str]]:
    store = retriever.store
    names = [one.name for one in store.documents()]
    return outcomes(retriever, questions(store)), past_scores(store), names


async def _page(
    visit: Visit, place: Place, form: Form[NewQuestion], notice: Notice | None = None
) -> Response:
    at = await place.at(visit)
    found = await place.retriever(at.company, _read)
    answered, past, names = found or ([], [], [])
    choices = [("", "None: it must be refused"), *((name, name) for name in names)]
    return visit.page(
        "console/knowledge/questions.html", fragment="questions", status=form.http_status, at=at,
        tab="questions", form=form.with_choices(document=choices), answered=answered,
        right=sum(one.is_right for one in answered), marks=MARKS, notice=notice or Notice(),
        scores=_scores(past), chart=_chart(at, past), there=found is not None,
    )  # fmt: skip


def _scores(past: Sequence[dict[str, Any]]) -> Table | None:
    if not past:
        return None
    last, before = past[-1], past[-2] if len(past) > 1 else {}
    rows = tuple(
        Row((words, f"{last[name]:.0%}", f"{before[name]:.0%}" if name in before else ""))
        for name, words in SHOWN.items()
        if name in last
    )
    return Table(
        f"Last evaluation, version {last['version']}", ("Share", "Now", "Before"), rows,
        numbers=frozenset({1, 2}),
    )  # fmt: skip


def _chart(at: At, past: Sequence[dict[str, Any]]) -> Chart | None:
    if len(past) < 2:
        return None
    xs = tuple(float(one["at"]) for one in past)
    names = ("answered_right", "refused_rightly")
    curves = (Curve(SHOWN[name], xs, tuple(100 * one[name] for one in past)) for name in names)
    return Chart(f"Quality of {at.name}", tuple(curves), "time", " %", time=True)
