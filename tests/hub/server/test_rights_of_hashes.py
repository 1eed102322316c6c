"""A commit id always means that commit, and the hash of a file is no right to the file."""

from __future__ import annotations

import base64
import hashlib
import json
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from huggingface_hub import CommitOperationAdd
from huggingface_hub.errors import HfHubHTTPError

from triptych.hub.server.storage.git.pointers import write_pointer

if TYPE_CHECKING:
    from tests.hub.server.conftest import RunningHub

SECRET = b"the private weights of Ann " * 400


def commit_text(hub: RunningHub, token: str, repo_id: str, path: str, content: bytes) -> Any:
    """Commit a file as git keeps it, as `curl` would."""
    file = {"path": path, "content": base64.b64encode(content).decode(), "encoding": "base64"}
    lines = [
        {"key": "header", "value": {"summary": "a file"}},
        {"key": "file", "value": file},
    ]
    return httpx.post(
        f"{hub.url}/api/models/{repo_id}/commit/main",
        content="\n".join(map(json.dumps, lines)),
        headers={"Authorization": f"Bearer {token}", "Content-Type": "application/x-ndjson"},
        timeout=60,
    )


@pytest.mark.parametrize("digits", [7, 40, 64])
@pytest.mark.parametrize("kind", ["branch", "tag"])
def test_found_f1_no_branch_or_tag_can_take_the_name_of_a_commit(
    hub: RunningHub, kind: str, digits: int
) -> None:
    account, token = hub.user()
    api = hub.api(token)
    repo_id = f"{account.name}/pinned"
    api.create_repo(repo_id, exist_ok=True)
    name = (hashlib.sha256(b"a commit").hexdigest() * 2)[:digits]
    with pytest.raises(HfHubHTTPError, match="looks like a commit"):
        if kind == "branch":
            api.create_branch(repo_id, branch=name)
        else:
            api.create_tag(repo_id, tag=name)


def test_found_f1_git_push_cannot_make_a_pinned_revision_mean_another_commit(
    hub: RunningHub, tmp_path: Path
) -> None:
    account, token = hub.user()
    api, repo_id = hub.api(token), f"{account.name}/pushed"
    api.create_repo(repo_id)
    good = api.upload_file(path_or_fileobj=b"GOOD", path_in_repo="f.txt", repo_id=repo_id).oid
    api.upload_file(path_or_fileobj=b"EVIL", path_in_repo="f.txt", repo_id=repo_id)
    remote = hub.url.replace("http://", f"http://{account.name}:{token}@") + f"/{repo_id}"
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "-q", remote, str(clone)], check=True)
    pushed = subprocess.run(
        ["git", "-C", str(clone), "push", "-q", "origin", f"main:refs/heads/{good}"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert pushed.returncode != 0
    assert "looks like a commit" in pushed.stderr
    answer = httpx.get(f"{hub.url}/{repo_id}/resolve/{good}/f.txt", timeout=60)
    assert answer.text == "GOOD"
    assert api.model_info(repo_id, revision=good).sha == good


def test_found_h20_a_pointer_opens_no_file_of_a_private_repository(hub: RunningHub) -> None:
    ann, ann_token = hub.user()
    bob, bob_token = hub.user()
    hub.api(ann_token).create_repo(f"{ann.name}/weights", private=True)
    hub.api(ann_token).create_commit(
        f"{ann.name}/weights",
        [CommitOperationAdd("w.safetensors", SECRET)],
        commit_message="weights",
    )
    sha256 = hashlib.sha256(SECRET).hexdigest()
    held = hub.hub.objects.holders(sha256)
    assert held is not None, "the file is a large one"
    hub.api(bob_token).create_repo(f"{bob.name}/copy")
    pointer = write_pointer(sha256, len(SECRET))
    answer = commit_text(hub, bob_token, f"{bob.name}/copy", "w.txt", pointer)
    assert answer.status_code == 422, answer.text
    got = httpx.get(f"{hub.url}/{bob.name}/copy/resolve/main/w.txt", timeout=60)
    assert got.status_code == 404
    # Ann may copy her own file by its pointer: it is hers.
    hub.api(ann_token).create_repo(f"{ann.name}/second")
    answer = commit_text(hub, ann_token, f"{ann.name}/second", "w.txt", pointer)
    assert answer.status_code == 200, answer.text
    got = httpx.get(f"{hub.url}/{ann.name}/second/resolve/main/w.txt", timeout=60)
    assert got.content == SECRET


def test_found_h20_a_pointer_that_came_in_before_is_not_served_either(hub: RunningHub) -> None:
    bob, bob_token = hub.user()
    content = SECRET + b"again"
    sha256 = hashlib.sha256(content).hexdigest()
    hub.api(bob_token).create_repo(f"{bob.name}/old")
    hub.api(bob_token).create_commit(
        f"{bob.name}/old", [CommitOperationAdd("w.safetensors", content)], commit_message="w"
    )
    where = f"{hub.url}/{bob.name}/old/resolve/main/w.safetensors"
    assert httpx.get(where, timeout=60).content == content
    # The repository loses its hold, as one that never had it.
    hub.hub.database.write("DELETE FROM repository_objects WHERE sha256 = ?", sha256)
    assert httpx.get(where, timeout=60).status_code == 404
    page = httpx.get(f"{hub.url}/{bob.name}/old/blob/main/w.safetensors", timeout=60)
    assert page.status_code == 404


def test_found_h06_a_pointer_to_a_file_that_is_not_here_is_refused(hub: RunningHub) -> None:
    bob, token = hub.user()
    api = hub.api(token)
    api.create_repo(f"{bob.name}/broken")
    pointer = write_pointer(hashlib.sha256(b"nowhere").hexdigest(), 7)
    answer = commit_text(hub, token, f"{bob.name}/broken", "model.bin", pointer)
    assert answer.status_code == 422
    assert "was not uploaded" in answer.text
