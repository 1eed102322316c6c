"""What can be done with a finished run: measure, fetch, repeat, compare, publish, deploy."""

from __future__ import annotations

import csv
import io
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any

import pytest
from browsing import fits, screenshot, serving
from fastapi import FastAPI
from fastapi.testclient import TestClient
from playwright.sync_api import expect
from written_runs import make

from triptych.config import load_config
from triptych.hub.client import Hub
from triptych.hub.repository import Repo
from triptych.lm.data.build import build_corpus
from triptych.lm.runs import control
from triptych.lm.runs.api import router
from triptych.lm.runs.reproduce import command
from triptych.lm.runs.store import Request, Run, RunStore
from triptych.lm.runs.worker import work
from triptych.panels.studio import ended
from triptych.panels.studio.app import build_app
from triptych.panels.visitor import Visitor

pytestmark = [pytest.mark.timeout(400)]

LOCAL = Visitor("local")
SETTINGS = (
    "model.size=nano", "train.steps=12", "train.context_length=64", "train.batch_tokens=256",
    "train.threads=1", "train.compile=off", "train.precision=float32", "train.eval_every=6",
    "train.checkpoint_every=6", "train.sample_every=0", "train.dropout=0.1",
)  # fmt: skip


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[RunStore, Run]:
    """Train for real, as a worker does, on the help topics of Python."""
    home = tmp_path_factory.mktemp("home")
    text = home / "text"
    text.mkdir()
    for name, topic in list(topics.items())[:40]:
        (text / f"{name}.txt").write_text(topic)
    build_corpus([str(text)], home / "data", load_config(None, ["data.vocab_size=512"]).data)
    store = RunStore(home / "runs")
    config = load_config(None, [*SETTINGS, f"train.data={home / 'data'}"])
    run = store.create(Request.of(config, name="ships"))
    assert work(run.path, Path) == 0
    return store, store.get(run.run_id)


def test_a_run_is_evaluated_on_the_whole_held_out_text_and_goes_on_as_a_new_one(
    finished: tuple[RunStore, Run],
) -> None:
    store, run = finished
    said = ended._evaluate(run, LOCAL)
    events = [json.loads(line) for line in (run.path / "events.jsonl").open()]
    best = min((event for event in events if event["type"] == "eval"), key=lambda e: e["val/loss"])
    told = float(re.findall(r"Loss \*\*([\d.]+)", said)[0])
    # read at the model's own context, longer than the one trained at
    assert told == pytest.approx(best["val/loss"], rel=5e-3)
    assert f"over {best['val/tokens']:,}" in said
    assert "perplexity" in said and "bits per byte" in said
    queued = ended._extend(store, run, LOCAL, 5)
    made = store.list()[0]
    assert made.run_id in queued and made.state == "queued"
    assert made.request["parent"]["run_id"] == run.run_id
    # Five more, and the six after the last checkpoint before the rate fell once more.
    assert made.request["config"]["train"]["steps"] == 5 + 6
    store.delete(made.run_id)


def test_the_weights_that_are_downloaded_are_the_checkpoint_s(
    finished: tuple[RunStore, Run],
) -> None:
    from safetensors.numpy import load

    store, run = finished
    app = FastAPI()
    app.include_router(router(store, load_config().runs), prefix="/api")
    links = ended.links(run, load_config(), "")
    address = links.split('href="')[1].split('"')[0]
    answer = TestClient(app).get(address)
    assert "attachment" in answer.headers["content-disposition"]
    tensors = load(answer.content)
    kept = control.checkpoint_folder(run) / "model.safetensors"
    assert answer.content == kept.read_bytes() and len(tensors) > 10


def test_the_command_and_configuration_of_a_run_repeat_it_to_the_bit(
    finished: tuple[RunStore, Run], tmp_path: Path
) -> None:
    store, run = finished
    app = FastAPI()
    app.include_router(router(store, load_config().runs), prefix="/api")
    toml = tmp_path / f"{run.run_id}.toml"
    toml.write_text(TestClient(app).get(f"/api/runs/{run.run_id}/config.toml").text)
    words = shlex.split(command(run, str(toml)))
    assert words[:2] == ["triptych", "train"]
    subprocess.run([sys.executable, "-m", *words, "--quiet"], check=True, cwd=tmp_path)
    again = RunStore(Path(tmp_path / "triptych-home" / "runs")).list()[0]
    name = "checkpoints/step-00000012/model.safetensors"
    assert (again.path / name).read_bytes() == (run.path / name).read_bytes()


@pytest.fixture
def compared(own_home: Path) -> Iterator[tuple[RunStore, str]]:
    store = RunStore(own_home / "runs")
    for seed, loss in enumerate((3.0, 3.2), 1):
        settings = [f"train.seed={seed}", "train.learning_rate=0.01"]
        make(store, f"seed {seed}", [5.0, 4.0, loss], settings, sweep="seeds-1")
    make(store, "slow", [5.0, 4.8, 4.6], ["train.learning_rate=0.0001"])
    with serving(build_app(load_config(), store)) as address:
        yield store, address


@pytest.mark.browser
def test_runs_are_laid_over_each_other_and_a_sweep_is_averaged_and_exported(
    open_page: Any, compared: tuple[RunStore, str]
) -> None:
    _, address = compared
    page = open_page(address)
    page.get_by_role("tab", name="Compare").click()
    chooser = page.get_by_label("Runs", exact=True)
    for name in ("slow", "seed 1"):
        chooser.click()
        page.get_by_role("option", name=name).click()
    page.wait_for_function("document.querySelectorAll('.charts polyline').length === 4")
    table = page.locator("table.plain")
    expect(table).to_contain_text("train.learning_rate")
    expect(table).to_contain_text("0.0001")
    expect(table).not_to_contain_text("train.seed")
    page.keyboard.press("Escape")
    screenshot(page, "studio-compare")
    page.get_by_label("or a sweep").click()
    page.get_by_role("option", name="seeds-1").click()
    expect(page.locator("#sweep")).to_contain_text("3.1000 ± 1.2706")
    with page.expect_download() as caught:
        page.get_by_role("link", name="Every run as CSV").click()
    rows = list(csv.DictReader(io.StringIO(Path(caught.value.path()).read_text())))
    assert [(row["train.seed"], row["val/loss"]) for row in rows] == [("1", "3.0"), ("2", "3.2")]
    page.set_viewport_size({"width": 360, "height": 740})
    fits(page)
    screenshot(page, "studio-sweep-360")
    page.close()


@pytest.mark.prove
def test_what_was_published_is_deployed_to_a_space_that_says_so_itself(
    finished: tuple[RunStore, Run], hub: tuple[str, str]
) -> None:
    import urllib.request

    _, run = finished
    assert "Published" in ended._publish(run, LOCAL, "admin/served", False)
    assert "has said so itself" in ended._deploy(run, LOCAL, "admin/served", "admin/server")
    client = Hub(*hub)
    commit = client.head(Repo("admin/served", "model"))
    address = client.space(Repo("admin/server", "space")).url
    with urllib.request.urlopen(f"{address}/health", timeout=60) as answer:
        health = json.load(answer)
    assert (health["model"], health["revision"]) == ("admin/served", commit)
