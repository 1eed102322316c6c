"""What a push may bring, checked by git's pre-receive hook before any ref moves.

The same rules as for commits over HTTP: paths, sizes, no links, large files only where they were
uploaded, a readable card. Runs as a process of its own, started by git, with the pushed objects
still set aside; refusing leaves nothing behind.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from triptych.config import environment, load_config
from triptych.errors import HubRefused
from triptych.hub.server import limits
from triptych.hub.server.database import Database
from triptych.hub.server.layout import Layout
from triptych.hub.server.names import ONLY_BY, folded, require_path
from triptych.hub.server.repositories import catalog
from triptych.hub.server.repositories.cards import MAXIMUM_BYTES as MAXIMUM_CARD_BYTES
from triptych.hub.server.repositories.cards import validate
from triptych.hub.server.storage.git.plumbing import run_git, small_blobs, stream_git
from triptych.hub.server.storage.git.pointers import MAXIMUM_BYTES, parse_pointer
from triptych.hub.server.storage.git.refs import require_no_commit_id

_NOTHING = "0" * 40
_LINK, _SUBMODULE = "120000", "160000"


@dataclass(frozen=True)
class Brought:
    """Describe one file that a pushed commit adds or changes."""

    mode: str
    oid: str
    path: str


def main() -> int:
    """Read the refs of a push from standard input; refuse with a reason and status 1."""
    config = load_config().hub
    database = Database(Layout(config.folder()).database)
    repository = catalog.by_id(database, int(environment.get("TRIPTYCH_PUSH_REPOSITORY", "0") or 0))
    granted = {
        row["sha256"]
        for row in database.query(
            "SELECT sha256 FROM repository_objects WHERE repository_id = ?", repository.id
        )
    }
    signal.signal(signal.SIGALRM, _late)
    signal.alarm(round(limits.PUSH_CHECK_S))
    try:
        _check_objects()
        for line in sys.stdin:
            _, new, ref = line.split(maxsplit=2)
            _check_ref(ref.strip())
            if new != _NOTHING:
                require_no_commit_id(ref.strip().split("/", 2)[2])
                _check_commits(new, granted, config.max_regular_file_bytes, repository.kind)
    except HubRefused as error:
        print(f"refused: {error.message}", file=sys.stderr)
        return 1
    finally:
        database.close()
    return 0


def _late(number: int, frame: object) -> None:
    raise HubRefused(413, f"the push could not be looked at in {limits.PUSH_CHECK_S:g} seconds")


def _check_ref(ref: str) -> None:
    if not ref.startswith(("refs/heads/", "refs/tags/")):
        raise HubRefused(400, f"only branches and tags can be pushed, not {ref}")


def _check_objects() -> None:
    """Refuse objects that are too many or too large, before anything reads one of them whole.

    Their headers are read from the packs that git set aside for this push.
    """
    aside = environment.get("GIT_QUARANTINE_PATH")
    if not aside:
        return
    seen = 0
    for index in sorted(Path(aside).glob("pack/*.idx")):
        names = (record.split()[1] for record in stream_git("show-index", feed=index.read_bytes()))
        while batch := list(islice(names, 10_000)):
            seen += len(batch)
            if seen > limits.PUSHED_OBJECTS:
                raise HubRefused(413, f"a push has at most {limits.PUSHED_OBJECTS} objects")
            form = "--batch-check=%(objecttype) %(objectsize)"
            for record in stream_git("cat-file", form, feed=b"\n".join(batch) + b"\n"):
                object_kind, size = record.decode().split()
                limits.require_object(object_kind, int(size))


def _check_commits(new: str, granted: set[str], limit_bytes: int, kind: str) -> None:
    brought = list(islice(_brought(new), limits.FILES + 1))
    _require_few(len(brought))
    for file in brought:
        require_path(file.path)
        if file.mode == _LINK:
            raise HubRefused(400, f"{file.path} is a symbolic link; commit the file itself")
        if file.mode == _SUBMODULE:
            raise HubRefused(400, f"{file.path} is a submodule; commit its files instead")
    _check_content(brought, granted, limit_bytes)
    _check_collisions(new)
    if any(file.path == "README.md" for file in brought):
        _check_card(new, kind)


def _brought(new: str) -> Iterator[Brought]:
    """Yield every file that a new commit adds or changes."""
    fields = stream_git(
        "log", "-m", "--raw", "-z", "--no-abbrev", "--no-renames", "--diff-filter=AMT",
        "--format=", "--root", new, "--not", "--all", separator=b"\0",
    )  # fmt: skip
    for head, path in zip(fields, fields, strict=False):
        _, mode, _, oid, _ = os.fsdecode(head).strip().lstrip(":").split(" ")
        yield Brought(mode, oid, os.fsdecode(path))


def _require_few(count: int) -> None:
    if count > limits.FILES:
        raise HubRefused(413, f"a revision, or a push, has at most {limits.FILES} files")


def _check_content(brought: list[Brought], granted: set[str], limit_bytes: int) -> None:
    names = {file.oid: file.path for file in brought}
    if not names:
        return
    listed = run_git(
        "cat-file", "--batch-check=%(objectname) %(objectsize)", feed="\n".join(names).encode()
    )
    for line in listed.decode().splitlines():
        oid, size = line.split()
        if int(size) > limit_bytes:
            raise HubRefused(
                413, f"{names[oid]} has {size} bytes; files above {limit_bytes} need git-lfs"
            )
    for oid, content in small_blobs(names, MAXIMUM_BYTES):
        pointer = parse_pointer(content)
        if pointer and pointer.sha256 not in granted:
            raise HubRefused(
                422, f"the large file behind {names[oid]} is missing; push it with git-lfs"
            )


def _check_card(new: str, kind: str) -> None:
    listed = run_git("ls-tree", new, "README.md").decode().split()
    for _, content in small_blobs(listed[2:3], MAXIMUM_CARD_BYTES):
        errors, _ = validate(content.decode(errors="replace"), kind)
        if errors:
            raise HubRefused(400, f"README.md: {errors[0]}")


def _check_collisions(new: str) -> None:
    seen: dict[str, str] = {}
    listed = stream_git("ls-tree", "-r", "-t", "-z", "--name-only", new, separator=b"\0")
    for number, record in enumerate(listed):
        # Folders are listed too; a file has none of its own at most.
        _require_few(number // 2)
        path = os.fsdecode(record)
        other = seen.setdefault(folded(path), path)
        if other != path:
            raise HubRefused(400, f"{path} differs from {other} {ONLY_BY}")


if __name__ == "__main__":
    sys.exit(main())
