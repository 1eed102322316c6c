"""Secrets planted as canaries are found in no log, page, metric, trace, error or file (C6, J3)."""

from __future__ import annotations

import logging
import re
import sqlite3
import subprocess
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from people import People

from triptych.config.gateway import UpstreamConfig
from triptych.tiers.admin.table import TABLE
from triptych.tiers.pipeline.telemetry import Tracing
from triptych.tiers.rules import catalogue

UPSTREAM_KEY = "sk-CANARY-upstream-9fK2vLq8sYw3ZpD7"
SPACE_KEY = "hf_CANARYspaceQw7xR1mB6tYu3Io9PaSd"
ASK = {"messages": [{"role": "user", "content": "hi"}]}


async def gossip(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
    """Fail in every way in which a server repeats the key it was sent."""
    key = request.headers.get("authorization", "")
    said = f"Incorrect API key provided: {key}"
    way = str(body.get("user", ""))
    if way.isdigit():
        return web.json_response({"error": {"message": said, "code": key}}, status=int(way))
    if way == "page":
        return web.Response(text=f"<html>{said}</html>", content_type="text/html")
    if way == "torn":
        return web.Response(text=f'{{"{said}', content_type="application/json")
    if way == "event":
        line = f'data: {{"error": {{"message": "{said}"}}}}\n\n'
        return web.Response(text=line, content_type="text/event-stream")
    return web.json_response({"error": said})


WAYS = ("400", "401", "403", "404", "422", "429", "500", "503", "page", "torn", "event", "200")


async def test_c6_no_key_is_found_anywhere_after_everything_went_wrong(
    workshop, monkeypatch, caplog
) -> None:
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("CANARY_KEY", UPSTREAM_KEY)
    monkeypatch.setenv("HF_TOKEN", SPACE_KEY)
    upstream = await workshop.upstream()
    upstream.behaviour = gossip
    names = {"base": "m", "company": "m"}
    gateway = await workshop.gateway(
        {
            "keyed": UpstreamConfig("openai", f"{upstream.url}/v1", names, key_name="CANARY_KEY"),
            "space": UpstreamConfig("hf_spaces", upstream.url, {"s": ""}, key_name="HF_TOKEN"),
        },
        retries=0,
        breaker_failures=1000,
    )
    exporter = InMemorySpanExporter()
    tracing = TracerProvider()
    tracing.add_span_processor(SimpleSpanProcessor(exporter))
    gateway.runtime.observers.tracing = Tracing(tracing)
    people = await People(gateway).settle()
    canaries = [UPSTREAM_KEY, SPACE_KEY, gateway.key, *people.keys.values()]
    canaries = [key for key in canaries if len(key) > 20]
    assert len(canaries) >= 8

    shown: list[str] = []
    for model in ("base", "s"):
        for way in WAYS:
            for stream in (False, True):
                body = {**ASK, "model": model, "user": way, "stream": stream}
                shown.append(repr(await gateway.post("/v1/chat/completions", body)))
    shown.append(repr(await gateway.post("/v1/chat/completions", ASK, authorization="Bearer x")))
    for name in ("keyed", "space"):
        shown.append(repr(await people.call("admin", "POST", f"/admin/upstreams/{name}/test")))
    for route in TABLE:
        if route.method == "GET":
            path = re.sub(r"\{\w+(:int)?\}", "1", route.path)
            shown.append(repr(await people.call("admin", "GET", path)))
    assert any(headers.get("authorization") == f"Bearer {UPSTREAM_KEY}" for headers in (
        upstream.headers
    )), "the key was really sent"  # fmt: skip
    await gateway.records()
    with sqlite3.connect(gateway.home / "gateway.db") as raw:
        dumped = "\n".join(raw.iterdump())
    provider = gateway.runtime.dispatcher.providers["keyed"]
    places = {
        "answers": "\n".join(shown),
        "log": caplog.text,
        "spans": "\n".join(span.to_json() for span in exporter.get_finished_spans()),
        "metrics": gateway.runtime.measure().decode(),
        "dump": dumped,
        "objects": f"{gateway.runtime!r}{gateway.runtime.config!r}{provider!r}{provider.upstream!r}"
        f"{provider.transport!r}{gateway.runtime.factory!r}{gateway.runtime.keys!r}",
        **{
            str(path): path.read_bytes().decode("latin-1")
            for path in gateway.home.rglob("*")
            if path.is_file()
        },
    }
    found = [(place, key[:12]) for place, text in places.items() for key in canaries if key in text]
    assert not found
    assert len(exporter.get_finished_spans()) > 40


# -- H3: the names the originals used ------------------------------------------------------------


@pytest.mark.parametrize("prefix", ["", "VITE_"])
def test_h3_the_originals_environment_names_work_with_their_defaults(monkeypatch, prefix) -> None:
    for name in ("ORG", "API_KEY"):
        monkeypatch.delenv(f"HUGGINGFACE_{name}", raising=False)
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setenv(f"{prefix}HUGGINGFACE_ORG", "acme")
    monkeypatch.setenv(f"{prefix}HUGGINGFACE_API_KEY", SPACE_KEY)
    found = dict(catalogue.from_environment())
    assert {
        name: found[f"space-{name}"].address for name in ("base", "company", "abstraction")
    } == {
        "base": "acme/company-base-llm",
        "company": "acme/company-specific-llm",
        "abstraction": "acme/company-abstraction-llm",
    }
    assert SPACE_KEY not in repr(found), "the key is named, not copied"
    monkeypatch.setenv(f"{prefix}HF_BASE_SPACE", "acme/other")
    assert dict(catalogue.from_environment())["space-base"].address == "acme/other"


# -- J3: nothing that looks like a key is in the repository ---------------------------------------

SHAPES = re.compile(
    r"\b(hf_[A-Za-z0-9]{34,}|sk-(?:proj-)?[A-Za-z0-9_]{32,}|tri_[A-Za-z0-9_-]{43}|gh[pousr]_\w{36}"
    r"|AKIA[0-9A-Z]{16}|xox[abp]-[0-9A-Za-z-]{20,}|AIza[0-9A-Za-z_-]{35})\b"
    r"|-----BEGIN (?:RSA |EC |OPENSSH )?PRIVATE KEY-----\n[A-Za-z0-9+/=\n]{100}"
)


def looks_random(text: str) -> bool:
    """Tell a key from an example: keys have many different characters and no words."""
    return len(set(text)) > 14 and "CANARY" not in text and "example" not in text.lower()


def suspicious(text: str) -> list[str]:
    return [found[0] for found in SHAPES.finditer(text) if looks_random(found[0])]


def test_j3_no_token_shaped_string_is_in_the_repository(repository: Path) -> None:
    assert suspicious("key = 'hf_" + "aQ7xR1mB6tYu3Io9PaSdFgHjKlZxCvBnM2" + "'"), "it would be seen"
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=repository, capture_output=True, text=True, check=False
    )
    if listed.returncode:
        pytest.skip("not a checkout")  # CI tests one
    found = {}
    for name in listed.stdout.split("\0"):
        path = repository / name
        small = path.is_file() and path.stat().st_size < 2_000_000
        if small and (hits := suspicious(path.read_bytes().decode("latin-1"))):
            found[name] = hits
        assert not re.fullmatch(r"\.env(\.(?!example)\w+)?", path.name), f"{name} is in the way"
    assert not found


@pytest.mark.prove
def test_j3_no_token_shaped_string_is_in_its_history(repository: Path) -> None:
    log = subprocess.run(
        ["git", "log", "-p", "--no-color", "--no-ext-diff"],
        cwd=repository, capture_output=True, check=False,
    )  # fmt: skip
    if log.returncode:
        pytest.skip("not a checkout")  # CI tests one
    assert not suspicious(log.stdout.decode("latin-1"))
