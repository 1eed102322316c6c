"""Which commits run where nothing is isolated: those an administrator pushed or approved."""

from __future__ import annotations

import os
import secrets
import subprocess
from contextlib import suppress

import httpx
import pytest
from huggingface_hub import CommitOperationAdd

from triptych.errors import StorageError
from triptych.hub.server.repositories import catalog
from triptych.hub.server.spaces.building import checkout
from triptych.hub.server.storage.identity.accounts import (
    create_account,
    find_account,
    set_membership,
)

from .conftest import README, LiveSpace, wait_for


@pytest.fixture(scope="module")
def open_hub(start_hub):
    """A hub that isolates nothing."""
    return start_hub(isolation="approved-only", space_wake_s=60)


@pytest.fixture
def writer(open_hub):
    """An organisation and the token of a plain writer in it."""
    org = create_account(open_hub.hub.database, f"org-{secrets.token_hex(4)}", kind="org")
    name, token = open_hub.user()
    set_membership(open_hub.hub.database, org, find_account(open_hub.hub.database, name), "write")
    return org.name, token


def make_space(hub, namespace: str, token: str) -> LiveSpace:
    repo_id = f"{namespace}/s-{secrets.token_hex(4)}"
    hub.api(token).create_repo(repo_id, repo_type="space", space_sdk="gradio")
    return LiveSpace(hub, repo_id)


def push(hub, space, token: str, app: str) -> str:
    files = {"app.py": app, "README.md": README}
    operations = [CommitOperationAdd(path, text.encode()) for path, text in files.items()]
    done = hub.api(token).create_commit(
        space.repo_id, operations, commit_message="change", repo_type="space"
    )
    return done.oid


def approve(hub, space, commit: str = "", *, token: str = "", withdraw: bool = False):
    address = f"{hub.url}/api/spaces/{space.repo_id}/approval"
    head = {"authorization": f"Bearer {token or hub.token}"}
    if withdraw:
        return httpx.delete(address, headers=head, params={"commit": commit}, timeout=60)
    return httpx.put(address, headers=head, json={"commit": commit}, timeout=60)


def test_f2_a_writers_push_after_an_approval_waits_for_one_of_its_own(open_hub, writer, app):
    org, token = writer
    space = make_space(open_hub, org, token)
    first = push(open_hub, space, token, app)
    waiting = space.until("CONFIG_ERROR")
    assert f"triptych hub approve {space.repo_id} {first}" in waiting["errorMessage"]
    answer = httpx.put(
        f"{open_hub.url}/api/spaces/{space.repo_id}/approval",
        headers={"authorization": f"Bearer {open_hub.token}"}, timeout=60,
    )  # fmt: skip
    assert answer.status_code == 200
    space.until("RUNNING")
    before = space.start_mark()
    evil = push(open_hub, space, token, app.replace("hello", "evil"))
    runtime = space.until("CONFIG_ERROR")
    assert evil[:12] in runtime["errorMessage"] and runtime["sha"] == first
    assert space.get().text == "hello" and space.start_mark() == before
    assert approve(open_hub, space, evil[:10]).json()["commit"] == evil
    space.until("RUNNING")
    assert space.get().text == "evil"


def test_what_an_administrator_pushes_runs_without_more(open_hub, app):
    space = open_hub.space(app)
    assert space.seen()["user"] == os.getuid()
    assert space.runtime["isolation"]["isolated"] is False


def test_only_an_administrator_approves_and_may_take_it_back(open_hub, writer, app):
    org, token = writer
    space = make_space(open_hub, org, token)
    commit = push(open_hub, space, token, app)
    space.until("CONFIG_ERROR")
    assert approve(open_hub, space, commit, token=token).status_code == 403
    assert approve(open_hub, space, "main").status_code == 400
    assert approve(open_hub, space, commit).status_code == 200
    space.until("RUNNING")
    approve(open_hub, space, commit, withdraw=True)
    runtime = space.until("CONFIG_ERROR")
    assert "still answers" not in runtime["errorMessage"]


def test_f2_a_branch_named_like_an_approved_commit_does_not_stand_for_it(
    open_hub, writer, app, tmp_path
):
    org, token = writer
    space = make_space(open_hub, org, token)
    commit = push(open_hub, space, token, app)
    evil = push(open_hub, space, token, app.replace("hello", "evil"))
    folder = open_hub.hub.layout.repository(space.uid)
    subprocess.run(
        ["git", "-C", str(folder), "update-ref", f"refs/heads/{commit}", evil], check=True
    )
    repository = catalog.find(open_hub.hub.database, "space", *space.repo_id.split("/"))
    with suppress(StorageError):
        checkout(open_hub.hub, repository, commit, tmp_path)
    written = tmp_path / "app.py"
    assert not written.exists() or "evil" not in written.read_text()


def test_a_variable_of_a_writer_does_not_reach_an_approved_app(open_hub, writer, app):
    org, token = writer
    space = make_space(open_hub, org, token)
    api = open_hub.api(token)
    api.add_space_variable(space.repo_id, "GREETING", "from the writer")
    commit = push(open_hub, space, token, app)
    space.until("CONFIG_ERROR")
    approve(open_hub, space, commit)
    space.until("RUNNING")
    assert space.get().text == "hello"
    open_hub.api().add_space_variable(space.repo_id, "GREETING", "from the administrator")
    wait_for(lambda: space.get().text == "from the administrator", "the variable")


def test_require_approval_holds_under_isolation_too(start_hub, app):
    hub = start_hub(require_approval=True, space_wake_s=60)
    name, token = hub.user()
    space = make_space(hub, name, token)
    commit = push(hub, space, token, app)
    assert "settings" in space.until("CONFIG_ERROR")["errorMessage"]
    approve(hub, space, commit)
    space.until("RUNNING")


def test_a_static_space_needs_no_approval(open_hub, writer):
    org, token = writer
    space = make_space(open_hub, org, token)
    files = {"index.html": "plain", "README.md": "---\nsdk: static\n---\n"}
    operations = [CommitOperationAdd(path, text.encode()) for path, text in files.items()]
    open_hub.api(token).create_commit(
        space.repo_id, operations, commit_message="page", repo_type="space"
    )
    space.until("RUNNING")
    assert space.get().text == "plain"
