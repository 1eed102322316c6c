"""The routes of the providers: list, test, reset, add, change, remove; and of their secrets."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from pydantic import BaseModel, Field
from starlette.responses import Response
from starlette.routing import Route

from triptych.errors import EditConflict, TierError
from triptych.panels.console.providers import view
from triptych.panels.console.providers.view import PAGE, Tested
from triptych.panels.gateway_client import segment
from triptych.panels.web import forms
from triptych.panels.web.notices import Notice, attempt
from triptych.panels.web.site import Pages, Site, Visit


class SaveSecret(BaseModel):
    """A secret by name; the value is sent once and never shown again."""

    name: str = Field(max_length=64, pattern=r"^[A-Za-z_][A-Za-z0-9_.-]*$")
    value: str = Field(min_length=1)


SECRET = forms.FormSpec(
    SaveSecret,
    (
        forms.Field("name", "Name of the secret", placeholder="HF_TOKEN"),
        forms.Field("value", "Secret", "password", hint="It is never shown again.",
                    autocomplete="new-password"),
    ),
)  # fmt: skip


def routes(site: Site) -> list[Route]:
    """Return the routes of the providers."""
    pages = Pages(site)
    pages.get(PAGE, role="admin")(_show)
    pages.post(PAGE, role="admin")(_save)
    pages.post(f"{PAGE}/secret", role="admin")(_save_secret)
    for act, handler in {
        "test": _test, "test-all": _test_all, "reset": _reset, "remove": _remove,
        "secret/remove": _remove_secret,
    }.items():  # fmt: skip
        pages.post(f"{PAGE}/{act}", role="admin")(handler)
    return pages.routes


async def _show(visit: Visit) -> Response:
    """Show the providers; `?name=` fills the form with one of them."""
    return await _answer(visit)


async def _answer(
    visit: Visit,
    notice: Notice | None = None,
    beside: str = "",
    *,
    form: forms.Form[Any] | None = None,
    secret: forms.Form[Any] | None = None,
    tested: Mapping[str, Tested] | None = None,
) -> Response:
    listed = await view.read(visit.gateway, tested or {})
    name = visit.query.get("name", "")
    if form is None:
        row = listed.rows.get(name)
        form = view.FORM.empty(**(view.typed(row) if row else {"tiers": ["base"]}))
    secret = secret or SECRET.empty()
    return visit.page(
        "console/providers/page.html", fragment="providers",
        status=max(form.http_status, secret.http_status), page=PAGE, listed=listed,
        form=form.with_choices(**listed.choices(str(form.typed.get("key_name") or ""))),
        secret=secret, notice=notice or Notice(), beside=beside,
        editing=str(form.typed.get("name") or "") if form.typed.get("version") else "",
        open=bool(form.errors or form.typed.get("name") or not listed.providers),
    )  # fmt: skip


async def _save(visit: Visit) -> Response:
    """Add or change a provider."""
    form = view.FORM.read(visit.form)
    if form.value is None:
        return await _answer(visit, form=form)
    try:
        await view.save(visit.gateway, form.value)
    except TierError as error:
        if error.code == EditConflict.default_code:
            error = TierError(f"Another admin changed this meanwhile: {error.message}",
                              hint="Reload the page to see what it is now.")  # fmt: skip
        return await _answer(visit, form=form.refused(error))
    tested = {form.value.name: await view.test(visit.gateway, form.value.name)}
    return await _answer(visit, Notice(f"{form.value.name} saved"), "list", tested=tested)


async def _test(visit: Visit) -> Response:
    """Test one provider with a real request."""
    name = str(visit.form.get("name", ""))
    return await _answer(visit, tested={name: await view.test(visit.gateway, name)})


async def _test_all(visit: Visit) -> Response:
    """Test every provider that is in use."""
    rows = (await visit.gateway.ask("GET", "/admin/upstreams"))["upstreams"]
    names = [row["name"] for row in rows]
    found = await asyncio.gather(*(view.test(visit.gateway, name) for name in names))
    return await _answer(visit, tested=dict(zip(names, found, strict=True)))


async def _reset(visit: Visit) -> Response:
    """Call a provider again that was paused after failures."""

    async def reset(name: str) -> str:
        await visit.gateway.ask("POST", view.path(name, "/breaker/reset"))
        return f"{name} is called again"

    return await _acted(visit, reset)


async def _remove(visit: Visit) -> Response:
    """Remove a provider that was entered here."""

    async def remove(name: str) -> str:
        await visit.gateway.ask("DELETE", view.path(name))
        return f"{name} removed"

    return await _acted(visit, remove)


async def _save_secret(visit: Visit) -> Response:
    """Enter or replace a secret."""
    form = SECRET.read(visit.form)
    if form.value is None:
        return await _answer(visit, secret=form)
    name, value = form.value.name, form.value.value.strip()
    try:
        kept = await visit.gateway.ask("PUT", f"/admin/secrets/{segment(name)}", {"value": value})
    except TierError as error:
        return await _answer(visit, secret=form.refused(error))
    words = f"Secret {name} saved, ending with {kept['hint']}"
    return await _answer(visit, secret=SECRET.empty(status=words))


async def _remove_secret(visit: Visit) -> Response:
    """Remove a secret, and take out of use what needs it."""

    async def remove(name: str) -> str:
        done = await visit.gateway.ask("DELETE", f"/admin/secrets/{segment(name)}")
        stopped = ", ".join(done["upstreams_stopped"])
        return f"Secret {name} removed" + (f"; out of use: {stopped}" if stopped else "")

    return await _acted(visit, remove, "secrets")


async def _acted(
    visit: Visit, act: Callable[[str], Awaitable[str]], beside: str = "list"
) -> Response:
    return await _answer(visit, await attempt(act(str(visit.form.get("name", "")))), beside)
