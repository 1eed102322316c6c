"""git and git-lfs, unmodified, clone from the hub and push to it."""

from __future__ import annotations

import os
import secrets
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from huggingface_hub import CommitOperationAdd

if TYPE_CHECKING:
    from tests.hub.server.conftest import RunningHub


LARGE = os.urandom(200_000)


def git(folder: Path, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder.parent),
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@b", "GIT_COMMITTER_NAME": "a",
        "GIT_COMMITTER_EMAIL": "a@b",
    }  # fmt: skip
    return subprocess.run(
        ["git", *arguments], cwd=folder, env=environment, capture_output=True, text=True,
        check=check, timeout=180,
    )  # fmt: skip


@pytest.fixture(scope="module")
def repo_id(hub: RunningHub) -> str:
    """A repository with a small and a large file."""
    name = f"admin/r{secrets.token_hex(5)}"
    api = hub.api()
    api.create_repo(name)
    api.create_commit(
        name,
        [CommitOperationAdd("a/b.txt", b"hello\n"), CommitOperationAdd("w.safetensors", LARGE)],
        commit_message="files",
    )
    return name


@pytest.fixture(scope="module")
def cloned(hub: RunningHub, repo_id: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone of it, git-lfs set up."""
    folder = tmp_path_factory.mktemp("git")
    git(folder, "lfs", "install", "--skip-repo")
    url = hub.url.replace("http://", f"http://admin:{hub.admin_token}@")
    git(folder, "clone", "-q", f"{url}/{repo_id}", "clone")
    return folder / "clone"


@pytest.fixture
def clone(cloned: Path) -> Iterator[Path]:
    """The clone, as fresh as after cloning, whatever a test does to it."""
    yield cloned
    git(cloned, "fetch", "-q", "origin")
    git(cloned, "reset", "-q", "--hard", "origin/main")
    git(cloned, "clean", "-q", "-f", "-d")


def test_a_clone_has_the_same_files(clone: Path) -> None:
    assert (clone / "a/b.txt").read_text() == "hello\n"
    assert (clone / "w.safetensors").read_bytes() == LARGE


def test_a_push_arrives_with_its_large_files(hub: RunningHub, repo_id: str, clone: Path) -> None:
    content = os.urandom(150_000)
    (clone / "new.bin").write_bytes(content)
    (clone / "note.txt").write_text("pushed")
    git(clone, "add", "-A")
    git(clone, "commit", "-q", "-m", "from git")
    git(clone, "push", "-q", "origin", "HEAD:main")
    api = hub.api()
    commit = api.list_repo_commits(repo_id)[0]
    assert commit.title == "from git"
    assert api.model_info(repo_id).sha == commit.commit_id
    path = api.hf_hub_download(repo_id, "new.bin", cache_dir=clone.parent / "cache")
    assert Path(path).read_bytes() == content
    assert api.list_models(author="admin", search=repo_id.partition("/")[2])
    assert git(hub.hub.layout.repository(_uid(hub, repo_id)), "fsck", "--strict").returncode == 0


@pytest.mark.parametrize("trick", ["link", "large", "pointer", "case", "ref", "card"])
def test_a_push_with_a_trick_is_refused_and_leaves_nothing(
    hub: RunningHub, repo_id: str, clone: Path, trick: str
) -> None:
    head = hub.api().model_info(repo_id).sha
    target = "HEAD:main"
    if trick == "link":
        (clone / "out").symlink_to("/etc/passwd")
        words = "symbolic link"
    elif trick == "large":
        (clone / "big.txt").write_bytes(b"x" * (11 * 2**20))
        words = "need git-lfs"
    elif trick == "pointer":
        (clone / ".gitattributes").write_text("")  # not large, says the trick
        text = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 5\n"
        (clone / "ghost.bin").write_text(text)
        words = "missing"
    elif trick == "case":
        (clone / "A").mkdir()
        (clone / "A/B.txt").write_text("x")
        words = "case only"
    elif trick == "ref":
        (clone / "x").write_text("x")
        target = "HEAD:refs/pr/1"
        words = "only branches and tags"
    else:
        (clone / "README.md").write_text("---\ntags: {\n---\n")
        words = "README.md"
    git(clone, "add", "-A")
    git(clone, "commit", "-q", "-m", "trick")
    no_hook = [] if trick != "pointer" else ["-c", "core.hooksPath=/nonexistent"]
    pushed = git(clone, *no_hook, "push", "-q", "origin", target, check=False)
    assert pushed.returncode != 0
    assert words in pushed.stderr, pushed.stderr
    assert hub.api().model_info(repo_id).sha == head
    assert [ref.name for ref in hub.api().list_repo_refs(repo_id).branches] == ["main"]


def test_a_push_needs_a_token_that_writes(hub: RunningHub, repo_id: str, clone: Path) -> None:
    _, reader = hub.user()
    (clone / "x").write_text("x")
    git(clone, "add", "-A")
    git(clone, "commit", "-q", "-m", "x")
    for token in ("", reader, "hf_forged"):
        url = hub.url.replace("http://", f"http://someone:{token}@" if token else "http://")
        pushed = git(clone, "push", "-q", f"{url}/{repo_id}", "HEAD:main", check=False)
        assert pushed.returncode != 0


def test_a_private_repository_clones_for_its_owner_only(hub: RunningHub, tmp_path: Path) -> None:
    repo_id = f"admin/r{secrets.token_hex(5)}"
    hub.api().create_repo(repo_id, private=True)
    _, stranger = hub.user()
    answers = []
    for token in (stranger, hub.admin_token):
        url = hub.url.replace("http://", f"http://u:{token}@")
        answers.append(git(tmp_path, "clone", "-q", f"{url}/{repo_id}", token, check=False))
    assert [answer.returncode == 0 for answer in answers] == [False, True]
    assert "not found" in answers[0].stderr


def _uid(hub: RunningHub, repo_id: str) -> str:
    row = hub.hub.database.one("SELECT uid FROM repositories WHERE name = ?", repo_id[6:])
    assert row is not None
    return str(row["uid"])
