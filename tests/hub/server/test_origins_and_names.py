"""Foreign pages and hosts get nothing; names that read alike are one; git-lfs hears of no locks."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest
from huggingface_hub import CommitOperationAdd
from huggingface_hub.errors import HfHubHTTPError

from tests.hub.server.watching import Crafted

if TYPE_CHECKING:
    from tests.hub.server.conftest import RunningHub


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Origin": "http://127.0.0.1:1"},
    ],
)
def test_found_f14_a_foreign_page_signs_no_person_in(
    hub: RunningHub, headers: dict[str, str]
) -> None:
    form = {"token": hub.admin_token, "next": "/"}
    answer = httpx.post(f"{hub.url}/login", data=form, headers=headers, timeout=60)
    assert answer.status_code == 403
    assert "set-cookie" not in answer.headers


def test_found_f14_the_hubs_own_page_and_programs_still_sign_in(hub: RunningHub) -> None:
    form = {"token": hub.admin_token, "next": "/"}
    for headers in ({"Origin": hub.url, "Sec-Fetch-Site": "same-origin"}, {}):
        answer = httpx.post(f"{hub.url}/login", data=form, headers=headers, timeout=60)
        assert answer.status_code == 303
        assert "set-cookie" in answer.headers


def test_found_f15_a_hub_on_loopback_answers_to_its_own_names_only(
    start_hub: Callable[..., RunningHub],
) -> None:
    hub = start_hub(public_url="https://models.example:8443")
    port = hub.url.rpartition(":")[2]
    for host in (
        "evil.example",
        f"evil.example:{port}",
        "localhost.evil.example",
        "",
        "127.1.1.1.x",
    ):
        for path in ("/health", "/api/models", "/", "/.well-known/openid-configuration"):
            answer = httpx.get(f"{hub.url}{path}", headers={"Host": host}, timeout=60)
            assert answer.status_code == 421, (host, path)
    for host in (
        f"localhost:{port}",
        "127.0.0.1",
        f"[::1]:{port}",
        "a.localhost",
        "models.example",
    ):
        answer = httpx.get(f"{hub.url}/health", headers={"Host": host}, timeout=60)
        assert answer.status_code == 200, host


@pytest.mark.parametrize(
    "names",
    [
        ("caf\u00e9.txt", "cafe\u0301.txt"),
        ("d\u00e9/a.txt", "de\u0301/b.txt"),
        ("A\u030a.txt", "\u00e5.txt"),
        ("x.",),
        ("x ",),
        ("a./b",),
        ("exe\u202etxt.py",),
        ("\u2066a",),
    ],
)
def test_found_f16_names_that_some_systems_take_for_one_are_refused(
    hub: RunningHub, repo_id: str, tmp_path: Path, names: tuple[str, ...]
) -> None:
    api = hub.api()
    api.create_repo(repo_id)
    files = [CommitOperationAdd(name, name.encode()) for name in names]
    with pytest.raises(HfHubHTTPError) as refused:
        api.create_commit(repo_id, files, commit_message="names")
    assert refused.value.response.status_code == 400


def test_found_f16_git_push_is_held_to_the_same_names(
    hub: RunningHub, repo_id: str, tmp_path: Path
) -> None:
    hub.api().create_repo(repo_id)
    crafted = Crafted(tmp_path / "crafted")
    blob = crafted.blob(b"x")
    remote = hub.url.replace("http://", f"http://admin:{hub.admin_token}@") + f"/{repo_id}"
    for names in (("caf\u00e9", "cafe\u0301"), ("x.",), ("a\u202eb",)):
        tree = crafted.tree([("100644", blob, name) for name in names])
        taken, words = crafted.push(remote, crafted.commit(tree))
        assert not taken, names
        assert "refused" in words
    assert crafted.push(remote, crafted.commit(crafted.tree([("100644", blob, "caf\u00e9")])))[0]


def test_found_f17_a_push_over_lfs_says_nothing_about_locks(
    hub: RunningHub, repo_id: str, tmp_path: Path
) -> None:
    hub.api().create_repo(repo_id)
    remote = hub.url.replace("http://", f"http://admin:{hub.admin_token}@") + f"/{repo_id}"
    clone = tmp_path / "clone"

    def git(*arguments: str) -> str:
        done = subprocess.run(
            ["git", "-c", "user.name=a", "-c", "user.email=a@b", *arguments],
            cwd=clone if clone.exists() else tmp_path, capture_output=True, text=True, check=True,
        )  # fmt: skip
        return done.stdout + done.stderr

    git("clone", "-q", remote, "clone")
    git("lfs", "install", "--local")
    (clone / "w.bin").write_bytes(b"\0weights")
    git("add", "w.bin")
    git("commit", "-q", "-m", "w")
    assert "ock" not in git("push", "origin", "HEAD:main")
    assert hub.api().file_exists(repo_id, "w.bin")
