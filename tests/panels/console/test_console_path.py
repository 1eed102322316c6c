"""The whole path of an admin in a real browser, over an installation started by `triptych up`."""

from __future__ import annotations

import json
import shutil
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from browsing import fits, screenshot
from living import SPACE, House
from safetensors.numpy import save
from written_runs import make

from triptych.config import load_config
from triptych.hub.client import Hub
from triptych.hub.repository import Repo
from triptych.lm.data.build import build_corpus
from triptych.lm.runs.store import RunStore

pytestmark = [pytest.mark.browser, pytest.mark.timeout(400)]

Opened = Callable[..., Any]


def revision(house: House) -> str:
    """Return which revision answers now."""
    return str(house.chat()["system_fingerprint"])


def accept_all(page: Any) -> list[str]:
    """Agree to every question; the list is what each one said."""
    said: list[str] = []

    def accept(dialog: Any) -> None:
        said.append(dialog.message)
        dialog.accept()

    page.on("dialog", accept)
    return said


def test_i2_a_revision_is_deployed_to_a_space_and_taken_back(house: House, console: Opened) -> None:
    """Acceptance check I2, without dataset, training and promotion."""
    house.use_spaces()
    assert revision(house) == house.revisions[0]
    page = console("/console/spaces")
    page.get_by_role("link", name=SPACE).click()
    page.get_by_text("running").wait_for()
    said = accept_all(page)
    page.get_by_label("Model").fill("admin/base")
    page.get_by_label("Revision").fill("nowhere")
    page.get_by_role("button", name="Preview").click()
    page.get_by_role("alert").get_by_text("no such branch, tag or commit").wait_for()
    assert page.get_by_label("Revision").input_value() == "nowhere", "what was typed is kept"
    page.get_by_label("Revision").fill(house.revisions[1])
    page.get_by_role("button", name="Preview").click()
    page.get_by_text("until then, and if that fails, it serves what it serves now").wait_for()
    page.get_by_role("button", name="Deploy").click()
    page.get_by_text(f"Live: admin/base@{house.revisions[1]}").wait_for()
    assert revision(house) == house.revisions[1]
    page.get_by_role("button", name="Roll back").click()
    page.get_by_text(f"Live again: admin/base@{house.revisions[0]}").wait_for()
    assert f"It will serve admin/base@{house.revisions[0]} again" in said[-1]
    assert revision(house) == house.revisions[0]
    page.get_by_role("link", name="Log", exact=True).click()
    page.get_by_role("heading", name="Log").wait_for()


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (360, "dark")])
def test_i3_every_page_is_accessible_and_fits(
    house: House, console: Opened, width: int, scheme: str
) -> None:
    page = console(width=width, height=800, color_scheme=scheme)
    links = page.get_by_role("navigation", name="Console").get_by_role("link")
    found = []
    for path in [link.get_attribute("href") for link in links.all()] + [f"/console/spaces/{SPACE}"]:
        page.goto(f"{house.web}{path}")
        page.wait_for_load_state("networkidle")
        page.wait_for_timeout(300)
        name = path.removeprefix("/console").strip("/").replace("/", "-") or "overview"
        screenshot(page, f"console-{name}-{width}-{scheme}")
        fits(page)
        for violation in Axe().run(page).response["violations"]:
            nodes = [node["html"][:160] for node in violation["nodes"][:3]]
            found.append(f"{path}: {violation['id']}: {violation['help']}: {nodes}")
    assert found == []


def test_a_published_model_is_added_with_the_commit_that_the_hub_has(
    house: House, console: Opened
) -> None:
    page = console("/console/models")
    page.get_by_label("Published model").fill("admin/base")
    page.get_by_label("Revision").fill(house.revisions[0])
    page.get_by_role("button", name="Preview").click()
    page.get_by_text("It answers no request before it is deployed").wait_for()
    page.get_by_role("button", name="Add model").click()
    page.get_by_text("Model admin/base added").wait_for()
    page.get_by_role("link", name="admin/base").first.click()
    page.get_by_text("Parent model").wait_for()


def test_what_cannot_be_published_is_refused_and_not_added(
    house: House, console: Opened, tmp_path: Path
) -> None:
    run = make(RunStore(tmp_path / "runs"), "written", [3.0, 2.0])
    folder = run.path / "checkpoints" / "step-00000002"
    (folder / "model.safetensors").write_bytes(save({"weight": np.ones(4, dtype=np.float32)}))
    (folder / "config.json").write_text('{"model_type": "qwen3"}')
    shutil.move(run.path, house.home / "runs" / run.run_id)
    page = console("/console/models/publish")
    choose_checkpoint(page, "written ·", "admin/written")
    page.get_by_text("admin/written is made, private, with one commit").wait_for()
    page.get_by_text("A language model: 4 parameters").wait_for()
    page.get_by_role("button", name="Publish", exact=True).click()
    page.get_by_role("alert").get_by_text("has no tokenizer").wait_for()
    assert not Hub(house.hub, house.token).exists(Repo("admin/written"))
    names = [row["name"] for row in house.call("GET", "/api/models")["models"]]
    assert "admin/written" not in names


def choose_checkpoint(page: Any, run: str, repo: str) -> None:
    """Choose a run and fill in its repository; the best checkpoint is chosen already."""
    choices = page.get_by_label("Run", exact=True)
    (value,) = (
        option.get_attribute("value") for option in choices.locator("option").all()
        if option.inner_text().startswith(run)
    )  # fmt: skip
    with page.expect_response(lambda answer: "run=" in answer.url):
        choices.select_option(value)
    page.wait_for_timeout(300)
    assert "the best" in page.get_by_label("Checkpoint").locator("option").first.inner_text()
    page.get_by_label("To the repository").fill(repo)
    page.get_by_role("button", name="Preview").click()


def trained(house: House, data: Path) -> str:
    """Train a small model in the installation, over its API, and wait for its end."""
    settings = [
        f"train.data={data}", "model.size=nano", "train.steps=4", "train.context_length=64",
        "train.batch_tokens=256", "train.threads=1", "train.compile=off", "train.eval_every=4",
        "train.checkpoint_every=4", "train.sample_every=0", "train.precision=float32",
    ]  # fmt: skip
    request = urllib.request.Request(
        f"{house.web}/api/runs", json.dumps({"settings": settings, "name": "topics"}).encode(),
        {"content-type": "application/json"},
    )  # fmt: skip
    with urllib.request.urlopen(request, timeout=60) as answer:
        run_id = str(json.loads(answer.read())["run_id"])
    deadline = time.monotonic() + 240
    while True:
        with urllib.request.urlopen(f"{house.web}/api/runs/{run_id}", timeout=60) as answer:
            state = json.loads(answer.read())["state"]
        if state == "succeeded":
            return run_id
        assert state not in ("failed", "cancelled") and time.monotonic() < deadline, state
        time.sleep(0.2)


@pytest.mark.prove
def test_a_checkpoint_of_a_run_is_published_and_added_as_the_hub_has_it(
    house: House, console: Opened, tmp_path: Path
) -> None:
    """The run is trained by the installation, published to its hub, and added as it is there."""
    text = tmp_path / "text"
    text.mkdir()
    for name, topic in list(topics.items())[:12]:
        (text / f"{name}.txt").write_text(topic)
    build_corpus([str(text)], house.home / "data" / "topics",
                 load_config(None, ["data.vocab_size=512"]).data)  # fmt: skip
    run_id = trained(house, house.home / "data" / "topics")
    page = console("/console/models/publish")
    choose_checkpoint(page, "topics ·", "admin/topics")
    page.get_by_text("admin/topics is made, private, with one commit").wait_for()
    page.get_by_text("checkpoint of step 4.").wait_for()
    page.get_by_role("button", name="Publish", exact=True).click()
    status = page.get_by_role("status").get_by_text("Published: admin/topics@")
    status.wait_for(timeout=180_000)
    words = status.inner_text()
    hub = Hub(house.hub, house.token)
    commit = hub.head(Repo("admin/topics"))
    assert commit in words and hub.is_private(Repo("admin/topics"))
    (row,) = (
        row for row in house.call("GET", "/api/models")["models"] if row["name"] == "admin/topics"
    )
    assert (row["revision"], row["run_id"], row["tier"]) == (commit, run_id, "base")
    assert row["model_id"] in words and row["evaluation"]["step"] == 4
