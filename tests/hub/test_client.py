"""One client for any hub: what it does, and how its failures read."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from huggingface_hub import HfApi

from triptych.errors import (
    AccessDenied,
    CommitConflict,
    EntryNotFound,
    HubUnavailable,
    PublishRefused,
    RepositoryNotFound,
    RevisionNotFound,
    UsageError,
)
from triptych.hub.client import Hub
from triptych.hub.credentials import find_token
from triptych.hub.repository import Repo

Fresh = Callable[..., Repo]


@pytest.fixture
def repo(client: Hub, fresh: Fresh) -> Repo:
    repo = fresh()
    assert client.create(repo)
    return repo


def test_a_commit_adds_changes_and_deletes_at_once(client: Hub, repo: Repo) -> None:
    first = client.commit(repo, {"a.txt": b"one\n", "b/c.txt": b"two\n"}, "Add")
    second = client.commit(repo, {"a.txt": b"1\n", "b/c.txt": None}, "Change", parent=first)

    assert client.head(repo) == second
    assert client.read(repo, "a.txt", second) == b"1\n"
    assert "b/c.txt" not in client.tree(repo, second)
    assert client.tree(repo, first)["b/c.txt"].size_bytes == 4
    commits = HfApi(endpoint=client.endpoint).list_repo_commits(repo.repo_id)
    assert [commit.title for commit in commits][:2] == ["Change", "Add"]


def test_a_commit_on_an_outdated_parent_is_a_conflict(client: Hub, repo: Repo) -> None:
    old = client.head(repo)
    client.commit(repo, {"a.txt": b"one\n"}, "Add", parent=old)

    with pytest.raises(CommitConflict) as caught:
        client.commit(repo, {"a.txt": b"two\n"}, "Add", parent=old)
    assert caught.value.retryable


def test_creating_twice_is_creating_once(client: Hub, repo: Repo) -> None:
    assert not client.create(repo)


def test_a_tag_moves_only_when_told(client: Hub, repo: Repo) -> None:
    first = client.commit(repo, {"a.txt": b"one\n"}, "One")
    client.tag(repo, "v1", first)
    client.tag(repo, "v1", first)
    second = client.commit(repo, {"a.txt": b"two\n"}, "Two")

    with pytest.raises(CommitConflict, match="v1"):
        client.tag(repo, "v1", second)
    client.tag(repo, "v1", second, move=True)
    assert client.tags(repo) == {"v1": second}
    assert client.head(repo, "v1") == second


def test_a_large_file_is_listed_by_its_sha256(client: Hub, repo: Repo, tmp_path: Path) -> None:
    large = tmp_path / "model.safetensors"
    large.write_bytes(b"\0" * 300_000)
    sha = client.commit(repo, {"model.safetensors": large}, "Add weights")

    entry = client.tree(repo, sha)["model.safetensors"]
    assert (entry.size_bytes, len(entry.sha256 or "")) == (300_000, 64)


def test_what_is_absent_is_named(client: Hub, repo: Repo, fresh: Fresh) -> None:
    absent = fresh()
    with pytest.raises(RepositoryNotFound, match=absent.repo_id):
        client.head(absent)
    with pytest.raises(RevisionNotFound):
        client.head(repo, "nowhere")
    with pytest.raises(EntryNotFound):
        client.read(repo, "nothing.txt", client.head(repo))
    assert not client.exists(absent)


def test_broken_front_matter_is_refused_before_anything_is_uploaded(
    client: Hub, repo: Repo
) -> None:
    before = client.head(repo)
    with pytest.raises(PublishRefused, match="README"):
        client.commit(repo, {"README.md": b"---\ntags: [a\n---\n", "a": b"a"}, "Add")
    assert client.head(repo) == before


def test_a_bad_token_is_denied_and_never_shown(endpoint: str, fresh: Fresh) -> None:
    forged = "hf_forgedforgedforgedforged"
    stranger = Hub(endpoint, forged)
    with pytest.raises(AccessDenied) as caught:
        stranger.whoami()
    assert forged not in str(caught.value) + repr(stranger)
    with pytest.raises((AccessDenied, RepositoryNotFound)):
        stranger.create(fresh())


def test_a_hub_that_is_not_there_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    monkeypatch.setenv("HF_TOKEN", "hf_none")
    with pytest.raises(HubUnavailable, match="hub serve") as caught:
        Hub(f"http://127.0.0.1:{port}").head(Repo("acme/base"))
    assert (caught.value.exit_code, caught.value.retryable) == (3, True)


def test_an_impossible_name_is_a_usage_error(client: Hub) -> None:
    with pytest.raises(UsageError):
        client.head(Repo("acme/ba se!"))


def test_the_token_of_this_machines_hub_goes_to_this_machine_only(
    own_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stored() -> str:
        return "hf_stored"

    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:7880")
    assert find_token("http://127.0.0.1:7880", stored) == "hf_stored"
    assert find_token("http://localhost:9999", stored) is None
    (own_home / "hub").mkdir(parents=True)
    (own_home / "hub" / "admin_token").write_text("hf_own\n")

    assert find_token("http://127.0.0.1:7880", stored) == "hf_own"
    assert find_token("http://localhost:9999", stored) == "hf_own"
    assert find_token("https://hub.example.org", stored) is None
    monkeypatch.setenv("HF_TOKEN", "hf_given")
    assert find_token("http://127.0.0.1:7880", stored) == "hf_given"


class Forge(BaseHTTPRequestHandler):
    """A forge that vouches for its workflow, and a hub that trusts it for one repository."""

    def do_GET(self) -> None:
        authorization = self.headers.get("Authorization")
        if self.path.startswith("/vouch?"):
            granted = authorization == "Bearer of-the-workflow"
            self.answer({"value": "a.signed.word"} if granted else None)
        else:
            self.answer({"name": "acme"} if authorization == "Bearer hf_jwt_brief" else None)

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        granted = asked["subject_token"] == "a.signed.word"
        granted = granted and asked["resource"] == "spaces/acme/chat"
        token = {"access_token": "hf_jwt_brief", "token_type": "bearer", "expires_in": 3600}
        self.answer(token if granted else None)

    def answer(self, value: object) -> None:
        body = json.dumps(value or {"error": "no"}).encode()
        self.send_response(200 if value else 401)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.mark.parametrize(
    ("resource", "said"), [("spaces/acme/chat", "acme"), ("spaces/acme/other", "AccessDenied")]
)
def test_a_workflow_signs_in_without_a_stored_token(resource: str, said: str) -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Forge)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    code = (
        "from triptych.errors import TriptychError; from triptych.hub.client import Hub\n"
        "try: print(Hub().whoami())\n"
        "except TriptychError as error: print(type(error).__name__)"
    )
    environment = {
        **os.environ,
        "HF_ENDPOINT": address,
        "HF_OIDC_RESOURCE": resource,
        "HF_TOKEN": "",
        "GITHUB_ACTIONS": "true",
        "ACTIONS_ID_TOKEN_REQUEST_URL": f"{address}/vouch",
        "ACTIONS_ID_TOKEN_REQUEST_TOKEN": "of-the-workflow",
    }
    try:
        done = subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, text=True
        )
    finally:
        server.shutdown()
        server.server_close()
    assert done.stdout.split() == [said], done.stderr


def test_the_command_line_does_not_load_the_client_library_for_help() -> None:
    code = (
        "import sys, json; from triptych.cli.main import main; main(['--help'])\n"
        "import triptych.cli.hub.publish, triptych.cli.hub.sync\n"
        "print(json.dumps('huggingface_hub' in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout.splitlines()[-1]) is False
