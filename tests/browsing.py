"""Serve an application on loopback and keep pictures of its pages."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from typing import Any

import uvicorn

from triptych.processes import bind

ARTEFACTS = Path(__file__).resolve().parents[1] / "artefacts"


@contextmanager
def serving(app: Any) -> Iterator[str]:
    """Serve an application on a free loopback port."""
    listener = bind("127.0.0.1", 0)
    config = uvicorn.Config(app, log_level="error", timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    thread = Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(timeout=120)


BESIDE = """() => document.documentElement.scrollWidth <= window.innerWidth ? '' :
  [...document.querySelectorAll('main *, header *')].filter(
    each => each.getBoundingClientRect().right > window.innerWidth && !each.closest('.scroll'))
  .slice(0, 3).map(each => each.outerHTML.slice(0, 120)).join(' | ') || 'something'"""


def fits(page: Any) -> None:
    """Wait until nothing of the page is beside the window; a strict policy allows no eval."""
    for _ in range(50):
        if not page.evaluate(BESIDE):
            return
        page.wait_for_timeout(100)
    raise AssertionError(f"beside the window: {page.evaluate(BESIDE)}")


def screenshot(page: Any, name: str) -> Path:
    """Keep a picture of the page."""
    ARTEFACTS.mkdir(exist_ok=True)
    path = ARTEFACTS / f"{name}.png"
    page.screenshot(path=str(path), full_page=True)
    return path
