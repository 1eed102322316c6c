"""Count what a model server does, in Prometheus' format."""

from __future__ import annotations

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
)

from triptych.lm.generate.engine import Chunk

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class Metrics:
    """The counters of one server, in a registry of their own."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self._registry = registry = CollectorRegistry()
        label = ["model"]
        self._answers = Counter(
            "triptych_answers", "Answers ended, by reason", ["model", "reason"], registry=registry
        )
        self._input = Counter(
            "triptych_input_tokens", "Prompt tokens read", label, registry=registry
        )
        self._cached = Counter(
            "triptych_cached_tokens", "Prompt tokens not computed again", label, registry=registry
        )
        self._output = Counter("triptych_output_tokens", "Tokens written", label, registry=registry)
        self._refused = Counter(
            "triptych_refused",
            "Requests refused because the queue was full",
            label,
            registry=registry,
        )
        self._active = Gauge(
            "triptych_active_answers", "Answers running or waiting", label, registry=registry
        )
        self._ttft = Histogram(
            "triptych_ttft_seconds",
            "Time to first token",
            label,
            buckets=_SECONDS,
            registry=registry,
        )
        self._latency = Histogram(
            "triptych_latency_seconds",
            "Time to last token",
            label,
            buckets=_SECONDS,
            registry=registry,
        )

    def finished(self, model: str, chunk: Chunk) -> None:
        """Count an ended answer by its last chunk."""
        self._answers.labels(model, chunk.finish_reason).inc()
        self._input.labels(model).inc(chunk.input_tokens)
        self._cached.labels(model).inc(chunk.cached_tokens)
        self._output.labels(model).inc(chunk.output_tokens)

    def cancelled(self, model: str) -> None:
        """Count an answer whose client went away."""
        self._answers.labels(model, "cancelled").inc()

    def refused(self, model: str) -> None:
        """Count a request refused because the queue was full."""
        self._refused.labels(model).inc()

    def active(self, model: str, answers: int) -> None:
        """Set how many answers run or wait."""
        self._active.labels(model).set(answers)

    def ttft(self, model: str, seconds: float) -> None:
        """Observe a time to first token."""
        self._ttft.labels(model).observe(seconds)

    def latency(self, model: str, seconds: float) -> None:
        """Observe a time to last token."""
        self._latency.labels(model).observe(seconds)

    def render(self) -> bytes:
        """Write everything in Prometheus' text format."""
        return generate_latest(self._registry)
