"""Spaces: addresses, dialects, sleep and wake, quotas (checks C1, C2, C3, C5)."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from aiohttp import web
from yarl import URL

from triptych.config.gateway import UpstreamConfig
from triptych.errors import ConfigError
from triptych.tiers.providers.quota import quota_wait_s
from triptych.tiers.rules import catalogue
from triptych.tiers.rules.egress import AddressRefused, check_address, parse_address

ASK = {"messages": [{"role": "user", "content": "Hi there"}]}


# -- C1: addresses -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "space"),
    [
        ("acme/base-llm", "acme/base-llm"),
        ("acme/base-llm/", "acme/base-llm"),
        ("https://huggingface.co/spaces/acme/base-llm", "acme/base-llm"),
        ("https://huggingface.co/spaces/acme/base-llm/", "acme/base-llm"),
        ("https://huggingface.co/spaces/acme/base-llm/tree/main", "acme/base-llm"),
        ("http://127.0.0.1:7880/spaces/acme/base_llm.v2", "acme/base_llm.v2"),
    ],
)
def test_c1_every_way_to_write_a_space_is_one_id(text, space) -> None:
    assert catalogue.space_id(text) == space


@pytest.mark.parametrize("text", ["", "acme", "acme/", "/x", "a b/c", "acme/../etc", "x/y#z"])
def test_c1_what_is_no_space_is_refused(text) -> None:
    with pytest.raises(ConfigError):
        catalogue.space_id(text)


@pytest.mark.parametrize(
    ("space", "host"),
    [
        ("acme/base-llm", "acme-base-llm.hf.space"),
        ("Acme/Base_LLM", "acme-base-llm.hf.space"),
        ("acme/base.llm.v2", "acme-base-llm-v2.hf.space"),
    ],
)
def test_c1_the_direct_host_of_a_space(space, host) -> None:
    assert catalogue.direct_host(space) == host


def test_c1_the_organisation_is_prefixed_exactly_once(monkeypatch) -> None:
    monkeypatch.setenv("VITE_HUGGINGFACE_ORG", "acme")
    monkeypatch.setenv("VITE_HF_BASE_SPACE", "your-org/company-base-llm")
    monkeypatch.setenv("HF_COMPANY_SPACE", "ours")
    found = dict(catalogue.from_environment())
    assert found["space-base"].address == "your-org/company-base-llm"
    assert found["space-company"].address == "acme/ours"
    assert found["space-abstraction"].address == "acme/company-abstraction-llm"


@pytest.mark.parametrize(
    "address",
    [
        "http://acme.example/v1",
        "https://127.0.0.1/v1",
        "https://10.1.2.3",
        "https://169.254.169.254/latest",
        "https://[::1]/v1",
        "https://[::ffff:127.0.0.1]/v1",
        "https://localhost/v1",
        "https://hub.internal/",
        "https://user:pass@example.com/v1",
        "ftp://example.com",
    ],
)
def test_c1_addresses_that_reach_inside_are_refused(address) -> None:
    with pytest.raises(AddressRefused):
        check_address(URL(address), private_allowed=False)
    check_address(parse_address("https://acme-base.hf.space/v1/"), private_allowed=False)


# -- C2: dialects --------------------------------------------------------------------------------


def speaks(*paths: str, answer: Any, seen: list[tuple[str, Any]]) -> Any:
    async def behave(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        if request.method != "POST" or request.path not in paths:
            return web.json_response({"detail": "Not Found"}, status=404)
        found = answer(body)
        if found is None:
            return web.json_response({"detail": "no such shape"}, status=422)
        seen.append((request.path, body))
        return web.json_response(found)

    return behave


def guide(body: Any) -> Any:
    if "prompt" not in body:
        return None
    return {"generated_text": f"A:{body['prompt']}", "model_version": "v7"}


def inputs(body: Any) -> Any:
    return {"generated_text": f"B:{body['inputs']}"} if "inputs" in body else None


def data(body: Any) -> Any:
    return {"data": [f"C:{body['data'][0]}"]} if "data" in body else None


def inference(body: Any) -> Any:
    if body.get("parameters", {}).get("return_full_text") is not False:
        return None
    return [{"generated_text": f"D:{body['inputs']}"}]


@pytest.mark.parametrize(
    ("path", "answer", "text", "dialect"),
    [
        ("/api/generate", guide, "A:Hi there", "generate-params"),
        ("/api/generate", inputs, "B:Hi there", "generate-inputs"),
        ("/api/predict", inputs, "B:Hi there", "generate-inputs"),
        ("/api/predict", data, "C:Hi there", "data"),
        ("/run/predict", data, "C:Hi there", "data"),
        ("/predict", data, "C:Hi there", "data"),
        ("/", inference, "D:Hi there", "inference"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
async def test_c2_every_dialect_is_found_and_remembered(
    workshop, path, answer, text, dialect, stream
) -> None:
    space = await workshop.upstream()
    seen: list[tuple[str, Any]] = []
    space.behaviour = speaks(path, answer=answer, seen=seen)
    gateway = await workshop.gateway(
        {"s": UpstreamConfig("hf_spaces", space.url, {"base": ""})}, cache_bytes=0
    )
    await gateway.set(provider__hf_spaces=True)
    body = {**ASK, "temperature": 0, "max_tokens": 9, "stream": stream}
    for _ in range(2):
        status, found, headers = await gateway.post("/v1/chat/completions", body)
        assert status == 200
        if stream:
            assert text in found.decode()
            assert found.decode().endswith("data: [DONE]\n\n")
        else:
            assert found["choices"][0]["message"]["content"] == text
            assert found["usage"]["total_tokens"] > 0
            assert headers["x-triptych-tokens"] == "estimated"
        if dialect == "generate-params":
            assert headers["x-triptych-revision"] == "v7"
    provider = gateway.runtime.dispatcher.providers["s"]
    assert provider.dialect == dialect
    assert [p for p, _ in seen] == [path] * 3, "one call to find it, two to use it"
    asked = [b for _, b in seen[1:]]
    assert asked[0] == asked[1]
    params = asked[0].get("params") or asked[0].get("parameters")
    if params is not None:
        assert params["temperature"] == 0
        assert 9 in (params.get("max_length"), params.get("max_new_tokens"))


async def test_c2_a_space_that_changes_its_dialect_is_found_again(workshop) -> None:
    space = await workshop.upstream()
    space.behaviour = speaks("/api/generate", answer=guide, seen=[])
    gateway = await workshop.gateway(
        {"s": UpstreamConfig("hf_spaces", space.url, {"base": ""})}, retries=0
    )
    await gateway.set(provider__hf_spaces=True)
    assert (await gateway.post("/v1/chat/completions", ASK))[0] == 200
    space.behaviour = speaks("/run/predict", answer=data, seen=[])
    assert (await gateway.post("/v1/chat/completions", ASK))[0] == 502
    status, found, _ = await gateway.post("/v1/chat/completions", ASK)
    assert status == 200
    assert found["choices"][0]["message"]["content"] == "C:Hi there"


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        ({"error": "CUDA out of memory"}, "space_error"),
        ({"generated_text": "", "error": "boom"}, "space_error"),
        ({"generated_text": ""}, "upstream_malformed"),
        ({"unexpected": 1}, "upstream_malformed"),
    ],
)
async def test_c3_an_error_with_status_200_is_an_error(workshop, answer, code) -> None:
    space = await workshop.upstream()
    space.behaviour = speaks("/api/generate", answer=guide, seen=[])
    gateway = await workshop.gateway(
        {"s": UpstreamConfig("hf_spaces", space.url, {"base": ""})}, retries=0
    )
    await gateway.set(provider__hf_spaces=True)
    assert (await gateway.post("/v1/chat/completions", ASK))[0] == 200
    space.behaviour = speaks("/api/generate", answer=lambda _: answer, seen=[])
    status, found, _ = await gateway.post("/v1/chat/completions", ASK)
    assert (status, found["error"]["code"]) == (502, code)
    record = (await gateway.records())[-1]
    assert (record["outcome"], record["error_code"]) == ("failed", code)
    assert "CUDA" not in str(record)


async def test_c5_history_and_contexts_reach_a_guide_space(workshop) -> None:
    space = await workshop.upstream()
    seen: list[tuple[str, Any]] = []
    space.behaviour = speaks("/api/generate", answer=guide, seen=seen)
    gateway = await workshop.gateway({"s": UpstreamConfig("hf_spaces", space.url, {"base": ""})})
    await gateway.set(provider__hf_spaces=True)
    history = [{"role": "user", "content": "one"}, {"role": "assistant", "content": "two"}]
    status, answer, _ = await gateway.post(
        "/api/query", {"input": "three", "conversationHistory": history}
    )
    assert (status, answer["content"]) == (200, "A:three")
    params = seen[-1][1]["params"]
    assert params["conversation_history"] == (
        '[{"role":"user","content":"one"},{"role":"assistant","content":"two"}]'
    )


# -- C5: sleep and wake --------------------------------------------------------------------------


class Emulator:
    """A hub and one Space on it, with the stages and pages that Spaces show."""

    def __init__(self, workshop: Any) -> None:
        self.workshop = workshop
        self.stage = "RUNNING"
        self.visits = 0
        self.visits_asleep = 0
        self.runtime_calls = 0
        self.start_s = 0.0
        self._due = 0.0

    async def start(self, monkeypatch: pytest.MonkeyPatch) -> Emulator:
        self.space = await self.workshop.upstream("awake")
        self.hub = await self.workshop.upstream()
        self.space.behaviour = self._space
        self.hub.behaviour = self._hub
        monkeypatch.setenv("HF_ENDPOINT", self.hub.url)
        return self

    def sleeps(self, *, wakes_within_s: float) -> None:
        self.stage, self.start_s = "SLEEPING", wakes_within_s

    def _advance(self) -> None:
        if self.stage == "APP_STARTING" and time.monotonic() >= self._due:
            self.stage = "RUNNING"

    async def _space(self, request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        self.visits += 1
        self._advance()
        if self.stage == "RUNNING":
            return await self.space.answer(request, body)
        if self.stage == "SLEEPING":
            self.visits_asleep += 1
            self.stage, self._due = "APP_STARTING", time.monotonic() + self.start_s
        page = "<!DOCTYPE html><html><body>Your Space is starting</body></html>"
        return web.Response(status=503, text=page, content_type="text/html")

    async def _hub(self, request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        if request.path == "/api/spaces/acme/base":
            return web.json_response({"id": "acme/base", "host": self.space.url})
        if request.path == "/api/spaces/acme/base/runtime":
            self.runtime_calls += 1
            self._advance()
            return web.json_response({"stage": self.stage})
        return web.json_response({"error": "not found"}, status=404)

    async def gateway(self, **settings: Any) -> Any:
        gateway = await self.workshop.gateway(
            {"s": UpstreamConfig("hf_spaces", "acme/base", {"base": ""})},
            **{"retries": 0, **settings},
        )
        await gateway.set(provider__hf_spaces=True)
        return gateway


@pytest.fixture
async def emulator(workshop, monkeypatch) -> Emulator:
    return await Emulator(workshop).start(monkeypatch)


@pytest.mark.parametrize("stream", [False, True])
async def test_c5_a_sleeping_space_is_woken_once_for_all_who_wait(emulator, stream) -> None:
    emulator.sleeps(wakes_within_s=2.0)  # longer than an answer may take
    gateway = await emulator.gateway(first_token_timeout_s=1.9, answer_timeout_s=1.9)
    answers = await asyncio.gather(
        *(gateway.post("/v1/chat/completions", {**ASK, "stream": stream}) for _ in range(30))
    )
    assert {status for status, _, _ in answers} == {200}
    assert emulator.visits_asleep == 1
    assert emulator.runtime_calls <= 36, "each caller looks at most once, polling is shared"
    assert {row["outcome"] for row in await gateway.records()} == {"ok"}


async def test_c5_a_slow_wake_falls_back_and_the_wake_goes_on(emulator, workshop) -> None:
    emulator.sleeps(wakes_within_s=1.5)
    rescue = await workshop.upstream("rescued")
    gateway = await workshop.gateway(
        {
            "s": UpstreamConfig("hf_spaces", "acme/base", {"base": ""}),
            "o": UpstreamConfig("openai", f"{rescue.url}/v1", {"base": "m"}),
        },
        retries=0,
        wake_timeout_s=0.3,
    )
    await gateway.set(provider__hf_spaces=True)
    _, answer, headers = await gateway.post("/v1/chat/completions", ASK)
    assert answer["choices"][0]["message"]["content"] == "rescued"
    assert headers["x-triptych-fallback"] == "space_waking"
    async with asyncio.timeout(60):
        while headers["x-triptych-provider"] != "hf_spaces":
            await asyncio.sleep(0.2)
            _, answer, headers = await gateway.post("/v1/chat/completions", ASK)
    assert answer["choices"][0]["message"]["content"] == "awake"
    assert emulator.visits_asleep == 1


async def test_c5_without_a_fallback_a_cold_start_says_when_to_come_back(emulator) -> None:
    emulator.sleeps(wakes_within_s=60)
    gateway = await emulator.gateway(wake_timeout_s=0.2)
    status, answer, headers = await gateway.post("/v1/chat/completions", ASK)
    assert (status, answer["error"]["code"]) == (503, "space_waking")
    assert int(headers["retry-after"]) >= 1
    assert headers["x-should-retry"] == "false"
    start = time.monotonic()
    await gateway.post("/v1/chat/completions", ASK)
    assert time.monotonic() - start < 20, "the budget is shared, nobody waits again"


@pytest.mark.parametrize(
    ("stage", "code"),
    [
        ("PAUSED", "space_paused"),
        ("RUNTIME_ERROR", "space_broken"),
        ("BUILD_ERROR", "space_broken"),
        ("CONFIG_ERROR", "space_broken"),
        ("NO_APP_FILE", "space_broken"),
    ],
)
async def test_c5_a_paused_or_broken_space_fails_at_once_and_rests(emulator, stage, code) -> None:
    emulator.stage = stage
    gateway = await emulator.gateway(wake_timeout_s=30)
    start = time.monotonic()
    status, answer, _ = await gateway.post("/v1/chat/completions", ASK)
    assert (status, answer["error"]["code"]) == (503, code)
    assert time.monotonic() - start < 30, "it does not wait for a wake"
    assert gateway.runtime.dispatcher.breakers["s"].state == "open"
    visits = emulator.visits
    status, answer, _ = await gateway.post("/v1/chat/completions", ASK)
    assert (status, answer["error"]["code"]) == (503, "no_provider_available")
    assert emulator.visits == visits


async def test_c5_an_unknown_or_private_space_is_explained(emulator, workshop) -> None:
    gateway = await workshop.gateway({"s": UpstreamConfig("hf_spaces", "acme/other", {"base": ""})})
    await gateway.set(provider__hf_spaces=True)
    status, answer, _ = await gateway.post("/v1/chat/completions", ASK)
    assert (status, answer["error"]["code"]) == (502, "upstream_missing")
    assert "private" in answer["error"]["message"]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        (
            "You have exceeded your GPU quota (60s requested vs. 42s left). "
            "Create a free account to get more daily usage quota, retry in 0:06:53",
            413,
        ),
        ("You have exceeded your free GPU quota (60s left). Try again in 1:00:00", 3600),
        ("GPU quota exceeded", 3600),
        ("out of memory", None),
    ],
)
def test_c5_a_quota_text_tells_when_to_come_back(text, seconds) -> None:
    assert quota_wait_s(text) == seconds


async def test_c5_a_spent_quota_holds_the_breaker_until_the_stated_time(workshop) -> None:
    space = await workshop.upstream()
    said = "You have exceeded your GPU quota (60s requested vs. 2s left). Retry in 0:06:53"

    async def spent(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        if request.method == "GET":
            return await space.answer(request, body)
        return web.json_response({"error": said}, status=500)

    space.behaviour = spent
    gateway = await workshop.gateway({"s": UpstreamConfig("hf_spaces", space.url, {"base": ""})})
    await gateway.set(provider__hf_spaces=True)
    status, answer, headers = await gateway.post("/v1/chat/completions", ASK)
    assert (status, answer["error"]["code"]) == (429, "space_quota")
    assert headers["retry-after"] == "413"
    calls = space.calls
    status, _, headers = await gateway.post("/v1/chat/completions", ASK)
    assert status == 503
    assert 400 <= int(headers["retry-after"]) <= 413
    assert space.calls == calls
