"""Learn: one line of steps for an admin; each button is the command of the same name."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from browsing import fits, screenshot

from triptych.learning.loop.controller import place_of
from triptych.learning.loop.rollout import Rollout
from triptych.learning.loop.status import read_status
from triptych.panels.console.learn import view

HOME = "/console/learn"


def under_way(folder: Path) -> None:
    """Begin a rollout whose traffic is not moved."""
    folder.mkdir(parents=True, exist_ok=True)
    Rollout.begin(folder, lambda state: None, "first", "second", started_at=1.0)


def test_an_empty_loop_has_one_next_step_and_a_rollout_has_its_way_back(tmp_path: Path) -> None:
    place = place_of(tmp_path, "base")
    place.folder.mkdir()
    steps = view.line(read_status(place)).steps
    assert [step.title for step in steps] == ["Data set", "Train", "Gate", "Shadow"]
    assert steps[0].is_now and steps[0].buttons[0][:2] == ("dataset", "Make a data set")
    assert (steps[1].form, steps[3].form) == ("train", "start")
    under_way(place.folder)
    shown = {step.title: step for step in view.line(read_status(place)).steps}
    assert [one[0] for one in shown["Shadow"].buttons] == ["back", "hold"]
    assert shown["All users"].state == "not begun"


def test_a_button_runs_its_command_in_the_admins_name(gateway: Any, admin: Any) -> None:
    made = admin.post(f"{HOME}/base/act", verb="dataset", by_htmx=True).text
    assert "0 rows to train on" in made and "needs 200 more" in made
    folder = Path(gateway.home) / "learning" / "base" / "datasets"
    (manifest,) = folder.glob("*/manifest.json")
    assert json.loads(manifest.read_text())["train"] == []
    assert admin.post(f"{HOME}/base/act", verb="watch").status_code == 404
    assert admin.get(f"{HOME}/other").status_code == 404
    refused = admin.post(f"{HOME}/base/start", champion="first", challenger="", by_htmx=True)
    assert refused.status_code == 422 and "This field is required" in refused.text
    option = admin.post(f"{HOME}/base/train", base="--force", by_htmx=True)
    assert option.status_code == 422
    shown = admin.post(f"{HOME}/base/act", verb="back", by_htmx=True)
    assert "there is no rollout" in shown.text


def test_only_an_admin_of_everything_learns(gateway: Any, sign_in: Any) -> None:
    gateway.call("POST", "/admin/companies", {"company_id": "acme", "name": "Acme"})
    made = {"name": "boss", "role": "company_admin", "company_id": "acme"}
    boss = sign_in(gateway.call("POST", "/api/keys", made)["key"])
    assert boss.get(f"{HOME}/base").status_code == 403
    assert boss.post(f"{HOME}/base/act", verb="dataset").status_code == 403


@pytest.mark.browser
@pytest.mark.parametrize(("width", "theme"), [(1280, "light"), (360, "dark")])
def test_the_line_is_read_and_used_by_keyboard(
    gateway: Any, open_console: Callable[..., Any], width: int, theme: str
) -> None:
    page = open_console(f"{HOME}/base", width=width, height=800, color_scheme=theme)
    page.get_by_role("button", name="Make a data set").press("Enter")
    page.get_by_text("rows to train on").first.wait_for()
    fits(page)
    screenshot(page, f"console-learn-{width}-{theme}")
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()
