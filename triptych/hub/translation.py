"""The exceptions of huggingface_hub and its transport as those of this package."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import httpx2
from huggingface_hub import errors as hf_errors

from triptych.errors import (
    AccessDenied,
    CommitConflict,
    EntryNotFound,
    HubError,
    HubUnavailable,
    PublishRefused,
    RepositoryNotFound,
    RevisionNotFound,
    UsageError,
)


@contextmanager
def translated(subject: object, endpoint: str) -> Iterator[None]:
    """Turn every exception of huggingface_hub and its transport into one of ours."""
    try:
        yield
    except hf_errors.GatedRepoError as error:
        raise AccessDenied(
            f"{subject} is gated, and this token may not read it",
            hint=f"accept its terms or ask for access at {endpoint}/{subject}, "
            "then set HF_TOKEN to a token of that account, or `hf auth login`",
        ) from error
    except hf_errors.RepositoryNotFoundError as error:
        raise RepositoryNotFound(
            f"no repository {subject} at {endpoint}, or it is not yours to see",
            hint="check the name; for a private one set HF_TOKEN to a token that may read it",
        ) from error
    except hf_errors.RevisionNotFoundError as error:
        raise RevisionNotFound(
            f"{subject} has no such branch, tag or commit", hint="see its history at the hub"
        ) from error
    except hf_errors.RemoteEntryNotFoundError as error:
        raise EntryNotFound(f"{subject}: {_message_of(error)}", hint="see its files") from error
    except hf_errors.HfHubHTTPError as error:
        raise _by_status(subject, endpoint, error) from error
    except (
        hf_errors.RevisionResolutionError, hf_errors.LocalEntryNotFoundError, httpx2.HTTPError,
        ConnectionError,  # offline mode, and what the Xet transfer raises
    ) as error:  # fmt: skip
        raise HubUnavailable(
            f"the hub at {endpoint} does not answer ({type(error).__name__})",
            hint="is it running? start one here with `triptych hub serve`, or set HF_ENDPOINT",
        ) from error
    except (hf_errors.OIDCError, hf_errors.LocalTokenNotFoundError) as error:
        raise AccessDenied(
            f"no token for {endpoint}: {error}", hint="set HF_TOKEN, or run `hf auth login`"
        ) from error
    except hf_errors.HFValidationError as error:
        raise UsageError(str(error), hint="repository ids look like namespace/name") from error
    except ValueError as error:
        if "metadata in README.md" not in str(error):
            raise
        raise PublishRefused(str(error), hint="correct the block between the --- lines") from error


def _by_status(subject: object, endpoint: str, error: hf_errors.HfHubHTTPError) -> HubError:
    status = error.response.status_code
    message = f"{subject}: {_message_of(error)}"
    if status in (401, 402, 403):
        return AccessDenied(
            f"{message} (HTTP {status})",
            hint="set HF_TOKEN to a token that may do this; `hf auth whoami` shows yours",
        )
    if status in (409, 412):
        return CommitConflict(
            f"{message} (HTTP {status})", hint="it was changed meanwhile; read it again, then retry"
        )
    if status == 429 or status in (500, 502, 503, 504):
        return HubUnavailable(
            f"{message} (HTTP {status})", hint=f"{endpoint} is busy; try again soon"
        )
    wrong = dict.fromkeys((400, 413, 422), "correct what it names and try again")
    hints = {501: "this hub does not offer it", **wrong}
    return HubError(f"{message} (HTTP {status})", hint=hints.get(status, "the hub's log has more"))


def _message_of(error: hf_errors.HfHubHTTPError) -> str:
    return error.server_message or str(error).strip().splitlines()[0]
