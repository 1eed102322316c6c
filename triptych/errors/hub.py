"""The errors of the wing `hub`."""

from __future__ import annotations

from triptych.errors.base import TriptychError


class HubError(TriptychError):
    """Any error of the wing `hub`."""

    default_code = "hub"


class HubUnavailable(HubError):
    """The hub does not answer."""

    default_code = "hub_unavailable"
    exit_code = 3
    default_retryable = True


class RepositoryNotFound(HubError):
    """The repository is absent, or not visible to the caller."""

    default_code = "repository_not_found"


class RevisionNotFound(HubError):
    """The branch, tag or commit does not exist."""

    default_code = "revision_not_found"


class EntryNotFound(HubError):
    """The file does not exist at this revision."""

    default_code = "entry_not_found"


class AccessDenied(HubError):
    """The token is missing, invalid or lacks the permission."""

    default_code = "access_denied"


class CommitConflict(HubError):
    """The branch moved since it was read."""

    default_code = "commit_conflict"
    default_retryable = True


class PublishRefused(HubError):
    """A check before the upload failed."""

    default_code = "publish_refused"


class DeploymentFailed(HubError):
    """The Space never answered with the wanted revision."""

    default_code = "deployment_failed"


class SyncDrift(HubError):
    """A sync target was changed outside of the sync."""

    default_code = "sync_drift"


class HubRefused(HubError):
    """The embedded hub declines a request; carries the HTTP status."""

    default_code = "refused"

    def __init__(
        self, status: int, message: str, *, hint: str = "", code: str | None = None
    ) -> None:
        super().__init__(message, hint=hint, code=code)
        self.status = status
