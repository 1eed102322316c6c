"""Checkpoints of one real run side by side in a real browser: compare, vote, return, learn."""

from __future__ import annotations

import contextlib
import io
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from browsing import screenshot
from playwright.sync_api import expect

pytestmark = [pytest.mark.browser, pytest.mark.timeout(500)]


@pytest.fixture(autouse=True)
def same_home(module_home: Path, monkeypatch: pytest.MonkeyPatch, own_home: Path) -> None:
    """The server reads its home while it runs, so that each test's own home must not hide it."""
    monkeypatch.setenv("TRIPTYCH_HOME", str(module_home))


CONTEST = "(document.querySelector('.answers')?.dataset.comparison ?? '')"


def arrive(open_page: Any, address: str, **options: Any) -> Any:
    page = open_page(address, **options)
    page.get_by_text("topics · step 40").first.wait_for()
    return page


def write(page: Any, prompt: str = "") -> list[str]:
    if prompt:
        page.get_by_label("Prompt").fill(prompt)
    before = page.evaluate(CONTEST)
    page.get_by_role("button", name="Generate", exact=True).click()
    page.wait_for_function(f"before => {CONTEST} !== before", arg=before)
    return answers(page)


def answers(page: Any) -> list[str]:
    page.wait_for_function(
        "document.querySelectorAll('.answer').length > 0 && "
        "[...document.querySelectorAll('.answer')].every(a => a.dataset.done === 'true')"
    )
    page.locator(".voting h3").first.wait_for()
    return [cell.inner_text() for cell in page.locator(".answer .text").all()]


def votes(home: Path) -> list[dict[str, Any]]:
    path = home / "playground" / "votes.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_checkpoints_of_several_ages_write_side_by_side_and_the_address_restores_it(
    open_page: Any, address: str
) -> None:
    page = arrive(open_page, address)
    written = write(page, "The <b>statement</b> ")
    assert len(written) == 3, "three ages of the newest run"
    assert all(text.startswith("The <b>statement</b> ") for text in written)
    assert page.locator(".answer .text b").count() == 0, "model text is never HTML"
    foot = page.locator(".answer .foot").first.inner_text()
    assert "ms" in foot and " in, " in foot
    assert "parameters" in foot and "revision" in foot, "what runs is shown"
    page.wait_for_function("location.search.startsWith('?c=')")
    link = page.evaluate("location.href")

    page = arrive(open_page, link)
    assert answers(page) == written, "a link opens with the same answers, by the same seed"
    expect(page.get_by_label("Prompt")).to_have_value("The <b>statement</b> ")


def test_blind_votes_are_kept_counted_and_change_their_mind(
    open_page: Any, address: str, module_home: Path
) -> None:
    (module_home / "playground" / "votes.jsonl").unlink(missing_ok=True)
    page = arrive(open_page, address)
    page.get_by_label("Blind").check()
    write(page, "A function is ")
    shown = page.locator("#answers").inner_text()
    assert "topics" not in shown and "tokens/s" not in shown and "Answer A" in shown
    page.get_by_role("button", name="B is better").click()
    page.get_by_text("Vote saved: voted for").wait_for()
    expect(page.locator("#answers"), "revealed after the vote").to_contain_text("topics · step")
    page.get_by_role("button", name="All are good").click()
    page.get_by_text("Vote saved: all were good").wait_for()
    page.get_by_role("button", name="A is better").click()
    page.get_by_text("Vote saved: voted for").wait_for()
    first, second, last = votes(module_home)[-3:]
    assert (first["verdict"], second["verdict"], last["verdict"]) == (1, "all", 0)
    assert first["vote_id"] == last["vote_id"] and last["blind"]
    assert [answer["sampling"]["seed"] for answer in last["answers"]] == [1, 1, 1]
    assert all(answer["revision"] and answer["text"] for answer in last["answers"])

    page.get_by_role("tab", name="Votes").click()
    best = last["answers"][0]
    row = page.locator(".rates tbody tr")
    expect(row, "the best one met two others").to_have_count(2)
    expect(row.first.locator("td").first).to_contain_text(best["reference"])
    # Wilson's interval of one in one.
    expect(row.first).to_contain_text("100% (21% to 100%)")
    screenshot(page, "playground-votes")
    page.get_by_role("button", name="Export as JSON lines").click()
    with page.expect_download() as download:
        page.get_by_role("link", name=re.compile("KB|B$")).first.click()
    pair = json.loads(Path(download.value.path()).read_text().partition("\n")[0])
    assert pair["chosen"] == best["text"] and pair["prompt"] == "A function is "

    page.get_by_role("tab", name="This visit").click()
    past = page.locator(".picks:visible button")
    expect(past).to_have_count(1)
    write(page, "Something else ")
    expect(past).to_have_count(2)
    past.filter(has_text="A function is").click()
    expect(page.get_by_label("Prompt")).to_have_value("A function is ")
    expect(page.locator(".answer.chosen"), "an earlier one with its vote").to_have_count(1)


def test_an_experiment_sets_the_controls_and_says_what_was_seen(
    open_page: Any, address: str
) -> None:
    page = arrive(open_page, address)
    page.get_by_role("button", name="First steps").click()
    page.get_by_role("button", name="Age of a checkpoint").click()
    page.locator(".lesson.seen").wait_for()
    expect(page.locator(".answer"), "four ages of one run").to_have_count(4)
    bits = [
        float(row.inner_text().split("\t")[1])
        for row in page.locator(".lesson.seen tbody tr").all()
    ]
    assert bits == sorted(bits, reverse=True), "training makes a sentence less surprising"
    screenshot(page, "playground-experiment")
    page.get_by_role("button", name="Temperature", exact=True).click()
    page.get_by_text("temperature 1.6").first.wait_for()
    expect(page.locator(".lesson.seen")).to_contain_text("“different word pairs”")
    page.get_by_role("button", name="Wording of the prompt").click()
    page.get_by_text("Neighbouring answers share").wait_for()


def test_copied_code_runs_and_gives_the_text_of_the_page(open_page: Any, address: str) -> None:
    page = arrive(open_page, address)
    written = write(page, 'The "list" ')
    page.get_by_role("tab", name="As code").click()
    copied = {}
    for name, first, end in (
        ("Python", "import json", '["text"])'),
        ("openai SDK", "import os", "print()"),
        ("curl", "curl http", "}'"),
    ):
        page.get_by_role("tab", name=name, exact=True).click()
        shown = page.wait_for_function(
            "([first, end]) => [...document.querySelectorAll('.cm-content')]"
            ".filter(e => e.checkVisibility()).map(e => e.innerText.trim())"
            ".find(text => text.startsWith(first) && text.endsWith(end))",
            arg=[first, end],
        )
        copied[name] = shown.json_value()
    screenshot(page, "playground-code")
    for name, command in (
        ("Python", [sys.executable, "-c"]),
        ("openai SDK", [sys.executable, "-c"]),
        ("curl", ["bash", "-c"]),
    ):
        ran = subprocess.run(
            [*command, copied[name]], capture_output=True, text=True, timeout=120, check=False
        )
        assert ran.returncode == 0, ran.stderr
        for text in written:
            answer = _visible(text.removeprefix('The "list" '))
            assert answer in _visible(_decoded(ran.stdout)), (name, answer, ran.stdout)


def _visible(text: str) -> str:
    """Leave out what a page shows otherwise than it was written: line ends, control characters."""
    return "".join(c for c in text if c.isprintable() and not c.isspace() and c != "\ufffd")


def _decoded(output: str) -> str:
    """Read JSON answers, one after the other, where there are any."""
    texts, decoder, place = [], json.JSONDecoder(), 0
    with contextlib.suppress(ValueError):
        while place < len(output):
            body, place = decoder.raw_decode(output, place)
            texts.append(body["choices"][0]["text"])
            while place < len(output) and output[place].isspace():
                place += 1
    return "\n".join(texts) or io.StringIO(output).read()


def test_a_checkpoint_is_chosen_on_the_chart_by_keyboard(open_page: Any, address: str) -> None:
    page = arrive(open_page, address)
    page.get_by_role("tab", name="How they learned").click()
    rings = page.locator(".pick")
    expect(rings).to_have_count(4)
    page.locator(".pick[aria-pressed=false]").first.focus()
    page.keyboard.press("Enter")
    page.wait_for_function("document.querySelectorAll('.pick[aria-pressed=true]').length === 4")
    page.get_by_text("topics · step 20").first.wait_for()
    screenshot(page, "playground-journey")
    rings.first.click()
    page.wait_for_function("document.querySelectorAll('.pick[aria-pressed=true]').length === 3")


def test_every_token_shows_what_else_was_expected_on_a_phone_in_the_dark(
    open_page: Any, address: str
) -> None:
    page = arrive(open_page, address, width=360, color_scheme="dark")
    write(page, "The function returns a list of names.")
    page.get_by_role("tab", name="Every token").click()
    page.get_by_role("button", name="Show every token").click()
    page.locator(".tok[tabindex]").nth(3).wait_for()
    page.locator(".tok[tabindex]").nth(3).focus()
    tip = page.locator(".tip").nth(3)
    expect(tip).to_be_visible()
    expect(tip.locator("li")).to_have_count(5)
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    screenshot(page, "playground-phone")


def test_the_whole_page_is_reached_by_keyboard(open_page: Any, address: str) -> None:
    page = arrive(open_page, address)
    page.get_by_label("Prompt").press("Shift+Enter")
    answers(page)
    for name, shown in (("A", True), ("C", True), ("D", False)):
        expect(page.get_by_role("button", name=f"{name} is better")).to_be_visible(visible=shown)
    reached = set()
    for _ in range(60):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("(document.activeElement.innerText || '').trim()"))
    assert {"Generate", "Stop", "A is better", "None is good"} <= reached, reached


def test_stop_ends_the_answers_and_leaves_what_was_written(open_page: Any, address: str) -> None:
    page = arrive(open_page, address)
    page.get_by_role("button", name="Settings").click()
    page.get_by_label("number input for New tokens").fill("512")
    page.get_by_role("button", name="Generate", exact=True).click()
    page.wait_for_function(
        "[...document.querySelectorAll('.answer .text')].some(a => a.innerText.length > 12)"
    )
    page.get_by_role("button", name="Stop").click()
    assert len(answers(page)) == 3
    expect(page.locator(".answer.writing")).to_have_count(0)


def test_errors_name_what_is_near_and_local_paths_are_refused(open_page: Any, address: str) -> None:
    state = json.dumps([["/etc", "topics/step-00000041"], "The ", 0.8, 0, 1, 0, 1, 8, 1])
    page = open_page(f"{address}/?c={state}")
    page.get_by_text("Not here: /etc, topics/step-00000041").wait_for()
    page.get_by_role("combobox", name="Models", exact=True).fill("topics/step-00000041")
    page.get_by_role("combobox", name="Models", exact=True).press("Enter")
    page.get_by_role("button", name="Generate", exact=True).click()
    page.get_by_text("nearest are: topics · step 4").wait_for()
