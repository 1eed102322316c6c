"""What every page of the Console shares: one line of menu on a phone, contrast, one style."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from triptych.panels.console.menu import MENU

pytestmark = pytest.mark.browser

#: The contrast of a colour with another, both as the browser computed them (WCAG 2.2, 1.4.3).
CONTRAST = """([one, other]) => {
  const parts = text => text.match(/[\\d.]+/g).slice(0, 3).map(Number);
  const light = text => parts(text).map(n => n / 255)
    .map(p => p <= .04045 ? p / 12.92 : ((p + .055) / 1.055) ** 2.4)
    .reduce((sum, p, at) => sum + p * [.2126, .7152, .0722][at], 0);
  const [low, high] = [light(one), light(other)].sort((a, b) => a - b);
  return (high + .05) / (low + .05);
}"""
STYLE = "([place, pseudo, name]) => getComputedStyle(document.querySelector(place), pseudo)[name]"


def style(page: Any, place: str, name: str, pseudo: str | None = None) -> str:
    return str(page.evaluate(STYLE, [place, pseudo, name]))


def test_on_a_phone_the_menu_is_one_line_and_lists_do_not_hide_their_arrow(
    open_console: Callable[..., Any], gateway: Any
) -> None:
    gateway.chat("hello")
    while not gateway.call("GET", "/api/requests")["requests"]:
        time.sleep(0.05)
    page = open_console("/console/requests", width=360, height=740)
    lines = page.locator("nav.menu a").evaluate_all(
        "links => [...new Set(links.map(a => Math.round(a.getBoundingClientRect().top)))]"
    )
    assert len(lines) == 1
    assert page.locator("nav.menu [aria-current]").evaluate(
        "a => a.getBoundingClientRect().right <= innerWidth"
    )
    assert float(style(page, "select", "paddingRight").removesuffix("px")) >= 24
    labels = page.locator("table.stack td").evaluate_all(
        "cells => cells.map(td => td.dataset.label)"
    )
    assert not labels or {"Who", "Outcome and why"} <= set(labels)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_placeholders_and_a_hovered_button_have_contrast(
    open_console: Callable[..., Any], gateway: Any, theme: str
) -> None:
    gateway.call("POST", "/admin/companies", {"company_id": "acme", "name": "Acme"})
    page = open_console(
        "/console/people/companies/acme", width=1280, height=800, color_scheme=theme
    )
    colours = [style(page, "textarea", "color", "::placeholder"),
               style(page, "textarea", "backgroundColor")]  # fmt: skip
    assert page.evaluate(CONTRAST, colours) >= 4.5
    page.locator("button.primary").first.hover()
    colours = [style(page, "button.primary", one) for one in ("color", "backgroundColor")]
    assert page.evaluate(CONTRAST, colours) >= 4.5


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_page_has_the_same_width_paper_and_ink(
    open_console: Callable[..., Any], theme: str
) -> None:
    page = open_console("/console/", width=1280, height=800, color_scheme=theme)
    home = page.url.removesuffix("/console/")
    styles = set()
    for path in ("/sign-in", *(entry.path for entry in MENU)):
        page.goto(home + path)
        names = ("backgroundColor", "color", "maxWidth", "fontFamily")
        styles.add(tuple(style(page, "body", name) for name in names))
    assert len(styles) == 1
