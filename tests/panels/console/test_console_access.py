"""Who reaches the Console and what it changes for clients, over an installation of one command."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import pytest
from living import Client, House
from starlette.testclient import TestClient

pytestmark = [pytest.mark.browser, pytest.mark.timeout(400)]

Opened = Callable[..., Any]


def apply(page: Any, words: str) -> None:
    """Apply what was chosen, after its preview."""
    page.get_by_text(f"{words}.").wait_for()
    page.get_by_role("button", name="Apply these changes").click()
    page.get_by_text(f"Applied: {words}").wait_for()


def test_switching_the_provider_fails_no_client_that_streams(house: House, console: Opened) -> None:
    house.call("PUT", "/admin/flags/provider.hf_spaces", {"value": False})
    page = console("/console/switches")
    with Client(house) as client:
        client.wait_for("openai")
        page.get_by_label("Spaces", exact=True).check()
        apply(page, "Spaces on")
        for value, label, provider in (
            ("hf_spaces", "Spaces", "hf_spaces"),
            ("openai", "OpenAI-compatible services", "openai"),
            ("auto", "In the fallback order", "hf_spaces"),
        ):
            page.get_by_label("First provider").select_option(value)
            apply(page, f"First provider: {label}")
            client.wait_for(provider)
    broken = [answer for answer in client.answers if not answer[1]]
    assert broken == [], "every stream came whole"
    assert len(client.answers) > 4


def test_one_company_gets_its_tier_and_no_other_does(house: House, console: Opened) -> None:
    house.use_spaces()
    keys = {}
    for company in ("acme", "zorblax"):
        house.call("POST", "/admin/companies", {"company_id": company, "name": company.title()})
        made = house.call("POST", "/api/keys", {"name": company, "company_id": company})
        keys[company] = made["key"]
    page = console("/console/switches")
    form = page.locator("form", has=page.get_by_role("button", name="Set the exception"))
    form.get_by_label("Switch").select_option("tier.company")
    form.get_by_label("For").select_option("company:acme")
    form.get_by_role("button", name="Set the exception").click()
    page.get_by_text("Company tier is on for company acme").wait_for()
    answered = house.chat(keys["acme"], "company")
    assert "From the Space" in answered["choices"][0]["message"]["content"]
    house.chat(keys["zorblax"], "company")
    served = {
        company: house.requests(company_id=company)[0]["tier_served"]
        for company in ("acme", "zorblax")
    }
    assert served == {"acme": "company", "zorblax": "base"}
    # The request's record says which provider answered, and with which switches.
    request_id = house.requests(company_id="acme")[0]["request_id"]
    page.goto(f"{house.web}/console/requests/{request_id}")
    page.get_by_text("space-base").first.wait_for()
    page.get_by_text("Switches at the time of the request").click()
    page.locator("dt", has_text="tier.company").locator("+ dd").get_by_text("on").wait_for()


def test_i2_a_bad_answer_is_seen(house: House, console: Opened, open_page: Opened) -> None:
    """Acceptance check I2: from a visitor's "Not good" to the admin's list."""
    house.use_spaces()
    link = json.dumps([["gateway:base"], "Say ", 0.8, 0, 1, 0, 1, 12, 1])
    play = open_page(f"{house.web}/playground/?c={quote(link)}")
    play.get_by_text("gateway · base").first.wait_for()
    play.get_by_role("button", name="Generate", exact=True).click()
    play.get_by_role("button", name="Not good").click()
    play.get_by_text("Also stored as feedback.").wait_for()
    assert play.title() != "owned", "what a model wrote is text in the Playground too"
    house.requests(feature="playground")
    page = console("/console/feedback")
    page.get_by_role("cell", name="bad", exact=True).first.wait_for()


def test_i3_the_keyboard_alone_is_enough(house: House, open_page: Opened) -> None:
    page = open_page(f"{house.web}/console/", width=360)
    page.get_by_label("Your key").focus()
    page.keyboard.type(house.key)
    page.keyboard.press("Enter")
    last = page.get_by_role("navigation", name="Console").get_by_role("link", name="History")
    last.focus()
    page.keyboard.press("Enter")
    verify = page.get_by_role("button", name="Verify the chain")
    verify.focus()
    page.keyboard.press("Enter")
    page.get_by_text("every one sound").wait_for()


def test_i3_another_site_can_neither_act_nor_frame(house: House) -> None:
    """A page of another site has no session: whatever it sends is refused or does nothing."""
    for path in ("/console/switches", "/api/runs"):
        request = urllib.request.Request(
            house.web + path, b"key=cache",
            {"content-type": "text/plain", "origin": "https://elsewhere.example"},
        )  # fmt: skip
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(request, timeout=30)
        assert refused.value.code == 403
    with urllib.request.urlopen(f"{house.web}/console/", timeout=30) as answer:
        policy = answer.headers["content-security-policy"]
        assert "frame-ancestors 'none'" in policy and "unsafe" not in policy
        assert house.key not in answer.read().decode()


def test_a_form_without_its_token_is_refused(console_app: Any, gateway: Any) -> None:
    client = TestClient(console_app, base_url="http://127.0.0.1", follow_redirects=False)
    for kind in ("application/json", "application/x-www-form-urlencoded", "text/plain"):
        sent = client.post("/sign-in", content=b'{"key": "x"}', headers={"content-type": kind})
        assert sent.status_code == 403, kind


def test_i1_a_user_without_a_role_reads_and_sets_nothing(house: House, open_page: Opened) -> None:
    """Acceptance check I1: over the API and on the pages."""
    house.call("POST", "/admin/companies", {"company_id": "own", "name": "Own"})
    house.call("POST", "/admin/companies", {"company_id": "hidden", "name": "Hidden"})
    roles = {
        role: house.call("POST", "/api/keys", {"name": role, "role": role, "company_id": "own"})
        for role in ("user", "company_admin")
    }
    for made in roles.values():
        for method, path, body in (
            ("GET", "/admin/flags", None),
            ("PUT", "/admin/flags/cache", {"value": False}),
            ("GET", "/admin/upstreams", None),
            ("GET", "/admin/users", None),
            ("GET", "/admin/audit", None),
            ("POST", "/api/keys", {"name": "more", "role": "admin"}),
            ("GET", "/api/requests?company_id=acme", None),
        ):
            assert house.call(method, path, body, made["key"]) == 403, path
    page = open_page("about:blank")
    page.goto(f"{house.web}/sign-in?then=/guides/serve")
    # A company's admin sees the pages of its company, and no other company.
    page.get_by_label("Your key").fill(f"  {roles['company_admin']['key']} ")
    page.get_by_role("button", name="Sign in", exact=True).click()
    page.goto(f"{house.web}/console/people")
    page.get_by_text("Own").first.wait_for()
    assert "Hidden" not in page.content()
    menu = page.get_by_role("navigation", name="Console").inner_text()
    assert not {"Switches", "Providers", "Spaces", "History"} & set(menu.split("\n"))


def test_one_sign_in_with_an_account_of_the_hub_holds_everywhere(
    house: House, open_page: Opened
) -> None:
    page = open_page(f"{house.web}/console/")
    page.get_by_role("link", name="Sign in with the hub").click()
    page.get_by_label("Access token").fill(house.token)
    page.get_by_role("button", name="Sign in").click()
    page.get_by_role("button", name="Allow").click()
    page.get_by_text("admin@hub, admin").wait_for()
    page.get_by_role("heading", name="Overview").wait_for()
    assert house.token not in page.content()
    cookies = {cookie["name"]: cookie for cookie in page.context.cookies(house.web)}
    assert cookies["triptych_session"]["httpOnly"]
    page.get_by_role("button", name="Sign out").click()
    page.get_by_role("link", name="Sign in").first.wait_for()
    assert "triptych_session" not in {c["name"] for c in page.context.cookies(house.web)}
