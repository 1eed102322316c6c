"""Two checkpoints of one real run write side by side; the address restores the comparison."""

from __future__ import annotations

from pathlib import Path
from pydoc_data.topics import topics
from typing import Any

import pytest
from browsing import screenshot, serving

from triptych.cli.resolve import resolve
from triptych.config import load_config
from triptych.lm.data.build import build_corpus
from triptych.lm.runs.store import RunStore
from triptych.panels.playground.app import build_app
from triptych.panels.playground.models import choices, spread

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]

SETTINGS = (
    "model.size=nano",
    "train.steps=40",
    "train.context_length=64",
    "train.batch_tokens=512",
    "train.threads=1",
    "train.compile=off",
    "train.precision=float32",
    "train.checkpoint_every=20",
    "train.keep_last=5",
    "train.sample_every=0",
)


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train a model for two checkpoints on the help topics of Python."""
    from triptych.lm.train.follow import follow
    from triptych.lm.train.trainer import Trainer

    home = tmp_path_factory.mktemp("home")
    text = home / "text"
    text.mkdir()
    for name, topic in list(topics.items())[:60]:
        (text / f"{name}.txt").write_text(topic)
    build_corpus([str(text)], home / "data", load_config(None, ["data.vocab_size=512"]).data)
    config = load_config(None, [*SETTINGS, f"train.data={home / 'data'}"])
    follow(Trainer(config, home / "runs" / "topics"))
    return home / "runs" / "topics"


@pytest.fixture
def runs(run_folder: Path, own_home: Path) -> RunStore:
    own_home.mkdir(parents=True)
    (own_home / "runs").symlink_to(run_folder.parent)
    return RunStore(own_home / "runs")


def answers(page: Any) -> list[str]:
    page.wait_for_function(
        "document.querySelectorAll('.answer').length > 0 && "
        "[...document.querySelectorAll('.answer')].every(a => a.dataset.done === 'true')"
    )
    return [cell.inner_text() for cell in page.locator(".answer").all()]


def test_two_checkpoints_write_side_by_side_and_the_address_restores_it(
    open_page, runs: RunStore
) -> None:
    assert [c.reference for c in choices(runs)] == [
        "topics/step-00000020",
        "topics/step-00000040",
    ]
    with serving(build_app(load_config(None, ["generate.threads=1"]), resolve)) as address:
        page = open_page(address)
        page.get_by_text("topics · step 40").first.wait_for()
        page.get_by_label("Prompt").fill("The <b>statement</b> ")
        page.get_by_role("button", name="Write", exact=True).click()
        written = answers(page)
        assert len(written) == 2
        assert all("tokens/s" in text and "The <b>statement</b>" in text for text in written)
        assert page.locator(".answer b").count() == 0, "model text is never HTML"
        screenshot(page, "playground-compare")
        link = page.url
        assert "?c=" in link

        page = open_page(link)
        page.get_by_text("topics · step 40").first.wait_for()
        assert page.get_by_label("Prompt").input_value() == "The <b>statement</b> "
        page.get_by_role("button", name="Write", exact=True).click()
        again = answers(page)
        words = [text.split("first token")[0] for text in written]
        assert [text.split("first token")[0] for text in again] == words, "the same seed"


def test_the_prompt_is_scored_token_by_token_on_a_phone(open_page, runs: RunStore) -> None:
    with serving(build_app(load_config(None, ["generate.threads=1"]), resolve)) as address:
        page = open_page(address, width=360)
        page.get_by_text("topics · step 40").first.wait_for()
        page.get_by_text("How surprised is each model").click()
        page.get_by_role("button", name="Show token probabilities").click()
        page.locator(".tokens span").first.wait_for()
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
        screenshot(page, "playground-phone")


def test_a_long_list_is_thinned_evenly_with_its_ends_kept() -> None:
    steps = [(number, str(number)) for number in range(100)]
    kept = spread(steps, 5)
    assert [number for number, _ in kept] == [0, 25, 50, 74, 99]
