"""Ask: an answer streams, is stopped, asked again, rated; each user sees their own only."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browsing import screenshot, serving
from gateway_process import Process
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from triptych.errors import NotFound
from triptych.lm.runs.store import RunStore
from triptych.panels.ask.answering import Answering, take
from triptych.panels.ask.history import Answer, Conversation, History, Turn, owner_of
from triptych.panels.ask.routes import drawn, routes
from triptych.panels.ask.sources import read_source
from triptych.panels.gateway_client import GatewayClient
from triptych.panels.landing.routes import routes as landing_routes
from triptych.panels.sign_in import one_time
from triptych.panels.sign_in.identity import SignIn
from triptych.panels.sign_in.routes import routes as sign_in_routes
from triptych.panels.web.site import Site
from triptych.wire import sse

CITED = Answer(
    "Twenty days [1], see [2].",
    "done",
    citations=[{"mark": 1, "quote": "20 days", "title": "Leave", "headings": [], "page": None}],
)


def test_a_mark_leads_to_its_source_and_html_of_a_model_is_shown_as_text() -> None:
    text = drawn(CITED, 3)
    assert '<a href="#source-3-1" aria-label="source 1">[1]</a>' in text
    assert "see [2]" in text
    hostile = drawn(Answer("<script>alert(1)</script> ![x](http://e.example/a.png)"), 0)
    assert "<script" not in hostile and "<img" not in hostile


def test_citations_stand_beside_the_choice_of_the_last_chunk() -> None:
    answer = Answer()
    take(answer, {"x-request-id": "r1", "x-triptych-tier": "company"})
    take(answer, sse.Event('{"choices": [{"delta": {"content": "Yes [1]"}}]}'))
    take(answer, sse.Event('{"choices": [{"delta": {}, "citations": [{"mark": 1}]}]}'))
    assert (answer.text, answer.request_id, answer.citations) == ("Yes [1]", "r1", [{"mark": 1}])


def test_a_conversation_is_on_disk_with_consent_only_and_gone_without_it(tmp_path: Path) -> None:
    history = History(tmp_path)
    mine = history.start(owner_of("ann", "user", "k"), "base", "")
    mine.turns.append(Turn("What is a token?", Answer("A piece.", "done")))
    history.save(mine)
    assert not list(tmp_path.rglob("*"))
    history.keep(mine.owner, True)
    again = History(tmp_path).get(mine.owner, mine.id)
    assert again.turns[0].answer.text == "A piece."
    assert all(f.stat().st_mode & 0o077 == 0 for f in tmp_path.rglob("*.json"))
    history.keep(mine.owner, False)
    assert not list(tmp_path.rglob("*.json"))


def test_another_users_conversation_is_not_found(tmp_path: Path) -> None:
    history = History(tmp_path)
    mine = history.start(owner_of("ann", "user", "k"), "base", "")
    with pytest.raises(NotFound):
        history.get(owner_of("gus", "user", "k"), mine.id)
    assert owner_of("admin", "admin", "k1") != owner_of("admin", "admin", "k2")


def test_a_model_is_sent_the_conversation_so_far() -> None:
    turns = [Turn("a", Answer("b", "done")), Turn("c")]
    sent = Conversation("i", "o", "base", turns=turns).messages
    assert [message["content"] for message in sent] == ["a", "b", "c"]


def test_a_source_opens_in_its_document_and_an_address_elsewhere_does_not() -> None:
    asked: list[tuple[str, dict[str, Any]]] = []

    async def documents(request: Request) -> JSONResponse:
        asked.append((request.url.path, dict(request.query_params)))
        found = {"title": "Leave", "version": "v1", "text": "Of leave: 20 days.", "start": 10}
        return JSONResponse(found | {"end": 17})

    address = "/api/knowledge/documents/d1"
    cited = Answer(
        citations=[
            {"mark": 1, "url": f"{address}?company_id=acme&start=10&end=17", "headings": ["Of"]},
            {"mark": 2, "url": "/admin/users"},
        ]
    )
    with serving(Starlette(routes=[Route("/{rest:path}", documents)])) as url:
        gateway = GatewayClient(url, "k")
        shown = asyncio.run(read_source(gateway, cited, "1"))
        assert (shown.before, shown.cited, shown.after) == ("Of leave: ", "20 days", ".")
        assert asked == [(address, {"company_id": "acme", "start": "10", "end": "17"})]
        for mark in ("2", "3"):
            with pytest.raises(NotFound):
                asyncio.run(read_source(gateway, cited, mark))
    assert len(asked) == 1


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    process = Process(tmp_path_factory.mktemp("home"))
    process._config.write_text(
        process._config.read_text().replace("delay-2+echo", "filler-400+pace-20")
    )
    process.start()
    process.run("flags", "provider.scripted=on", "real_ai_only=off")
    yield process
    process.kill(15)


@pytest.fixture
def pages(gateway: Process, monkeypatch: pytest.MonkeyPatch) -> Starlette:
    monkeypatch.setenv("TRIPTYCH_HOME", str(gateway.home))
    sign_in = SignIn(gateway.url, "http://127.0.0.1:9", "", gateway.home / "cookie.key")
    site = Site(sign_in, sign_in.key)
    history = History(gateway.home / "ask")
    store = RunStore(gateway.home / "runs")
    return Starlette(
        routes=[
            *site.routes(),
            *sign_in_routes(site, sign_in),
            *landing_routes(site, "http://127.0.0.1:9", store),
            *routes(site, history, Answering(history)),
        ]
    )


@pytest.mark.browser
@pytest.mark.parametrize(("width", "theme"), [(1280, "dark"), (360, "light")])
def test_an_answer_streams_is_stopped_asked_again_and_rated(
    open_page: Any, pages: Starlette, width: int, theme: str
) -> None:
    from axe_playwright_python.sync_playwright import Axe

    with serving(pages) as url:
        page = open_page(one_time.issue(url, "/ask"), width=width, height=800, color_scheme=theme)
        page.set_default_timeout(20_000)
        page.get_by_label("Your question").fill("What is a token?")
        page.get_by_label("Your question").press("Enter")
        page.get_by_role("button", name="Stop").click()
        page.wait_for_selector("text=Stopped.")
        page.get_by_role("button", name="Regenerate").click()
        page.get_by_role("button", name="Right").click()
        page.wait_for_selector("text=Saved as feedback: right")
        page.wait_for_selector(".facts >> text=base tier")
        page.evaluate("window.scrollTo(0, 0)")
        screenshot(page, f"ask-{width}-{theme}")
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        found = Axe().run(page)
        assert found.violations_count == 0, found.generate_report()


@pytest.mark.browser
def test_a_conversation_is_led_by_the_keyboard_alone(open_page: Any, pages: Starlette) -> None:
    with serving(pages) as url:
        page = open_page(one_time.issue(url, "/ask"), width=1280, height=800)
        page.set_default_timeout(20_000)
        page.get_by_label("Your question").focus()
        page.keyboard.type("What is a token?")
        page.keyboard.press("Enter")
        # The button stays the same element while the answer grows around it.
        page.get_by_role("button", name="Stop").focus()
        page.wait_for_selector("text=word30")
        assert page.evaluate("document.activeElement.textContent") == "Stop"
        page.keyboard.press("Enter")
        page.wait_for_selector("text=Stopped.")
        page.keyboard.type("And a byte?")
        page.keyboard.press("Enter")
        page.wait_for_selector("article:nth-of-type(2) >> text=word30")
        assert page.get_by_label("Your question").last.input_value() == ""
        page.get_by_role("button", name="Stop").press("Enter")
        page.wait_for_selector("article:nth-of-type(2) >> text=Stopped.")
        page.get_by_text("Edit", exact=True).first.press("Enter")
        page.locator("#edit-0").fill("What is a word?")
        page.get_by_role("button", name="Ask again").first.press("Enter")
        page.wait_for_selector("article >> text=What is a word?")
        page.wait_for_selector("article:nth-of-type(2)", state="detached")
        page.get_by_role("button", name="Stop").press("Enter")
        page.wait_for_selector("text=Stopped.")
