"""What passes through the gateway: a query, its context, its attempts, its answer.

Plain slotted classes: they are made for every request. Parsing of bodies is in `bodies`, the
order of work in `service`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Kind = Literal["chat", "text"]
Message = dict[str, Any]
Outcome = Literal["ok", "failed", "cancelled", "blocked", "refused", "interrupted"]
TokensSource = Literal["provider", "estimated", "unknown"]


@dataclass(frozen=True, slots=True)
class QueryContext:
    """Describe the user and the purpose of a question; the originals' interface."""

    user_id: str
    company_id: str | None = None
    use_company_model: bool = False
    use_abstraction: bool = False
    use_existing_models: bool = False
    context: str = "general"
    conversation_history: tuple[Mapping[str, str], ...] = ()
    temperature: float | None = None
    feature: str | None = None


@dataclass(frozen=True, slots=True)
class Contexts:
    """Facts to be shown to the model beside the question, delimited."""

    company: Mapping[str, Any] | None = None
    """About the company of the request."""
    abstraction: Mapping[str, Any] | None = None
    """Patterns across companies."""
    evidence: str = ""
    """Numbered passages that the answer must rest on."""

    @property
    def names(self) -> tuple[str, ...]:
        """Name the contexts that are shown to the model."""
        found = (("company", self.company), ("abstraction", self.abstraction))
        return tuple(name for name, facts in found if facts)


@dataclass(frozen=True, slots=True)
class Query:
    """One request as it was parsed; nothing changes it later.

    What the gateway decides about it stands in `Selection`, what happens to it in `Trace`.
    """

    request_id: str
    kind: Kind
    messages: list[Message]
    params: Mapping[str, Any]
    """OpenAI's parameter names; what the client did not send is absent, 0 stays 0."""
    model_asked: str
    stream: bool = False
    tier_asked: str = "base"
    """A tier, `auto`, or `named` when `model_asked` names a model."""
    user_id: str | None = None
    company_id: str | None = None
    feature: str | None = None
    conversation_id: str | None = None
    context_label: str = "general"
    explicit: str = "model"
    """Where the tier was asked: `model`, `header`, `context` or `default`."""
    operation: str = ""
    """Set when the request is not for a completion: `embeddings`."""
    include_usage: bool = False
    """Whether a streaming client asked for the closing usage chunk."""
    traceparent: str | None = None

    @property
    def input(self) -> str:
        """The text of the last message; what is not text in it is left out."""
        content = self.messages[-1].get("content") if self.messages else ""
        if isinstance(content, list):
            parts = (part.get("text") for part in content if isinstance(part, dict))
            return " ".join(part for part in parts if isinstance(part, str))
        return content if isinstance(content, str) else ""


@dataclass(slots=True)
class Usage:
    """Token counts, and where they come from."""

    input_tokens: int = 0
    output_tokens: int = 0
    source: TokensSource = "unknown"


@dataclass(slots=True)
class Attempt:
    """One call at one upstream."""

    upstream: str
    provider: str
    tier: str
    model: str
    started_s: float
    """Monotonic clock."""
    outcome: str = "running"
    status: int = 0
    error_code: str = ""
    latency_s: float = 0.0
    ttft_s: float | None = None

    def ended(self, outcome: str, status: int, error_code: str) -> None:
        """Note how it ended."""
        self.outcome, self.status, self.error_code = outcome, status, error_code


@dataclass(slots=True)
class Trace:
    """Collect what really happened to one request, for headers and for the record."""

    tier_served: str = ""
    provider: str = ""
    upstream: str = ""
    model: str = ""
    revision: str = ""
    reason: str = ""
    """Why this tier: `explicit_model`, `explicit_header`, `auto`, `auto_abstained`,
    `flag_disabled` ...; the classifier's score is in `selector`."""
    fallback_reason: str = ""
    """Why not the first choice: error code of the attempt that was left behind."""
    attempts: list[Attempt] = field(default_factory=list)
    usage: Usage = field(default_factory=Usage)
    cached: bool = False
    ttft_s: float | None = None
    upstream_s: float = 0.0
    """Time spent waiting for upstreams; the rest of the latency is ours."""
    finish_reason: str = ""
    truncated_messages: int = 0
    """How many of the oldest history messages did not fit the context window."""
    context_applied: tuple[str, ...] = ()
    flags: Mapping[str, Any] = field(default_factory=dict)
    flags_version: int = 0
    selector: str = ""
    """Version of the classifier and its scores when `auto` decided."""
    evidence: dict[str, Any] | None = None
    """What a source of knowledge found: refused and why, confidence, release, whose words."""
    citations: tuple[dict[str, Any], ...] = ()
    """What the shown answer cites, as it stands beside the choice."""
    traceparent: str | None = None
    """The trace context sent to upstreams: the caller's, or that of our own span below it."""

    @property
    def kept_evidence(self) -> dict[str, Any] | None:
        """What the record keeps of the evidence: places, and no word of a document."""
        if self.evidence is None:
            return None
        kept = {name: value for name, value in self.evidence.items() if name != "nearest"}
        names = ("mark", "id", "version", "page", "start", "end")
        kept["citations"] = [{name: one[name] for name in names} for one in self.citations]
        return kept


@dataclass(frozen=True, slots=True)
class Answer:
    """What `LLMService.query` returns."""

    content: str
    request_id: str
    tier_asked: str
    tier_served: str
    provider: str
    model: str
    revision: str
    reason: str
    fallback_reason: str
    usage: Usage
    latency_s: float
    cached: bool
    finish_reason: str = "stop"
    truncated_messages: int = 0
    context_applied: tuple[str, ...] = ()
    citations: tuple[dict[str, Any], ...] = ()
    evidence: dict[str, Any] | None = None
    role: str = "assistant"


def original_tier(use_company_model: bool, use_abstraction: bool) -> str:
    """Choose as the originals do: the company's model wins when both are asked for."""
    if use_company_model:
        return "company"
    return "abstraction" if use_abstraction else "base"
