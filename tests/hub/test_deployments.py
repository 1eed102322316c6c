"""Deploying to real Space processes: live means the Space said so; failing changes nothing."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from triptych.errors import (
    CommitConflict,
    DeploymentFailed,
    PublishRefused,
    RepositoryNotFound,
    RevisionNotFound,
    UsageError,
)
from triptych.hub.client import Hub
from triptych.hub.deployments import Deployer, Patience
from triptych.hub.ledger import Ledger, Pin
from triptych.hub.publish import publish_milestones
from triptych.hub.record import milestones
from triptych.hub.repository import Repo

APP = Path(__file__).parent / "loading_space"
MINIMAL = Path(__file__).parents[2] / "triptych" / "spaces" / "minimal"
TIER = Path(__file__).parents[2] / "triptych" / "spaces" / "tier"
# Other work may share these two cores, so be generous; a healthy Space takes a second.
PATIENCE = Patience(total_s=240, stale_s=30, settle_s=30)


@dataclass
class Models:
    """One repository with two good revisions and a torn one."""

    repo: str
    first: str
    second: str
    torn: str

    def __call__(self, revision: str) -> str:
        return f"{self.repo}@{revision}"


@pytest.fixture(scope="module")
def models(endpoint: str, hub_root: Path, run_folder: Path) -> Models:
    hub = Hub(endpoint, (hub_root / "admin_token").read_text().strip())
    repo = Repo(f"{hub.whoami()}/deployed")
    first, second = publish_milestones(hub, milestones(run_folder), lambda _: repo, None)
    whole = hub.read(repo, "model.safetensors", second.commit)
    torn = hub.commit(repo, {"model.safetensors": whole[:-100]}, "Tear the weights")
    return Models(repo.repo_id, first.commit, second.commit, torn)


@pytest.fixture
def deployer(client: Hub) -> Deployer:
    return Deployer(client, patience=PATIENCE)


@pytest.fixture
def space(client: Hub, fresh: Callable[..., Repo]) -> Iterator[Repo]:
    space = fresh("space")
    yield space
    if client.exists(space):
        client.delete(space)


def answer(hub: Hub, space: Repo) -> str | None:
    health = hub.ask_space(hub.space(space), "/health")
    return health["revision"] if health else None


def test_g8_live_is_what_the_space_itself_answers(
    deployer: Deployer, space: Repo, models: Models
) -> None:
    states: list[str] = []
    watched = Deployer(deployer.hub, patience=PATIENCE, on_state=lambda d: states.append(d.state))
    deployment = watched.deploy(models("step-4"), space, APP)

    assert deployment.pin == Pin(models.repo, models.first)
    assert answer(deployer.hub, space) == models.first
    assert states == ["pending", "uploading", "building", "verifying", "live"]
    (saved,) = Ledger().of(deployer.hub.endpoint, space)
    assert saved == deployment
    assert saved.record()["state"] == "live"


@pytest.mark.parametrize("app", [APP, pytest.param(TIER, marks=pytest.mark.prove)])
def test_g8_a_broken_model_leaves_the_old_one_serving_without_a_gap(
    deployer: Deployer, space: Repo, models: Models, app: Path
) -> None:
    deployer.deploy(models(models.first), space, app)
    answers: list[str | None] = []
    ended = threading.Event()

    def watch() -> None:
        while not ended.is_set():
            answers.append(answer(deployer.hub, space))
            time.sleep(0.1)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        with pytest.raises(DeploymentFailed) as caught:
            deployer.deploy(models(models.torn), space)
    finally:
        ended.set()
        watcher.join()

    assert set(answers) == {models.first}
    assert "model.safetensors" in caught.value.message or "Safetensor" in caught.value.message
    assert f"{models.repo}@{models.first} serves on" in caught.value.message
    assert deployer.hub.variables(space)["MODEL_VERSION"][0] == models.first
    newest, older = Ledger().of(deployer.hub.endpoint, space)
    assert (newest.state, older.state) == ("failed", "live")


def test_g8_a_rollback_is_a_flip_to_what_served_before(
    deployer: Deployer, space: Repo, models: Models
) -> None:
    deployer.deploy(models(models.first), space, APP)
    second = deployer.deploy(models(models.second), space)
    assert answer(deployer.hub, space) == models.second

    back = deployer.roll_back(space)

    assert answer(deployer.hub, space) == models.first
    assert back.rollback_of == second.id
    # No start: the version that was replaced goes on where it was left.
    assert any("Serves again" in line for line in deployer.hub.logs(space))
    states = {d.id: d.state for d in Ledger().of(deployer.hub.endpoint, space)}
    assert (states[back.id], states[second.id]) == ("live", "rolled_back")


def test_another_machine_can_roll_back_by_the_note_at_the_space(
    deployer: Deployer, space: Repo, models: Models, tmp_path: Path
) -> None:
    deployer.deploy(models(models.first), space, APP)
    deployer.deploy(models(models.second), space)
    elsewhere = Deployer(deployer.hub, Ledger(tmp_path / "elsewhere"), PATIENCE)

    elsewhere.roll_back(space)
    assert answer(deployer.hub, space) == models.first


def test_deploying_what_is_live_changes_nothing(
    deployer: Deployer, space: Repo, models: Models
) -> None:
    deployment = deployer.deploy(models(models.first), space, APP)
    log = list(deployer.hub.logs(space))
    assert deployer.deploy(models("step-4"), space) == deployment
    assert [line for line in deployer.hub.logs(space) if "loaded" in line] == [
        line for line in log if "loaded" in line
    ]


def test_a_broken_app_is_taken_back_with_the_model(
    deployer: Deployer, space: Repo, models: Models, tmp_path: Path
) -> None:
    deployer.deploy(models(models.first), space, APP)
    head = deployer.hub.head(space)
    for file in APP.iterdir():
        if file.is_file():
            (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "app.py").write_text("raise SystemExit('the app is broken')\n")
    (tmp_path / "extra.txt").write_text("left behind?\n")

    with pytest.raises(DeploymentFailed, match="the app is broken"):
        deployer.deploy(models(models.second), space, tmp_path)

    assert answer(deployer.hub, space) == models.first
    assert deployer.hub.tree(space, "main").keys() == deployer.hub.tree(space, head).keys()
    assert (
        deployer.hub.read(space, "app.py", deployer.hub.head(space))
        == (APP / "app.py").read_bytes()
    )


def test_an_app_that_serves_something_else_is_not_live(
    deployer: Deployer, space: Repo, models: Models, tmp_path: Path
) -> None:
    (tmp_path / "README.md").write_bytes((MINIMAL / "README.md").read_bytes())
    lying = (MINIMAL / "app.py").read_text().replace('os.environ.get("MODEL_VERSION", "")', '"0"')
    (tmp_path / "app.py").write_text(lying)
    impatient = Deployer(deployer.hub, patience=Patience(total_s=60, settle_s=2))

    with pytest.raises(DeploymentFailed, match="answers /health with revision 0"):
        impatient.deploy(models(models.first), space, tmp_path)
    (deployment,) = Ledger().of(deployer.hub.endpoint, space)
    assert deployment.state == "failed"


def test_what_cannot_be_served_is_refused_before_the_space_is_touched(
    deployer: Deployer, space: Repo, models: Models, fresh: Callable[..., Repo]
) -> None:
    with pytest.raises(RevisionNotFound):
        deployer.deploy(models("nowhere"), space, APP)
    empty = fresh()
    deployer.hub.create(empty)
    with pytest.raises(PublishRefused, match="no model"):
        deployer.deploy(empty.repo_id, space, APP)
    with pytest.raises(RepositoryNotFound, match="spaces create"):
        deployer.deploy(models(models.first), space)
    with pytest.raises(UsageError, match=r"README\.md"):
        deployer.deploy(models(models.first), space, APP.parent / "originals")
    assert not deployer.hub.exists(space)
    assert Ledger().of(deployer.hub.endpoint, space) == []


def test_one_deployment_to_a_space_at_a_time(
    deployer: Deployer, space: Repo, models: Models
) -> None:
    with (
        Ledger().lock(deployer.hub.endpoint, space),
        pytest.raises(CommitConflict, match="under way"),
    ):
        deployer.deploy(models(models.first), space, APP)


def test_an_interrupted_deployment_is_closed_and_never_rolled_back_to(
    deployer: Deployer, space: Repo, models: Models
) -> None:
    deployer.deploy(models(models.first), space, APP)
    ledger = Ledger()
    # As a killed process leaves it: pinned, recorded, and never seen to serve.
    left = ledger.begin(
        deployer.hub.endpoint,
        space,
        Pin(models.repo, models.torn),
        Pin(models.repo, models.first),
    )
    ledger.write(left.entered("building"))
    deployer.hub.set_variable(space, "MODEL_VERSION", models.torn)

    deployment = deployer.deploy(models(models.second), space)

    assert deployment.previous == Pin(models.repo, models.first)
    states = {d.id: d.state for d in ledger.of(deployer.hub.endpoint, space)}
    assert states[left.id] == "failed"


def test_there_is_nothing_to_roll_back_to_at_first(
    deployer: Deployer, space: Repo, models: Models
) -> None:
    deployer.deploy(models(models.first), space, APP)
    with pytest.raises(UsageError, match="nothing before"):
        deployer.roll_back(space)


def test_the_command_line_leads_a_space_through_its_life(
    client: Hub, space: Repo, models: Models, triptych: Any
) -> None:
    name = space.repo_id

    def spaces(*words: str, stdin: str = "") -> Any:
        return triptych("spaces", *words, stdin=stdin)

    assert spaces("create", name, "--app", str(MINIMAL), "--json").returncode == 0
    deployed = spaces("deploy", models("step-8"), name, "--json")
    assert deployed.returncode == 0, deployed.stderr
    assert json.loads(deployed.stdout)["state"] == "live"
    assert spaces("variables", name, "MOOD=calm").stdout.splitlines() == [
        f"MODEL_ID={models.repo}",
        f"MODEL_VERSION={models.second}",
        "MOOD=calm",
    ]
    secret = spaces("secrets", name, "HF_TOKEN", stdin="hf_never_shown\n")
    assert secret.stdout.split() == ["HF_TOKEN"]
    assert "never_shown" not in secret.stdout + secret.stderr
    assert spaces("pause", name).stdout.startswith("PAUSED")
    assert spaces("wake", name, "--timeout", "120").stdout.startswith("RUNNING")
    status = json.loads(spaces("status", name, "--json").stdout)
    assert status["health"]["revision"] == models.second
    assert status["deployments"][0]["state"] == "live"
    deadline = time.monotonic() + 60
    while "GET" not in spaces("logs", name).stdout:
        assert time.monotonic() < deadline
    assert spaces("delete", name).returncode == 2
    assert spaces("delete", name, "--yes").returncode == 0
    assert not client.exists(space)
