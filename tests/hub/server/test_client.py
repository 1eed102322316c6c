"""The unmodified client creates, uploads, downloads, tags, branches and commits."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from huggingface_hub import (
    CommitOperationAdd,
    CommitOperationCopy,
    CommitOperationDelete,
    hf_hub_download,
    snapshot_download,
)
from huggingface_hub.errors import (
    EntryNotFoundError,
    HfHubHTTPError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

if TYPE_CHECKING:
    from tests.hub.server.conftest import RunningHub


def test_whoami_names_the_token_and_refuses_a_forged_one(hub: RunningHub) -> None:
    who = hub.api().whoami()
    assert who["name"] == "admin"
    assert who["auth"]["accessToken"] == {"displayName": "first", "role": "write"}
    with pytest.raises(HfHubHTTPError) as refused:
        hub.api("hf_" + "x" * 34).whoami()
    assert refused.value.response.status_code == 401


def test_the_admin_token_is_its_owners_alone(hub: RunningHub) -> None:
    assert (hub.root / "admin_token").stat().st_mode & 0o777 == 0o600
    # In another process: closing the file in this one would let go of SQLite's locks on it.
    stored = subprocess.run(["cat", hub.root / "hub.db"], capture_output=True, check=True).stdout
    assert hub.admin_token.encode() not in stored


def test_files_come_back_as_they_were_sent(
    hub: RunningHub, repo_id: str, client_cache: Path
) -> None:
    api = hub.api()
    api.create_repo(repo_id)
    small, large = b"hello\n", os.urandom(300_000)
    api.upload_file(path_or_fileobj=small, path_in_repo="notes/a.txt", repo_id=repo_id)
    api.upload_file(path_or_fileobj=large, path_in_repo="model.safetensors", repo_id=repo_id)
    folder = Path(
        snapshot_download(repo_id, endpoint=hub.url, token=hub.admin_token, cache_dir=client_cache)
    )
    assert (folder / "notes/a.txt").read_bytes() == small
    assert (folder / "model.safetensors").read_bytes() == large
    assert sorted(api.list_repo_files(repo_id)) == [
        ".gitattributes",
        "model.safetensors",
        "notes/a.txt",
    ]


def test_a_commit_on_a_moved_branch_is_refused_with_412(hub: RunningHub, repo_id: str) -> None:
    api = hub.api()
    api.create_repo(repo_id)
    first = api.create_commit(repo_id, [CommitOperationAdd("a", b"1")], commit_message="a")
    api.create_commit(repo_id, [CommitOperationAdd("b", b"2")], commit_message="b")
    with pytest.raises(HfHubHTTPError) as refused:
        api.create_commit(
            repo_id, [CommitOperationAdd("c", b"3")], commit_message="c", parent_commit=first.oid
        )
    assert refused.value.response.status_code == 412
    assert "c" not in api.list_repo_files(repo_id)


def test_one_commit_adds_copies_and_deletes(hub: RunningHub, repo_id: str) -> None:
    api = hub.api()
    api.create_repo(repo_id)
    before = api.create_commit(
        repo_id,
        [CommitOperationAdd("x/y.txt", b"1"), CommitOperationAdd("w.bin", os.urandom(2000))],
        commit_message="first",
    )
    after = api.create_commit(
        repo_id,
        [
            CommitOperationDelete("x/", is_folder=True),
            CommitOperationCopy("w.bin", "copy.bin"),
            CommitOperationAdd("new.txt", b"n"),
        ],
        commit_message="second",
        commit_description="why",
        parent_commit=before.oid,
    )
    assert sorted(api.list_repo_files(repo_id)) == [
        ".gitattributes",
        "copy.bin",
        "new.txt",
        "w.bin",
    ]
    newest = api.list_repo_commits(repo_id)[0]
    assert (newest.commit_id, newest.title, newest.message) == (after.oid, "second", "why")


def test_tags_and_branches_come_and_go(hub: RunningHub, repo_id: str) -> None:
    api = hub.api()
    api.create_repo(repo_id)
    api.create_tag(repo_id, tag="v1", tag_message="first")
    api.create_branch(repo_id, branch="dev/x")
    api.create_branch(repo_id, branch="dev/x", exist_ok=True)
    refs = api.list_repo_refs(repo_id)
    assert [b.name for b in refs.branches] == ["dev/x", "main"]
    assert [t.name for t in refs.tags] == ["v1"]
    api.upload_file(path_or_fileobj=b"d", path_in_repo="d.txt", repo_id=repo_id, revision="dev/x")
    assert "d.txt" in api.list_repo_files(repo_id, revision="dev/x")
    assert "d.txt" not in api.list_repo_files(repo_id, revision="v1")
    api.delete_tag(repo_id, tag="v1")
    api.delete_branch(repo_id, branch="dev/x")
    refs = api.list_repo_refs(repo_id)
    assert ([b.name for b in refs.branches], refs.tags) == (["main"], [])
    with pytest.raises(HfHubHTTPError):
        api.delete_branch(repo_id, branch="main")


def test_what_is_missing_is_named(hub: RunningHub, repo_id: str, client_cache: Path) -> None:
    api = hub.api()
    with pytest.raises(RepositoryNotFoundError):
        api.model_info(repo_id)
    api.create_repo(repo_id)
    with pytest.raises(EntryNotFoundError):
        api.hf_hub_download(repo_id, "absent.txt", cache_dir=client_cache)
    with pytest.raises(RevisionNotFoundError):
        api.hf_hub_download(repo_id, "absent.txt", revision="nowhere", cache_dir=client_cache)
    assert hf_hub_download  # the same path is used by transformers


def test_an_unchanged_folder_makes_no_commit(hub: RunningHub, repo_id: str, tmp_path: Path) -> None:
    api = hub.api()
    api.create_repo(repo_id)
    folder = tmp_path / "folder"
    folder.mkdir()
    for number in range(5):
        (folder / f"{number}.txt").write_text(str(number))
    (folder / "w.safetensors").write_bytes(os.urandom(5000))
    first = api.upload_folder(repo_id=repo_id, folder_path=folder)
    again = api.upload_folder(repo_id=repo_id, folder_path=folder)
    assert again.oid == first.oid
    assert len(api.list_repo_commits(repo_id)) == 2
