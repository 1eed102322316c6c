"""Storage stands alone: no request, no server, and no import of what lies above it."""

from __future__ import annotations

import ast
import hashlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from triptych.config.hub import HubConfig
from triptych.errors import CommitConflict, HubRefused
from triptych.hub import server
from triptych.hub.server.repositories import claims
from triptych.hub.server.repositories.lifecycle import create
from triptych.hub.server.repository import Repository
from triptych.hub.server.storage.git import commits
from triptych.hub.server.storage.git.commits import Change, Message
from triptych.hub.server.storage.git.pointers import write_pointer
from triptych.hub.server.storage.git.reading import MAIN, open_repository, resolve
from triptych.hub.server.storage.hub import Hub, ensure_admin
from triptych.hub.server.storage.identity.accounts import account_by_id, create_account
from triptych.hub.server.storage.identity.tokens import Identity, authenticate, create_token

CONTENT = b"weights" * 1000
SHA256 = hashlib.sha256(CONTENT).hexdigest()
MESSAGE = Message("add weights", "", "owner", "")
# A folder may import from itself, from those before it, and from the files beside them ("").
ORDER = ("", "workloads", "storage", "repositories", "spaces", "jobs", "http")
ROOT = Path(server.__file__).parent
PACKAGE = server.__name__


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    opened = Hub(HubConfig(root=str(tmp_path)))
    ensure_admin(opened)
    yield opened
    opened.close()


def test_a_large_file_is_stored_committed_and_read_without_a_request(hub: Hub) -> None:
    identity = sign_in(hub, "owner")
    repository = new_repository(hub, identity)
    store(hub, repository)
    size = claims.claim(hub, repository, identity, SHA256, len(CONTENT))
    git = open_repository(hub.layout.repository(repository.uid))
    change = Change(files={"model.bin": git.create_blob(write_pointer(SHA256, size))})
    head = commits.commit(git, MAIN, change, MESSAGE, parent=None)

    entry = resolve(git, head).entry("model.bin")
    assert entry.pointer is not None
    assert b"".join(hub.objects.read(entry.pointer.sha256, 0, entry.size)) == CONTENT


def test_a_hash_alone_gives_no_right_to_a_file(hub: Hub) -> None:
    owner, stranger = sign_in(hub, "owner"), sign_in(hub, "stranger")
    hidden = new_repository(hub, owner)
    store(hub, hidden)
    other = new_repository(hub, stranger)
    with pytest.raises(HubRefused):
        claims.claim(hub, other, stranger, SHA256, len(CONTENT))
    assert claims.known_size(hub, other, owner, SHA256) == len(CONTENT)


def test_a_commit_on_an_old_head_is_refused(hub: Hub) -> None:
    identity = sign_in(hub, "owner")
    git = open_repository(hub.layout.repository(new_repository(hub, identity).uid))
    first = resolve(git, MAIN).sha
    commits.commit(git, MAIN, Change(files={"a": git.create_blob(b"a")}), MESSAGE, parent=first)
    with pytest.raises(CommitConflict):
        commits.commit(git, MAIN, Change(files={"b": git.create_blob(b"b")}), MESSAGE, parent=first)


@pytest.mark.parametrize("folder", ["storage", "repositories"])
def test_no_web_framework_is_loaded_below_http(folder: str) -> None:
    modules = [name for name in imported_by() if name.startswith(f"{PACKAGE}.{folder}.")]
    code = (
        f"import importlib, sys; [importlib.import_module(name) for name in {modules!r}];"
        " found = {'starlette', 'uvicorn', 'fastapi'} & set(sys.modules); sys.exit(str(found or 0))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr.strip() == "0"


def test_the_folders_of_the_server_import_downwards_only() -> None:
    upward = [
        f"{name} -> {target}"
        for name, targets in imported_by().items()
        for target in targets
        if ORDER.index(folder_of(target)) > ORDER.index(folder_of(name))
    ]
    assert upward == []


def test_no_two_files_of_the_server_import_each_other() -> None:
    left = {name: set(targets) for name, targets in imported_by().items()}
    while ends := [name for name, targets in left.items() if not targets & left.keys()]:
        for name in ends:
            del left[name]
    assert sorted(left) == []


def sign_in(hub: Hub, name: str) -> Identity:
    account = create_account(hub.database, name)
    return authenticate(hub.database, create_token(hub.database, account, "test", "write"))


def new_repository(hub: Hub, identity: Identity) -> Repository:
    account = account_by_id(hub.database, identity.account_id)
    return create(hub, identity, account, kind="model", name="model", private=True)


def store(hub: Hub, repository: Repository) -> None:
    incoming = hub.objects.receive(SHA256, len(CONTENT))
    incoming.write(memoryview(CONTENT))
    incoming.finish()
    hub.objects.grant(repository.id, SHA256, len(CONTENT))


def folder_of(name: str) -> str:
    first = name.removeprefix(PACKAGE).lstrip(".").partition(".")[0]
    return first if (ROOT / first).is_dir() else ""


def imported_by() -> dict[str, set[str]]:
    """Return each file's imports within the server, also those in functions and for types only."""
    files = {}
    for path in ROOT.rglob("*.py"):
        parts = (PACKAGE, *path.relative_to(ROOT).with_suffix("").parts)
        files[".".join(parts).removesuffix(".__init__")] = path
    found: dict[str, set[str]] = {}
    for name, path in files.items():
        found[name] = set()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(PACKAGE):
                for alias in node.names:
                    full = f"{node.module}.{alias.name}"
                    found[name].add(full if full in files else str(node.module))
    return found
