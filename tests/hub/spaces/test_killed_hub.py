"""A hub that is killed leaves nothing behind, and its Spaces come back."""

from __future__ import annotations

import json
import os
import random
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from huggingface_hub import CommitOperationAdd, HfApi

from triptych.processes import Identity
from triptych.processes.identity import marked

README = b"---\nsdk: gradio\n---\n"


def wait_for(true: Callable[[], object], what: str = "it") -> object:
    deadline = time.monotonic() + 90
    while not (value := true()):
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.05)
    return value


class HubProcess:
    """A hub as its users start it, that can be killed."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.start()

    def start(self) -> None:
        settings = {"TRIPTYCH_HUB__SPACE_PORT": "0"}
        command = [sys.executable, "-m", "triptych", "hub", "serve", "--port", "0"]
        self.process = subprocess.Popen(
            [*command, "--root", str(self.root)],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={**os.environ, **settings},
        )
        assert self.process.stdout is not None
        self.url = self.process.stdout.readline().removeprefix("hub: ").strip()
        wait_for(self.answers, "the hub")

    def answers(self) -> bool:
        try:
            return (
                httpx.get(self.url + "/api/spaces", trust_env=False, timeout=60).status_code == 200
            )
        except httpx.HTTPError:
            return False

    @property
    def api(self) -> HfApi:
        return HfApi(endpoint=self.url, token=(self.root / "admin_token").read_text().strip())

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.communicate(timeout=60)

    def children(self) -> list[dict[str, object]]:
        folder = self.root / "spaces" / "processes"
        return [json.loads(path.read_text()) for path in folder.glob("*.json")]


@pytest.fixture
def hub(tmp_path: Path):
    hub = HubProcess(tmp_path / "hub")
    yield hub
    if hub.process.poll() is None:
        hub.stop()


def create(hub: HubProcess, app: str) -> str:
    repo_id = f"admin/s-{secrets.token_hex(4)}"
    hub.api.create_repo(repo_id, repo_type="space", space_sdk="gradio")
    hub.api.create_commit(
        repo_id,
        [CommitOperationAdd("app.py", app.encode()), CommitOperationAdd("README.md", README)],
        commit_message="app",
        repo_type="space",
    )
    return repo_id


def runs(hub: HubProcess, repo_id: str) -> bool:
    return hub.api.get_space_runtime(repo_id).stage == "RUNNING"


def test_orphans_end_and_spaces_return_to_their_address(hub: HubProcess, app: str) -> None:
    repo_id, paused = create(hub, app), create(hub, app)
    wait_for(lambda: runs(hub, repo_id) and runs(hub, paused))
    hub.api.pause_space(paused)
    host = hub.api.space_info(repo_id).host
    # The version this replaces stays behind, frozen; it must not outlive the hub either.
    hub.api.add_space_variable(repo_id, "GREETING", "hello")
    wait_for(lambda: len([one for one in hub.children() if "pid" in one]) == 2)
    records = hub.children()
    orphans = [Identity.from_dict(record) for record in records]
    hub.kill()
    assert all(orphan.alive() for orphan in orphans)
    hub.start()
    assert not any(orphan.alive() for orphan in orphans)
    assert not any(marked(str(record["mark"])) for record in records)
    wait_for(lambda: runs(hub, repo_id), "the Space's return")
    assert hub.api.space_info(repo_id).host == host
    assert httpx.get(host, timeout=60, trust_env=False).text == "hello"
    assert hub.api.get_space_runtime(paused).stage == "PAUSED"
    assert len(hub.children()) == 1


def test_a_stopped_hub_takes_its_spaces_along(hub: HubProcess, app: str) -> None:
    repo_id = create(hub, app)
    wait_for(lambda: runs(hub, repo_id))
    (record,) = hub.children()
    hub.stop()
    assert not Identity.from_dict(record).alive()
    assert hub.children() == []


@pytest.mark.prove
@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", range(4))
def test_killed_at_forty_random_moments_it_never_leaves_two_of_a_kind(
    hub: HubProcess, app: str, proven: Callable[..., None], seed: int
) -> None:
    moments = 10
    chance = random.Random(20_260_101 + seed)
    repo_ids = [create(hub, app) for _ in range(2)]
    under_way = 0
    for _ in range(moments):
        marks = {str(one["mark"]) for one in hub.children()}
        hub.api.restart_space(chance.choice(repo_ids))
        time.sleep(chance.uniform(0, 1.5))
        marks |= {str(one["mark"]) for one in hub.children()}
        under_way += len(marks) > len(repo_ids)
        hub.kill()
        hub.start()
        assert not any(marked(mark) for mark in marks)
    wait_for(lambda: all(runs(hub, repo_id) for repo_id in repo_ids))
    wait_for(lambda: len(hub.children()) == len(repo_ids))
    proven(
        "proofs-hub",
        f"a hub killed while its Spaces restart, seed {seed}",
        {
            "kills (SIGKILL)": moments,
            "of them while an old and a new process of a Space were there": under_way,
            "processes left behind": 0,
            "Spaces not back": 0,
        },
    )
