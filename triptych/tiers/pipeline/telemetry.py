"""Metrics for Prometheus and spans for OpenTelemetry, in the words of the GenAI conventions.

Every label comes from a short list (tier, provider, outcome) or from the configuration (upstream),
so the number of series does not grow with users. Spans carry no content unless told to.

Source: open-telemetry/semantic-conventions-genai; buckets are the conventions' own.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.metrics import MetricWrapperBase

from triptych.errors import ConfigError
from triptych.tiers.pipeline.exchange import Exchange
from triptych.tiers.rules.query import Attempt
from triptych.tiers.rules.redaction import redact_deep
from triptych.wire.lenient_json import clean_dumps
from triptych.wire.tiers import TIERS

CONTENT_TYPE = b"text/plain; version=0.0.4; charset=utf-8"
_DURATION_S = (
    0.01,
    0.02,
    0.04,
    0.08,
    0.16,
    0.32,
    0.64,
    1.28,
    2.56,
    5.12,
    10.24,
    20.48,
    40.96,
    81.92,
)
_OVERHEAD_S = (0.0002, 0.0005, 0.001, 0.0015, 0.002, 0.004, 0.008, 0.016, 0.05, 0.2, 1.0)
_TIERS = frozenset((*TIERS, "named"))
_MOST_UPSTREAMS = 200
_PROVIDER_NAMES = {
    "openai": "openai",
    "anthropic": "anthropic",
    "gemini": "gcp.gemini",
    "hf_spaces": "huggingface",
    "local": "triptych",
    "scripted": "scripted",
}


_OPERATIONS = {"chat": "chat", "text": "text_completion"}


class Metrics:
    """Count and time what happened."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        registry = self.registry
        self.requests = Counter(
            "triptych_requests", "Requests by what became of them.",
            ("tier", "provider", "outcome"), registry=registry,
        )  # fmt: skip
        self.duration = Histogram(
            "gen_ai_server_request_duration_seconds", "Seconds from request to end of answer.",
            ("tier", "provider"), buckets=_DURATION_S, registry=registry,
        )  # fmt: skip
        self.first_token = Histogram(
            "gen_ai_server_time_to_first_token_seconds", "Seconds to a stream's first token.",
            ("tier", "provider"), buckets=_DURATION_S, registry=registry,
        )  # fmt: skip
        self.tokens = Counter(
            "gen_ai_client_token_usage", "Tokens that upstreams counted, never estimates.",
            ("tier", "provider", "gen_ai_token_type"), registry=registry,
        )  # fmt: skip
        self.overhead = Histogram(
            "gateway_overhead_seconds", "Seconds of a request that were the gateway's own.",
            buckets=_OVERHEAD_S, registry=registry,
        )  # fmt: skip
        self.attempts = Counter(
            "triptych_attempts", "Calls at upstreams by how they ended.",
            ("upstream", "outcome"), registry=registry,
        )  # fmt: skip
        self.refused = Counter(
            "triptych_refused", "Requests turned away before they had a record.",
            ("code",), registry=registry,
        )  # fmt: skip
        self.wrong_keys = Counter(
            "triptych_wrong_keys", "Keys that are unknown, expired or revoked.", registry=registry
        )
        self._declare_states(registry)
        self._children: dict[tuple[object, ...], Any] = {}
        self._upstreams: set[str] = set()

    def _declare_states(self, registry: CollectorRegistry) -> None:
        """Declare what is read at the moment it is measured."""
        self.breakers = Gauge(
            "triptych_breaker_open", "1 while an upstream is left alone.",
            ("upstream",), registry=registry,
        )  # fmt: skip
        self.spool_bytes = Gauge(
            "triptych_spool_bytes", "Records on disk that the database does not have yet.",
            registry=registry,
        )  # fmt: skip
        self.lost = Gauge(
            "triptych_records_lost", "Records that were not stored.", registry=registry
        )
        self.connections = Gauge(
            "triptych_connections", "Connections open now, and refused or timed out so far.",
            ("state",), registry=registry,
        )  # fmt: skip
        self.oldest_record = Gauge(
            "triptych_oldest_unwritten_record_seconds",
            "Age of the oldest record that the database does not have yet.", registry=registry,
        )  # fmt: skip
        self.failing_tasks = Gauge(
            "triptych_background_task_failing", "1 while a background task has not recovered.",
            ("task",), registry=registry,
        )  # fmt: skip
        self.task_failures = Gauge(
            "triptych_background_task_failures", "Exceptions that a background task survived.",
            ("task",), registry=registry,
        )  # fmt: skip
        self.stale = Gauge(
            "triptych_settings_stale", "1 while flags and keys are the last good ones.",
            registry=registry,
        )  # fmt: skip

    def observe(self, exchange: Exchange, outcome: str) -> None:
        """Take one finished request."""
        trace = exchange.trace
        tier = trace.tier_served if trace.tier_served in _TIERS else "none"
        provider = trace.provider or "none"
        self._of(self.requests, tier, provider, outcome).inc()
        self._of(self.duration, tier, provider).observe(exchange.latency_s)
        self.overhead.observe(exchange.overhead_s)
        if trace.ttft_s is not None:
            self._of(self.first_token, tier, provider).observe(trace.ttft_s)
        if trace.usage.source == "provider" and not trace.cached:
            self._of(self.tokens, tier, provider, "input").inc(trace.usage.input_tokens)
            self._of(self.tokens, tier, provider, "output").inc(trace.usage.output_tokens)
        for attempt in trace.attempts:
            self._of(self.attempts, self._upstream(attempt.upstream), attempt.outcome).inc()

    def refuse(self, code: str) -> None:
        """Count a request that was refused before it had a record."""
        self._of(self.refused, code).inc()

    def _of(self, metric: MetricWrapperBase, *labels: str) -> Any:
        key = (metric, *labels)
        child = self._children.get(key)
        if child is None:
            child = self._children[key] = metric.labels(*labels)
        return child

    def _upstream(self, name: str) -> str:
        if name in self._upstreams:
            return name
        if len(self._upstreams) >= _MOST_UPSTREAMS:
            return "other"
        self._upstreams.add(name)
        return name

    def render(self) -> bytes:
        """Write everything in Prometheus' text format."""
        return generate_latest(self.registry)


class Tracing:
    """Write one span per request and one per attempt, when a tracer provider is there."""

    def __init__(self, provider: Any, *, content: bool = False) -> None:
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        self._provider = provider

        self._tracer = provider.get_tracer("triptych.gateway")
        self._propagator = TraceContextTextMapPropagator()
        self._content = content

    @classmethod
    def sending(cls, endpoint: str, *, content: bool = False) -> Tracing:
        """Send spans to a collector, in batches and from a thread of their own.

        Raises: ConfigError when OpenTelemetry's SDK is not installed.
        """
        try:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
            from opentelemetry.sdk.resources import Resource
            from opentelemetry.sdk.trace import TracerProvider
            from opentelemetry.sdk.trace.export import BatchSpanProcessor
        except ModuleNotFoundError as error:
            raise ConfigError(
                f"gateway.otlp_endpoint needs {error.name}", hint="pip install triptych[telemetry]"
            ) from error
        provider = TracerProvider(
            resource=Resource.create({"service.name": "triptych-gateway"}),
            shutdown_on_exit=False,
        )
        exporter = OTLPSpanExporter(endpoint=f"{endpoint.rstrip('/')}/v1/traces", timeout=5)
        provider.add_span_processor(BatchSpanProcessor(exporter))
        return cls(provider, content=content)

    def close(self) -> None:
        """Send what is left."""
        self._provider.shutdown()

    def start(self, exchange: Exchange) -> Any:
        """Open the request's span, below the caller's, and take its place towards upstreams."""
        from opentelemetry import trace

        query = exchange.query
        carrier = {"traceparent": query.traceparent} if query.traceparent else {}
        operation = query.operation or _OPERATIONS[query.kind]
        span = self._tracer.start_span(
            f"{operation} {query.model_asked}",
            context=self._propagator.extract(carrier),
            kind=trace.SpanKind.SERVER,
            start_time=int(exchange.created_at * 1e9),
            attributes={"gen_ai.operation.name": operation, **_request_attributes(exchange)},
        )
        outgoing: dict[str, str] = {}
        self._propagator.inject(outgoing, trace.set_span_in_context(span))
        exchange.trace.traceparent = outgoing.get("traceparent")
        return span

    def finish(self, span: Any, exchange: Exchange, outcome: str, error_code: str | None) -> None:
        """Close the span with what really happened."""
        from opentelemetry import trace

        happened, usage = exchange.trace, exchange.trace.usage
        span.set_attribute("gen_ai.provider.name", _PROVIDER_NAMES.get(happened.provider, "none"))
        span.set_attribute("gen_ai.response.model", happened.model)
        span.set_attribute("gen_ai.response.id", exchange.query.request_id)
        span.set_attribute("triptych.tier.served", happened.tier_served)
        span.set_attribute("triptych.reason", happened.reason)
        span.set_attribute("triptych.outcome", outcome)
        if happened.finish_reason:
            span.set_attribute("gen_ai.response.finish_reasons", (happened.finish_reason,))
        if usage.source == "provider":
            span.set_attribute("gen_ai.usage.input_tokens", usage.input_tokens)
            span.set_attribute("gen_ai.usage.output_tokens", usage.output_tokens)
        if self._content:
            messages = clean_dumps(redact_deep(exchange.query.messages)).decode()
            span.set_attribute("gen_ai.input.messages", messages)
        for key, variant in happened.flags.items():
            span.add_event(
                "feature_flag.evaluation",
                {"feature_flag.key": key, "feature_flag.result.variant": variant},
            )
        if error_code:
            span.set_attribute("error.type", error_code)
            span.set_status(trace.Status(trace.StatusCode.ERROR, error_code))
        wall = exchange.created_at - exchange.started_s
        for attempt in happened.attempts:
            self._attempt(span, attempt, wall)
        span.end(end_time=int(time.time() * 1e9))

    def _attempt(self, parent: Any, attempt: Attempt, wall: float) -> None:
        from opentelemetry import trace

        attributes: Mapping[str, Any] = {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": _PROVIDER_NAMES.get(attempt.provider, "none"),
            "gen_ai.request.model": attempt.model,
            "triptych.upstream": attempt.upstream,
            "http.response.status_code": attempt.status,
        }
        start = wall + attempt.started_s
        span = self._tracer.start_span(
            f"chat {attempt.model}",
            context=trace.set_span_in_context(parent),
            kind=trace.SpanKind.CLIENT,
            start_time=int(start * 1e9),
            attributes=attributes,
        )
        if attempt.error_code:
            span.set_attribute("error.type", attempt.error_code)
            span.set_status(trace.Status(trace.StatusCode.ERROR, attempt.error_code))
        span.end(end_time=int((start + attempt.latency_s) * 1e9))


def _request_attributes(exchange: Exchange) -> dict[str, Any]:
    query = exchange.query
    found: dict[str, Any] = {
        "gen_ai.request.model": query.model_asked,
        "gen_ai.request.stream": query.stream,
        "triptych.tier.asked": query.tier_asked,
    }
    names = {
        "max_tokens": "gen_ai.request.max_tokens",
        "temperature": "gen_ai.request.temperature",
        "top_p": "gen_ai.request.top_p",
        "seed": "gen_ai.request.seed",
    }
    for param, name in names.items():
        if param in query.params:
            found[name] = query.params[param]
    if query.conversation_id:
        found["gen_ai.conversation.id"] = query.conversation_id
    return found
