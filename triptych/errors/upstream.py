"""The errors of one attempt at an upstream, each with its policy for what follows."""

from __future__ import annotations

from typing import Any, ClassVar

from triptych.errors.tiers import TierError


class UpstreamError(TierError):
    """One attempt at an upstream failed; the attributes are the policy for what follows.

    `retryable`: the same upstream may be called again. `falls_back`: another one may be called.
    `counts`: the circuit breaker counts it as a failure of the upstream.
    """

    default_code = "upstream_error"
    status = 502
    falls_back: ClassVar[bool] = True
    counts: ClassVar[bool] = True

    def __init__(self, message: str, *, hold_s: float | None = None, **about: Any) -> None:
        super().__init__(message, **about)
        self.hold_s = hold_s
        """Seconds the breaker stays open from now on, whatever came before."""


class UpstreamUnreachable(UpstreamError):
    """No connection was possible, or it broke before the answer."""

    default_code = "upstream_unreachable"
    default_retryable = True


class UpstreamTimeout(UpstreamError):
    """One of the four timeouts ran out."""

    default_code = "upstream_timeout"
    status = 504


class UpstreamRejected(UpstreamError):
    """The upstream blames the request; passed on to the caller with its status."""

    default_code = "upstream_rejected"
    status = 400
    falls_back = False
    counts = False


class UpstreamUnfit(UpstreamError):
    """The upstream is not asked: its settings allow no field of this kind."""

    default_code = "unknown_field"
    status = 422
    counts = False


class UpstreamDenied(UpstreamError):
    """The upstream refuses the gateway's credentials."""

    default_code = "upstream_denied"


class UpstreamMissing(UpstreamError):
    """The upstream has no such model, Space or route."""

    default_code = "upstream_missing"


class UpstreamBusy(UpstreamError):
    """The upstream is at its rate limit, quota or queue length."""

    default_code = "upstream_busy"
    status = 429
    default_retryable = True
    counts = False


class UpstreamWaking(UpstreamError):
    """A Space is starting; carries the time until it may be ready."""

    default_code = "space_waking"
    status = 503
    counts = False


class UpstreamFull(UpstreamError):
    """Every place at an upstream is taken: the gateway is full, the upstream is not at fault."""

    default_code = "gateway_full"
    status = 503
    counts = False


class UpstreamFailed(UpstreamError):
    """The upstream answered with a 5xx."""

    default_code = "upstream_failed"
    default_retryable = True


class UpstreamMalformed(UpstreamError):
    """The answer cannot be read: HTML, torn JSON, an error with status 200, or empty."""

    default_code = "upstream_malformed"


class UpstreamInterrupted(UpstreamError):
    """The stream broke after its first token; it is never retried."""

    default_code = "upstream_interrupted"
    falls_back = False
