"""A page that is drawn at the first look: once, again after a failure, and while clients wait."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import gradio as gr
import httpx
import pytest
from browsing import serving
from fastapi import FastAPI
from gradio_client import Client

from triptych.errors import ConfigError
from triptych.panels import lazy_page, theme

HTML = {"accept": "text/html"}


def gradio_page() -> FastAPI:
    with gr.Blocks(analytics_enabled=False) as page:
        word = gr.Textbox()
        word.submit(str.upper, word, gr.Textbox(), api_name="upper")
    app: FastAPI = gr.mount_gradio_app(FastAPI(), theme.at_home(page), path="/", **theme.options())
    return app


def behind(draw: Callable[[], FastAPI]) -> FastAPI:
    app = FastAPI()

    @app.get("/health")
    async def health() -> dict[str, str]:
        return {"status": "ok"}

    lazy_page.LazyPage(draw, "a greeting").join(app)
    return app


class Draw:
    """Draw a page as often as asked, after raising the faults given first."""

    def __init__(self, *faults: Exception, gate: threading.Event | None = None) -> None:
        self.faults = list(faults)
        self.gate = gate
        self.times = 0

    def __call__(self) -> FastAPI:
        self.times += 1
        if self.gate:
            assert self.gate.wait(60)
        if self.faults:
            raise self.faults.pop(0)
        return gradio_page()


def get(url: str, **headers: str) -> httpx.Response:
    return httpx.get(url, headers=headers, timeout=60, trust_env=False)


def test_only_a_look_draws_the_page_and_only_once() -> None:
    draw = Draw()
    with serving(behind(draw)) as address:
        assert get(address).text == "a greeting" and get(f"{address}/health").is_success
        assert draw.times == 0
        with ThreadPoolExecutor(4) as pool:
            looks = list(pool.map(lambda _: get(address, **HTML), range(4)))
        assert all("gradio" in look.text for look in looks) and draw.times == 1


def test_a_page_that_failed_says_why_and_is_drawn_at_the_next_look(
    capfd: pytest.CaptureFixture[str],
) -> None:
    draw = Draw(ConfigError("the colour is not set", hint="set a colour"), OSError("/a/place"))
    with serving(behind(draw)) as address:
        first = get(address, **HTML)
        assert first.status_code == 503 and "retry-after" in first.headers
        assert "the colour is not set" in first.text and "set a colour" in first.text
        second = get(address, **HTML)
        assert second.status_code == 503 and "OSError" in second.text
        assert "/a/place" not in second.text and "/a/place" in capfd.readouterr().err
        assert get(f"{address}/health").is_success
        third = get(address, **HTML)
        assert third.status_code == 200 and "gradio" in third.text and draw.times == 3


@pytest.mark.parametrize("fault", [None, OSError("late")])
def test_a_client_that_asks_first_is_kept_while_the_page_is_drawn(
    fault: Exception | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lazy_page, "SIGN_OF_LIFE_S", 0.1)
    gate = threading.Event()
    draw = Draw(*([fault] if fault else []), gate=gate)
    with serving(behind(draw)) as address:
        config = f"{address}/config"
        patience: Any = httpx.Timeout(60)
        with httpx.stream("GET", config, timeout=patience, trust_env=False) as answer:
            pieces = answer.iter_raw()
            assert answer.status_code == 200
            assert next(pieces).strip() == b"", "a sign of life before the page is drawn"
            gate.set()
            body = b"".join(pieces)
        if fault:
            assert b"could not be built" in body
            return
        assert httpx.Response(200, content=b" " + body).json()["dependencies"]
        client = Client(address, verbose=False, analytics_enabled=False)
        try:
            assert client.predict("word", api_name="/upper") == "WORD"
        finally:
            client.close()
