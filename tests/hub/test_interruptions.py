"""Killed at any moment, publishing and deploying leave nothing half done and can be repeated."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from triptych.errors import CommitConflict
from triptych.hub.client import Hub
from triptych.hub.deployments import Deployer, Patience
from triptych.hub.ledger import Ledger
from triptych.hub.publish import publish
from triptych.hub.record import milestones
from triptych.hub.repository import Repo
from triptych.hub.upload import put_files

Fresh = Callable[..., Repo]
APP = Path(__file__).parent / "loading_space"
few_or_many = pytest.mark.parametrize(
    "kills", [1, pytest.param(25, marks=[pytest.mark.prove, pytest.mark.timeout(900)])]
)


def start(*words: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "triptych", *words]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def seconds_of(*words: str) -> float:
    began = time.monotonic()
    assert start(*words).wait() == 0
    return time.monotonic() - began


@few_or_many
def test_a_killed_publication_is_all_there_or_not_at_all(
    client: Hub, fresh: Fresh, run_folder: Path, kills: int
) -> None:
    found = milestones(run_folder)
    whole = fresh()
    takes_s = seconds_of("publish", str(found[8]), whole.repo_id, "--no-gate")
    expected = set(client.tree(whole, "main"))
    repo = fresh()
    before = publish(client, found[4], repo, None).commit
    chance = random.Random(kills)
    for _ in range(kills):
        process = start("publish", str(found[8]), repo.repo_id, "--no-gate")
        time.sleep(chance.uniform(0.3, 1.0) * takes_s)
        process.kill()
        process.wait()
        head = client.head(repo)
        if head != before:
            files = client.tree(repo, head)
            assert set(files) == expected
            assert files["model.safetensors"] == client.tree(whole, "main")["model.safetensors"]
            repo = fresh()
            before = publish(client, found[4], repo, None).commit

    assert publish(client, found[8], repo, None).committed
    assert set(client.tree(repo, "main")) == expected


@few_or_many
def test_a_killed_deployment_can_be_repeated_and_serves_at_the_end(
    client: Hub, fresh: Fresh, run_folder: Path, kills: int
) -> None:
    found = milestones(run_folder)
    model, space = fresh(), fresh("space")
    commits = [publish(client, found[step], model, None).commit for step in (4, 8)]
    deployer = Deployer(client, patience=Patience(total_s=240))
    deployer.deploy(f"{model.repo_id}@{commits[0]}", space, APP)
    chance = random.Random(kills)
    for number in range(kills):
        process = start("spaces", "deploy", f"{model}@{commits[number % 2]}", space.repo_id)
        time.sleep(chance.uniform(0.5, 4.0))
        process.kill()
        process.wait()

    live = deployer.deploy(f"{model.repo_id}@{commits[1]}", space)

    assert live.state == "live"
    health = client.ask_space(client.space(space), "/health")
    assert health is not None
    assert health["revision"] == commits[1]
    states = {d.state for d in Ledger().of(client.endpoint, space)}
    assert states <= {"live", "failed"}
    client.delete(space)


def test_of_several_writers_each_is_whole_or_told_to_try_again(client: Hub, fresh: Fresh) -> None:
    repo = fresh()
    client.create(repo)

    def write(number: int) -> str | None:
        files = {f"{number}/{name}.txt": f"{number}{name}\n".encode() for name in "abc"}
        try:
            return put_files(client, repo, files, f"Write {number}")[0]
        except CommitConflict:
            return None

    with ThreadPoolExecutor(8) as pool:
        commits = list(pool.map(write, range(8)))

    names = set(client.tree(repo, "main")) - {".gitattributes"}
    written = {f"{n}/{name}.txt" for n, commit in enumerate(commits) if commit for name in "abc"}
    assert names == written
    assert any(commits)
