"""Commits: atomic, in order, from many hands at once, and only with sound contents."""

from __future__ import annotations

import base64
import json
import string
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from huggingface_hub import CommitOperationAdd
from hypothesis import given, settings
from hypothesis import strategies as st

from triptych.errors import HubRefused
from triptych.hub.server.names import require_path
from triptych.hub.server.repositories import catalog

if TYPE_CHECKING:
    from tests.hub.server.conftest import RunningHub


def file(path: str, content: bytes = b"x", **more: Any) -> dict[str, Any]:
    value = {"path": path, "content": base64.b64encode(content).decode(), "encoding": "base64"}
    return {"key": "file", "value": value | more}


def post(hub: RunningHub, repo_id: str, *lines: Any, **header: Any) -> httpx.Response:
    head = {"key": "header", "value": {"summary": "s", "description": ""} | header}
    body = "\n".join(line if isinstance(line, str) else json.dumps(line) for line in [head, *lines])
    return httpx.post(
        f"{hub.url}/api/models/{repo_id}/commit/main",
        content=body.encode(errors="surrogatepass"),
        headers={"Authorization": f"Bearer {hub.admin_token}"},
        timeout=60,
    )


@pytest.fixture
def made(hub: RunningHub, repo_id: str) -> str:
    hub.api().create_repo(repo_id)
    assert post(hub, repo_id, file("dir/a.txt"), file("Plain.txt")).status_code == 200
    return repo_id


TRICKS = [
    "../out", "a/../../out", "/etc/passwd", "a//b", "./a", "a/.", "a/", "nul\0byte", "tab\there",
    "back\\slash", ".git/config", "a/.GIT/hooks/x", ".git ", "git~1/x", ".git::$INDEX_ALLOCATION",
    ".g\u200cit/config", "a/" * 600 + "x", "n" * 4000, "", "plain.txt", "DIR/b.txt", "dir",
    "Plain.txt/below", "\ud800",
]  # fmt: skip


@pytest.mark.parametrize("path", TRICKS, ids=range(len(TRICKS)))
def test_tricks_with_paths_are_refused_and_change_nothing(
    hub: RunningHub, made: str, path: str
) -> None:
    before = hub.api().model_info(made).sha
    answer = post(hub, made, file("fine.txt"), file(path))
    assert answer.status_code == 400, answer.text
    assert hub.api().model_info(made).sha == before


@given(st.text(alphabet=string.printable + "é\u200c\0\ud800/..", max_size=60))
@settings(max_examples=300)
def test_an_accepted_path_stays_inside(path: str) -> None:
    try:
        accepted = require_path(path)
    except HubRefused:
        return
    parts = PurePosixPath(accepted).parts
    assert not accepted.startswith("/")
    assert ".." not in parts and "\0" not in accepted
    assert "/".join(parts) == accepted
    assert all(part.lower() != ".git" for part in parts)


BROKEN = {
    "not json": "{",
    "no value": {"key": "file"},
    "a list": [1, 2],
    "unknown key": {"key": "explode", "value": {"path": "a"}},
    "bad base64": {"key": "file", "value": {"path": "a", "content": "%%%", "encoding": "base64"}},
    "large without hash": {"key": "lfsFile", "value": {"path": "a", "oid": "beef"}},
    "path is a number": {"key": "file", "value": {"path": 7, "content": ""}},
    "broken card": file("README.md", b"---\ntags: {\n---\n"),
    "yaml bomb": file("README.md", b"---\na: &a [x,x]\nb: &b [*a,*a]\nc: [*b,*b]\n---\n"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_operations_are_refused(hub: RunningHub, made: str, name: str) -> None:
    before = hub.api().model_info(made).sha
    assert post(hub, made, file("fine.txt"), BROKEN[name]).status_code == 400
    assert hub.api().model_info(made).sha == before


def test_what_is_too_large_is_refused(hub: RunningHub, made: str) -> None:
    assert post(hub, made, file("big.txt", bytes(10 * 2**20 + 1))).status_code == 413
    headers = {"Authorization": f"Bearer {hub.admin_token}"}
    answer = httpx.post(
        f"{hub.url}/api/models/{made}/preupload/main",
        content=bytes(17 * 2**20),
        headers=headers,
        timeout=60,
    )
    assert answer.status_code == 413
    many = {"files": [{"path": f"{n}", "sample": "", "size": 1} for n in range(1001)]}
    answer = httpx.post(
        f"{hub.url}/api/models/{made}/preupload/main", json=many, headers=headers, timeout=60
    )
    assert answer.status_code == 400


def test_deleting_what_is_not_there_says_so(hub: RunningHub, made: str) -> None:
    for key, path in (("deletedFile", "no.txt"), ("deletedFile", "dir"), ("deletedFolder", "no")):
        answer = post(hub, made, {"key": key, "value": {"path": path}})
        assert answer.status_code == 404
        assert answer.headers["x-error-code"] == "EntryNotFound"


def test_a_commit_that_changes_nothing_is_the_present_one(hub: RunningHub, made: str) -> None:
    before = hub.api().model_info(made).sha
    assert post(hub, made, file("Plain.txt")).json()["commitOid"] == before


def test_only_the_last_link_is_missing_to_a_pull_request(hub: RunningHub, made: str) -> None:
    answer = httpx.post(
        f"{hub.url}/api/models/{made}/commit/main?create_pr=1",
        headers={"Authorization": f"Bearer {hub.admin_token}"},
        timeout=60,
    )
    assert answer.status_code == 501
    assert "branch" in answer.json()["error"]


def test_eight_hands_at_once_lose_nothing(hub: RunningHub, made: str) -> None:
    """Plain commits are rebased onto each other; guarded ones win or are told 412."""
    guarded_parent = hub.api().model_info(made).sha
    each = 6

    def work(hand: int) -> list[int]:
        answers = [
            post(hub, made, file(f"h{hand}/{n}.txt", f"{hand} {n}".encode())).status_code
            for n in range(each)
        ]
        guarded = post(hub, made, file(f"g{hand}"), parentCommit=guarded_parent)
        return [*answers, guarded.status_code]

    with ThreadPoolExecutor(8) as hands:
        answers = list(hands.map(work, range(8)))
    assert all(codes[:each] == [200] * each for codes in answers)
    assert all(codes[each] == 412 for codes in answers)
    api = hub.api()
    files = {f"h{hand}/{n}.txt" for hand in range(8) for n in range(each)}
    assert files <= set(api.list_repo_files(made))
    history = api.list_repo_commits(made)
    assert len(history) == 2 + 8 * each
    folder = _folder(hub, made)
    assert subprocess.run(["git", "fsck", "--strict"], cwd=folder, check=False).returncode == 0
    assert api.model_info(made).sha == history[0].commit_id
    assert api.list_models(author="admin", search=made.partition("/")[2])


def test_a_thousand_files_in_one_commit(hub: RunningHub, repo_id: str) -> None:
    api = hub.api()
    api.create_repo(repo_id)
    operations = [CommitOperationAdd(f"d{n % 7}/{n}.txt", b"%d" % n) for n in range(1000)]
    api.create_commit(repo_id, operations, commit_message="many")
    assert len(api.list_repo_files(repo_id)) == 1001
    pages = list(api.list_repo_tree(repo_id, recursive=True))
    assert len(pages) == 1001 + 7


def test_squashing_leaves_one_commit(hub: RunningHub, made: str) -> None:
    api = hub.api()
    post(hub, made, file("more.txt"))
    files = api.list_repo_files(made)
    api.super_squash_history(made)
    assert [c.title for c in api.list_repo_commits(made)] == [
        "Super-squash branch 'main' using huggingface_hub"
    ]
    assert api.list_repo_files(made) == files


def test_names_that_nobody_may_have_are_refused(hub: RunningHub) -> None:
    for name in ("", "..", "a/b/c", "-x", "x-", "x..y", "x--y", "x.git", "é", "x" * 97, ".hidden"):
        answer = httpx.post(
            f"{hub.url}/api/repos/create",
            json={"name": name, "organization": None},
            headers={"Authorization": f"Bearer {hub.admin_token}"},
            timeout=60,
        )
        assert answer.status_code in (400, 403), name
    hub.api().create_repo("admin/CaseOnly")
    answer = httpx.post(
        f"{hub.url}/api/repos/create",
        json={"name": "caseonly"},
        headers={"Authorization": f"Bearer {hub.admin_token}"},
        timeout=60,
    )
    assert answer.status_code == 409
    assert answer.json()["url"].endswith("/admin/CaseOnly")


def _folder(hub: RunningHub, repo_id: str) -> str:
    namespace, _, name = repo_id.partition("/")
    found = catalog.find(hub.hub.database, "model", namespace, name)
    assert found is not None
    return str(hub.hub.layout.repository(found.uid))
