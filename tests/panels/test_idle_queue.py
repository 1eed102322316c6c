from __future__ import annotations

import time

import gradio as gr
import pytest
from browsing import serving
from fastapi import FastAPI
from gradio_client import Client

from triptych.panels import theme
from triptych.panels.idle_queue import BUSY_EVERY_S, IDLE_EVERY_S, _warn_once, use_idle_queue


def test_a_page_rests_until_somebody_acts() -> None:
    with gr.Blocks(analytics_enabled=False) as page:
        word = gr.Textbox()
        word.submit(str.upper, word, gr.Textbox(), api_name="upper")
    app = gr.mount_gradio_app(FastAPI(), theme.at_home(page), path="/", **theme.options())
    queue = page._queue
    assert queue.sleep_when_free == IDLE_EVERY_S
    with serving(app) as address:
        client = Client(address, verbose=False, httpx_kwargs={"timeout": 120})
        try:
            assert client.predict("word", api_name="/upper") == "WORD"
            queue.acted = time.monotonic()
            assert queue.sleep_when_free == BUSY_EVERY_S
            queue.acted -= 3600
            assert queue.sleep_when_free == IDLE_EVERY_S
            assert client.predict("again", api_name="/upper") == "AGAIN"
        finally:
            client.close()


class AnotherQueue:
    """What a later Gradio might have: it takes events in a way of its own."""

    sleep_when_free = 0.001


def test_an_unknown_queue_is_left_as_it_is_and_said_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    _warn_once.cache_clear()
    for _ in range(2):
        with gr.Blocks(analytics_enabled=False) as page:
            gr.Textbox()
        page._queue = queue = AnotherQueue()
        assert use_idle_queue(page) is page
        assert type(page._queue) is AnotherQueue and page._queue is queue
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "idle pages poll" in caplog.text
