"""The routes of the Spaces: list, one Space, deploy, roll back, restart, stop, logs."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial

from pydantic import BaseModel, Field
from starlette.responses import Response
from starlette.routing import Route

from triptych.errors import TierError, TriptychError
from triptych.hub.client import Hub
from triptych.hub.deployments import Deployer
from triptych.hub.ledger import Deployment
from triptych.hub.repository import Repo
from triptych.panels.console.hub_access import open_hub, require_admin
from triptych.panels.console.models.view import OFFERED
from triptych.panels.console.spaces import view
from triptych.panels.console.spaces.view import PAGE
from triptych.panels.gateway_client import GatewayClient
from triptych.panels.web import forms
from triptych.panels.web.notices import Notice, attempt
from triptych.panels.web.site import Pages, Site, Visit
from triptych.panels.web.work import Heard, Work


class Deploy(BaseModel):
    """A model at a revision, to be served by a Space."""

    model: str = Field(pattern=r"^[\w.-]+/[\w.-]+$")
    revision: str = Field(default="main", min_length=1)


DEPLOY = forms.FormSpec(
    Deploy,
    (
        forms.Field("model", "Model", placeholder="owner/name", offered=OFFERED),
        forms.Field("revision", "Revision", hint="A branch, a tag or a commit."),
    ),
)


def routes(site: Site, hub: str | None) -> list[Route]:
    """Return the routes of the Spaces of a hub."""
    pages, spaces = Pages(site), _Spaces(hub)
    pages.get(PAGE, role="admin")(spaces.every)
    pages.get(PAGE + "/{owner}/{name}", role="admin")(spaces.one)
    pages.get(PAGE + "/{owner}/{name}/logs", role="admin")(spaces.logs)
    for act, handler in {
        "preview": spaces.preview, "deploy": spaces.deploy, "back": spaces.roll_back,
        "restart": spaces.restart, "stop": spaces.stop,
    }.items():  # fmt: skip
        pages.post(PAGE + "/{owner}/{name}/" + act, role="admin")(handler)
    return pages.routes


class _Spaces:
    """The pages of one hub's Spaces, and what is being deployed to each."""

    def __init__(self, address: str | None) -> None:
        self.address = address
        self.work: dict[str, Work] = {}

    async def every(self, visit: Visit) -> Response:
        """List every Space with what it does."""
        upstreams = (await visit.gateway.ask("GET", "/admin/upstreams"))["upstreams"]
        spaces: list[view.Space] = []
        notice = Notice()
        if visit.by_htmx:  # the hub may be slow: the page comes before it has answered
            try:
                spaces = await view.read_all(upstreams, open_hub(self.address))
            except TriptychError as error:
                notice = Notice.of(error)
        return visit.page("console/spaces/page.html", fragment="spaces", page=PAGE, spaces=spaces,
                          notice=notice, read=visit.by_htmx)  # fmt: skip

    async def one(self, visit: Visit) -> Response:
        """Show one Space; while something is deployed, htmx reads that part only."""
        await require_admin(visit)
        work = self._work(visit)
        if visit.by_htmx and work.running:
            return visit.page("console/spaces/space.html", fragment="work", work=work,
                              path=_path(visit))  # fmt: skip
        return visit.go(_path(visit)) if visit.by_htmx else await self._answer(visit)

    async def logs(self, visit: Visit) -> Response:
        """Show the last lines of its log."""
        await require_admin(visit)
        build, words = "build" in visit.query, ""
        try:
            words = await asyncio.to_thread(view.log_lines, self._hub(), _name(visit), build)
            notice = Notice()
        except TriptychError as error:
            notice = Notice.of(error)
        return visit.page("console/spaces/logs.html", fragment="logs", name=_name(visit),
                          path=_path(visit), lines=words, build=build, notice=notice)  # fmt: skip

    async def preview(self, visit: Visit) -> Response:
        """Show what a deployment would change; nothing is changed."""
        await require_admin(visit)
        form, exact, words = DEPLOY.read(visit.form), "", ""
        if form.value is not None:
            reference = f"{form.value.model}@{form.value.revision}"
            try:
                exact, words = await asyncio.to_thread(
                    view.foresee, self._hub(), _name(visit), reference
                )
            except TriptychError as error:
                form = form.refused(error)
        return await self._answer(visit, form=form, exact=exact, foreseen=words)

    async def deploy(self, visit: Visit) -> Response:
        """Deploy a model; it goes on when the page is closed."""
        return await self._start(visit, "Live", partial(self._deploy, visit))

    async def roll_back(self, visit: Visit) -> Response:
        """Serve again what the Space served before."""
        return await self._start(visit, "Live again", partial(self._roll_back, visit))

    async def restart(self, visit: Visit) -> Response:
        """Restart the Space, or wake it."""
        return await self._act(visit, Hub.restart, "starts again")

    async def stop(self, visit: Visit) -> Response:
        """Stop the Space until it is restarted."""
        return await self._act(visit, Hub.pause, "is stopped")

    def _hub(self) -> Hub:
        return open_hub(self.address)

    def _work(self, visit: Visit) -> Work:
        return self.work.setdefault(_name(visit), Work())

    async def _answer(
        self,
        visit: Visit,
        notice: Notice | None = None,
        *,
        form: forms.Form[Deploy] | None = None,
        exact: str = "",
        foreseen: str = "",
    ) -> Response:
        name, hub = _name(visit), self._hub()
        space, done = await asyncio.gather(
            asyncio.to_thread(view.read_one, hub, name), asyncio.to_thread(view.deployed, hub, name)
        )
        form = form or DEPLOY.empty(model=space.pinned.partition("@")[0])
        return visit.page(
            "console/spaces/space.html", fragment="space", status=form.http_status, space=space,
            deployed=done, form=form, path=_path(visit),
            exact=exact, foreseen=foreseen, notice=notice or Notice(), work=self._work(visit),
        )  # fmt: skip

    async def _start(
        self, visit: Visit, words: str, carry_out: Callable[[Heard], Deployment]
    ) -> Response:
        await require_admin(visit)
        work, gateway, name = self._work(visit), visit.gateway, _name(visit)

        async def act(heard: Heard) -> str:
            done = await asyncio.to_thread(carry_out, heard)
            return f"{words}: {done.pin}" + await _note(gateway, name, done)

        if not work.running:
            work.start(act)
        return await self._answer(visit)

    def _deployer(self, heard: Heard) -> Deployer:
        return Deployer(self._hub(), on_state=lambda each: heard(f"{each.pin}: {each.state}"))

    def _deploy(self, visit: Visit, heard: Heard) -> Deployment:
        reference = str(visit.form.get("reference", ""))
        return self._deployer(heard).deploy(reference, Repo.parse(_name(visit), "space"))

    def _roll_back(self, visit: Visit, heard: Heard) -> Deployment:
        return self._deployer(heard).roll_back(Repo.parse(_name(visit), "space"))

    async def _act(self, visit: Visit, act: Callable[[Hub, Repo], None], words: str) -> Response:
        await require_admin(visit)
        name = _name(visit)

        async def acted() -> str:
            await asyncio.to_thread(act, self._hub(), Repo.parse(name, "space"))
            return f"{name} {words}"

        done: Awaitable[str] = acted()
        return await self._answer(visit, await attempt(done))


def _name(visit: Visit) -> str:
    return f"{visit.path['owner']}/{visit.path['name']}"


def _path(visit: Visit) -> str:
    return f"{PAGE}/{_name(visit)}"


async def _note(gateway: GatewayClient, name: str, done: Deployment) -> str:
    """Let the gateway record what is live now, after it has verified it at the Space itself.

    Returns: why it did not, where it did not.
    """
    body = {
        "space": name, "repo_id": done.pin.model, "revision": done.pin.revision,
        "status": "live", "deployment_id": done.id,
    }  # fmt: skip
    try:
        await gateway.ask("POST", "/admin/deployments", body)
    except TierError as error:
        return f"; the gateway's registry does not have it: {error.message}"
    return ""
