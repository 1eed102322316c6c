"""The errors of the wing `tiers` that a client sees with their HTTP status."""

from __future__ import annotations

import math

from triptych.errors.base import TriptychError, UsageError


class TierError(TriptychError):
    """Any error of the wing `tiers`; `status` is the HTTP status of the answer."""

    default_code = "tier"

    status: int = 500
    retry_after_s: float | None = None

    def __init__(
        self,
        message: str,
        *,
        hint: str = "",
        code: str | None = None,
        retryable: bool | None = None,
        retry_after_s: float | None = None,
        status: int | None = None,
        param: str | None = None,
    ) -> None:
        super().__init__(message, hint=hint, code=code, retryable=retryable)
        # A time to wait may be what a stranger said; no number that is not finite goes on.
        finite = retry_after_s is not None and math.isfinite(retry_after_s)
        self.retry_after_s = retry_after_s if finite else None
        self.param = param
        if status is not None:
            self.status = status


class InvalidQuery(TierError, UsageError):
    """A field of a request is wrong; names it and its allowed range."""

    default_code = "invalid_request"
    status = 422


class Unauthenticated(TierError):
    """The key is missing, unknown, expired or revoked."""

    default_code = "invalid_api_key"
    status = 401


class Forbidden(TierError):
    """The caller is known but lacks the permission."""

    default_code = "forbidden"
    status = 403


class NotFound(TierError):
    """The object does not exist, or is not visible to the caller."""

    default_code = "not_found"
    status = 404


class NotHere(TierError):
    """A part of another API that does not exist here; says what does instead."""

    default_code = "not_implemented"
    status = 501


class EditConflict(TierError):
    """The object changed since the caller read it."""

    default_code = "edit_conflict"
    status = 409


class TooLarge(TierError):
    """A body or a prompt is larger than allowed."""

    default_code = "too_large"
    status = 413


class LimitExceeded(TierError):
    """A rate limit is used up; carries the time until the next request is accepted."""

    default_code = "rate_limit_exceeded"
    status = 429


class BudgetSpent(TierError):
    """A budget is spent; names when it is renewed or who can raise it."""

    default_code = "budget_spent"
    status = 429


class OutputBlocked(TierError):
    """The output filter blocked an answer, which is never quoted."""

    default_code = "content_filter"
    status = 403


class StructureInvalid(TierError):
    """No answer matched the JSON Schema after the repairs."""

    default_code = "structure_invalid"
    status = 502


class NoProviderAvailable(TierError):
    """Flags, policy or health leave no upstream for the request."""

    default_code = "no_provider_available"
    status = 503
