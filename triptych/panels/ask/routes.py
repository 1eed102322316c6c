"""The routes of Ask: conversations, answers as they are written, and what their reader says."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from markdown_it import MarkdownIt
from markupsafe import Markup
from starlette.responses import Response
from starlette.routing import Route

from triptych.errors import InvalidQuery, NotFound
from triptych.panels.ask.answering import Answering
from triptych.panels.ask.history import Answer, Conversation, History, Turn, owner_of
from triptych.panels.ask.sources import read_source
from triptych.panels.web import live
from triptych.panels.web.site import Pages, Site, Visit
from triptych.wire.tiers import TIERS

# The gateway's reasons, in words.
REASONS = {
    "explicit_model": "the tier was named",
    "explicit_tier": "the tier was named",
    "auto": "chosen from the question",
    "auto_off": "automatic choice is switched off",
    "auto_abstained": "the question points to no tier",
    "auto_not_entitled": "you are no member of the company",
    "auto_flag_disabled": "the chosen tier is switched off",
}
QUESTION_CHARS = 20_000
# Images would be requests to other sites.
_MARKDOWN = MarkdownIt("commonmark", {"html": False, "breaks": True}).enable("table")
_MARKDOWN.disable("image")


@dataclass(frozen=True)
class Tiers:
    """What a user may ask: tiers as (value, label), and their companies."""

    choices: tuple[tuple[str, str], ...]
    companies: tuple[str, ...]


@dataclass(frozen=True)
class Ask:
    """What the routes share: the conversations and the answers that are being written."""

    history: History
    answering: Answering

    def found(self, visit: Visit) -> Conversation:
        """Return the conversation of the address, if it is the visitor's own.

        Raises: NotFound.
        """
        return self.history.get(_owner(visit), visit.path["id"])

    def begin(self, visit: Visit, conversation: Conversation) -> None:
        """Begin the answer to the last question."""
        self.answering.begin(conversation, visit.gateway)
        self.history.save(conversation)

    async def page(self, visit: Visit, open_: Conversation | None) -> Response:
        """Answer with the page, or for htmx with the turns of the open conversation."""
        owner = _owner(visit)
        tiers = None if visit.by_htmx else await _tiers(visit)
        return visit.page(
            "ask/page.html", fragment="chat", conversation=open_,
            conversations=self.history.of(owner), keeps=self.history.keeps(owner), tiers=tiers,
            reasons=REASONS,
        )  # fmt: skip

    async def shown(self, visit: Visit, conversation: Conversation) -> Response:
        """Answer to a form with the conversation as it is now."""
        if not visit.by_htmx:
            return visit.go(f"/ask/{conversation.id}")
        return await self.page(visit, conversation)


def routes(site: Site, history: History, answering: Answering) -> list[Route]:
    """Return the routes of Ask."""
    pages, ask = Pages(site), Ask(history, answering)
    site.templates.filters["answer"] = drawn
    _add_conversations(pages, ask)
    _add_answers(pages, ask)
    return pages.routes


def _add_conversations(pages: Pages, ask: Ask) -> None:
    history = ask.history

    @pages.get("/ask", role="user")
    async def new(visit: Visit) -> Response:
        return await ask.page(visit, None)

    @pages.post("/ask", role="user")
    async def start(visit: Visit) -> Response:
        question = _text(visit, "question")
        tier, company = str(visit.form.get("tier", "base")), str(visit.form.get("company", ""))
        conversation = history.start(_owner(visit), tier, company)
        conversation.turns.append(Turn(question))
        ask.begin(visit, conversation)
        return visit.go(f"/ask/{conversation.id}")

    @pages.post("/ask/keep", role="user")
    async def keep(visit: Visit) -> Response:
        history.keep(_owner(visit), visit.form.get("agreed") == "yes")
        return visit.go("/ask")

    @pages.get("/ask/{id}", role="user")
    async def one(visit: Visit) -> Response:
        return await ask.page(visit, ask.found(visit))

    @pages.get("/ask/{id}/sources/{turn}/{mark}", role="user")
    async def source(visit: Visit) -> Response:
        """Open the document that an answer cites, at the cited words."""
        conversation = ask.found(visit)
        turn = conversation.turns[_index(conversation, visit.path["turn"])]
        passage = await read_source(visit.gateway, turn.answer, visit.path["mark"])
        return visit.page("ask/source.html", conversation=conversation, passage=passage)

    @pages.post("/ask/{id}/delete", role="user")
    async def delete(visit: Visit) -> Response:
        conversation = ask.found(visit)
        await ask.answering.stop(conversation)
        history.delete(conversation)
        return visit.go("/ask")


def _add_answers(pages: Pages, ask: Ask) -> None:
    answering = ask.answering

    @pages.post("/ask/{id}", role="user")
    async def more(visit: Visit) -> Response:
        conversation, question = ask.found(visit), _text(visit, "question")
        answering.require_idle(conversation)
        conversation.turns.append(Turn(question))
        ask.begin(visit, conversation)
        return await ask.shown(visit, conversation)

    @pages.get("/ask/{id}/live", role="user")
    async def follow(visit: Visit) -> Response:
        conversation = ask.found(visit)

        async def parts() -> AsyncIterator[str]:
            async for _ in answering.follow(conversation):
                yield _answer(visit, conversation, len(conversation.turns) - 1)

        return live.fragments(parts())

    @pages.post("/ask/{id}/stop", role="user")
    async def stop(visit: Visit) -> Response:
        conversation = ask.found(visit)
        await answering.stop(conversation)
        return await ask.shown(visit, conversation)

    @pages.post("/ask/{id}/again", role="user")
    async def again(visit: Visit) -> Response:
        """Ask a question again, as it was or edited; what came after it goes."""
        conversation = ask.found(visit)
        answering.require_idle(conversation)
        index = _index(conversation, visit.form.get("turn"))
        asked = conversation.turns[index].question
        question = _text(visit, "question") if "question" in visit.form else asked
        conversation.turns[index:] = [Turn(question)]
        ask.begin(visit, conversation)
        return await ask.shown(visit, conversation)

    @pages.post("/ask/{id}/feedback", role="user")
    async def feedback(visit: Visit) -> Response:
        conversation = ask.found(visit)
        index = _index(conversation, visit.form.get("turn"))
        await _give_feedback(visit, conversation.turns[index].answer)
        ask.history.save(conversation)
        if not visit.by_htmx:
            return visit.go(f"/ask/{conversation.id}")
        return visit.html(_answer(visit, conversation, index))


def drawn(answer: Answer, turn: int) -> Markup:
    """Return an answer as HTML: Markdown without HTML and images, marks that lead to sources."""
    marks = {str(each.get("mark")) for each in answer.citations}

    def link(match: re.Match[str]) -> str:
        mark = match.group(1)
        if mark not in marks:
            return match.group(0)
        return f'<a href="#source-{turn}-{mark}" aria-label="source {mark}">[{mark}]</a>'

    return Markup(re.sub(r"\[(\d+)\]", link, _MARKDOWN.render(answer.text)))  # noqa: S704  # escaped by the renderer


def _answer(visit: Visit, conversation: Conversation, index: int) -> str:
    return visit.render(
        "ask/answer.html", conversation=conversation, turn=conversation.turns[index],
        index=index, last=index == len(conversation.turns) - 1, reasons=REASONS,
    )  # fmt: skip


async def _tiers(visit: Visit) -> Tiers:
    me = await visit.gateway.ask("GET", "/api/me")
    companies = tuple(str(name) for name in me["companies"])
    context = {"targetingKey": me["user_id"], "company_id": companies[0] if companies else None}
    context = {name: value for name, value in context.items() if value}
    found = await visit.gateway.ask("POST", "/ofrep/v1/evaluate/flags", {"context": context})
    on = {flag["key"] for flag in found["flags"] if flag.get("value") is True}
    usable = [t for t in TIERS if f"tier.{t}" in on and (t != "company" or companies)]
    choices = [(tier, f"{tier} tier") for tier in usable]
    return Tiers((*choices, ("auto", "automatic")), companies)


async def _give_feedback(visit: Visit, answer: Answer) -> None:
    verdict = str(visit.form.get("verdict", ""))
    value: str | bool
    if verdict == "corrected":
        kind, value = "correction", _text(visit, "correction")
    elif verdict in ("right", "wrong"):
        kind, value = "thumb", verdict == "right"
    else:
        raise InvalidQuery("verdict is right, wrong or corrected", param="verdict")
    body: dict[str, Any] = {"kind": kind, "value": value, "request_id": answer.request_id}
    if known := answer.feedback_ids.get(kind):
        body["feedback_id"] = known
    given = await visit.gateway.ask("POST", "/api/feedback", body)
    answer.feedback_ids[kind] = str(given["feedback_id"])
    answer.verdict = verdict


def _owner(visit: Visit) -> str:
    session = visit.session
    assert session is not None  # every route has a role
    return owner_of(session.name, session.role, session.key)


def _text(visit: Visit, name: str) -> str:
    text = str(visit.form.get(name, "")).strip()
    if not 0 < len(text) <= QUESTION_CHARS:
        raise InvalidQuery(f"write 1 to {QUESTION_CHARS} characters", param=name)
    return text


def _index(conversation: Conversation, turn: object) -> int:
    text = str(turn or "")
    if not text.isdigit() or int(text) >= len(conversation.turns):
        raise NotFound("there is no such question", hint="reload the page")
    return int(text)
