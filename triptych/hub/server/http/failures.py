"""The one table from errors to HTTP answers, in the words the hub's clients understand.

Absent and hidden repositories are one error, so they are one answer. An unexpected error is
logged and answered with 500 and nothing of its inside.
"""

from __future__ import annotations

import errno
import logging
import os
import re

import pygit2
from starlette.responses import JSONResponse, Response

from triptych.errors import (
    AccessDenied,
    CommitConflict,
    EntryNotFound,
    HubRefused,
    RepositoryNotFound,
    RevisionNotFound,
    StorageError,
    TriptychError,
)

log = logging.getLogger(__name__)
_HEADER_CHARS = 1000

# class -> status, X-Error-Code
_TABLE: dict[type[TriptychError], tuple[int, str]] = {
    RepositoryNotFound: (404, "RepoNotFound"),
    RevisionNotFound: (404, "RevisionNotFound"),
    EntryNotFound: (404, "EntryNotFound"),
    AccessDenied: (403, ""),
    CommitConflict: (412, ""),
}


def describe(error: BaseException, *, anonymous: bool = False) -> tuple[int, str, str]:
    """Return status, X-Error-Code and message for an error."""
    if isinstance(error, HubRefused):
        return error.status, error.code if error.code == "GatedRepo" else "", _words(error)
    if isinstance(error, AccessDenied) and (error.code == "invalid_token" or anonymous):
        return 401, "", error.message
    if isinstance(error, RepositoryNotFound) and anonymous:
        return 401, "RepoNotFound", error.message
    for kind, (status, code) in _TABLE.items():
        if isinstance(error, kind):
            return status, code, _words(error)
    if isinstance(error, StorageError) and error.code == "disk_full":
        return 507, "", "The hub's disk is full"
    if _is_full(error):
        return 507, "", "The hub's disk is full"
    return 500, "", "Internal error; the hub's log has the details"


def report(error: BaseException, *, anonymous: bool = False) -> tuple[int, str, str]:
    """Return what `describe` returns, after logging an error that is the hub's own."""
    status, code, message = describe(error, anonymous=anonymous)
    if status >= 500 and status != 501:
        log.error("%s: %s", type(error).__name__, error, exc_info=error)
    return status, code, message


def answer(
    error: BaseException,
    *,
    anonymous: bool = False,
    git: bool = False,
    commit: str | None = None,
) -> Response:
    """Turn an error into the JSON answer the clients parse."""
    status, code, message = report(error, anonymous=anonymous)
    headers = {"X-Error-Message": re.sub(r"[^ -~]+", " ", message)[:_HEADER_CHARS]}
    if code:
        headers["X-Error-Code"] = code
    if commit:
        headers["X-Repo-Commit"] = commit
    if status == 401 and git:
        headers["WWW-Authenticate"] = 'Basic realm="Triptych hub"'
    body = {"error": message}
    if git:
        body["message"] = message
    return JSONResponse(body, status_code=status, headers=headers)


def _is_full(error: BaseException) -> bool:
    if isinstance(error, pygit2.GitError):
        return os.strerror(errno.ENOSPC) in str(error)
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)


def _words(error: TriptychError) -> str:
    return f"{error.message} ({error.hint})" if error.hint else error.message
