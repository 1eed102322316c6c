"""Settings of the tiered gateway."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Literal

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

ProviderName = Literal["openai", "anthropic", "gemini", "hf_spaces", "local", "scripted"]

UnknownFields = Literal["pass", "drop", "refuse"]

DataClass = Literal["sensitive", "personal", "pseudonymous", "non_personal"]

_STRICT = ConfigDict(extra="forbid")


@dataclass(frozen=True, config=_STRICT)
class UpstreamConfig:
    """One address that answers for one or more tiers."""

    provider: ProviderName
    """The protocol: any OpenAI-compatible address, Anthropic's or Gemini's, a Space, a model
    server of your own, a script."""

    address: str = ""
    """Base URL ending before `/chat/completions`; or a Space as `org/name` or its address."""

    models: Mapping[str, str] = field(default_factory=dict)
    """Tier or public model name -> model name sent upstream; empty means what runs there."""

    key_name: str = ""
    """Name of the environment variable, or of a secret an admin entered, that holds its key."""

    key_names: tuple[str, ...] = ()
    """More keys of the same account or others: they take turns, and one that is refused or asked
    for patience rests while the others go on."""

    group: str = ""
    """Name that equal upstreams share: the order among them is `gateway.balance`'s."""

    weight: float = Field(default=1.0, gt=0, le=1000)
    """Its share of its group's requests, beside those of the others."""

    external: bool | None = None
    """Whether content sent there leaves your infrastructure; unset: true for `openai`,
    `anthropic` and `gemini` upstreams."""

    revision: str = ""
    """Revision reported for its answers when it does not say one itself."""

    context_tokens: int = Field(default=0, ge=0)
    """Context window; older history is left out beyond it. 0: unknown, nothing is left out."""

    stream_usage: bool = True
    """Ask for exact usage at the end of streams (`stream_options.include_usage`)."""

    max_connections: int = Field(default=128, ge=1)
    """Connections held open at once."""

    first_token_timeout_s: float | None = Field(default=None, gt=0)
    """Overrides the gateway's own for this upstream, in seconds."""

    unknown_fields: UnknownFields | None = None
    """Request fields that OpenAI's API does not have: passed on, left out, or the upstream is not
    asked. Unset: `pass` for upstreams of your own, `drop` for external ones."""

    hardware: str = ""
    """What it runs on when it is billed by the hour: `t4-small`, or a name of `hour_prices`."""


@dataclass(frozen=True, config=_STRICT)
class TokenPriceConfig:
    """What a model's tokens cost."""

    input_usd_per_mtok: float = Field(ge=0)
    """US dollars for a million tokens of input."""

    output_usd_per_mtok: float = Field(ge=0)
    """US dollars for a million tokens of output."""

    since: str = ""
    """Day from which it holds, as 2026-11-21; empty: always."""


@dataclass(frozen=True, config=_STRICT)
class GatewayConfig:
    """Settings of the tiered gateway."""

    host: str = "127.0.0.1"
    """Address to listen on; beyond loopback a real admin key is required."""

    port: int = Field(default=7870, ge=0, le=65535)
    """Port to listen on; 0 picks a free one."""

    workers: int = Field(default=1, ge=1, le=64)
    """Worker processes on the one port."""

    node: str = Field(default="", max_length=64, pattern=r"^[A-Za-z0-9._-]*$")
    """Name of this machine in the record and the metrics; empty: one is made at the first start
    and kept in `TRIPTYCH_HOME/gateway/node`. No two machines on one database share a name."""

    drain_notice_s: float = Field(default=0.0, ge=0)
    """Seconds between the signal to stop and the end of accepting connections: `/ready` answers
    503 during them, so that a balancer sends new requests elsewhere."""

    drain_s: float = Field(default=300.0, ge=0)
    """Seconds that answers under way may still take after the signal to stop."""

    database_url: str = ""
    """SQLAlchemy address; empty: SQLite in `TRIPTYCH_HOME/gateway.db`."""

    require_row_level_security: bool = False
    """Refuse to start with a PostgreSQL role that bypasses row-level security (a superuser)."""

    redis_url: str = ""
    """Shared counters of the rate limits; empty: in memory, so per worker process."""

    upstreams: Mapping[str, UpstreamConfig] = field(default_factory=dict)
    """Name -> upstream. Empty: the three Spaces and OpenAI as the environment names them."""

    provider_order: tuple[ProviderName, ...] = (
        "hf_spaces", "local", "openai", "anthropic", "gemini", "scripted",
    )  # fmt: skip
    """The first provider when the `provider` flag is `auto`, and the fallback order."""

    balance: Literal["weight", "latency"] = "weight"
    """Order among upstreams of one group: by chance and weight, or the one first that answered
    soonest lately, its answers under way counted."""

    connect_timeout_s: float = Field(default=5.0, gt=0)
    """Seconds to reach an upstream."""

    first_token_timeout_s: float = Field(default=30.0, gt=0)
    """Seconds until the first token of a stream."""

    answer_timeout_s: float = Field(default=60.0, gt=0)
    """Seconds for one attempt at an answer that is not streamed."""

    idle_timeout_s: float = Field(default=30.0, gt=0)
    """Seconds between two pieces of a stream."""

    keepalive_s: float = Field(default=10.0, gt=0)
    """Seconds of silence after which a streaming client is sent a comment line, so that no proxy
    in between takes the connection for dead."""

    queue_timeout_s: float = Field(default=10.0, gt=0)
    """Seconds a request waits for one of an upstream's `max_connections`; the upstream's own times
    begin after that."""

    total_timeout_s: float = Field(default=120.0, gt=0)
    """Seconds for a request with all its attempts: until an answer is whole, or until the first
    token of a stream, which may then last as long as it keeps coming."""

    max_attempts: int = Field(default=4, ge=1, le=16)
    """Attempts at upstreams for one request, retries and fallbacks together."""

    retries: int = Field(default=1, ge=0, le=3)
    """Retries at one upstream before the next one is asked."""

    retry_base_s: float = Field(default=1.0, ge=0)
    """First pause between retries in seconds; doubles each time, with jitter of 15 %."""

    retry_after_max_s: float = Field(default=2.0, ge=0)
    """Longest `Retry-After` that is waited for; a longer one goes to the next upstream."""

    breaker_failures: int = Field(default=5, ge=1)
    """Failures in a row that open an upstream's circuit breaker."""

    breaker_open_s: float = Field(default=30.0, gt=0)
    """Seconds an open breaker waits before its single probe."""

    wake_timeout_s: float = Field(default=60.0, ge=0)
    """Seconds a request waits for a sleeping Space before falling back."""

    max_connections: int = Field(default=0, ge=0)
    """Open connections of one worker; 0: as many as its descriptors allow, less a reserve."""

    max_connections_per_address: int = Field(default=0, ge=0)
    """Open connections of one address at one worker; 0: half of all. Behind a proxy set it to
    `max_connections`: all callers have its address then."""

    header_timeout_s: float = Field(default=20.0, gt=0)
    """Seconds until a connection has sent the head of its request."""

    body_timeout_s: float = Field(default=120.0, gt=0)
    """Seconds until a request's body has arrived."""

    max_body_bytes: int = Field(default=4 * 1024 * 1024, ge=1024)
    """Largest request body."""

    cors_origins: tuple[str, ...] = ()
    """Web origins whose pages may call `/v1` and `/api/query` from a browser, as
    `https://app.example.com`; `*` is every page. Empty: none."""

    max_input_bytes: int = Field(default=64 * 1024, ge=256)
    """Largest single message."""

    allow_client_system: bool = True
    """Whether `/v1` clients may send `system` messages; `/api/query` clients never may."""

    allow_private_addresses: bool = False
    """Whether Spaces and base URLs may be plain http or on private networks (development)."""

    identity_issuer: str = ""
    """Address of the hub whose accounts may sign in to the panels; empty: keys only."""

    identity_client: str = ""
    """Id under which the panels are known to that hub: `triptych hub client list` shows it."""

    anonymous: bool = False
    """Whether callers without a key may use the base tier."""

    limit_window_s: int = Field(default=900, ge=1)
    """Length of the rate-limit window in seconds."""

    limit_service: int = Field(default=1000, ge=1)
    """Requests per window for a service key."""

    limit_user: int = Field(default=100, ge=1)
    """Requests per window for a user."""

    limit_anonymous: int = Field(default=20, ge=1)
    """Requests per window for an address without a key."""

    limit_wrong_keys: int = Field(default=30, ge=1)
    """Wrong keys of one address in a minute; more are refused with 429 and noted on the audit."""

    cache_bytes: int = Field(default=32 * 1024 * 1024, ge=0)
    """Memory of the exact-match cache; 0 turns it off."""

    cache_ttl_s: float = Field(default=300.0, gt=0)
    """Seconds an answer stays in the cache."""

    blocked_patterns: tuple[str, ...] = ()
    """Regular expressions that no answer may match; one that does is withheld."""

    spool_bytes: int = Field(default=512 * 1024 * 1024, ge=1024 * 1024)
    """Disk the record spool may hold while the database is away; beyond it losses are counted."""

    flush_interval_s: float = Field(default=0.1, gt=0)
    """Seconds between two batches from the spool into the database."""

    poll_interval_s: float = Field(default=0.5, gt=0)
    """Seconds between two looks for changed flags, keys and Spaces."""

    token_prices: Mapping[str, TokenPriceConfig] = field(default_factory=dict)
    """Model -> its price; adds to the dated table that comes with the gateway, and wins over it."""

    hour_prices: Mapping[str, float] = field(default_factory=dict)
    """Hardware -> US dollars per hour, for GPUs of your own; wins over the dated table."""

    reference_model: str = "gpt-5-mini"
    """Model whose price is shown beside every cost; empty: none."""

    budget_reserve_tokens: int = Field(default=1024, ge=1)
    """Tokens of answer set aside under a budget when a request names no `max_tokens`."""

    retention_days: Mapping[DataClass, float] = field(default_factory=dict)
    """Days that stored data is kept by its class; what is not named here has the default:
    sensitive 1, personal 30, pseudonymous 180, non_personal 730."""

    store_responses: Literal["never", "asked", "always"] = "asked"
    """Whether answers of `/v1/responses` are kept for `previous_response_id`, unredacted and under
    `retention_days`: never, where a client sends `store: true`, or unless it sends false."""

    retention_interval_s: float = Field(default=3600.0, gt=0)
    """Seconds between two looks for data that has been kept long enough."""

    otlp_endpoint: str = ""
    """Address of an OpenTelemetry collector, `http://localhost:4318`; empty: no spans are sent."""

    trace_content: bool = False
    """Whether spans hold questions and answers, redacted; off, they hold numbers and names."""
