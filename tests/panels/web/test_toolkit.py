"""The toolkit of the pages: vendored files, policy, CSRF, forms, tables and charts."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import pytest
from jinja2 import ChoiceLoader, DictLoader
from pydantic import BaseModel
from pydantic import Field as Limits
from starlette.applications import Starlette
from starlette.datastructures import FormData
from starlette.requests import Request
from starlette.responses import Response
from starlette.testclient import TestClient

from triptych.errors import InvalidQuery
from triptych.panels.sign_in.identity import SESSION, Session, SignIn
from triptych.panels.web import assets, palette
from triptych.panels.web.charts import Chart
from triptych.panels.web.forms import Field, Form, FormSpec
from triptych.panels.web.site import Pages, Site, Visit


class SetBudget(BaseModel):
    company: str = Limits(min_length=1)
    usd: float | None = Limits(default=None, ge=0)


PAGE = '{{ parts.form(form, action="/budget", submit="Set", target="#budget") }}'
REQUEST = Request(
    {"type": "http", "headers": [], "scheme": "http", "server": ("127.0.0.1", 80), "path": "/"}
)
FORM = FormSpec(
    SetBudget,
    (
        Field("company", "Company", choices=(("acme", "Acme"), ("globex", "Globex"))),
        Field("usd", "US dollars a month", kind="number", hint="Empty: no limit"),
    ),
)


def routes(site: Site) -> Starlette:
    pages = Pages(site)
    files = site.templates.loader
    assert files is not None
    site.templates.loader = ChoiceLoader([DictLoader({"budget.html": PAGE}), files])

    def answer(visit: Visit, form: Form[SetBudget]) -> Response:
        return visit.page("budget.html", form=form, status=form.http_status)

    @pages.get("/budget")
    async def show(visit: Visit) -> Response:
        return answer(visit, FORM.empty())

    @pages.post("/budget")
    async def save(visit: Visit) -> Response:
        form = FORM.read(visit.form)
        if form.value is not None and form.value.company == "globex":
            form = form.refused(InvalidQuery("globex has one", param="company"))
        return answer(visit, form)

    @pages.get("/admins", role="admin")
    async def admins(visit: Visit) -> Response:
        return visit.html("<script>alert(1)</script>")

    return Starlette(routes=[*site.routes(), *pages.routes])


@pytest.fixture
def sign_in(tmp_path: Path) -> SignIn:
    return SignIn("http://127.0.0.1:9", "http://127.0.0.1:9", "", tmp_path / "cookie.key")


@pytest.fixture
def client(sign_in: SignIn) -> TestClient:
    app = routes(Site(sign_in, sign_in.key))
    return TestClient(app, base_url="http://127.0.0.1", follow_redirects=False)


def token_of(text: str) -> str:
    found = re.search(r'name="csrf" value="(\w+)"', text)
    assert found is not None
    return found.group(1)


def test_every_vendored_file_is_the_recorded_one_with_its_licence() -> None:
    recorded = assets.vendored()
    there = {path.name for path in assets.VENDOR.iterdir() if path.suffix in {".js", ".css"}}
    assert set(recorded) == there
    for name, entry in recorded.items():
        content = (assets.VENDOR / name).read_bytes()
        assert hashlib.sha256(content).hexdigest() == entry["sha256"], name
        assert entry["version"] and (assets.VENDOR / entry["licence_file"]).read_text("utf-8")


def test_the_pages_own_scripts_and_styles_ask_for_nothing_elsewhere() -> None:
    for name, asset in assets.assets().items():
        if "vendor" not in name and name.endswith((".js", ".css")):
            assert b"://" not in asset.content, name
    light = sum(len(each.compressed) for each in assets.assets().values())
    assert light < 150_000


def test_a_page_carries_a_policy_without_inline_script_or_style(client: TestClient) -> None:
    policy = client.get("/budget").headers["content-security-policy"]
    assert "script-src 'self'" in policy
    assert "unsafe" not in policy


@pytest.mark.parametrize("token", ["", "0" * 64])
def test_a_form_without_its_token_does_nothing(client: TestClient, token: str) -> None:
    client.get("/budget")
    refused = client.post("/budget", data={"company": "acme", "csrf": token})
    assert refused.status_code == 403
    assert "reload the page" in refused.text


def test_a_token_goes_with_one_visitors_cookie_only(client: TestClient) -> None:
    token = token_of(client.get("/budget").text)
    client.cookies.clear()
    client.get("/budget")
    assert client.post("/budget", data={"company": "acme", "csrf": token}).status_code == 403


def test_an_error_stands_beside_its_field_and_what_was_typed_stays(client: TestClient) -> None:
    token = token_of(client.get("/budget").text)
    wrong = client.post("/budget", data={"company": "acme", "usd": "-3", "csrf": token})
    assert wrong.status_code == 422
    field = re.search(r'<input id="f-usd"[^>]*>', wrong.text)
    assert field and 'aria-invalid="true"' in field.group(0) and 'value="-3"' in field.group(0)
    assert 'id="f-usd-error" role="alert">Input should be greater than or equal to 0' in wrong.text
    named = client.post("/budget", data={"company": "globex", "usd": "3", "csrf": token})
    assert 'id="f-company-error" role="alert">globex has one' in named.text


def test_an_empty_number_is_no_number() -> None:
    assert FORM.read(FormData({"company": "acme", "usd": ""})).value == SetBudget(company="acme")
    assert FORM.read(FormData({"usd": ""})).errors == {"company": "This field is required"}


def test_a_page_for_a_role_sends_strangers_to_the_sign_in_page_and_refuses_others(
    client: TestClient, sign_in: SignIn
) -> None:
    assert client.get("/admins").headers["location"] == "/sign-in?then=/admins"
    for role, status in (("user", 403), ("company_admin", 403), ("admin", 200)):
        session = Session("ann", role, "tri_key")
        answer = sign_in.remember(REQUEST, Response(), session)
        sealed = answer.headers["set-cookie"].partition("=")[2].partition(";")[0]
        client.cookies.set(SESSION, sealed)
        assert client.get("/admins").status_code == status


def test_a_chart_has_a_gap_where_a_value_is_not_finite() -> None:
    chart = Chart.of("Loss", {"a": [(1, 3.0), (3, float("nan"))], "b": [(2, 4.0)]})
    assert [curve["y"] for curve in chart.data["curves"]] == [[3.0, None], [4.0]]
    assert chart.summary == "Loss. Last values: a 3, b 4"


@pytest.mark.parametrize("theme", ["LIGHT", "DARK"])
def test_text_and_curves_have_contrast(theme: str) -> None:
    colours = getattr(palette, theme)
    paper = colours["paper"]
    for name in ("ink", "soft", "mark", "good", "warn", "bad"):
        assert contrast(colours[name], paper) >= 4.5, name
    assert contrast(colours["on-mark"], colours["mark"]) >= 4.5
    assert contrast(colours["control"], paper) >= 3
    for curve in getattr(palette, f"CURVES_{theme}"):
        assert contrast(curve, paper) >= 3, curve


def contrast(one: str, other: str) -> float:
    def luminance(colour: str) -> float:
        parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)
