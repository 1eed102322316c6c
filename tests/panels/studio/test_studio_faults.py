"""Faults of the first-time user's review that were the Studio's; each has its number."""

from __future__ import annotations

import json
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any

import pytest
from browsing import serving
from playwright.sync_api import expect
from written_runs import make

from triptych.config import load_config
from triptych.errors import UsageError
from triptych.lm.data.manifest import load_manifest
from triptych.lm.runs.rights import LOCAL
from triptych.lm.runs.store import Run, RunStore
from triptych.panels.charts import line_chart
from triptych.panels.explain import explained, term, trouble, words_of
from triptych.panels.studio import corpus, drawing
from triptych.panels.studio.app import build_app
from triptych.panels.studio.measured import LEAST_TOKENS
from triptych.panels.studio.pace import Drawings
from triptych.panels.visitor import Visitor
from triptych.panels.web.glossary import TERMS
from triptych.panels.web.palette import CURVES_DARK, CURVES_LIGHT, DARK, LIGHT


@pytest.fixture
def store(own_home: Path) -> RunStore:
    return RunStore(own_home / "runs")


def with_losses(store: RunStore, training: list[float], held_out: list[float], tokens: int) -> Run:
    run = make(store, "pages", held_out)
    events = [json.loads(line) for line in (run.path / "events.jsonl").read_text().splitlines()]
    for event in events:
        if event["type"] == "step":
            event["train/loss"] = training[event["step"] - 1]
        if event["type"] == "eval":
            event["val/tokens"] = tokens
    lines = "".join(f"{json.dumps(event)}\n" for event in events)
    (run.path / "events.jsonl").write_text(lines)
    return run


def with_vocabulary(run: Run, size: int) -> str:
    settings = {"format_version": 1, "config": {}, "model": {"vocab_size": size}}
    (run.path / "config.json").write_text(json.dumps(settings))
    return run.run_id


def test_fault_4_of_a_few_pages_a_real_share_is_held_out(own_home: Path) -> None:
    text = "\n\n".join(topics.values())[:45_000]
    made = corpus.build(own_home / "data", load_config(), Visitor(LOCAL), text=text)
    counts = load_manifest(made)["counts"]
    assert counts["val"]["tokens"] >= LEAST_TOKENS
    assert counts["val"]["bytes"] > 0.05 * counts["train"]["bytes"]


def test_fault_4_too_little_held_out_text_is_named_and_no_figure_is_drawn_from_it(
    store: RunStore,
) -> None:
    few = Drawings(load_config()).of(with_losses(store, [5.0, 3.1], [5.0, 4.5], 65))
    assert "too little text to measure" in few["head"]
    assert "perplexity" not in few["head"]
    assert "too little text to measure: 65 tokens are held out" in few["bpb"]
    assert few["loss"].count("<polyline") == 1
    enough = Drawings(load_config()).of(with_losses(store, [5.0, 3.1], [5.0, 4.5], 5000))
    assert "perplexity" in enough["head"] and enough["loss"].count("<polyline") == 2


def test_fault_4_curves_that_part_are_called_memorising(store: RunStore) -> None:
    def head(training: list[float], held_out: list[float]) -> str:
        run = with_losses(store, training, held_out, 5000)
        return Drawings(load_config()).of(run, ["head"])["head"]

    falling = [5.0, 4.0, 3.5, 3.0, 2.5]
    assert "Memorising now" in head(falling, [5.0, 4.5, 4.4, 4.6, 4.8])
    assert "since step 3" in head(falling, [5.0, 4.5, 4.4, 4.6, 4.8])
    assert "Memorising" not in head(falling, [5.0, 4.5, 4.4, 4.3, 4.2])
    assert "Memorising" not in head(falling, [5.0, 4.5, 4.4, 4.6, 4.3])
    assert "Memorising" not in head([5.0] * 5, [5.0, 4.5, 4.4, 4.6, 4.8])


def test_fault_8_losses_over_other_vocabularies_are_not_laid_over_each_other(
    store: RunStore,
) -> None:
    small = with_vocabulary(make(store, "small", [5.0, 3.1]), 1024)
    large = with_vocabulary(make(store, "large", [6.0, 4.8]), 4096)
    drawn = drawing.comparison(store, [small, large])
    assert "vocabularies of 1,024 and 4,096 tokens" in drawn
    assert "<figcaption>val/bpb" in drawn and "<figcaption>train/loss" not in drawn
    alike = drawing.comparison(store, [small, small])
    assert alike.index("<figcaption>val/bpb") < alike.index("<figcaption>train/loss")
    assert "vocabularies" not in alike


def test_fault_8_a_comparison_has_few_digits_and_no_paths_of_this_machine(store: RunStore) -> None:
    runs = [
        make(store, name, [5.0], [f"train.data=/srv/corpora/{name}", f"train.learning_rate={rate}"])
        for name, rate in (("a", 0.0021213203435596), ("b", 0.01))
    ]
    drawn = drawing.comparison(store, [run.run_id for run in runs])
    assert "0.002121<" in drawn and "0.00212132" not in drawn
    assert "/srv/" not in drawn and "<td>a</td>" in drawn


def test_fault_12_an_error_begins_with_a_capital_has_a_mark_and_is_read_out() -> None:
    drawn = trouble(UsageError("there is no <text>", hint="paste some"))
    assert 'class="status bad" role="alert"' in drawn
    assert "✗ There is no &lt;text&gt;.</b> Paste some" in drawn


def contrast(one: str, other: str) -> float:
    def light(colour: str) -> float:
        parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    dark, bright = sorted((light(one), light(other)))
    return (bright + 0.05) / (dark + 0.05)


def test_fault_16_curves_have_the_colours_of_their_theme_and_can_be_seen() -> None:
    drawn = line_chart("Loss", {"a": [(0, 1), (1, 2)], "b": [(0, 2), (1, 1)]})
    assert 'stroke="var(--curve-0)"' in drawn and 'stroke="var(--curve-1)"' in drawn
    for curves, paper in ((CURVES_LIGHT, LIGHT["paper"]), (CURVES_DARK, DARK["paper"])):
        assert min(contrast(colour, paper) for colour in curves) >= 4.5


def test_a_glossary_term_explains_itself_in_gradio_pages_and_the_longest_is_found() -> None:
    assert TERMS["perplexity"] in explained("held-out perplexity")
    assert TERMS["validation loss"] in explained("validation loss")
    assert explained("a & b") == "a &amp; b"
    words = words_of("The loss falls; validation loss and loss part.")
    assert words.count('class="term"') == 2 and TERMS["validation loss"] in words
    assert 'tabindex="0"' in term("loss") and 'role="tooltip"' in term("loss")


@pytest.fixture
def studio(own_home: Path) -> Any:
    with serving(build_app(load_config())) as address:
        yield address


@pytest.mark.browser
def test_faults_10_and_12_tab_leaves_no_list_open_and_an_error_is_seen(
    open_page: Any, studio: str
) -> None:
    page = open_page(studio, width=1280, height=800)
    page.set_default_timeout(30_000)
    page.get_by_label("Paste text").wait_for()
    page.get_by_label("Paste text").focus()
    focused, outlines = [], {}
    for _ in range(40):
        page.keyboard.press("Tab")
        at = page.evaluate(
            "(() => { const e = document.activeElement; return [e.type || e.tagName, "
            "getComputedStyle(e.closest('label') ?? e).outlineStyle, e.innerText || ''] })()"
        )
        focused.append(at[0])
        if at[0] == "radio":
            outlines[len(focused)] = at[1]
        assert page.locator("ul[role=listbox]:visible").count() <= 1
        if "Start training" in at[2]:
            break
    assert outlines and set(outlines.values()) == {"solid"}
    expect(page.locator("ul[role=listbox]:visible")).to_have_count(0, timeout=10_000)
    page.keyboard.press("Enter")
    alert = page.locator(".status.bad[role=alert]")
    expect(alert).to_contain_text("✗ There is no text to learn from.", timeout=20_000)
    assert page.evaluate(
        "(() => { const b = document.querySelector('.status.bad').getBoundingClientRect(); "
        "return b.top >= 0 && b.bottom <= innerHeight })()"
    ), "the error is where the button is"
