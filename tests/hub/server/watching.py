"""Another client of a hub, which asks for its health while something hostile goes on."""

from __future__ import annotations

import subprocess
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx

# A hub that is frozen never answers; this is how long a request may hang before it counts so.
HANG_S = 15.0


class Watch:
    """Ask for `/health` all the time; `silent` lists the requests that got no answer."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.silent: list[str] = []
        self.longest_s = 0.0
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        self._end.set()
        self._thread.join(timeout=HANG_S + 5)

    def _run(self) -> None:
        with httpx.Client(timeout=HANG_S) as client:
            while not self._end.wait(0.02):
                start = time.monotonic()
                try:
                    client.get(f"{self.url}/health").raise_for_status()
                except httpx.HTTPError as error:
                    self.silent.append(repr(error))
                self.longest_s = max(self.longest_s, time.monotonic() - start)


class Crafted:
    """A bare repository made object by object, and pushed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        subprocess.run(["git", "init", "-q", "--bare", str(folder)], check=True)

    def git(self, *arguments: str, feed: bytes = b"") -> str:
        """Run git there and return what it printed."""
        done = subprocess.run(
            ["git", "--git-dir", str(self.folder), *arguments],
            input=feed, capture_output=True, check=True, timeout=120,
        )  # fmt: skip
        return done.stdout.decode().strip()

    def blob(self, content: bytes) -> str:
        """Write a file."""
        return self.git("hash-object", "-w", "--stdin", feed=content)

    def tree(self, entries: list[tuple[str, str, str]]) -> str:
        """Write a folder of (mode, id, name)."""
        kinds = {"040000": "tree", "100644": "blob"}
        lines = "".join(f"{mode} {kinds[mode]} {oid}\t{name}\0" for mode, oid, name in entries)
        return self.git("mktree", "-z", "--missing", feed=lines.encode())

    def commit(self, tree: str, message: bytes = b"hostile", parents: tuple[str, ...] = ()) -> str:
        """Write a commit."""
        head = f"tree {tree}\n" + "".join(f"parent {one}\n" for one in parents)
        head += "author a <a@b> 1 +0000\ncommitter a <a@b> 1 +0000\n\n"
        return self.git(
            "hash-object", "-t", "commit", "-w", "--stdin", feed=head.encode() + message
        )

    def push(self, url: str, commit: str, ref: str = "refs/heads/main") -> tuple[bool, str]:
        """Push by force; returns whether it was taken, and what was said."""
        done = subprocess.run(
            ["git", "--git-dir", str(self.folder), "push", "-q", "--force", url, f"{commit}:{ref}"],
            capture_output=True, text=True, check=False, timeout=200,
        )  # fmt: skip
        return done.returncode == 0, done.stderr
