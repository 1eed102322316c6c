"""Every error that a caller can act on, as one tree.

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
    │   ├── RepositoryNotFound     absent, or not visible to the caller
    │   ├── RevisionNotFound
    │   ├── EntryNotFound
    │   ├── AccessDenied           token missing, invalid or too weak
    │   ├── CommitConflict         retryable: the branch moved since it was read
    │   ├── PublishRefused         the parity gate or a check before upload failed
    │   ├── DeploymentFailed       the Space never answered with the new revision
    │   ├── SyncDrift              a target was changed outside of the sync
    │   └── HubRefused             the embedded hub declines a request; carries the status
    ├── LearningError              company knowledge, patterns across companies, the loop
    │   └── LearningUnavailable    exit 3   retryable: the gateway does not answer
    └── TierError                  wing tiers; `status` is the HTTP status a client sees
        ├── InvalidQuery           422  a field of the request is wrong
        ├── Unauthenticated        401  key missing, unknown, expired or revoked
        ├── Forbidden              403  not entitled to this tier, company or route
        ├── NotFound               404  no such model, flag, record, or not visible to the caller
        ├── NotHere                501  a part of another API that does not exist here
        ├── EditConflict           409  changed since it was read
        ├── TooLarge               413  the body or the prompt
        ├── LimitExceeded          429  too many requests; carries retry_after_s
        ├── BudgetSpent            429  tokens or cost; 402 where no new period will help
        ├── OutputBlocked          403  the output filter refused the answer
        ├── StructureInvalid       502  no answer matched the JSON Schema
        ├── NoProviderAvailable    503  flags, policy or health leave no upstream
        └── UpstreamError          502  one attempt failed; what follows is its policy
            ├── UpstreamUnreachable     502  refused, reset, DNS, TLS
            ├── UpstreamTimeout         504  connect, first token, idle or total
            ├── UpstreamRejected        4xx  it blames the request; passed on to the caller
            ├── UpstreamUnfit           422  its settings allow no field of this kind
            ├── UpstreamDenied          502  it refuses our credentials
            ├── UpstreamMissing         502  no such model, Space or route there
            ├── UpstreamBusy            429  carries retry_after_s; holds the breaker until then
            ├── UpstreamWaking          503  a cold start; carries retry_after_s
            ├── UpstreamFull            503  every place there is taken: our own congestion
            ├── UpstreamFailed          502  5xx
            ├── UpstreamMalformed       502  the answer cannot be read: HTML, torn JSON, empty
            └── UpstreamInterrupted     502  the stream broke after its first token

Left out: messages and hints (each raise site brings its own) and the translation of
foreign exceptions, which happens in one file per library.
"""

from __future__ import annotations

from triptych.errors.base import (
    ConfigError,
    LearningError,
    LearningUnavailable,
    ProcessError,
    StorageError,
    TriptychError,
    UsageError,
)
from triptych.errors.hub import (
    AccessDenied,
    CommitConflict,
    DeploymentFailed,
    EntryNotFound,
    HubError,
    HubRefused,
    HubUnavailable,
    PublishRefused,
    RepositoryNotFound,
    RevisionNotFound,
    SyncDrift,
)
from triptych.errors.lm import (
    CheckpointError,
    DataError,
    EvaluationError,
    ExportError,
    GenerationError,
    LanguageModelError,
    RunError,
    TrainingError,
)
from triptych.errors.tiers import (
    BudgetSpent,
    EditConflict,
    Forbidden,
    InvalidQuery,
    LimitExceeded,
    NoProviderAvailable,
    NotFound,
    NotHere,
    OutputBlocked,
    StructureInvalid,
    TierError,
    TooLarge,
    Unauthenticated,
)
from triptych.errors.upstream import (
    UpstreamBusy,
    UpstreamDenied,
    UpstreamError,
    UpstreamFailed,
    UpstreamFull,
    UpstreamInterrupted,
    UpstreamMalformed,
    UpstreamMissing,
    UpstreamRejected,
    UpstreamTimeout,
    UpstreamUnfit,
    UpstreamUnreachable,
    UpstreamWaking,
)

__all__ = [
    "AccessDenied",
    "BudgetSpent",
    "CheckpointError",
    "CommitConflict",
    "ConfigError",
    "DataError",
    "DeploymentFailed",
    "EditConflict",
    "EntryNotFound",
    "EvaluationError",
    "ExportError",
    "Forbidden",
    "GenerationError",
    "HubError",
    "HubRefused",
    "HubUnavailable",
    "InvalidQuery",
    "LanguageModelError",
    "LearningError",
    "LearningUnavailable",
    "LimitExceeded",
    "NoProviderAvailable",
    "NotFound",
    "NotHere",
    "OutputBlocked",
    "ProcessError",
    "PublishRefused",
    "RepositoryNotFound",
    "RevisionNotFound",
    "RunError",
    "StorageError",
    "StructureInvalid",
    "SyncDrift",
    "TierError",
    "TooLarge",
    "TrainingError",
    "TriptychError",
    "Unauthenticated",
    "UpstreamBusy",
    "UpstreamDenied",
    "UpstreamError",
    "UpstreamFailed",
    "UpstreamFull",
    "UpstreamInterrupted",
    "UpstreamMalformed",
    "UpstreamMissing",
    "UpstreamRejected",
    "UpstreamTimeout",
    "UpstreamUnfit",
    "UpstreamUnreachable",
    "UpstreamWaking",
    "UsageError",
]
