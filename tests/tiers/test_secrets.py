"""Secrets go in and never come out: sealed at rest, sent to providers, shown to nobody."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Any

import aiohttp
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from triptych.secrets import hint_of
from triptych.tiers.pipeline.telemetry import Tracing
from triptych.tiers.store import audit
from triptych.tiers.store.database import across

CANARY = "hf_canaryCANARYcanaryCANARY4f2a"
SECOND = "hf_secondSECONDsecondSECOND9b1c"
ALL = across("a test looks at everything")


async def admin(gateway: Any, method: str, path: str, body: Any = None) -> tuple[int, Any]:
    headers = {"authorization": f"Bearer {gateway.key}"}
    async with (
        aiohttp.ClientSession() as session,
        session.request(method, gateway.url + path, json=body, headers=headers) as response,
    ):
        return response.status, await response.json()


def everything_on_disk(home: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(home.rglob("*")) if path.is_file())


async def test_c6_an_entered_secret_is_used_and_found_nowhere(workshop, own_home, caplog) -> None:
    upstream = await workshop.upstream()
    gateway = await workshop.gateway(allow_private_addresses=True)
    spans = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(spans))
    gateway.runtime.observers.tracing = Tracing(provider, content=False)
    entered = {
        "provider": "openai",
        "address": f"{upstream.url}/v1",
        "models": {"base": "m"},
        "key_name": "MY_TOKEN",
    }
    assert (await admin(gateway, "PUT", "/admin/upstreams/mine", entered))[0] == 200
    status, told = await admin(gateway, "PUT", "/admin/secrets/MY_TOKEN", {"value": f" {CANARY}\n"})
    assert (status, told) == (200, {"name": "MY_TOKEN", "hint": "…4f2a"})
    said = []
    question = {"model": "base", "messages": [{"role": "user", "content": "hi"}]}
    for stream in (False, True):
        status, _, _ = await gateway.post("/v1/chat/completions", {**question, "stream": stream})
        assert status == 200
        sent = upstream.headers[-1]["authorization"]
        assert sent == f"Bearer {CANARY}", "trimmed, as it was meant"

    async def denied(request: Any, body: Any) -> Any:
        from aiohttp import web

        return web.json_response({"error": {"message": f"bad key {CANARY}"}}, status=401)

    upstream.behaviour = denied
    status, answer, headers = await gateway.post("/v1/chat/completions", question)
    assert status >= 400
    said += [answer, headers]
    for path in ("/admin/secrets", "/admin/upstreams", "/api/requests", "/admin/audit"):
        said.append(await admin(gateway, "GET", path))
    said.append(await admin(gateway, "POST", "/admin/upstreams/mine/test"))
    said.append(await admin(gateway, "PUT", "/admin/secrets/MY_TOKEN", {"value": 7, "x": CANARY}))
    said += [gateway.runtime.measure(), spans.get_finished_spans(), caplog.text]
    said += [repr(gateway.runtime.vault), repr(gateway.runtime.factory), await gateway.records()]
    await gateway.runtime.recorder.flush()
    assert CANARY not in str(said)
    assert b"canaryCANARY" not in everything_on_disk(own_home)
    key_file = own_home / "gateway" / "secrets-key"
    assert stat.S_IMODE(key_file.stat().st_mode) == 0o600

    upstream.behaviour = None
    await admin(gateway, "PUT", "/admin/secrets/MY_TOKEN", {"value": SECOND})
    assert (await gateway.post("/v1/chat/completions", question))[0] == 200
    assert upstream.headers[-1]["authorization"] == f"Bearer {SECOND}"
    assert (await audit.verify(gateway.database))[1] is None


async def test_i1_removing_a_secret_stops_its_upstreams_with_the_same_act(workshop) -> None:
    upstream = await workshop.upstream()
    one = await workshop.gateway(allow_private_addresses=True)
    for name in ("mine", "other"):
        entered = {
            "provider": "openai",
            "address": f"{upstream.url}/v1",
            "models": {name: "m"},
            "key_name": "MY_TOKEN" if name == "mine" else "",
        }
        await admin(one, "PUT", f"/admin/upstreams/{name}", entered)
    await admin(one, "PUT", "/admin/secrets/MY_TOKEN", {"value": SECOND})
    _, told = await admin(one, "GET", "/admin/secrets")
    assert [(s["name"], s["used_by"]) for s in told["secrets"]] == [("MY_TOKEN", ["mine"])]
    assert "sealed" not in told["secrets"][0]
    status, told = await admin(one, "DELETE", "/admin/secrets/MY_TOKEN")
    assert (status, told["upstreams_stopped"]) == (200, ["mine"])
    _, told = await admin(one, "GET", "/admin/upstreams")
    assert [row["name"] for row in told["upstreams"]] == ["other"]
    assert [row["name"] for row in told["inactive"]] == ["mine"]
    assert (await admin(one, "DELETE", "/admin/secrets/MY_TOKEN"))[0] == 404


async def test_i3_a_secret_survives_a_restart_and_another_worker_opens_it(workshop) -> None:
    one = await workshop.gateway()
    await admin(one, "PUT", "/admin/secrets/MY_TOKEN", {"value": SECOND})
    two = await workshop.gateway(key=one.key)
    assert two.runtime.factory.has_key("MY_TOKEN")
    await one.stop()
    assert (await admin(two, "PUT", "/admin/secrets/bad name", {"value": "x"}))[0] == 422
    assert (await admin(two, "PUT", "/admin/secrets/A", {"value": " \n"}))[0] == 422
    assert (await admin(two, "PUT", "/admin/secrets/A", {"value": "a\nb"}))[0] == 422


def test_a_short_secret_shows_nothing_of_itself() -> None:
    assert hint_of("short") == "…"
    assert hint_of(CANARY) == "…4f2a"
