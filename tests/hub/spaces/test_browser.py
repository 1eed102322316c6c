"""A private Space in a real browser, entered from the hub's own page."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from programs import require

GRADIO = """
import gradio as gr

def greet(name, request: gr.Request):
    return f"Hello {name}; cookies: {sorted(request.cookies)}"

with gr.Blocks(analytics_enabled=False) as demo:
    name = gr.Textbox(label="Name")
    greeting = gr.Textbox(label="Greeting")
    name.submit(greet, name, greeting, api_name="greet")
demo.launch()
"""


@pytest.fixture
def page() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    program = require("chromium")
    with sync_playwright() as playwright:
        flags = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        browser = playwright.chromium.launch(executable_path=program, args=flags, timeout=120_000)
        page = browser.new_page()
        page.set_default_timeout(60_000)
        yield page
        browser.close()


@pytest.mark.browser
def test_a_signed_in_person_uses_a_private_space_that_sees_nothing_of_the_hub(
    running, page
) -> None:
    space = running.space(GRADIO, private=True)
    page.goto(running.url + "/login?next=/spaces/" + space.repo_id)
    page.get_by_label("Access token").fill(running.token)
    page.get_by_role("button", name="Sign in").click()
    with page.expect_navigation():
        page.get_by_role("link", name="Open this Space").click()
    assert page.url.startswith(space.host) and "__sign" not in page.url
    page.get_by_label("Name").fill("Ada")
    page.get_by_label("Name").press("Enter")
    page.wait_for_function(
        "() => document.querySelector('[aria-label=Greeting], label:nth-of-type(1) textarea') &&"
        " [...document.querySelectorAll('textarea')].some(t => t.value.startsWith('Hello Ada'))"
    )
    said = page.evaluate(
        "() => [...document.querySelectorAll('textarea')].map(t => t.value)"
        ".find(v => v.startsWith('Hello'))"
    )
    assert "triptych" not in said
    assert "triptych_hub_session" not in page.evaluate("document.cookie")
    reached = page.evaluate(
        "async address => { try { return (await fetch(address, {credentials: 'include'})).status }"
        " catch (error) { return 'refused' } }",
        running.url + "/settings/tokens",
    )
    assert reached == "refused"
    page.context.clear_cookies()
    assert page.goto(space.host).status == 404
