"""The nouns of a hub, as values: a repository's name, a file in it, a Space's state.

Left out: every call that fetches or changes one of them; see `client`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from triptych.errors import UsageError

REPO_TYPES = ("model", "dataset", "space")

# What one file of a commit becomes: bytes, the content of a local file, or nothing (deleted).
Content = bytes | Path | None


@dataclass(frozen=True, order=True)
class Repo:
    """Name a repository: `acme/base`, `datasets/acme/corpus`, `spaces/acme/chat`."""

    repo_id: str
    repo_type: str = "model"

    @classmethod
    def parse(cls, text: str, default_type: str = "model") -> Repo:
        """Read a repository from its id, with or without the prefix that tells its kind.

        Raises: UsageError when it is not `[models/|datasets/|spaces/]namespace/name`.
        """
        parts = text.removeprefix("hf://").strip("/").split("/")
        kind = default_type
        if len(parts) == 3 and parts[0].removesuffix("s") in REPO_TYPES:
            kind = parts.pop(0).removesuffix("s")
        if len(parts) != 2 or not all(parts):
            raise UsageError(
                f"{text!r} is not a repository id",
                hint="write namespace/name, for example acme/base or spaces/acme/chat",
            )
        return cls("/".join(parts), kind)

    def __str__(self) -> str:
        return self.repo_id if self.repo_type == "model" else f"{self.repo_type}s/{self.repo_id}"


def split_revision(ref: str) -> tuple[str, str | None]:
    """Split `acme/base@v1` into repository and revision; the revision may be missing."""
    repo, _, revision = ref.partition("@")
    return repo, revision or None


@dataclass(frozen=True)
class RemoteFile:
    """Describe a file in a repository by size and content hash.

    `sha256` is set for large files; `git_oid` is the hash of the blob otherwise.
    """

    size_bytes: int
    git_oid: str
    sha256: str | None = None


@dataclass(frozen=True)
class SpaceState:
    """Describe what a Space is doing and where it answers.

    `sha` is the head of its repository, `running_sha` the commit that answers now.
    """

    stage: str
    url: str | None
    private: bool
    sha: str | None
    running_sha: str | None = None
    hardware: str | None = None
    sleep_time_s: int | None = None
    error: str | None = None
