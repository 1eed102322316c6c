"""The hub's folder, its secrets, its people: from the command line, as an operator does it."""

from __future__ import annotations

import base64
import json
import os
import subprocess
from pathlib import Path

import pytest

from triptych.cli.main import main
from triptych.config.hub import HubConfig
from triptych.errors import HubRefused, StorageError, UsageError
from triptych.hub.server.repositories import catalog, variables
from triptych.hub.server.repositories.lifecycle import create
from triptych.hub.server.storage.hub import Hub, ensure_admin
from triptych.hub.server.storage.identity.accounts import find_account
from triptych.hub.server.storage.identity.tokens import authenticate, revoke_token


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "hub"


def opened(root: Path) -> Hub:
    hub = Hub(HubConfig(root=str(root)))
    ensure_admin(hub)
    return hub


def test_people_tokens_and_their_end(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def hub_command(*words: str) -> str:
        assert main(["hub", *words, "--root", str(root)]) == 0
        return capsys.readouterr().out.strip()

    alice = hub_command("user", "add", "alice", "--fullname", "Alice A.")
    hub_command("org", "add", "acme")
    hub_command("org", "member", "acme", "alice", "write")
    reader = hub_command("token", "create", "alice", "laptop", "--days", "1")
    listed = json.loads(hub_command("token", "list", "alice", "--json"))
    assert [(one["name"], one["role"]) for one in listed] == [
        ("first", "write"),
        ("laptop", "read"),
    ]
    assert reader not in json.dumps(listed)
    names = [one["name"] for one in json.loads(hub_command("user", "list", "--json"))]
    assert names == ["acme", "admin", "alice"]
    hub = opened(root)
    identity = authenticate(hub.database, alice)
    acme = find_account(hub.database, "acme")
    assert acme is not None and identity.memberships == {acme.id: "write"}
    create(hub, identity, acme, kind="model", name="base", private=True)
    fine = hub_command("token", "create", "alice", "ci", "--repo", "model:acme/base=read")
    assert list(authenticate(hub.database, fine).grants.values()) == ["read"]
    hub_command("token", "revoke", "alice", "laptop")
    shown = hub_command("client", "add", "panel", "http://127.0.0.1:7860/login/callback")
    assert shown.startswith("OAUTH_CLIENT_ID=") and "OAUTH_CLIENT_SECRET=" in shown
    assert "panel" in hub_command("client", "list")
    hub_command("client", "remove", "panel")
    assert hub_command("client", "list") == ""
    with pytest.raises(Exception, match="Invalid credentials"):
        authenticate(hub.database, reader)
    hub.close()
    assert main(["hub", "token", "revoke", "alice", "laptop", "--root", str(root)]) == 2
    assert main(["hub", "token", "list", "nobody", "--root", str(root)]) == 2
    report = json.loads(hub_command("gc", "--json"))
    assert report["objects"] == 0


def test_an_expired_token_is_no_token(root: Path) -> None:
    from triptych.hub.server.storage.identity.tokens import create_token

    hub = opened(root)
    admin = find_account(hub.database, "admin")
    assert admin is not None
    token = create_token(hub.database, admin, "short", "read", expires_in_s=-1)
    with pytest.raises(Exception, match="Invalid credentials"):
        authenticate(hub.database, token)
    hub.close()


@pytest.mark.parametrize("bad", ["admin", "hf_12345", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"])
def test_a_first_token_that_could_be_guessed_is_refused(
    root: Path, bad: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRIPTYCH_HUB_ADMIN_TOKEN", bad)
    with pytest.raises(UsageError, match="guessed"):
        opened(root)


def test_a_chosen_first_token_works_and_does_not_come_back(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = "hf_" + base64.b32encode(os.urandom(20)).decode()
    monkeypatch.setenv("TRIPTYCH_HUB_ADMIN_TOKEN", chosen)
    hub = opened(root)
    assert authenticate(hub.database, chosen).is_admin
    assert (root / "admin_token").stat().st_mode & 0o777 == 0o600
    revoke_token(hub.database, authenticate(hub.database, chosen).account_id, "first")
    hub.close()
    hub = opened(root)
    with pytest.raises(Exception, match="Invalid credentials"):
        authenticate(hub.database, chosen)
    fresh = (root / "admin_token").read_text().strip()
    assert authenticate(hub.database, fresh).is_admin
    hub.close()


def test_secrets_are_sealed_and_bound_to_their_place(root: Path) -> None:
    hub = opened(root)
    identity = authenticate(hub.database, (root / "admin_token").read_text().strip())
    admin = find_account(hub.database, "admin")
    assert admin is not None
    one = create(hub, identity, admin, kind="space", name="one", private=False)
    two = create(hub, identity, admin, kind="space", name="two", private=False)
    value = "correct horse battery staple"
    variables.put(hub, one, variables.SECRET, "KEY", value)
    variables.put(hub, one, variables.VARIABLE, "KEY", "a variable loses to a secret")
    assert variables.reveal(hub, one) == {"KEY": value}
    assert "value" not in variables.describe(hub, one, variables.SECRET)["KEY"]
    hub.database.query("PRAGMA wal_checkpoint(TRUNCATE)")
    stored = subprocess.run(["cat", root / "hub.db"], capture_output=True, check=True).stdout
    assert value.encode() not in stored
    # Copied to another Space's row, it does not open.
    hub.database.write(
        "INSERT INTO repository_settings SELECT ?, kind, key, value, description, updated_at,"
        " by_admin FROM repository_settings WHERE repository_id = ? AND kind = 'secret'",
        two.id, one.id,
    )  # fmt: skip
    with pytest.raises(StorageError, match="does not open"):
        variables.reveal(hub, two)
    for key in ("", "1A", "A-B", "A B", "A=B", "A\0", "x" * 200):
        with pytest.raises(HubRefused):
            variables.put(hub, one, variables.SECRET, key, "v")
    hub.close()


def test_a_hub_whose_key_others_can_read_does_not_open(root: Path) -> None:
    opened(root).close()
    (root / "secret.key").chmod(0o644)
    with pytest.raises(StorageError, match="read by others"):
        Hub(HubConfig(root=str(root)))


def test_the_key_of_a_hub_may_come_from_the_environment(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRIPTYCH_HUB_KEY", base64.b64encode(os.urandom(32)).decode())
    hub = opened(root)
    assert not (root / "secret.key").exists()
    assert hub.vault.open("here", hub.vault.seal("here", "x")) == "x"
    hub.close()


def test_a_folder_of_another_version_is_left_alone(root: Path) -> None:
    opened(root).close()
    (root / "format.json").write_text('{"format_version": 99}')
    with pytest.raises(StorageError, match="hub format 99"):
        Hub(HubConfig(root=str(root)))
    (root / "format.json").write_text('{"format_version": 1}')
    hub = opened(root)
    hub.database.query("PRAGMA user_version = 1000")
    hub.close()
    with pytest.raises(StorageError, match="newer version"):
        Hub(HubConfig(root=str(root)))


def test_a_catalogue_that_lags_behind_git_is_repaired(root: Path) -> None:
    """A crash between git and the database: at the next start the lists are right again."""
    from triptych.hub.server.repositories.heads import repair
    from triptych.hub.server.storage.git.commits import Change, Message, commit
    from triptych.hub.server.storage.git.reading import open_repository

    hub = opened(root)
    identity = authenticate(hub.database, (root / "admin_token").read_text().strip())
    admin = find_account(hub.database, "admin")
    assert admin is not None
    made = create(hub, identity, admin, kind="model", name="m", private=False)
    git = open_repository(hub.layout.repository(made.uid))
    change = Change()
    change.files["README.md"] = git.create_blob(b"---\nlicense: mit\n---\n")
    sha = commit(git, "main", change, Message("s", "", "a", "a@b"), parent=None)
    assert catalog.by_id(hub.database, made.id).head != sha
    assert repair(hub) == 1
    repaired = catalog.by_id(hub.database, made.id)
    assert (repaired.head, repaired.tags) == (sha, ("license:mit",))
    assert repair(hub) == 0
    hub.close()


def test_a_taken_port_is_told_with_a_remedy(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert main(["hub", "serve", "--root", str(root), "--port", port]) == 1
    assert "--port" in capsys.readouterr().err


def test_signed_addresses_stay_out_of_the_access_log() -> None:
    import logging

    from triptych.hub.server.http.serving import WithoutQueries

    path = "/lfs/download?ticket=abc"
    record = logging.LogRecord(
        "uvicorn.access", logging.INFO, "", 0, '%s - "%s %s HTTP/%s" %d',
        ("127.0.0.1:1", "GET", path, "1.1", 200), None,
    )  # fmt: skip
    assert WithoutQueries().filter(record)
    assert "abc" not in record.getMessage()
    assert "/lfs/download" in record.getMessage()
