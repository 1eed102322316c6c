"""A tier Space boots from its template, and its page and its HTTP face give the same text."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from browsing import fits, screenshot
from playwright.sync_api import expect

from triptych.config.generate import GenerateConfig
from triptych.errors import GenerationError
from triptych.lm.generate.select_engine import open_engine
from triptych.processes.ports import free_port

pytestmark = [pytest.mark.timeout(600)]

PATIENCE_S = 180
VERSION = "0123456789abcdef0123456789abcdef01234567"
CONTEXT = {"company_name": "Zorblax", "industry": "tools"}


class Space:
    """A running Space: where it answers, and the process behind it."""

    def __init__(self, url: str, process: subprocess.Popen[str]) -> None:
        self.url = url
        self.process = process

    def call(self, path: str, body: Any = None, token: str = "") -> tuple[int, Any]:
        headers = {"content-type": "application/json"}
        if token:
            headers["authorization"] = f"Bearer {token}"
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, headers)
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
                return answer.status, json.loads(answer.read())
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read())

    def wait(self) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            assert self.process.poll() is None
            try:
                if self.call("/health")[0] == 200:
                    return
            except OSError:
                pass
            time.sleep(0.1)
        raise AssertionError("the Space did not become healthy")


def start_space(repository: Path, home: Path, **variables: str) -> Space:
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "app.py"],
        cwd=repository / "triptych" / "spaces" / "tier",
        env={
            **os.environ,
            "PYTHONPATH": str(repository),
            "TRIPTYCH_HOME": str(home),
            "TRIPTYCH_GENERATE__THREADS": "1",
            "GRADIO_SERVER_PORT": str(port),
            **variables,
        },
        text=True,
    )
    return Space(f"http://127.0.0.1:{port}", process)


def stop(space: Space) -> int:
    space.process.send_signal(signal.SIGTERM)
    try:
        return space.process.wait(timeout=PATIENCE_S)
    finally:
        space.process.kill()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model of random weights, as a Space would find it."""
    import torch

    from triptych.lm.model.checkpoint import save_model
    from triptych.lm.model.config import ModelConfig
    from triptych.lm.model.tokenizer import Tokenizer
    from triptych.lm.model.transformer import Transformer

    torch.manual_seed(0)
    config = ModelConfig(
        model_type="qwen3",
        vocab_size=512,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
        max_position_embeddings=1024,
        eos_token_id=2,
    )
    decoder = Transformer(config)
    with torch.no_grad():
        for weight in decoder.parameters():
            weight.copy_(torch.randn_like(weight) * 0.2 + (weight.dim() == 1))
    folder = tmp_path_factory.mktemp("models") / "tiny"
    text = iter(["The quick brown fox sells tools to every company and asks again."] * 30)
    save_model(folder, decoder.eval(), Tokenizer.train(text, vocab_size=400))
    return folder


@pytest.fixture(scope="module")
def space(
    repository: Path, model: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Space]:
    running = start_space(
        repository,
        tmp_path_factory.mktemp("home"),
        MODEL_ID=str(model),
        MODEL_VERSION=VERSION,
        TRIPTYCH_GENERATE__MAX_BATCH="2",
        TRIPTYCH_SERVE__MAX_WAITING="4",
    )
    try:
        running.wait()
        yield running
    finally:
        stop(running)


def asked(**params: Any) -> dict[str, Any]:
    return {"prompt": "What do we sell?", "params": {"max_length": 24, "temperature": 0, **params}}


def look_at(space: Space) -> str:
    request = urllib.request.Request(space.url, headers={"accept": "text/html"})
    with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
        return answer.read().decode()


def by_gradio(space: Space, **given: Any) -> str:
    from gradio_client import Client

    patience = {"timeout": PATIENCE_S}
    client = Client(space.url, verbose=False, analytics_enabled=False, httpx_kwargs=patience)
    values = {"context": "", "abstraction_context": "", "conversation_history": "", **given}
    return client.predict(
        "What do we sell?", 24, 0, values.pop("seed", None), *values.values(), api_name="/generate"
    )


def test_h2_health_answers_with_the_version_that_was_deployed(space: Space) -> None:
    status, body = space.call("/health")
    assert status == 200
    assert body["revision"] == VERSION and body["model"] == "tiny"


def test_h1_the_page_and_plain_http_give_the_same_text(space: Space) -> None:
    """Check H1: the UI's endpoint and the API are one function."""
    _, plain = space.call("/api/generate", asked())
    _, with_context = space.call("/api/generate", asked(context=CONTEXT))
    assert plain["model_version"] == VERSION
    assert by_gradio(space) == plain["generated_text"]
    assert by_gradio(space, context=json.dumps(CONTEXT)) == with_context["generated_text"]
    assert plain["generated_text"] != with_context["generated_text"]


def test_h1_each_kind_of_context_is_read(space: Space) -> None:
    """Check H1: history, company and abstraction context each change what the model reads."""
    _, plain = space.call("/api/generate", asked())
    seen = {plain["usage"]["prompt_tokens"]}
    for params in (
        {"context": CONTEXT},
        {"abstraction_context": {"pattern": "repeat orders come in spring", "strength": "high"}},
        {"conversation_history": "user: Hello there\nassistant: Good morning to you"},
    ):
        status, answer = space.call("/api/generate", asked(**params))
        assert status == 200
        assert answer["usage"]["prompt_tokens"] > plain["usage"]["prompt_tokens"]
        seen.add(answer["usage"]["prompt_tokens"])
    assert len(seen) == 4


def test_h1_the_documented_routes_are_in_the_schema_and_answer(space: Space) -> None:
    """Check H1 and H2: the Space's own schema and its README describe what it does."""
    _, schema = space.call("/openapi.json")
    shapes = schema["components"]["schemas"]
    answer = shapes["GenerateAnswer"]["properties"]
    _, given = space.call("/api/generate", asked())
    assert set(given) == set(answer)
    readme = (Path(__file__).parents[2] / "triptych/spaces/tier/README.md").read_text()
    for route in set(re.findall(r"`(?:GET|POST) (/[\w/]+)`", readme)):
        assert route in schema["paths"], route


def test_h1_eight_bit_weights_are_for_those_who_ask(space: Space, model: Path) -> None:
    """Check H1: nothing is narrowed to eight bits behind anyone's back."""
    _, info = space.call("/info")
    assert info["models"][0]["dtype"] == "f16"
    with pytest.raises(GenerationError, match="q8_0"):
        open_engine(model, GenerateConfig(engine="torch", dtype="q8_0"))


def test_h2_more_than_the_queue_holds_is_refused_with_a_time_to_come_back(space: Space) -> None:
    """Check H2: a bounded queue, and 429 beyond it."""
    body = asked(max_length=900, seed=1)
    with ThreadPoolExecutor(40) as pool:
        statuses = list(pool.map(lambda _: space.call("/api/generate", body)[0], range(40)))
    assert set(statuses) == {200, 429}
    assert statuses.count(200) >= 2 + 4
    assert space.call("/api/generate", asked())[0] == 200


def test_h2_the_examples_of_the_readme_work(space: Space, repository: Path) -> None:
    readme = (repository / "triptych" / "spaces" / "tier" / "README.md").read_text()
    examples = re.findall(r"```json\n(.*?)```", readme, re.S)
    assert len(examples) == 2
    for example in examples:
        status, answer = space.call("/api/generate", json.loads(example))
        assert status == 200
        assert {"generated_text", "model_version", "generation_time"} <= set(answer)


def test_the_template_is_small_and_says_what_it_needs(repository: Path) -> None:
    folder = repository / "triptych" / "spaces" / "tier"
    assert len((folder / "app.py").read_text().splitlines()) <= 15
    front = (folder / "README.md").read_text().split("---")[1]
    assert "sdk: gradio" in front and "app_file: app.py" in front


def test_h2_limits_are_kept_by_the_page_too(space: Space) -> None:
    """Check H2: a wrong value is refused with words, over HTTP and through Gradio."""
    status, answer = space.call("/api/generate", asked(temperature=9))
    assert status == 422 and "between 0 and 2" in answer["error"]["message"]
    with pytest.raises(Exception, match=r"tokens"):
        by_gradio(space, context="word " * 4000)


def test_a_program_at_the_bare_address_is_told_what_answers(space: Space) -> None:
    with urllib.request.urlopen(space.url, timeout=PATIENCE_S) as answer:
        assert "/v1/chat/completions" in answer.read().decode()


def test_the_page_calls_no_other_host(space: Space) -> None:
    page = look_at(space)
    assert "gradio" in page
    loaded = re.findall(r"(?:src|href)=[\"'](https?://[^\"']+)", page)
    assert [url for url in loaded if not url.startswith(space.url)] == []


def test_h2_a_private_space_asks_for_its_token(
    repository: Path, model: Path, tmp_path: Path
) -> None:
    """Check H2: with a token set, nothing but health answers without it."""
    private = start_space(
        repository, tmp_path, MODEL_ID=str(model), TRIPTYCH_SERVE_TOKEN="let-me-in"
    )
    try:
        private.wait()
        assert private.call("/api/generate", asked())[0] == 401
        status, _ = private.call("/api/generate", asked(), token="wrong")
        assert status == 401
        assert private.call("/api/generate", asked(), token="let-me-in")[0] == 200
        with pytest.raises(urllib.error.HTTPError, match="401"):
            urllib.request.urlopen(private.url + "/gradio_api/info", timeout=PATIENCE_S)
    finally:
        assert stop(private) == 0


def test_a_space_without_a_model_says_what_to_set(repository: Path, tmp_path: Path) -> None:
    lost = start_space(repository, tmp_path)
    assert lost.process.wait(timeout=PATIENCE_S) != 0


@pytest.mark.browser
@pytest.mark.parametrize("width", [1100, 360])
def test_the_page_writes_an_answer_that_uses_the_context(
    space: Space, open_page: Any, width: int
) -> None:
    page = open_page(space.url, width=width)
    page.get_by_label("Prompt").fill("What do we sell?")
    page.get_by_label("Temperature").nth(0).fill("0")
    page.get_by_label("New tokens").nth(0).fill("24")
    page.get_by_text("What the tier knows").click()
    page.get_by_label("Company context").fill(json.dumps(CONTEXT))
    page.get_by_role("button", name="Generate").click()
    _, answer = space.call("/api/generate", asked(context=CONTEXT))
    expect(page.get_by_label("Answer", exact=True)).to_have_value(answer["generated_text"])
    fits(page)
    screenshot(page, f"tier-{width}")


@pytest.mark.browser
def test_a_mistake_is_told_on_the_page(space: Space, open_page: Any) -> None:
    page = open_page(space.url)
    page.get_by_role("button", name="Generate").click()
    page.get_by_text("at least 1 character").wait_for()
