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
from triptych.lm.runs.history import LiveHistory
from triptych.lm.runs.lessons import LESSONS, check, lesson
from triptych.lm.runs.store import RunStore
from triptych.panels.studio import drawing, ended, follow, form, learn, pace
from triptych.panels.studio.compare import results
from triptych.panels.studio.pace import Drawings
from triptych.panels.web.glossary import TERMS

ROOT = Path(__file__).parents[3]


@pytest.fixture
def store(own_home: Path) -> RunStore:
    return RunStore(own_home / "runs")


def test_the_head_of_a_run_shows_what_was_promised(store: RunStore) -> None:
    drawn = Drawings(load_config()).of(make(store, "ships", [5.0, 3.0]))
    plain = re.sub(r'<span role="tooltip">.*?</span>', "", drawn["head"])
    head = " ".join(re.sub(r"</?span[^>]*>", "", plain.replace("</b>", " ")).split("<b>"))
    head = re.sub(r"<[^>]+>", " ", head)
    for figure in (
        "loss",
        "held-out bits per byte",
        "held-out perplexity",
        "tokens/s",
        "steps/s",
        "memory",
    ):
        assert re.search(rf"\S {figure} ", head), figure
    assert " 20.09 held-out perplexity " in head and " 1 steps/s " in head
    assert TERMS["perplexity"] in drawn["head"], "a term of the glossary explains itself"
    assert "polyline" in drawn["loss"] and "polyline" in drawn["bpb"]
    assert "Learning rate" in drawn["more"]
    assert "<b>&lt;b&gt;</b>&amp;x" in drawn["samples"]


def test_a_place_is_drawn_once_for_all_who_watch_and_again_when_it_shows_more(
    store: RunStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, drawn = make(store, "ships", [5.0, 3.0]), []
    monkeypatch.setattr(drawing, "bpb", lambda given: drawn.append(given) or str(len(drawn)))
    monkeypatch.setattr(pace, "DRAWING_FRAC", 1e9)
    drawings = Drawings(load_config())
    assert {drawings.of(run, ["bpb"])["bpb"] for _ in range(50)} == {"1"}
    with (run.path / "events.jsonl").open("a") as file:
        file.write('{"seq": 6, "time_s": 1, "type": "log", "message": "no news of it"}\n')
        assert drawings.of(run, ["bpb"]) == {"bpb": "1"}
        file.write('{"seq": 7, "time_s": 1, "type": "eval", "step": 3, "val/bpb": 1, "val/loss"')
        file.flush()
        assert drawings.of(run, ["bpb"]) == {"bpb": "1"}, "half a line is no news"
        file.write(": 2}\n")
    assert drawings.of(run, ["bpb"]) == {"bpb": "2"}


def test_a_history_that_is_looked_at_again_is_the_one_read_at_once(store: RunStore) -> None:
    """The steps a killed run repeats count once, and a log that began again is read again."""
    run = make(store, "ships", [5.0, 4.0, 3.0])
    log = run.path / "events.jsonl"
    lines = log.read_text().splitlines(keepends=True)
    log.write_text("")
    seen = LiveHistory(run.path)
    for number in (2, 3, 4, 3, 4, 5, 6, 7):
        with log.open("a") as file:
            file.write(lines[number - 1] if number > 2 else "".join(lines[:2]))
        seen.refresh()
    assert seen.curves["train/loss"] == [(1, 5.0), (2, 4.0), (3, 3.0)]
    assert [event["seq"] for event in (*seen.steps, *seen.samples)] == [1, 3, 5, 7]
    log.write_text(lines[0])
    assert seen.refresh().curves["train/loss"] == [(1, 5.0)]
    assert len(seen.steps) == 1 and seen.last_eval is None


def test_a_page_that_follows_a_run_is_sent_only_what_is_new_of_what_it_shows(
    store: RunStore,
) -> None:
    run = make(store, "ships", [5.0, 3.0])
    app = FastAPI()
    app.include_router(follow.routes(store, load_config()), prefix="/api")
    client = TestClient(app)

    def ask(*have: str) -> dict[str, dict[str, str]]:
        answer = client.get(f"/api/runs/{run.run_id}/places", params={"have": have}).json()
        assert answer["state"] == "succeeded"
        return answer["places"]

    first = ask("head:", "loss:", "unknown:")
    assert set(first) == {"head", "loss"}, "what is folded away is not drawn"
    tags = [f"{name}:{part['tag']}" for name, part in first.items()]
    assert ask(*tags) == {}
    assert set(ask(*tags, "log:")) == {"log"}


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


def test_a_lesson_s_answer_follows_from_its_runs(store: RunStore) -> None:
    one = lesson("cooldown")
    runs = [make(store, "falling", [5.0, 3.0]), make(store, "constant", [5.0, 3.5])]
    assert check(one, runs) == (0, "Validation loss: decaying 3.000, constant 3.500.")
    assert check(one, runs[::-1])[0] == 1
    assert check(one, runs[:1]) is None
    heart = lesson("overfitting")
    assert check(heart, [make(store, "many", [5.0, 3.0, 4.0])])[0] == 1
    assert check(heart, [make(store, "few", [5.0, 4.0, 3.0])])[0] == 0


def test_a_lesson_shows_the_prediction_beside_the_outcome(store: RunStore) -> None:
    one = lesson("cooldown")
    assert "This experiment is 2 short runs" in learn.shown(one, [])
    sweep = "lesson-cooldown-20260101-000000"
    for name, loss in (("falling", 3.0), ("constant", 3.5)):
        run = make(store, name, [5.0, loss], sweep=sweep)
        store.annotate(run.run_id, prediction=1)
    page = learn.shown(one, learn.newest(store, one, "local"))
    assert "<h3>The decaying rate</h3>" in page
    assert "You said “The constant rate”" in page


def test_a_page_gets_an_experiment_again_once_it_goes_on(store: RunStore) -> None:
    app = FastAPI()
    app.include_router(learn.routes(store, load_config()), prefix="/api")
    add_error_answers(app)
    client = TestClient(app)

    def ask(tag: str = "") -> dict[str, dict[str, str]]:
        have = {"have": f"lesson:{tag}"}
        return client.get("/api/lessons/cooldown/places", params=have).json()["places"]

    nothing = ask()["lesson"]
    assert "This experiment is 2 short runs" in nothing["html"]
    assert ask(nothing["tag"]) == {}
    for name in ("falling", "constant"):
        run = make(store, name, [5.0, 3.0], sweep="lesson-cooldown-20260101-000000")
        store.annotate(run.run_id, prediction=0)
    ended = ask(nothing["tag"])["lesson"]
    assert "You " in ended["html"] and ask(ended["tag"]) == {}
    assert client.get("/api/lessons/none/places").status_code == 422


def test_the_guide_names_tests_that_exist() -> None:
    named = set(re.findall(r"`(test_\w+)`", (ROOT / "docs/guides/studio.md").read_text()))
    files = (ROOT / "tests").rglob("test_*.py")
    known = {n for file in files for n in re.findall(r"def (test_\w+)", file.read_text())}
    assert len(named) > 9
    assert named <= known, named - known
