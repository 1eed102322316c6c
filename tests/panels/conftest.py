"""A real Chromium, and servers on loopback, for the pages."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from programs import require

# What a page may take for anything: only a machine that others use too is that slow.
PATIENCE_MS = 120_000
# Without these Chromium looks up hosts of its maker at every start.
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Start Debian's Chromium once a file; in CI its absence is a failure.

    Its event loop counts as running in this thread while it lives, so it must not outlive the file.
    """
    from playwright.sync_api import expect, sync_playwright

    expect.set_options(timeout=PATIENCE_MS)
    program = require("chromium")
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(
            executable_path=program, args=list(FLAGS), timeout=PATIENCE_MS
        )
        yield started
        started.close()


@pytest.fixture
def open_page(browser: Any) -> Iterator[Callable[..., Any]]:
    """Open pages that fail the test on an external request or a console error."""
    contexts = []
    troubles: list[str] = []

    def open_at(url: str, *, width: int = 1200, height: int = 900, **options: Any) -> Any:
        context = browser.new_context(viewport={"width": width, "height": height}, **options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(PATIENCE_MS)

        def note_request(request: Any) -> None:
            if not request.url.startswith(
                ("http://127.0.0.1", "data:", "blob:", "http://localhost")
            ):
                troubles.append(f"external request to {request.url}")

        def note_console(message: Any) -> None:
            # A page that is left lets go of its open streams, and says so; a form that is not
            # valid answers with 422.
            expected = ("AbortError", "status of 422")
            if message.type == "error" and not any(word in message.text for word in expected):
                troubles.append(f"console error: {message.text} {message.location}")

        page.on("request", note_request)
        page.on("console", note_console)
        page.on("pageerror", lambda error: troubles.append(f"page error: {error}"))
        page.goto(url)
        return page

    yield open_at
    for context in contexts:
        context.close()
    assert troubles == []
