"""The first page: what is missing and one next button, a one-time link, the tiers' switches."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browsing import screenshot, serving
from gateway_process import Process
from starlette.applications import Starlette
from starlette.testclient import TestClient

from triptych.cli.serve.deployment_registry import enter_tiers
from triptych.lm.runs.store import RunStore
from triptych.panels.landing.routes import routes
from triptych.panels.landing.state import tier_parts
from triptych.panels.sign_in import one_time
from triptych.panels.sign_in.identity import SignIn
from triptych.panels.sign_in.routes import routes as sign_in_routes
from triptych.panels.web.site import Site
from triptych.wire.tiers import TIERS

SPACES = {tier: f"acme/{tier}" for tier in TIERS}


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    process = Process(tmp_path_factory.mktemp("home"))
    process.start()
    yield process
    process.kill(15)


@pytest.fixture
def pages(gateway: Process, monkeypatch: pytest.MonkeyPatch) -> Starlette:
    monkeypatch.setenv("TRIPTYCH_HOME", str(gateway.home))
    sign_in = SignIn(gateway.url, "http://127.0.0.1:9", "", gateway.home / "cookie.key")
    site = Site(sign_in, sign_in.key)
    store = RunStore(gateway.home / "runs")
    landing = routes(site, "http://127.0.0.1:9", store)
    return Starlette(routes=[*site.routes(), *sign_in_routes(site, sign_in), *landing])


@pytest.fixture
def client(pages: Starlette) -> TestClient:
    return TestClient(pages, base_url="http://127.0.0.1", follow_redirects=False)


def signed_in(client: TestClient) -> TestClient:
    link = one_time.issue("http://127.0.0.1")
    assert client.get(link).headers["location"] == "/console/"
    return client


def test_a_link_signs_in_once_and_never_contains_the_key(
    client: TestClient, gateway: Process
) -> None:
    link = one_time.issue("http://127.0.0.1")
    assert gateway.key not in link
    assert client.get(link, headers={"sec-purpose": "prefetch"}).status_code == 503
    assert client.get(link).status_code == 303
    again = client.get(link)
    assert again.status_code == 401
    assert "triptych sign-in" in again.text


def test_a_link_that_is_too_old_does_not_sign_in(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = one_time.issue("http://127.0.0.1")
    later = time.time() + one_time.LASTS_S + 1
    monkeypatch.setattr(time, "time", lambda: later)
    assert client.get(link).status_code == 401


def test_a_stranger_sees_what_runs_and_how_to_sign_in_but_no_switch(client: TestClient) -> None:
    text = client.get("/").text
    assert "/v1" in text and "Sign in" in text
    assert 'action="/switch"' not in text


def test_no_tiers_lead_to_one_button_that_creates_them() -> None:
    (part,) = tier_parts([], {})
    assert part.next is not None and (part.words, part.next.href) == ("No tiers yet", "/tiers")


def test_spaces_that_are_switched_off_are_named_with_their_switch() -> None:
    upstreams: list[dict[str, Any]] = [
        {"name": f"space-{tier}", "provider": "hf_spaces", "models": {tier: ""}} for tier in TIERS
    ]
    on = {"provider.hf_spaces": False, **{f"tier.{tier}": True for tier in TIERS}}
    first, base, *_ = tier_parts(upstreams, on)
    assert first.next is not None
    assert (first.words, first.next.switch) == ("Spaces are switched off", "provider.hf_spaces")
    assert base.words == "its only providers are switched off"


def test_a_running_gateway_serves_new_tiers_without_a_restart_or_a_switch(
    client: TestClient, gateway: Process
) -> None:
    enter_tiers(SPACES, {}, private=False)
    signed_in(client)
    for _ in range(100):
        text = client.get("/").text
        if "answers by space-company" in text:
            break
        time.sleep(0.1)
    assert "answers by space-company" in text and "answers by space-abstraction" in text
    assert "switched off" not in text


def test_a_switch_of_an_admin_outlives_a_second_setup_and_one_button_turns_it_on(
    client: TestClient, gateway: Process
) -> None:
    gateway.run("flags", "tier.abstraction=off")
    enter_tiers(SPACES, {}, private=False)
    signed_in(client)
    for _ in range(100):
        text = client.get("/").text
        if "this tier is switched off" in text:
            break
        time.sleep(0.1)
    token = re.search(r'name="csrf" value="(\w+)"', text)
    assert token is not None and "this tier is switched off" in text
    sent = {"key": "tier.abstraction", "csrf": token.group(1)}
    done = client.post("/switch", data=sent, headers={"hx-request": "true"})
    assert "<html" not in done.text and "answers by space-abstraction" in done.text


@pytest.mark.browser
@pytest.mark.parametrize(("width", "theme"), [(1280, "light"), (360, "dark")])
def test_the_first_page_is_accessible_at_both_sizes(
    open_page: Any, pages: Starlette, width: int, theme: str
) -> None:
    from axe_playwright_python.sync_playwright import Axe

    with serving(pages) as url:
        link = one_time.issue(url, "/")
        page = open_page(link, width=width, height=800, color_scheme=theme)
        page.wait_for_selector("ul.state")
        screenshot(page, f"landing-{width}-{theme}")
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        found = Axe().run(page)
        assert found.violations_count == 0, found.generate_report()


def test_a_link_file_holds_no_secret(client: TestClient, gateway: Process) -> None:
    link = one_time.issue("http://127.0.0.1")
    files = list((Path(gateway.home) / "panels" / "links").glob("*.json"))
    assert files
    for file in files:
        assert set(json.loads(file.read_text())) == {"format_version", "expires_at"}
        assert file.stem not in link and file.stat().st_mode & 0o077 == 0
