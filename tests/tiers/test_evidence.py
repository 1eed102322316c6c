"""A tier with a source of knowledge answers from evidence: cited, checked, or refused in words."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import aiohttp
import orjson
import pytest
from people import People

from triptych.learning.company.checking import check
from triptych.tiers.pipeline import knowledge
from triptych.wire.evidence import Checked, Citation, Evidence, Passage, SourceText

PASSAGE = Passage(
    "7-10-52", "leave.md", "3", "Time off", ("Paid leave",), None, 10, 52,
    "Employees have 25 days of paid leave a year.", "/knowledge/7#10-52",
)  # fmt: skip
QUESTION = "How many days of paid leave do we have?"
EXTRACTED = "Employees have 25 days of paid leave a year. [1]"


class Handbook:
    """A source that knows one passage, checked as the company's own source checks."""

    def __init__(self) -> None:
        self.asked: list[tuple[Any, ...]] = []

    async def find(
        self,
        question: str,
        history: Sequence[Mapping[str, Any]],
        company_id: str | None,
        user_id: str | None,
    ) -> Evidence | None:
        self.asked.append((question, [turn["content"] for turn in history], company_id, user_id))
        if company_id == "globex":
            return None
        if "leave" not in question:
            return Evidence(question, "The documents do not answer this.", passages=(PASSAGE,),
                            refused="nothing_found", confidence=0.02, release="3")  # fmt: skip
        citation = Citation(1, PASSAGE.text, PASSAGE)
        return Evidence(question, EXTRACTED, (citation,), (PASSAGE,), None, 0.9, "3")

    def check(self, text: str, evidence: Evidence) -> Checked:
        return check(text, evidence)

    async def document(
        self, document_id: str, company_id: str | None, user_id: str | None
    ) -> SourceText | None:
        if (document_id, company_id) != ("7", "acme"):
            return None
        return SourceText("7", "leave.md", "3", "Time off", "# Leave\n\n" + PASSAGE.text)

    async def close(self) -> None:
        self.asked.clear()


@pytest.fixture
async def company(workshop, openai_and_space):  # type: ignore[no-untyped-def]
    """A gateway whose company tier has the handbook, its people and its only upstream."""
    upstream = await workshop.upstream("You have 25 days of paid leave [1].")
    config = workshop.UpstreamConfig(
        "local", f"{upstream.url}/v1", {"base": "m", "company": "m"}, external=False
    )
    gateway = await workshop.gateway({"model": config}, allow_private_addresses=True)
    source = Handbook()
    gateway.runtime.sources = {"company": source}
    gateway.runtime.selector.sourced = gateway.runtime.sources
    await gateway.set(tier__company=True, provider__local=True)
    people = await People(gateway).settle()
    return people, upstream, source


async def ask(people: People, text: str = QUESTION, who: str = "user", **body: Any):  # type: ignore[no-untyped-def]
    messages = [{"role": "user", "content": text}]
    return await people.call(
        who, "POST", "/v1/chat/completions", {"model": "company", "messages": messages, **body}
    )


async def streamed(people: People, text: str = QUESTION) -> tuple[str, list[dict[str, Any]]]:
    body = {
        "model": "company", "stream": True, "messages": [{"role": "user", "content": text}],
    }  # fmt: skip
    headers = {"authorization": f"Bearer {people.keys['user']}"}
    url = f"{people.gateway.url}/v1/chat/completions"
    async with (
        aiohttp.ClientSession() as session,
        session.post(url, json=body, headers=headers) as response,
    ):
        assert response.status == 200, await response.text()
        raw = await response.text()
    events = [line.removeprefix("data: ") for line in raw.splitlines() if line.startswith("data")]
    assert events[-1] == "[DONE]"
    return raw, [orjson.loads(event) for event in events[:-1]]


async def test_words_that_hold_are_shown_with_their_citation(company) -> None:  # type: ignore[no-untyped-def]
    people, upstream, source = company
    status, answer = await ask(people)
    assert status == 200, answer
    choice = answer["choices"][0]
    assert choice["message"]["content"] == "You have 25 days of paid leave [1]."
    (citation,) = choice["citations"]
    assert citation["quote"] in citation["text"]
    assert (citation["document"], citation["start"], citation["url"]) == (
        "leave.md", 10, "/knowledge/7#10-52"
    )  # fmt: skip
    assert answer["triptych"]["words"] == "model"
    system = upstream.requests[-1][1]["messages"][0]["content"]
    assert "[1] Time off > Paid leave" in system
    assert PASSAGE.text in system
    assert source.asked == [(QUESTION, [], "acme", "ann")]


async def test_words_that_do_not_hold_are_replaced_by_the_documents_own(company) -> None:  # type: ignore[no-untyped-def]
    people, upstream, _ = company
    for text in ("You have 21 days of paid leave [1].", "context-0123456789abcdef", ""):
        upstream.text = text
        status, answer = await ask(people)
        assert status == 200
        assert answer["choices"][0]["message"]["content"] == EXTRACTED
        assert answer["triptych"]["words"] == "documents"
        assert answer["triptych"]["problems"] >= 1
        assert len(answer["choices"][0]["citations"]) == 1


async def test_a_refusal_is_an_answer_and_calls_no_provider(company) -> None:  # type: ignore[no-untyped-def]
    people, upstream, _ = company
    status, answer = await ask(people, "Who won the cup?")
    assert status == 200
    assert answer["choices"][0]["message"]["content"] == "The documents do not answer this."
    assert answer["choices"][0]["finish_reason"] == "stop"
    assert answer["choices"][0]["citations"] == []
    assert answer["triptych"]["refused"] == "nothing_found"
    assert answer["triptych"]["nearest"][0]["document"] == "leave.md"
    assert upstream.calls == 0
    (row,) = await people.gateway.records()
    assert row["outcome"] == "ok"
    assert row["tier_served"] == "company"
    assert row["evidence"]["refused"] == "nothing_found"
    assert (row["input_tokens"], row["output_tokens"], row["attempts"]) == (0, 0, 0)


async def test_without_any_provider_the_extracted_answer_is_shown(company) -> None:  # type: ignore[no-untyped-def]
    people, upstream, _ = company
    await upstream.stop()
    for _ in range(2):
        status, answer = await ask(people)
        assert status == 200, answer
        assert answer["choices"][0]["message"]["content"] == EXTRACTED
        assert answer["choices"][0]["citations"]
    await people.gateway.set(provider__local=False)
    status, answer = await ask(people)
    assert (status, answer["choices"][0]["message"]["content"]) == (200, EXTRACTED)
    _, chunks = await streamed(people)
    assert "".join(one["choices"][0]["delta"].get("content", "") for one in chunks) == EXTRACTED


@pytest.mark.parametrize("text", ["You have 25 days of paid leave [1].", "You have 21 days."])
async def test_stream_whole_answer_record_and_query_cite_the_same(company, text: str) -> None:  # type: ignore[no-untyped-def]
    people, upstream, _ = company
    upstream.text = text
    _, whole = await ask(people)
    _, chunks = await streamed(people)
    pieces = [one["choices"][0]["delta"].get("content", "") for one in chunks]
    assert "".join(pieces) == whole["choices"][0]["message"]["content"]
    assert chunks[-1]["choices"][0]["citations"] == whole["choices"][0]["citations"]
    assert chunks[-1]["triptych"]["words"] == whole["triptych"]["words"]
    assert not any("citations" in one["choices"][0] for one in chunks[:-1])
    body = {"input": QUESTION, "companyId": "acme", "useCompanyModel": True}
    _, query = await people.call("user", "POST", "/api/query", body)
    assert query["content"] == whole["choices"][0]["message"]["content"]
    assert query["citations"] == whole["choices"][0]["citations"]
    rows = await people.gateway.records()
    kept = [[one["id"] for one in row["evidence"]["citations"]] for row in rows]
    assert kept == [["7-10-52"]] * 3
    assert "25 days" not in orjson.dumps([row["evidence"] for row in rows]).decode()


async def test_a_slow_answer_keeps_its_client_with_comments(company, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    people, upstream, _ = company
    monkeypatch.setattr(knowledge, "_OPENED_AFTER_S", 0.01)
    monkeypatch.setattr(knowledge, "_KEEP_ALIVE_S", 0.02)

    async def slowly(request, body):  # type: ignore[no-untyped-def]
        await asyncio.sleep(0.2)
        return await upstream.answer(request, body)

    upstream.behaviour = slowly
    raw, chunks = await streamed(people)
    assert raw.startswith(": ")
    assert chunks[-1]["choices"][0]["citations"]


async def test_a_stranger_is_forbidden_and_their_source_is_not_asked(company) -> None:  # type: ignore[no-untyped-def]
    people, upstream, source = company
    status, answer = await people.call(
        "foreign", "POST", "/v1/chat/completions",
        {"model": "company", "messages": [{"role": "user", "content": QUESTION}]},
        x_triptych_company="acme",
    )  # fmt: skip
    assert (status, answer["error"]["code"]) == (403, "not_a_member")
    assert source.asked == []
    # A company without documents is answered as before.
    status, answer = await ask(people, who="foreign")
    assert (status, "triptych" in answer) == (200, False)
    assert source.asked == [(QUESTION, [], "globex", "gus")]
    assert upstream.calls == 1


async def test_instructions_in_a_document_change_no_role_and_no_tool(company) -> None:  # type: ignore[no-untyped-def]
    people, upstream, _ = company
    tools = [{"type": "function", "function": {"name": "send", "parameters": {}}}]
    status, answer = await ask(people, tools=tools, n=3)
    assert status == 200
    sent = upstream.requests[-1][1]
    assert "tools" not in sent
    assert "n" not in sent
    assert [message["role"] for message in sent["messages"]] == ["system", "user"]
    assert len(answer["choices"]) == 1


async def test_a_citation_opens_the_document_at_its_words_for_members_only(company) -> None:  # type: ignore[no-untyped-def]
    people, _, _ = company
    path = "/api/knowledge/documents/7?company_id=acme&start=9&end=53"
    status, answer = await people.call("user", "GET", path)
    assert (status, answer["quote"]) == (200, PASSAGE.text)
    for who, other in (
        ("foreign", path), ("user", path.replace("/7", "/8")), ("user", path.replace("acme", "x")),
    ):  # fmt: skip
        status, answer = await people.call(who, "GET", other)
        assert (status, answer["error"]["code"]) == (404, "document_not_found")
    assert (await people.call("none", "GET", path))[0] == 401
    assert (await people.call("user", "GET", path.replace("end=53", "end=999")))[0] == 422
