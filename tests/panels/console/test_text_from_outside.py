"""Every text of every view model reaches the page as text: attacks are generated from the types."""

from __future__ import annotations

import types
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import pytest
from starlette.requests import Request

from triptych.panels.console import history, models, overview, providers, spaces, switches
from triptych.panels.console.history import view as history_view
from triptych.panels.console.models import view as models_view
from triptych.panels.console.overview import view as overview_view
from triptych.panels.console.providers import view as providers_view
from triptych.panels.console.providers.routes import SECRET
from triptych.panels.console.routes import routes
from triptych.panels.console.spaces import view as spaces_view
from triptych.panels.console.spaces.routes import DEPLOY
from triptych.panels.console.switches import exceptions
from triptych.panels.console.switches import view as switches_view
from triptych.panels.sign_in.identity import Session, SignIn
from triptych.panels.web.charts import Chart
from triptych.panels.web.forms import Form, FormSpec
from triptych.panels.web.notices import Notice
from triptych.panels.web.site import Site, Visit
from triptych.panels.web.work import Work

ATTACK = "\"'><img src=x onerror=alert(1)><script>alert(2)</script>{{ 77777 * 7 }}"
PAGES = {
    history: "history", models: "models", overview: "overview", providers: "providers",
    spaces: "spaces", switches: "switches",
}  # fmt: skip


def attacked(kind: Any) -> Any:
    """Return a value of a type with an attack in each text of it."""
    origin, parts = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return attacked(next(part for part in parts if part is not type(None)))
    if origin is Literal:
        return parts[0]
    if origin is tuple:
        return tuple(map(attacked, parts if parts[-1] is not ... else parts[:1]))
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return {ATTACK: attacked(parts[1])}
    if isinstance(origin, type) and issubclass(origin, Sequence | frozenset):
        return (
            origin([attacked(parts[0])]) if origin in (list, frozenset) else (attacked(parts[0]),)
        )
    if is_dataclass(kind):
        hints = get_type_hints(kind)
        return kind(**{each.name: attacked(hints[each.name]) for each in fields(kind)})
    return {str: ATTACK, bool: True, int: 1, float: 1.0}.get(kind, ATTACK)


def filled(spec: FormSpec[Any]) -> Form[Any]:
    """Return a form whose values, choices and errors are attacks."""
    names = [each.name for each in spec.fields]
    form = Form(spec.fields, dict.fromkeys(names, ATTACK), dict.fromkeys([*names, ""], ATTACK))
    picked = [each.name for each in spec.fields if each.kind in ("pick", "picks")]
    return form.with_choices(**{name: [(ATTACK, ATTACK)] for name in picked})


def contexts() -> dict[str, dict[str, Any]]:
    """Return what each template is drawn with."""
    said = {"notice": Notice(ATTACK, ATTACK, bad=True), "page": "/p", "path": "/p"}
    work = Work(result=ATTACK)
    effects = attacked(switches_view.Effects)
    switch_page = {
        **said, "switches": attacked(switches_view.Switches), "beside": "history", "undo": (1,),
        "history": [attacked(switches_view.Change)], "effects": effects, "share_effects": effects,
        "exceptions": (attacked(exceptions.Listed),), "subjects": [ATTACK],
        "share": filled(exceptions.SHARE), "exception": filled(exceptions.EXCEPTION),
    }  # fmt: skip
    return {
        "console/overview/page.html": {
            "now": attacked(overview_view.Now), "span": attacked(overview_view.Range),
            "ranges": [attacked(overview_view.Range)], "api": ATTACK,
            "charts": (attacked(Chart),),
        },
        "console/switches/page.html": switch_page,
        "console/providers/page.html": {
            **said, "listed": attacked(providers_view.Listed), "form": filled(providers_view.FORM),
            "secret": filled(SECRET), "beside": "list", "editing": ATTACK, "open": True,
        },
        "console/spaces/page.html": {
            **said, "notice": Notice(), "spaces": [attacked(spaces_view.Space)], "read": True,
        },
        "console/spaces/space.html": {
            **said, "space": attacked(spaces_view.Space), "form": filled(DEPLOY), "work": work,
            "deployed": attacked(spaces_view.Deployed), "exact": ATTACK, "foreseen": ATTACK,
        },
        "console/spaces/logs.html": {**said, "name": ATTACK, "lines": ATTACK, "build": False},
        "console/models/page.html": {
            **said, "models": (attacked(models_view.Model),), "is_admin": True, "publish": "/p",
            "beside": (attacked(models_view.Facts),), "form": filled(models_view.ADD),
            "exact": ATTACK, "foreseen": ATTACK,
        },
        "console/models/publish.html": {
            **said, "runs": [(ATTACK, ATTACK)], "chosen": ATTACK, "foreseen": ATTACK,
            "card": ATTACK, "work": work, "form": filled(models_view.PUBLISH),
        },
        "console/history/page.html": {
            **said, "entries": (attacked(history_view.Entry),), "about": ATTACK,
            "choices": [(ATTACK, ATTACK)], "older": "/p",
        },
    }  # fmt: skip


class Elements(HTMLParser):
    """Collects what a browser would run."""

    def __init__(self) -> None:
        super().__init__()
        self.dangerous: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        names = dict(attributes)
        if tag == "img" or (tag == "script" and not names.get("src")):
            self.dangerous.append(tag)
        self.dangerous += [name for name in names if name.startswith("on") or name == "style"]


@pytest.mark.parametrize("template", sorted(contexts()))
def test_an_attack_in_any_field_is_drawn_as_text(template: str, tmp_path: Path) -> None:
    sign_in = SignIn("http://127.0.0.1:9", "", "", tmp_path / "cookie.key")
    site = Site(sign_in, sign_in.key)
    routes(site)
    scope = {"type": "http", "method": "GET", "path": "/console/", "headers": [], "scheme": "http"}
    request = Request({**scope, "query_string": b"", "server": ("127.0.0.1", 80)})
    drawn = Visit(site, request, Session(ATTACK, "admin", "k")).render(
        template, **contexts()[template]
    )
    elements = Elements()
    elements.feed(drawn)
    assert elements.dangerous == []
    assert "&lt;script&gt;" in drawn, "the attack reached the page"
    assert "544439" not in drawn, "no text is a template"


def test_every_page_of_these_is_drawn() -> None:
    for package, name in PAGES.items():
        folder = Path(str(package.__file__)).parent
        drawn = {f"console/{name}/{file.name}" for file in folder.glob("*.html")}
        parts = {each for each in drawn if Path(each).name in ("effects.html", "outcome.html")}
        assert drawn - parts <= set(contexts()), name
