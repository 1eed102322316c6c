"""The toolkit in a real Chromium: charts, glossary, forms, tables, at both sizes and themes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from browsing import fits, screenshot, serving
from jinja2 import ChoiceLoader, DictLoader
from pydantic import BaseModel
from starlette.applications import Starlette
from starlette.responses import Response

from triptych.panels.sign_in.identity import SignIn
from triptych.panels.web import live
from triptych.panels.web.charts import Chart
from triptych.panels.web.forms import Field, Form, FormSpec
from triptych.panels.web.site import Pages, Site, Visit
from triptych.panels.web.tables import Row, Table

pytestmark = pytest.mark.browser


class Limit(BaseModel):
    tokens: int | None = None


FORM = FormSpec(Limit, (Field("tokens", "Tokens a month", hint="Empty: no limit"),))
PAGE = """{% extends "web/templates/charts.html" %}
{% block content %}<h1>Toolkit</h1><p>Read {{ parts.term("perplexity") }} first.</p>
{{ parts.chart(chart) }}{{ parts.table(table) }}
{{ parts.live("/count", "count", "0") }}
{% block limit %}<section id="limit">
{{ parts.form(form, action="/limit", target="#limit", submit="Set limit") }}</section>{% endblock %}
{% endblock %}"""


def application(folder: Path) -> Starlette:
    sign_in = SignIn("http://127.0.0.1:9", "", "", folder / "cookie.key")
    site = Site(sign_in, sign_in.key)
    files = site.templates.loader
    assert files is not None
    site.templates.loader = ChoiceLoader([DictLoader({"toolkit.html": PAGE}), files])
    pages = Pages(site)
    curves = {
        "train/loss": [(x, 9.0 / x if x % 50 else float("nan")) for x in range(1, 200)],
        "val/loss": [(x, 9.5 / x + 0.1) for x in range(10, 200, 10)],
    }
    chart = Chart.of("Loss", curves)
    why = "failed: Spaces are switched off"
    rows = tuple(Row((f"r-{n}", "acme", why, 12 * n), href="/") for n in range(3))
    table = Table("Requests", ("Request", "Company", "Why", "ms"), rows, numbers=frozenset({3}))

    def answer(visit: Visit, form: Form[Limit]) -> Response:
        return visit.page(
            "toolkit.html", fragment="limit", status=form.http_status, form=form, chart=chart,
            table=table,
        )  # fmt: skip

    @pages.get("/")
    async def show(visit: Visit) -> Response:
        return answer(visit, FORM.empty())

    @pages.post("/limit")
    async def save(visit: Visit) -> Response:
        form = FORM.read(visit.form)
        return answer(visit, FORM.empty(status="Limit saved") if form.value else form)

    @pages.get("/count")
    async def count(visit: Visit) -> Response:
        async def parts() -> Any:
            for number in range(1, 4):
                yield f"<b>{number} of 3</b>"

        return live.fragments(parts())

    return Starlette(routes=[*site.routes(), *pages.routes])


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serving(application(tmp_path_factory.mktemp("toolkit"))) as url:
        yield url


@pytest.mark.parametrize("width", [1280, 360])
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_page_fits_is_accessible_and_its_charts_can_be_read(
    open_page: Callable[..., Any], address: str, width: int, theme: str
) -> None:
    page = open_page(f"{address}/", width=width, height=800, color_scheme=theme)
    page.wait_for_selector(".uplot canvas")
    page.wait_for_selector("#count >> text=3 of 3")
    fits(page)
    box = page.locator(".u-over").bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 40)
    page.wait_for_function(
        "[...document.querySelectorAll('.u-legend .u-value')].every(e => e.textContent !== '--')"
    )
    screenshot(page, f"toolkit-{width}-{theme}")
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()


def test_a_chart_has_a_log_axis_smoothing_csv_and_png(
    open_page: Callable[..., Any], address: str
) -> None:
    page = open_page(f"{address}/", width=1280, height=800)
    page.wait_for_selector(".uplot canvas")
    page.get_by_label("Axis").select_option("log")
    page.get_by_label("Smoothing").select_option("0.9")
    page.wait_for_selector(".uplot canvas")
    with page.expect_download() as saved:
        page.get_by_role("button", name="Download Loss as CSV").click()
    rows = Path(saved.value.path()).read_text().splitlines()
    assert rows[0] == '"step","train/loss","val/loss"'
    assert rows[1] == "1,9,"
    with page.expect_download() as saved:
        page.get_by_role("button", name="Download Loss as PNG").click()
    assert Path(saved.value.path()).read_bytes().startswith(b"\x89PNG")


def test_a_form_is_sent_by_keyboard_and_its_error_and_status_stand_beside_it(
    open_page: Callable[..., Any], address: str
) -> None:
    page = open_page(f"{address}/", width=1280, height=800)
    field = page.get_by_label("Tokens a month")
    troubles = page.evaluate("performance.getEntriesByType('resource').map(e => e.name)")
    assert all(name.startswith(address) for name in troubles)
    field.fill("5")
    field.press("Enter")
    page.wait_for_selector("#limit >> text=Limit saved")


def test_a_term_explains_itself_on_touch_and_by_keyboard(
    open_page: Callable[..., Any], address: str
) -> None:
    page = open_page(f"{address}/", width=360, height=740, has_touch=True)
    words = page.get_by_role("tooltip", include_hidden=True)
    page.get_by_role("button", name="perplexity").tap()
    words.wait_for(state="visible", timeout=5000)
    page.keyboard.press("Escape")
    words.wait_for(state="hidden", timeout=5000)
