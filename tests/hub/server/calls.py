"""A script of the unmodified client's calls; run with HF_ENDPOINT set, and a token in its place.

Prints how many calls it made. Works with huggingface_hub 1.x and 2.x, over LFS and over Xet.
"""

from __future__ import annotations

import os
import random
import sys
import tempfile
from pathlib import Path
from typing import Any

import huggingface_hub
from huggingface_hub import (
    CommitOperationAdd,
    CommitOperationCopy,
    CommitOperationDelete,
    HfApi,
    HfFileSystem,
    ModelCard,
    ModelCardData,
    hf_hub_download,
    snapshot_download,
)
from huggingface_hub.errors import (
    BadRequestError,
    EntryNotFoundError,
    HfHubHTTPError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

api = HfApi()
calls: list[str] = []


def call(name: str, *arguments: Any, **named: Any) -> Any:
    """Make one call of the client and count it."""
    calls.append(name)
    return getattr(api, name)(*arguments, **named)


def refused(kind: type[Exception], name: str, *arguments: Any, **named: Any) -> Any:
    """Make a call that must be refused in a certain way."""
    try:
        call(name, *arguments, **named)
    except kind as error:
        return error
    raise AssertionError(f"{name} was not refused")


def repositories(me: str) -> None:
    assert call("create_repo", f"{me}/one").repo_id == f"{me}/one"
    call("create_repo", f"{me}/one", exist_ok=True)
    refused(HfHubHTTPError, "create_repo", f"{me}/one")
    call("create_repo", f"{me}/texts", repo_type="dataset", private=True)
    call("create_repo", f"{me}/panel", repo_type="space", space_sdk="static")
    assert call("repo_exists", f"{me}/one")
    assert not call("repo_exists", f"{me}/absent")
    assert call("dataset_info", f"{me}/texts").private
    assert call("space_info", f"{me}/panel").sdk == "static"
    assert call("repo_info", f"{me}/one").sha
    call("update_repo_settings", f"{me}/texts", repo_type="dataset", private=False)
    assert not call("dataset_info", f"{me}/texts").private
    call("auth_check", f"{me}/one")
    refused(RepositoryNotFoundError, "model_info", f"{me}/absent")
    refused(RepositoryNotFoundError, "auth_check", f"{me}/absent")
    call("move_repo", f"{me}/one", f"{me}/two")
    assert call("model_info", f"{me}/two").id == f"{me}/two"
    assert call("model_info", f"{me}/one").id == f"{me}/two"  # the old name leads there
    assert [m.id for m in call("list_models", author=me)] == [f"{me}/two"]
    assert [d.id for d in call("list_datasets", author=me)] == [f"{me}/texts"]
    assert [s.id for s in call("list_spaces", author=me)] == [f"{me}/panel"]


def uploads(me: str, folder: Path) -> bytes:
    repo = f"{me}/two"
    weights = random.Random(1).randbytes(1_500_000)
    (folder / "weights.safetensors").write_bytes(weights)
    call("upload_file", path_or_fileobj=b"small", path_in_repo="a/small.txt", repo_id=repo)
    call("upload_file", path_or_fileobj=str(folder / "weights.safetensors"),
         path_in_repo="weights.safetensors", repo_id=repo)  # fmt: skip
    with (folder / "weights.safetensors").open("rb") as file:
        call("upload_file", path_or_fileobj=file, path_in_repo="again.bin", repo_id=repo)
    for number in range(20):
        (folder / f"{number}.txt").write_text(f"file {number}")
    (folder / "empty.bin").write_bytes(b"")
    call("upload_folder", repo_id=repo, folder_path=folder, path_in_repo="many")
    before = call("model_info", repo).sha
    call("upload_folder", repo_id=repo, folder_path=folder, path_in_repo="many")
    assert call("model_info", repo).sha == before
    name = "upload_large_folder" if hasattr(api, "upload_large_folder") else "upload_folder"
    call(name, repo_id=f"{me}/texts", repo_type="dataset", folder_path=folder)
    call("delete_file", "many/3.txt", repo)
    call("delete_folder", "many", repo)
    return weights


def commits(me: str) -> None:
    repo = f"{me}/two"
    parent = call("model_info", repo).sha
    made = call(
        "create_commit", repo,
        [
            CommitOperationAdd("b.txt", b"b"),
            CommitOperationCopy("weights.safetensors", "copied.safetensors"),
            CommitOperationCopy("a/small.txt", "copied.txt"),
            CommitOperationDelete("a/small.txt"),
        ],
        commit_message="several", commit_description="at once", parent_commit=parent,
    )  # fmt: skip
    conflict = refused(
        HfHubHTTPError, "create_commit", repo, [CommitOperationAdd("c", b"c")],
        commit_message="late", parent_commit=parent,
    )  # fmt: skip
    assert conflict.response.status_code == 412
    call("create_tag", repo, tag="v1", tag_message="first")
    refused(HfHubHTTPError, "create_tag", repo, tag="v1")
    call("create_tag", repo, tag="v1", exist_ok=True)
    call("create_branch", repo, branch="side", revision=parent)
    call("upload_file", path_or_fileobj=b"s", path_in_repo="s.txt", repo_id=repo, revision="side")
    refs = call("list_repo_refs", repo)
    assert {b.name for b in refs.branches} == {"main", "side"}
    assert refs.tags[0].target_commit == made.oid
    history = call("list_repo_commits", repo)
    assert (history[0].title, history[0].message) == ("several", "at once")
    assert call("revision_exists", repo, "side")
    assert not call("revision_exists", repo, "nowhere")
    assert call("model_info", repo, revision="v1").sha == made.oid
    call("delete_tag", repo, tag="v1")
    call("delete_branch", repo, branch="side")
    refused(BadRequestError, "create_branch", repo, branch="refs/pr/5")


def reading(me: str, weights: bytes) -> None:
    repo = f"{me}/two"
    files = call("list_repo_files", repo)
    assert set(files) == {
        ".gitattributes", "again.bin", "b.txt", "copied.safetensors", "copied.txt",
        "weights.safetensors",
    }  # fmt: skip
    tree = list(call("list_repo_tree", repo, expand=True))
    assert next(e for e in tree if e.path == "b.txt").last_commit.title == "several"
    info = call("get_paths_info", repo, ["copied.safetensors", "absent"])
    assert [entry.lfs.size for entry in info] == [len(weights)]
    assert call("file_exists", repo, "b.txt")
    assert not call("file_exists", repo, "absent")
    siblings = {s.rfilename: s for s in call("model_info", repo, files_metadata=True).siblings}
    assert siblings["again.bin"].lfs.sha256 == siblings["weights.safetensors"].lfs.sha256
    path = call("hf_hub_download", repo, "weights.safetensors")
    assert Path(path).read_bytes() == weights
    folder = Path(call("snapshot_download", repo, ignore_patterns=["*.bin"]))
    assert (folder / "copied.txt").read_bytes() == b"small"
    assert not (folder / "again.bin").exists()
    local = call("snapshot_download", repo, local_dir=tempfile.mkdtemp())
    assert (Path(local) / "again.bin").read_bytes() == weights
    refused(EntryNotFoundError, "hf_hub_download", repo, "absent.txt")
    refused(RevisionNotFoundError, "hf_hub_download", repo, "b.txt", revision="nowhere")
    url = huggingface_hub.hf_hub_url(repo, "b.txt")
    meta = call("get_hf_file_metadata", url=url)
    assert meta.size == 1
    assert hf_hub_download(repo, "b.txt", local_files_only=False)
    assert snapshot_download(repo, revision=meta.commit_hash)
    assert [f.size for f in call("list_lfs_files", repo)] == [len(weights)]


def filesystem(me: str) -> None:
    files = HfFileSystem()
    assert f"{me}/two/b.txt" in files.ls(f"{me}/two", detail=False)
    with files.open(f"{me}/two/weights.safetensors", "rb") as file:
        file.seek(1_000_000)
        assert len(file.read(1000)) == 1000
    with files.open(f"{me}/two/written.txt", "w") as file:
        file.write("by name")
    assert files.cat(f"{me}/two/written.txt") == b"by name"
    files.rm(f"{me}/two/written.txt")
    calls.extend(["fs.ls", "fs.open", "fs.write", "fs.cat", "fs.rm"])


def cards_and_copies(me: str) -> None:
    data = ModelCardData(license="mit", tags=["tiny"], model_name="two")
    card = ModelCard(f"---\n{data.to_yaml()}\n---\n# Two\n")
    if huggingface_hub.__version__.startswith("1."):
        # Before 2.0 a card is checked at a fixed address, whatever the endpoint.
        call("upload_file", path_or_fileobj=str(card).encode(), path_in_repo="README.md",
             repo_id=f"{me}/two")  # fmt: skip
    else:
        card.push_to_hub(f"{me}/two")
    assert ModelCard.load(f"{me}/two").data.license == "mit"
    calls.extend(["card.push", "card.load"])
    assert "license:mit" in call("model_info", f"{me}/two").tags
    assert [m.id for m in call("list_models", filter="tiny", author=me)] == [f"{me}/two"]
    if hasattr(api, "duplicate_repo"):
        call("duplicate_repo", f"{me}/two", f"{me}/copy")
        assert "weights.safetensors" in call("list_repo_files", f"{me}/copy")
        call("delete_repo", f"{me}/copy")
    call("super_squash_history", f"{me}/two")
    assert len(call("list_repo_commits", f"{me}/two")) == 1
    call("delete_repo", f"{me}/two")
    call("delete_repo", f"{me}/two", missing_ok=True)
    call("delete_repo", f"{me}/texts", repo_type="dataset")
    call("delete_repo", f"{me}/panel", repo_type="space")
    assert not list(call("list_models", author=me))


def main() -> None:
    me = call("whoami")["name"]
    with tempfile.TemporaryDirectory() as name:
        repositories(me)
        weights = uploads(me, Path(name))
        commits(me)
        reading(me, weights)
        filesystem(me)
        cards_and_copies(me)
    print(f"{len(calls)} calls, huggingface_hub {huggingface_hub.__version__}, "
          f"{'LFS' if os.environ.get('HF_HUB_DISABLE_XET') else 'Xet'}")  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
