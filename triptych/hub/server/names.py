"""Which names accounts, repositories and files may have."""

from __future__ import annotations

import re
import unicodedata

from triptych.errors import HubRefused

# First segments of the hub's own addresses: no account may have such a name.
_RESERVED = """
    api assets buckets datasets docs favicon.ico git health jobs join kernels lfs login logout
    models new oauth organizations papers robots.txt search settings spaces static users v1 v2 xet
    .well-known
"""
RESERVED = frozenset(_RESERVED.split())
_NAME = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9_])?")
_MAXIMUM_PATH_BYTES = 1024
_MAXIMUM_SEGMENT_BYTES = 255


# What is left out of a name shows it in another order than it is read.
_BIDIRECTIONAL = re.compile(r"[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
ONLY_BY = "by case only, or by the form of a letter only"


def folded(path: str) -> str:
    """Return what two paths share that some file systems take for one."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", path).casefold())


def require_account_name(name: str) -> None:
    """Refuse a name that an account cannot have."""
    if not isinstance(name, str) or not _fits(name) or name.lower() in RESERVED:
        raise HubRefused(400, f"{_shown(name)} cannot be the name of an account", hint=_ADVICE)


def require_repository_name(name: str) -> None:
    """Refuse a name that a repository cannot have."""
    if not isinstance(name, str) or not _fits(name) or name.endswith((".git", ".ipynb")):
        raise HubRefused(400, f"{_shown(name)} cannot be the name of a repository", hint=_ADVICE)


def require_path(path: object) -> str:
    """Return a path inside a repository, or refuse it.

    Refused: absolute paths, `.` and `..`, anything that git or a file system would treat
    specially, names no file system can hold.
    """
    problem = _path_problem(path) if isinstance(path, str) else "it is not text"
    if problem:
        raise HubRefused(400, f"The path {_shown(path)} is refused: {problem}")
    return str(path)


def _path_problem(path: str) -> str | None:
    if not path:
        return "it is empty"
    try:
        encoded = path.encode()
    except UnicodeEncodeError:
        return "it is not valid Unicode"
    if len(encoded) > _MAXIMUM_PATH_BYTES:
        return f"it is longer than {_MAXIMUM_PATH_BYTES} bytes"
    if "\\" in path or any(ord(c) < 32 or ord(c) == 127 for c in path):
        return "it has a backslash or a control character"
    if _BIDIRECTIONAL.search(path):
        return "it has a letter that changes the order in which it is shown"
    for segment in path.split("/"):
        if segment in ("", ".", ".."):
            return "it has an empty, `.` or `..` segment"
        if segment.endswith((".", " ")):
            return "a segment ends with a dot or a blank, which some systems leave out"
        if len(segment.encode()) > _MAXIMUM_SEGMENT_BYTES:
            return f"a segment is longer than {_MAXIMUM_SEGMENT_BYTES} bytes"
        # NTFS and HFS+ let these stand for .git; git refuses them for the same reason.
        plain = re.sub(r"[\u200c-\u200f\u202a-\u202e\u206a-\u206f\ufeff]", "", segment)
        if re.fullmatch(r"(\.git|git~\d+)[ .]*(:.*)?", plain, re.IGNORECASE):
            return "it would reach into git's own folder"
    return None


def _fits(name: str) -> bool:
    return bool(_NAME.fullmatch(name)) and ".." not in name and "--" not in name


def _shown(name: object) -> str:
    text = repr(name)
    return text if len(text) <= 80 else text[:77] + "..."


_ADVICE = "letters, digits, '-', '_' and '.', up to 96, starting and ending with one of the first"
