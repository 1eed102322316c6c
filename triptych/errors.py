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
    │   └── SyncDrift              a target was changed by another hand
    └── TierError                  wing tiers

What is left out: the words for a person (each raise site brings its own message and hint)
and the translation of foreign exceptions, which happens in one file per library.
"""

from __future__ import annotations

from typing import ClassVar


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


class TierError(TriptychError):
    """Stand above every error of the wing `tiers`."""

    default_code = "tier"
