"""Metrics stay few, spans speak GenAI's words, neither holds content (check 24)."""

from __future__ import annotations

import re
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client.parser import text_string_to_metric_families

from triptych.config.gateway import UpstreamConfig
from triptych.tiers.pipeline.telemetry import Tracing


@pytest.fixture
async def gateway(workshop) -> Any:
    upstream = await workshop.upstream("fine words")
    started = await workshop.gateway(
        {"u": UpstreamConfig("local", f"{upstream.url}/v1", {"base": "m"})}
    )
    started.upstream = upstream
    return started


def ask(text: str = "CANARY-TEXT", **more: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": text}], **more}


async def metrics(gateway: Any) -> dict[str, float]:
    import aiohttp

    async with aiohttp.ClientSession() as session, session.get(gateway.url + "/metrics") as got:
        text = await got.text()
    assert "CANARY" not in text
    return {
        f"{sample.name}{sorted(_own(sample.labels))}": sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def _own(labels: dict[str, str]) -> Any:
    """Leave out which node and worker it was."""
    return ((name, value) for name, value in labels.items() if name not in ("node", "worker"))


async def test_requests_tokens_and_overhead_are_counted(gateway) -> None:
    await gateway.post("/v1/chat/completions", ask())
    await gateway.post("/v1/chat/completions", ask(stream=True))
    await gateway.post("/v1/chat/completions", ask(), authorization="Bearer nobody")
    found = await metrics(gateway)
    labels = "[('outcome', 'ok'), ('provider', 'local'), ('tier', 'base')]"
    assert found[f"triptych_requests_total{labels}"] == 2
    tokens = "[('gen_ai_token_type', 'output'), ('provider', 'local'), ('tier', 'base')]"
    assert found[f"gen_ai_client_token_usage_total{tokens}"] == 4
    assert found["gateway_overhead_seconds_count[]"] == 2
    first = "[('provider', 'local'), ('tier', 'base')]"
    assert found[f"gen_ai_server_time_to_first_token_seconds_count{first}"] == 1
    assert found["triptych_refused_total[('code', 'invalid_api_key')]"] == 1
    assert found["triptych_breaker_open[('upstream', 'u')]"] == 0


async def test_the_number_of_series_does_not_grow_with_users(gateway) -> None:
    await gateway.post("/v1/chat/completions", ask())
    before = len(await metrics(gateway))
    for n in range(60):
        status, _, _ = await gateway.post(
            "/v1/chat/completions",
            ask(user=f"user{n}"),
            x_triptych_user=f"user-{n}",
            x_triptych_feature=f"feature-{n}",
            x_triptych_conversation=f"conversation-{n}",
        )
        assert status == 200
    assert len(await metrics(gateway)) == before


async def test_spans_follow_the_genai_conventions_without_content(gateway) -> None:
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    gateway.runtime.observers.tracing = Tracing(provider)
    parent = "00-" + "a" * 32 + "-" + "b" * 16 + "-01"
    await gateway.post(
        "/v1/chat/completions", ask(temperature=0.5, max_tokens=9), traceparent=parent
    )
    attempt, request = exporter.get_finished_spans()
    assert request.name == "chat base"
    assert request.kind.name == "SERVER"
    assert f"{request.context.trace_id:032x}" == "a" * 32
    assert f"{request.parent.span_id:016x}" == "b" * 16
    told = dict(request.attributes)
    assert told["gen_ai.operation.name"] == "chat"
    assert told["gen_ai.provider.name"] == "triptych"
    assert told["gen_ai.request.model"] == "base"
    assert told["gen_ai.request.temperature"] == 0.5
    assert told["gen_ai.request.max_tokens"] == 9
    assert told["gen_ai.response.finish_reasons"] == ("stop",)
    assert (told["gen_ai.usage.input_tokens"], told["gen_ai.usage.output_tokens"]) == (3, 2)
    assert any(event.name == "feature_flag.evaluation" for event in request.events)
    assert (attempt.name, attempt.kind.name) == ("chat m", "CLIENT")
    assert attempt.parent.span_id == request.context.span_id
    assert request.start_time <= attempt.start_time <= attempt.end_time <= request.end_time
    assert "CANARY" not in str([s.to_json() for s in exporter.get_finished_spans()])
    sent = gateway.upstream.headers[-1]["traceparent"]
    assert sent.startswith("00-" + "a" * 32) and f"{request.context.span_id:016x}" in sent


async def test_a_failure_is_an_error_span_and_estimates_are_no_usage(gateway) -> None:
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    gateway.runtime.observers.tracing = Tracing(provider)

    async def broken(request: Any, body: Any) -> Any:
        from aiohttp import web

        return web.Response(status=401)

    gateway.upstream.behaviour = broken
    await gateway.post("/v1/chat/completions", ask())
    attempt, request = exporter.get_finished_spans()
    for span in (attempt, request):
        assert span.status.status_code.name == "ERROR"
        assert span.attributes["error.type"] == "upstream_denied"
    assert "gen_ai.usage.input_tokens" not in request.attributes


async def test_the_traceparent_goes_on_when_nobody_traces(gateway) -> None:
    parent = "00-" + "c" * 32 + "-" + "d" * 16 + "-01"
    await gateway.post("/v1/chat/completions", ask(), traceparent=parent)
    assert gateway.upstream.headers[-1]["traceparent"] == parent


async def test_the_overhead_header_and_the_record_agree(gateway) -> None:
    _, _, headers = await gateway.post("/v1/chat/completions", ask())
    shown_ms = float(headers["x-triptych-overhead-ms"])
    (record,) = await gateway.records()
    assert 0 < record["overhead_s"] * 1000 <= shown_ms * 1.5 + 5
    assert record["overhead_s"] < record["latency_s"]
    assert re.fullmatch(r"\d+\.\d{3}", headers["x-triptych-overhead-ms"])


async def test_spans_arrive_at_a_collector_that_the_configuration_names(workshop) -> None:
    from aiohttp import web
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    received = []

    async def take(request: web.Request) -> web.Response:
        received.append((request.path, await request.read()))
        return web.Response(content_type="application/x-protobuf")

    app = web.Application()
    app.router.add_post("/{path:.*}", take)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    endpoint = f"http://127.0.0.1:{runner.addresses[0][1]}"
    for content in (False, True):
        received.clear()
        gateway = await workshop.gateway(
            {"s": UpstreamConfig("scripted", "", {"base": "echo"})},
            otlp_endpoint=endpoint,
            trace_content=content,
        )
        await gateway.set(provider__scripted=True, real_ai_only=False)
        said = "CANARY-TEXT by ann@acme.example"
        assert (await gateway.post("/v1/chat/completions", ask(said)))[0] == 200
        await gateway.stop()
        spans = []
        for path, raw in received:
            assert path == "/v1/traces"
            for group in ExportTraceServiceRequest.FromString(raw).resource_spans:
                assert "triptych-gateway" in str(group.resource)
                spans += [span for scope in group.scope_spans for span in scope.spans]
        assert sorted(span.name for span in spans) == ["chat base", "chat echo"]
        assert ("CANARY-TEXT" in str(spans)) is content
        assert "ann@acme" not in str(spans)
    await runner.cleanup()
