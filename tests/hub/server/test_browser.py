"""The hub's pages and Gradio's own sign-in button, in a real Chromium."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from playwright.sync_api import expect
from programs import require

from triptych.hub.server.storage.identity.oauth import register_client

if TYPE_CHECKING:
    from tests.hub.server.conftest import RunningHub

pytestmark = pytest.mark.browser
expect.set_options(timeout=60_000)

APP = """
import gradio as gr

def hello(profile: gr.OAuthProfile | None):
    return f"Hello {profile.username}" if profile else "Hello nobody"

with gr.Blocks(analytics_enabled=False) as demo:
    gr.LoginButton("Sign in with the hub")
    greeting = gr.Markdown()
    demo.load(hello, None, greeting)
demo.launch()
"""
CARD = (
    b"---\nlicense: mit\n---\n# Card\n\n![out](https://example.invalid/x.png) <b onclick=x>b</b>\n"
)


@pytest.fixture
def page() -> Iterator[Any]:
    """A page that remembers every request that would leave this machine, and every complaint."""
    from playwright.sync_api import sync_playwright

    program = require("chromium")
    with sync_playwright() as playwright:
        flags = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        browser = playwright.chromium.launch(executable_path=program, args=flags, timeout=120_000)
        page = browser.new_page()
        page.set_default_timeout(60_000)
        page.outside = []
        page.complaints = []
        page.on("request", lambda request: page.outside.append(request.url)
                if "127.0.0.1" not in request.url and not request.url.startswith("data:")
                else None)  # fmt: skip
        page.on("console", lambda message: page.complaints.append(message.text)
                if message.type == "error" else None)  # fmt: skip
        yield page
        browser.close()


def sign_in(page: Any, token: str) -> None:
    page.get_by_label("Access token").fill(token)
    page.get_by_role("button", name="Sign in").click()


def test_a_person_looks_around_and_nothing_leaves_the_machine(hub: RunningHub, page: Any) -> None:
    user, token = hub.user()
    api = hub.api(token)
    repo_id = f"{user.name}/looked-at"
    api.create_repo(repo_id, private=True)
    api.upload_file(path_or_fileobj=CARD, path_in_repo="README.md", repo_id=repo_id)
    api.upload_file(path_or_fileobj=b"text here", path_in_repo="a/b.txt", repo_id=repo_id)
    page.goto(hub.url)
    page.get_by_role("link", name="Sign in").wait_for()
    assert page.get_by_text("looked-at").count() == 0
    page.get_by_role("link", name="Sign in").click()
    sign_in(page, token)
    page.get_by_role("link", name=repo_id).first.click()
    expect(page.locator("h1", has_text="Card")).to_have_count(1)
    page.get_by_role("link", name="Files").click()
    page.get_by_role("link", name="a/", exact=True).click()
    page.get_by_role("link", name="b.txt", exact=True).click()
    page.get_by_text("text here").wait_for()
    page.get_by_role("link", name="History").click()
    page.get_by_role("link", name="Upload README.md").click()
    page.get_by_text("+license: mit").wait_for()
    page.get_by_role("link", name="Tokens").click()
    page.get_by_label("Name").fill("from the browser")
    page.get_by_role("button", name="Make it").click()
    fresh = page.locator("code.token").inner_text()
    assert hub.api(fresh).whoami()["name"] == user.name
    page.get_by_role("button", name="Sign out").click()
    page.get_by_role("link", name="Sign in").wait_for()
    assert page.outside == []
    assert page.complaints == []


@pytest.fixture
def app(hub: RunningHub, tmp_path: Path) -> Iterator[str]:
    """An application with Gradio's sign-in button, registered with the hub."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    name = f"panel-{port}"
    client_id, secret = register_client(
        hub.hub.database, name, [f"{address}/login/callback"], public=False
    )
    assert secret is not None
    variables = {
        "PATH": os.environ["PATH"], "HOME": str(hub.root), "SYSTEM": "spaces",
        "SPACE_ID": f"admin/{name}", "OAUTH_CLIENT_ID": client_id, "OAUTH_CLIENT_SECRET": secret,
        "OAUTH_SCOPES": "openid profile", "OPENID_PROVIDER_URL": hub.url,
        "HF_ENDPOINT": hub.url, "GRADIO_ANALYTICS_ENABLED": "False",
        "GRADIO_SERVER_NAME": "127.0.0.1", "GRADIO_SERVER_PORT": str(port),
    }  # fmt: skip
    process = subprocess.Popen(
        [sys.executable, "-c", APP], env=variables, cwd=tmp_path, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    try:
        deadline = time.monotonic() + 150
        while True:
            try:
                httpx.get(address, timeout=5).raise_for_status()
                break
            except httpx.HTTPError:
                assert process.poll() is None, process.stdout.read() if process.stdout else ""
                assert time.monotonic() < deadline
                time.sleep(0.1)
        yield address
    finally:
        process.kill()
        process.communicate(timeout=60)


def test_gradios_sign_in_button_signs_in_with_the_hub(hub: RunningHub, app: str, page: Any) -> None:
    user, token = hub.user()
    page.goto(app)
    page.get_by_text("Hello nobody").wait_for()
    page.get_by_role("button", name="Sign in with the hub").click()
    sign_in(page, token)
    page.get_by_role("button", name="Allow").click()
    page.get_by_text(f"Hello {user.name}").wait_for()
    assert page.url.startswith(app)
