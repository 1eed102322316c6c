"""One request from the moment it is accepted until its record is safe.

An `Exchange` is finished exactly once, with its outcome, before the caller hears the end.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from triptych.tiers.pipeline.accumulator import AnswerAccumulator
from triptych.tiers.rules.accounts import Principal
from triptych.tiers.rules.pricing import Cost
from triptych.tiers.rules.query import Outcome, Query, Trace
from triptych.tiers.rules.redaction import classify, label, pseudonym, redact, redact_deep
from triptych.tiers.rules.selector import Selection
from triptych.tiers.store.spool import Spool


class RequestMetrics(Protocol):
    """Count finished requests."""

    def observe(self, exchange: Exchange, outcome: str) -> None:
        """Count one."""
        ...


class RequestTracing(Protocol):
    """Write a span for each request."""

    def start(self, exchange: Exchange) -> Any:
        """Open the span of a request."""
        ...

    def finish(self, span: Any, exchange: Exchange, outcome: str, error_code: str | None) -> None:
        """Close it."""
        ...

    def close(self) -> None:
        """Send what is left."""
        ...


@dataclass(slots=True)
class Observers:
    """What is written about every request: the record, the metrics, the traces."""

    spool: Spool
    metrics: RequestMetrics
    tracing: RequestTracing | None = None
    price: Callable[[Trace, float], Cost] | None = None


class Exchange:
    """Carry a request's trace and write its record."""

    __slots__ = (
        "_observers",
        "_span",
        "answer",
        "cache_key",
        "consent",
        "created_at",
        "finished",
        "held",
        "principal",
        "query",
        "selection",
        "settle_tokens",
        "started_s",
        "trace",
    )

    def __init__(
        self, query: Query, principal: Principal, observers: Observers, answer: AnswerAccumulator
    ) -> None:
        self.query = query
        self.principal = principal
        self.answer = answer
        self.trace = Trace(traceparent=query.traceparent)
        self.created_at = time.time()
        self.started_s = time.monotonic()
        self.finished = False
        self.cache_key: bytes | None = None
        """Set when the answer is to be kept under it."""
        self.consent = ""
        """What allows the content to be kept for training; empty: nothing does."""
        self.selection: Selection | None = None
        """What was decided before an upstream was asked, with the evidence in its contexts."""
        self.held = False
        """Whether something was set aside for it under a budget."""
        self.settle_tokens: Callable[[int], None] | None = None
        """Told what was used, where tokens of the key were set aside."""
        self._observers = observers
        observers.spool.start(self._start())
        self._span = observers.tracing.start(self) if observers.tracing else None

    def _start(self) -> dict[str, Any]:
        query = self.query
        return {
            "request_id": query.request_id,
            "created_at": self.created_at,
            "company_id": self._company_id,
            "user_id": query.user_id,
            "key_id": self.principal.key_id,
            "feature": label(query.feature),
            "conversation_id": pseudonym(query.conversation_id),
            "context_label": label(query.context_label),
            "kind": query.operation or query.kind,
            "stream": query.stream,
            "tier_asked": query.tier_asked,
            "model_asked": label(query.model_asked),
        }

    @property
    def _company_id(self) -> str | None:
        """The company whose record this is: a caller who is no member writes into no company's."""
        company_id = self.query.company_id
        return company_id if self.principal.member_of(company_id) else None

    @property
    def latency_s(self) -> float:
        """Seconds since the request was accepted."""
        return time.monotonic() - self.started_s

    @property
    def overhead_s(self) -> float:
        """Seconds of the latency that were ours and not an upstream's."""
        return max(0.0, self.latency_s - self.trace.upstream_s)

    def finish(
        self,
        outcome: Outcome,
        status: int,
        *,
        error_code: str | None = None,
    ) -> None:
        """Write the record; a second call changes nothing."""
        if self.finished:
            return
        self.finished = True
        trace = self.trace
        if self.answer.started:
            self.answer.settle(trace)
        usage = trace.usage
        known = usage.source != "unknown"
        if self.settle_tokens is not None:
            self.settle_tokens(usage.input_tokens + usage.output_tokens if known else 0)
        price = self._observers.price
        cost = price(trace, self.created_at) if price else Cost(None, None)
        record = self._start()
        record.update(
            tier_served=trace.tier_served or None,
            provider=trace.provider or None,
            upstream=trace.upstream or None,
            model=trace.model,
            revision=trace.revision,
            reason=trace.reason,
            fallback_reason=trace.fallback_reason,
            selector=trace.selector,
            flags=trace.flags,
            flags_version=trace.flags_version,
            outcome=outcome,
            status=status,
            error_code=error_code,
            finish_reason=trace.finish_reason,
            attempts=len(trace.attempts),
            input_tokens=usage.input_tokens if known else None,
            output_tokens=usage.output_tokens if known else None,
            tokens_source=usage.source,
            cost_microusd=cost.own,
            reference_microusd=cost.reference,
            held=self.held,
            latency_s=self.latency_s,
            ttft_s=trace.ttft_s,
            overhead_s=self.overhead_s,
            cached=trace.cached,
            truncated_messages=trace.truncated_messages,
            evidence=trace.kept_evidence,
            tries=self._tries(),
            consent=self.consent or None,
            content=self._content() if self.consent and outcome == "ok" else None,
        )
        observers = self._observers
        observers.spool.end(record)
        observers.metrics.observe(self, outcome)
        if observers.tracing is not None:
            observers.tracing.finish(self._span, self, outcome, error_code)

    def _content(self) -> dict[str, Any]:
        """Write down what may be kept for training: redacted, with its consent pinned to it."""
        query, answer = self.query, self.answer.text
        return {
            "request_id": query.request_id,
            "company_id": query.company_id,
            "user_id": query.user_id,
            "created_at": self.created_at,
            "messages": redact_deep(query.messages),
            "answer": redact(answer),
            "consent": self.consent,
            "classification": classify([query.messages, answer]),
        }

    def _tries(self) -> list[dict[str, Any]]:
        wall = self.created_at - self.started_s
        return [
            {
                "request_id": self.query.request_id,
                "number": number,
                "created_at": wall + attempt.started_s,
                "company_id": self._company_id,
                "upstream": attempt.upstream,
                "provider": attempt.provider,
                "tier": attempt.tier,
                "model": attempt.model,
                "outcome": attempt.outcome,
                "status": attempt.status,
                "error_code": attempt.error_code or None,
                "latency_s": attempt.latency_s,
                "ttft_s": attempt.ttft_s,
            }
            for number, attempt in enumerate(self.trace.attempts, start=1)
        ]
