"""The routes of the models: the registry, models side by side, add one, publish a checkpoint."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

from starlette.responses import Response
from starlette.routing import Route

from triptych.errors import TriptychError
from triptych.hub.client import Hub
from triptych.lm.runs.store import RunStore
from triptych.panels.console.hub_access import offered_models, open_hub, require_admin
from triptych.panels.console.models import published, publishing, view
from triptych.panels.console.models.view import PAGE
from triptych.panels.web.forms import Form
from triptych.panels.web.notices import Notice, attempt
from triptych.panels.web.site import Pages, Site, Visit
from triptych.panels.web.work import Work

PUBLISH = f"{PAGE}/publish"


def routes(site: Site, hub: str | None, runs: RunStore | None) -> list[Route]:
    """Return the routes of the models; with `runs`, their checkpoints are published from here."""
    pages, models = Pages(site), _Models(hub, runs)
    pages.get(PAGE, role="company_admin")(models.every)
    pages.get(f"{PAGE}/offered", role="admin")(models.offered)
    pages.post(f"{PAGE}/preview", role="admin")(models.preview)
    pages.post(f"{PAGE}/add", role="admin")(models.add)
    if runs is not None:
        publish = _Publish(hub, runs)
        pages.get(PUBLISH, role="admin")(publish.show)
        pages.post(f"{PUBLISH}/preview", role="admin")(publish.preview)
        pages.post(PUBLISH, role="admin")(publish.start)
    return pages.routes


class _Models:
    """The registry's page."""

    def __init__(self, hub: str | None, runs: RunStore | None) -> None:
        self.address, self.runs = hub, runs

    async def every(self, visit: Visit) -> Response:
        """Show the registry, and what was chosen side by side."""
        return await self._answer(visit)

    async def offered(self, visit: Visit) -> Response:
        """Offer the hub's models to a field."""
        return await offered_models(visit, self.address)

    async def preview(self, visit: Visit) -> Response:
        """Show which exact commit would be added; nothing is changed."""
        await require_admin(visit)
        form, exact, words = view.ADD.read(visit.form), "", ""
        if form.value is not None:
            one = form.value
            reference = f"{one.model}@{one.revision}"
            try:
                found = await asyncio.to_thread(
                    published.published, open_hub(self.address), reference
                )
                exact = f"{found['name']}@{found['revision']}"
                words = _foreseen(found, one)
            except TriptychError as error:
                form = form.refused(error)
        return await self._answer(visit, form=form, exact=exact, foreseen=words)

    async def add(self, visit: Visit) -> Response:
        """Add a published model with the record that was published beside it."""
        sent = {name: str(visit.form.get(name, "")) for name in ("exact", "tier", "company_id")}

        async def added() -> str:
            await require_admin(visit)
            hub = open_hub(self.address)
            found = await asyncio.to_thread(published.published, hub, sent["exact"])
            model_id = await published.enter(visit.gateway, found, sent["tier"], sent["company_id"])
            return f"Model {found['name']} added ({model_id})"

        return await self._answer(visit, notice=await attempt(added()))

    async def _answer(
        self, visit: Visit, *, form: Form[view.AddModel] | None = None, **context: Any
    ) -> Response:
        rows, companies = await asyncio.gather(
            visit.gateway.ask("GET", "/api/models"), visit.gateway.ask("GET", "/api/companies")
        )
        names = _names(companies)
        chosen = visit.request.query_params.getlist("with")
        form = form or view.ADD.empty()
        shown: dict[str, Any] = {"exact": "", "foreseen": "", "notice": Notice()}
        return visit.page(
            "console/models/page.html", fragment="models", status=form.http_status,
            models=view.models(rows["models"], chosen, names), page=PAGE,
            beside=view.beside(rows["models"], chosen),
            form=form.with_choices(company_id=_whose(names)),
            is_admin=visit.session is not None and visit.session.role == "admin",
            publish=PUBLISH if self.runs is not None else "", **(shown | context),
        )  # fmt: skip


class _Publish:
    """The page that publishes a checkpoint."""

    def __init__(self, hub: str | None, runs: RunStore) -> None:
        self.address, self.runs = hub, runs
        self.work = Work()

    async def show(self, visit: Visit) -> Response:
        """Show where a run is chosen; while one is published, htmx reads that part only."""
        if visit.by_htmx and "work" in visit.query:
            if not self.work.running:
                return visit.go(PUBLISH)
            return visit.page("console/models/publish.html", fragment="work", work=self.work,
                              page=PUBLISH)  # fmt: skip
        return await self._answer(visit)

    async def preview(self, visit: Visit) -> Response:
        """Show what publishing would do; nothing is published."""
        await require_admin(visit)
        form, words, card = view.PUBLISH.read(visit.form), "", ""
        if form.value is not None:
            hub: Hub = open_hub(self.address)
            try:
                words, card = await asyncio.to_thread(
                    publishing.foresee, self.runs, hub, form.value
                )
            except TriptychError as error:
                form = form.refused(error)
        return await self._answer(visit, form, words, card)

    async def start(self, visit: Visit) -> Response:
        """Publish; it goes on when the page is closed."""
        await require_admin(visit)
        form = view.PUBLISH.read(visit.form)
        if form.value is None or self.work.running:
            return await self._answer(visit, form)
        self.work.start(partial(
            publishing.carry_out, visit.gateway, self.runs, open_hub(self.address), form.value
        ))  # fmt: skip
        return visit.go(PUBLISH)

    async def _answer(
        self,
        visit: Visit,
        form: Form[view.Publish] | None = None,
        foreseen: str = "",
        card: str = "",
    ) -> Response:
        runs = await asyncio.to_thread(publishing.offered_runs, self.runs)
        companies = await visit.gateway.ask("GET", "/api/companies")
        known = dict(runs)
        chosen = str(form.typed.get("run", "")) if form else visit.query.get("run", "")
        chosen = chosen if chosen in known else next(iter(known), "")
        form = form or view.PUBLISH.empty(run=chosen)
        steps = publishing.offered_checkpoints(self.runs.get(chosen)) if chosen else []
        return visit.page(
            "console/models/publish.html", fragment="publish", status=form.http_status, runs=runs,
            chosen=chosen, foreseen=foreseen, card=card, work=self.work, page=PUBLISH,
            form=form.with_choices(checkpoint=steps, company_id=_whose(_names(companies))),
        )  # fmt: skip


def _foreseen(found: dict[str, Any], one: view.AddModel) -> str:
    run = f"of run {found['run_id']}" if found.get("run_id") else "without a record of its run"
    return (
        f"{found['name']}@{found['revision'][:12]}, {run}, is added for the {one.tier} tier"
        f" {view.whose(one.company_id)}. It answers no request before it is deployed to a Space."
    )


def _names(answer: dict[str, Any]) -> dict[str, str]:
    return {row["company_id"]: row["name"] or row["company_id"] for row in answer["companies"]}


def _whose(names: dict[str, str]) -> list[tuple[str, str]]:
    return [("", "all companies"), *names.items()]
