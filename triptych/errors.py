"""The whole error tree. Every error a caller can act on is one of these.

::

    TriptychError                  exit 1
    ├── UsageError                 exit 2   the command line or a request is wrong
    │   └── ConfigError            exit 2   a setting is unknown, mistyped or out of range
    ├── StorageError               disk full, no permission, folder in use, torn file
    ├── ProcessError               a child process could not be started or died
    ├── LanguageModelError         wing lm
    │   ├── DataError              sources, cleaning, shards, tokenizer training
    │   ├── CheckpointError        a model folder is missing, torn or does not fit
    │   ├── TrainingError          the trainer stopped: loss not finite, resume impossible
    │   ├── GenerationError        sampling, context length, engines
    │   ├── EvaluationError        nothing to evaluate, unknown task
    │   ├── ExportError            a file format cannot hold this model
    │   └── RunError               run states, queue, leases
    ├── HubError                   wing hub
    │   ├── HubUnavailable         exit 3   retryable
    │   ├── RepositoryNotFound     absent, or not yours to see
    │   ├── RevisionNotFound
    │   ├── EntryNotFound
    │   ├── AccessDenied           token missing, invalid or too weak
    │   ├── CommitConflict         retryable: somebody committed in between
    │   ├── PublishRefused         the parity gate or a check before upload failed
    │   ├── DeploymentFailed       the Space never answered with the new revision
    │   ├── SyncDrift              a target was changed by another hand
    │   └── HubRefused             the embedded hub's answer to a request it will not grant
    ├── LearningError              company knowledge, patterns across companies, the loop
    └── TierError                  wing tiers; `status` is the HTTP status a client sees
        ├── InvalidQuery           422  a field of the request is wrong
        ├── Unauthenticated        401  key missing, unknown, expired or revoked
        ├── Forbidden              403  not entitled to this tier, company or route
        ├── NotFound               404  no such model, flag, record - or not yours to see
        ├── EditConflict           409  somebody changed it since it was read
        ├── TooLarge               413  the body or the prompt
        ├── LimitExceeded          429  too many requests; carries retry_after_s
        ├── BudgetSpent            429  tokens or cost; 402 where no new period will help
        ├── OutputBlocked          403  the output filter refused the answer
        ├── StructureInvalid       502  no answer matched the JSON Schema
        ├── NoProviderAvailable    503  flags, policy or health left nobody to ask
        └── UpstreamError          502  one attempt failed; what follows is its policy
            ├── UpstreamUnreachable     502  refused, reset, DNS, TLS
            ├── UpstreamTimeout         504  connect, first token, idle or total
            ├── UpstreamRejected        4xx  it blames the request, so the caller sees it
            ├── UpstreamDenied          502  it refuses our credentials
            ├── UpstreamMissing         502  no such model, Space or route there
            ├── UpstreamBusy            429  carries retry_after_s; holds the breaker until then
            ├── UpstreamWaking          503  a cold start; carries retry_after_s
            ├── UpstreamFailed          502  5xx
            ├── UpstreamMalformed       502  an answer that is none: HTML, torn JSON, empty
            └── UpstreamInterrupted     502  the stream broke after its first token

What is left out: the words for a person (each raise site brings its own message and hint)
and the translation of foreign exceptions, which happens in one file per library.
"""

from __future__ import annotations

from typing import Any, ClassVar


class TriptychError(Exception):
    """Carry what went wrong, what to do next, and whether trying again can help."""

    default_code: ClassVar[str] = "error"
    exit_code: ClassVar[int] = 1
    default_retryable: ClassVar[bool] = False

    def __init__(
        self,
        message: str,
        *,
        hint: str = "",
        code: str | None = None,
        retryable: bool | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.code = code or self.default_code
        self.retryable = self.default_retryable if retryable is None else retryable

    def __str__(self) -> str:
        return f"{self.message}\n  hint: {self.hint}" if self.hint else self.message


class UsageError(TriptychError):
    """Say that the command line or the request is wrong."""

    default_code = "usage"
    exit_code = 2


class ConfigError(UsageError):
    """Name the setting, the value, the allowed range and the nearest valid name."""

    default_code = "config"


class StorageError(TriptychError):
    """Say that a file or folder cannot be read, written or locked."""

    default_code = "storage"


class ProcessError(TriptychError):
    """Say that a child process could not be started, or died."""

    default_code = "process"


class LearningError(TriptychError):
    """Company knowledge, patterns or the loop of feedback cannot go on."""

    default_code = "learning"


class LanguageModelError(TriptychError):
    """Stand above every error of the wing `lm`."""

    default_code = "lm"


class DataError(LanguageModelError):
    """Say what is wrong with a source, a corpus or a tokenizer."""

    default_code = "data"


class CheckpointError(LanguageModelError):
    """Say why a model folder cannot be loaded or saved."""

    default_code = "checkpoint"


class TrainingError(LanguageModelError):
    """Say why training stopped, and at which step."""

    default_code = "training"


class GenerationError(LanguageModelError):
    """Say why a prompt cannot be answered."""

    default_code = "generation"


class EvaluationError(LanguageModelError):
    """Say why a checkpoint cannot be evaluated."""

    default_code = "evaluation"


class ExportError(LanguageModelError):
    """Say why a checkpoint cannot be written in another format."""

    default_code = "export"


class RunError(LanguageModelError):
    """Say why a run cannot change state."""

    default_code = "run"


class HubError(TriptychError):
    """Stand above every error of the wing `hub`."""

    default_code = "hub"


class HubUnavailable(HubError):
    """Say that the hub does not answer."""

    default_code = "hub_unavailable"
    exit_code = 3
    default_retryable = True


class RepositoryNotFound(HubError):
    """Say that a repository is absent, or not the caller's to see."""

    default_code = "repository_not_found"


class RevisionNotFound(HubError):
    """Say that a branch, tag or commit does not exist."""

    default_code = "revision_not_found"


class EntryNotFound(HubError):
    """Say that a file does not exist at a revision."""

    default_code = "entry_not_found"


class AccessDenied(HubError):
    """Say that the token is missing, invalid or too weak."""

    default_code = "access_denied"


class CommitConflict(HubError):
    """Say that the branch moved since it was read."""

    default_code = "commit_conflict"
    default_retryable = True


class PublishRefused(HubError):
    """Say which check before upload failed."""

    default_code = "publish_refused"


class DeploymentFailed(HubError):
    """Say that a Space never answered with the wanted revision."""

    default_code = "deployment_failed"


class SyncDrift(HubError):
    """Say that a sync target was changed by another hand."""

    default_code = "sync_drift"


class HubRefused(HubError):
    """Carry the HTTP status with which the embedded hub declines a request."""

    default_code = "refused"

    def __init__(
        self, status: int, message: str, *, hint: str = "", code: str | None = None
    ) -> None:
        super().__init__(message, hint=hint, code=code)
        self.status = status


class TierError(TriptychError):
    """Stand above every error of the wing `tiers`."""

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
        self.retry_after_s = retry_after_s
        self.param = param
        if status is not None:
            self.status = status


class InvalidQuery(TierError, UsageError):
    """Name the field of a request that is wrong, and its allowed range."""

    default_code = "invalid_request"
    status = 422


class Unauthenticated(TierError):
    """Say that a key is missing, unknown, expired or revoked."""

    default_code = "invalid_api_key"
    status = 401


class Forbidden(TierError):
    """Say that the caller is known but not entitled."""

    default_code = "forbidden"
    status = 403


class NotFound(TierError):
    """Say that a thing does not exist, or is not the caller's to see."""

    default_code = "not_found"
    status = 404


class EditConflict(TierError):
    """Say that the thing changed since the caller read it."""

    default_code = "edit_conflict"
    status = 409


class TooLarge(TierError):
    """Say that a body or a prompt is larger than allowed."""

    default_code = "too_large"
    status = 413


class LimitExceeded(TierError):
    """Say which limit is spent and when to come back."""

    default_code = "rate_limit_exceeded"
    status = 429


class BudgetSpent(TierError):
    """Say which budget is spent, and when it begins anew or who can raise it."""

    default_code = "budget_spent"
    status = 429


class OutputBlocked(TierError):
    """Say that the output filter refused an answer; never quotes it."""

    default_code = "content_filter"
    status = 403


class StructureInvalid(TierError):
    """Say why no answer matched the JSON Schema after the repairs."""

    default_code = "structure_invalid"
    status = 502


class NoProviderAvailable(TierError):
    """Say that flags, policy or health left nobody to ask."""

    default_code = "no_provider_available"
    status = 503


class UpstreamError(TierError):
    """Describe one failed attempt and what may follow it.

    `retryable`: the same upstream may be asked again. `falls_back`: another one may be.
    `counts`: the circuit breaker takes it as a failure of the upstream.
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
    """Say that no connection was possible, or it broke before the answer."""

    default_code = "upstream_unreachable"
    default_retryable = True


class UpstreamTimeout(UpstreamError):
    """Say which of the four timeouts ran out."""

    default_code = "upstream_timeout"
    status = 504


class UpstreamRejected(UpstreamError):
    """Hand the caller's own mistake back to the caller, with the upstream's status."""

    default_code = "upstream_rejected"
    status = 400
    falls_back = False
    counts = False


class UpstreamDenied(UpstreamError):
    """Say that the upstream refuses the gateway's credentials."""

    default_code = "upstream_denied"


class UpstreamMissing(UpstreamError):
    """Say that the upstream knows no such model, Space or route."""

    default_code = "upstream_missing"


class UpstreamBusy(UpstreamError):
    """Say that the upstream asks for patience: rate limit, quota or full queue."""

    default_code = "upstream_busy"
    status = 429
    default_retryable = True
    counts = False


class UpstreamWaking(UpstreamError):
    """Say that a Space is starting, and when to come back."""

    default_code = "space_waking"
    status = 503
    counts = False


class UpstreamFailed(UpstreamError):
    """Say that the upstream answered with a 5xx."""

    default_code = "upstream_failed"
    default_retryable = True


class UpstreamMalformed(UpstreamError):
    """Say that the upstream's answer is none: HTML, torn JSON, an error with status 200, empty."""

    default_code = "upstream_malformed"


class UpstreamInterrupted(UpstreamError):
    """Say that a stream broke after its first token; nothing is ever retried after that."""

    default_code = "upstream_interrupted"
    falls_back = False
