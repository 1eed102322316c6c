"""What the Studio draws: the figures it promises, forms made from the settings, honest lessons."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from written_runs import make

from triptych.config import load_config
from triptych.config.runs import RunsConfig
from triptych.config.train import TrainConfig
from triptych.lm.runs.api import add_error_answers, router
from triptych.lm.runs.lessons import LESSONS, check, lesson
from triptych.lm.runs.store import RunStore
from triptych.panels.studio import drawing, ended, form, learn
from triptych.panels.studio.compare import results
from triptych.panels.studio.watch import Drawings

ROOT = Path(__file__).parents[3]


@pytest.fixture
def store(own_home: Path) -> RunStore:
    return RunStore(own_home / "runs")


def test_the_head_of_a_run_shows_what_was_promised(store: RunStore) -> None:
    run = make(store, "ships", [5.0, 3.0])
    head, loss, bpb, samples, more, _ = drawing.everything(store, load_config(), run.run_id)
    for figure in (
        "loss",
        "held-out bits per byte",
        "held-out perplexity",
        "tokens/s",
        "steps/s",
        "memory",
    ):
        assert f"<span>{figure}</span>" in head
    assert "<b>20.09</b><span>held-out perplexity</span>" in head
    assert "<b>1</b><span>steps/s</span>" in head
    assert "polyline" in loss and "polyline" in bpb and "Learning rate" in more
    assert "<b>&lt;b&gt;</b>&amp;x" in samples


def test_a_drawing_is_made_once_for_all_who_watch(
    store: RunStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, drawn = make(store, "ships", [5.0, 3.0]), []
    monkeypatch.setattr(
        drawing, "everything", lambda *given: drawn.append(given) or [str(len(drawn))] * 6
    )
    drawings = Drawings(store, load_config(None, ["panels.refresh_s=0.01"]))
    assert {tuple(drawings.of(run.run_id)[:6]) for _ in range(50)} == {("1",) * 6}
    with (run.path / "events.jsonl").open("a") as file:
        file.write("{}\n")
    drawings.forget(run.run_id)
    assert drawings.of(run.run_id)[:6] == ["2"] * 6


def test_weights_and_configuration_can_be_downloaded(store: RunStore) -> None:
    run = make(store, "ships", [5.0, 3.0])
    app = FastAPI()
    app.include_router(router(store, RunsConfig()), prefix="/api")
    add_error_answers(app)
    client = TestClient(app)
    for address in re.findall(r'href="(/api/[^"]+)"', ended.links(run, load_config(), "")):
        assert client.get(address).status_code == 200, address
    place = f"/api/runs/{run.run_id}/checkpoints/latest"
    assert client.get(f"{place}/model.safetensors").content == b"weights"
    assert client.get(f"{place}/optimizer.safetensors").status_code == 404
    assert client.get(f"{place}/..%2F..%2Frun.json").status_code == 404


def test_the_playground_opens_with_the_first_and_the_last_checkpoint(store: RunStore) -> None:
    from urllib.parse import parse_qs, urlsplit

    from triptych.panels.playground import permalink

    steps = ["step-00000001", "step-00000005", "step-00000009"]
    address = ended.playground_address("/playground/", load_config(), "RUN", steps)
    values = permalink.read(parse_qs(urlsplit(address).query)["c"][0])
    assert values is not None
    assert values[0] == ["RUN/step-00000001", "RUN/step-00000009"]


def test_the_form_offers_every_setting_of_training_in_the_words_of_its_docstring() -> None:
    from dataclasses import fields

    offered = set(form.fields()) | set(form.NINE)
    missing = {field.name for field in fields(TrainConfig)} - offered
    assert missing == {"data", "init_from", "budget_s"}, "these have components of their own"
    assert all(known["description"] for known in form.fields().values())


def test_an_untouched_form_changes_no_setting_and_a_touched_one_exactly_that() -> None:
    import gradio as gr

    filled = form.Form()
    with gr.Blocks(analytics_enabled=False):
        form.draw_text(filled)
        form.draw_how(filled)
        form.draw_advanced(filled)
    values = [component.value for component in filled.components]
    choice = filled.read(values)
    defaults = load_config(None, choice.settings).train
    assert defaults == TrainConfig()
    assert (choice.batch, choice.accumulation) == (None, None)
    names = filled._names()
    changed = {
        "nine.learning_rate": "0.0005", "nine.batch": "16", "nine.steps": "2000",
        "advanced.milestones": "10, 20", "advanced.sample_prompts": "Once, Then",
        "advanced.gradient_checkpointing": True, "advanced.ema_decay": "0.99",
    }  # fmt: skip
    for name, value in changed.items():
        values[names.index(name)] = value
    choice = filled.read(values)
    train = load_config(None, choice.settings).train
    assert (train.learning_rate, train.steps, choice.batch) == (0.0005, 2000, 16)
    assert (train.milestones, train.sample_prompts) == ((10, 20), ("Once", "Then"))
    assert train.gradient_checkpointing and train.ema_decay == 0.99


def test_a_sweep_is_drawn_with_its_means(store: RunStore) -> None:
    for seed, loss in enumerate((3.0, 3.2)):
        make(store, f"seed {seed}", [5.0, loss], sweep="seeds-1")
    page = results(store, "seeds-1", "local")
    assert "3.1000 ± 1.2706" in page
    assert "2 of 2" in page and "/api/sweeps/seeds-1.csv" in page


@pytest.mark.parametrize("one", LESSONS, ids=lambda one: one.name)
def test_every_lesson_s_settings_are_valid_and_its_answers_enough(one) -> None:
    for name in one.runs:
        load_config(None, one.settings(name))
    assert len(set(one.answers)) == len(one.answers) >= 2
    assert {lesson.level for lesson in LESSONS} == {"beginner", "intermediate", "advanced"}


def test_a_lesson_is_judged_by_what_its_runs_did(store: RunStore) -> None:
    one = lesson("cooldown")
    runs = [make(store, "falling", [5.0, 3.0]), make(store, "constant", [5.0, 3.5])]
    assert check(one, runs) == (0, "Validation loss: falling 3.000, constant 3.500.")
    assert check(one, runs[::-1])[0] == 1
    assert check(one, runs[:1]) is None
    heart = lesson("overfitting")
    assert check(heart, [make(store, "many", [5.0, 3.0, 4.0])])[0] == 1
    assert check(heart, [make(store, "few", [5.0, 4.0, 3.0])])[0] == 0


def test_a_lesson_shows_the_prediction_beside_the_outcome(store: RunStore) -> None:
    one = lesson("cooldown")
    assert "This experiment is 2 short runs" in learn.shown(store, one, "local")
    sweep = "lesson-cooldown-20260101-000000"
    for name, loss in (("falling", 3.0), ("constant", 3.5)):
        run = make(store, name, [5.0, loss], sweep=sweep)
        store.annotate(run.run_id, prediction=1)
    page = learn.shown(store, one, "local")
    assert "<h3>The falling rate</h3>" in page
    assert "You said “The constant rate”" in page


def test_the_guide_names_tests_that_exist() -> None:
    named = set(re.findall(r"`(test_\w+)`", (ROOT / "docs/guides/studio.md").read_text()))
    files = (ROOT / "tests").rglob("test_*.py")
    known = {n for file in files for n in re.findall(r"def (test_\w+)", file.read_text())}
    assert len(named) > 9
    assert named <= known, named - known
