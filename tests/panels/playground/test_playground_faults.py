"""Faults of the first-time user's review that were the Playground's; each has its number."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect

from triptych.config.generate import Sampling
from triptych.lm.generate.engine import Chunk
from triptych.lm.model.tokenizer import CHAT_TEMPLATE
from triptych.lm.runs.store import RunStore
from triptych.panels.playground import comparison, drawing
from triptych.panels.playground.comparison import Column, Comparison, Entry
from triptych.panels.playground.experiments import EXPERIMENTS
from triptych.panels.playground.models.chat_models import is_chat_model

PROMPT_BOX = "document.querySelector('.asking textarea').getBoundingClientRect()"
ANSWERS_BOX = "document.querySelector('#answers .answers').getBoundingClientRect()"


@pytest.fixture
def open_playground(
    open_page: Any, address: str, module_home: Path, monkeypatch: pytest.MonkeyPatch
) -> Any:
    """Open the page over the run, and wait until models are chosen."""
    monkeypatch.setenv("TRIPTYCH_HOME", str(module_home))

    def open_at(query: str = "", **options: Any) -> Any:
        page = open_page(address + query, **options)
        page.set_default_timeout(30_000)
        page.get_by_text("topics · step").first.wait_for()
        return page

    return open_at


def answered(page: Any) -> None:
    page.get_by_role("button", name="Generate", exact=True).click()
    page.locator(".voting h3").first.wait_for()


def entry(**changes: Any) -> Entry:
    return Entry(
        **{"reference": "r", "label": "l", "prompt": "p", "sampling": Sampling()} | changes
    )


def at(monkeypatch: pytest.MonkeyPatch, *times: float) -> None:
    clock = iter(times)
    monkeypatch.setattr(comparison.time, "perf_counter", lambda: next(clock))


def test_fault_9_text_that_came_in_one_piece_has_no_speed(monkeypatch: pytest.MonkeyPatch) -> None:
    at(monkeypatch, 0.0, 0.676, 0.676001)
    column = Column(entry())
    column.begin()
    column.take(Chunk(text="all of it", output_tokens=64))
    column.take(Chunk(text="", output_tokens=64, finish_reason="length"))
    assert column.ttft_s == pytest.approx(0.676) and column.tok_per_s is None
    assert "tokens/s" not in drawing.answers(Comparison([column]))


def test_fault_9_text_that_came_piece_by_piece_has_its_speed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    at(monkeypatch, 0.0, 1.0, 1.1, 1.2, 1.3)
    column = Column(entry())
    column.begin()
    for count in range(1, 5):
        column.take(Chunk(text="a", output_tokens=count))
    assert column.tok_per_s == pytest.approx(10)


def test_fault_7_an_answer_of_white_space_is_shown_with_signs() -> None:
    drawn = drawing.answers(Comparison([Column(entry(), text=" \n\t ")]))
    assert "␣⏎" in drawn and "(4 white-space characters)" in drawn
    assert "␣" not in drawing.answers(Comparison([Column(entry(), text=" a ")]))


def test_fault_7_findings_are_means_over_seeds() -> None:
    temperature = next(each for each in EXPERIMENTS if each.key == "temperature")
    assert temperature.seeds == 3
    same, different = Column(entry(), text="a a a a a"), Column(entry(), text="a b c d e")
    findings = temperature.seen([[same, different], [different, different]], [None, None])
    assert [row[1] for row in findings.rows] == ["62%", "100%"]
    assert "Means over 2 seeds." in findings.sentences


def test_an_own_model_is_a_chat_model_only_when_it_was_trained_on_conversations(
    runs: RunStore, tmp_path: Path
) -> None:
    (own,) = (runs.root / "topics" / "checkpoints").glob("step-00000040")
    assert not is_chat_model(own)
    folder = tmp_path / "run" / "checkpoints" / "step-1"
    folder.mkdir(parents=True)
    trained = tmp_path / "run" / "config.json"
    trained.write_text(json.dumps({"config": {"train": {"method": "sft"}}}))
    assert is_chat_model(folder)
    foreign = tmp_path / "smollm2"
    foreign.mkdir()
    (foreign / "tokenizer_config.json").write_text(json.dumps({"chat_template": "{{ x }}"}))
    assert is_chat_model(foreign)
    (foreign / "tokenizer_config.json").write_text(json.dumps({"chat_template": CHAT_TEMPLATE}))
    assert not is_chat_model(foreign)


@pytest.mark.browser
def test_fault_6_answers_begin_above_the_fold(open_playground: Any) -> None:
    page = open_playground(width=1280, height=800)
    answered(page)
    page.evaluate("scrollTo(0, 0)")
    assert page.evaluate(f"{ANSWERS_BOX}.top") < 480


@pytest.mark.browser
def test_fault_6_on_a_phone_answers_stand_before_the_controls(open_playground: Any) -> None:
    page = open_playground(width=360, height=740)
    answered(page)
    page.wait_for_function(f"{ANSWERS_BOX}.top < 300")
    assert page.evaluate(f"{ANSWERS_BOX}.bottom <= {PROMPT_BOX}.top")
    assert page.evaluate("document.documentElement.scrollWidth") <= 360


@pytest.mark.browser
def test_faults_7_and_11_an_experiment_takes_the_newest_checkpoint_and_code_follows_it(
    open_playground: Any,
) -> None:
    early = json.dumps([["topics/step-00000010"], "def ", 0.8, 0, 1, 0, 1, 8, 1])
    page = open_playground(f"/?c={early}", width=1280, height=900)
    page.get_by_role("tab", name="As code").click()
    code = page.locator(".cm-content").first
    expect(code).to_contain_text('PROMPT = "def "')
    page.get_by_role("button", name="First steps: three experiments").click()
    page.get_by_role("button", name="Temperature", exact=True).click()
    page.get_by_text("Means over 3 seeds.").wait_for()
    expect(code).to_contain_text('PROMPT = "The "')


@pytest.mark.browser
def test_fault_17_in_four_columns_what_is_under_an_answer_stays_apart(open_playground: Any) -> None:
    four = [f"topics/step-000000{step}0" for step in (1, 2, 3, 4)]
    page = open_playground(
        f"/?c={json.dumps([four, 'The ', 0.8, 0, 1, 0, 1, 8, 1])}", width=1280, height=900
    )
    page.locator(".voting h3").first.wait_for()
    feet = page.locator(".answer .foot").all_inner_texts()
    assert len(feet) == 4
    for foot in feet:
        assert not re.search(r"revision [0-9a-f]{12}\w", foot), foot


@pytest.mark.browser
@pytest.mark.parametrize("width", [1280, 360])
def test_what_a_model_expected_is_shown_at_its_token(open_playground: Any, width: int) -> None:
    page = open_playground(width=width, height=800)
    page.get_by_label("Prompt").fill("The value of the list is returned by the function. " * 6)
    page.get_by_role("tab", name="Every token").click()
    page.get_by_role("button", name="Show every token").click()
    tokens = page.locator(".tokens").first.locator(".tok[tabindex]")
    tokens.nth(30).wait_for()
    for index in (2, 20, 30):
        tokens.nth(index).focus()
        token = tokens.nth(index).bounding_box()
        tip = tokens.nth(index).locator(".tip").bounding_box()
        assert 0 <= tip["y"] - (token["y"] + token["height"]) < 12
        assert tip["x"] >= 0 and tip["x"] + tip["width"] <= width
