"""Asking git itself: over many objects, one process is faster than a library call each."""

from __future__ import annotations

import errno
import os
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from triptych.errors import StorageError


def run_git(*arguments: str, feed: bytes = b"", repository: Path | None = None) -> bytes:
    """Run a git command and return its output; without a repository, git finds its own.

    Raises: StorageError with git's words when it fails.
    """
    where = ["--git-dir", str(repository)] if repository else []
    result = subprocess.run(
        ["git", *where, *arguments], input=feed, capture_output=True, check=False
    )
    if result.returncode != 0:
        words = result.stderr.decode(errors="replace").strip()
        raise StorageError(
            f"git {arguments[0]} failed in {repository or 'this repository'}: {words}",
            hint="look at it with: git fsck",
            code="disk_full" if os.strerror(errno.ENOSPC) in words else None,
        )
    return result.stdout


def stream_git(*arguments: str, feed: bytes = b"", separator: bytes = b"\n") -> Iterator[bytes]:
    """Yield what a git command prints, record by record; git ends when the caller stops reading.

    Raises: StorageError when it fails.
    """
    with tempfile.TemporaryFile() as source:
        source.write(feed)
        source.seek(0)
        process = subprocess.Popen(
            ["git", *arguments], stdin=source, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        assert process.stdout is not None
        rest = b""
        try:
            while block := process.stdout.read(2**16):
                *whole, rest = (rest + block).split(separator)
                yield from whole
            if rest:
                yield rest
            if process.wait() != 0:
                raise StorageError(f"git {arguments[0]} failed", hint="look at it with: git fsck")
        finally:
            process.kill()
            process.stdout.close()
            process.wait()


def small_blobs(
    names: Iterable[str], below_bytes: int, repository: Path | None = None
) -> Iterator[tuple[str, bytes]]:
    """Yield name and content of those objects that are files smaller than a limit."""
    checked = run_git(
        "cat-file", "--batch-check=%(objecttype) %(objectsize) %(objectname)",
        feed="\n".join(names).encode() + b"\n", repository=repository,
    )  # fmt: skip
    small = [
        name
        for kind, size, name in (line.split() for line in checked.decode().splitlines())
        if kind == "blob" and int(size) < below_bytes
    ]
    if not small:
        return
    feed = "\n".join(small).encode() + b"\n"
    content = run_git("cat-file", "--batch", feed=feed, repository=repository)
    position = 0
    for name in small:
        line_end = content.index(b"\n", position)
        size = int(content[position:line_end].rsplit(b" ", 1)[1])
        yield name, content[line_end + 1 : line_end + 1 + size]
        position = line_end + size + 2
