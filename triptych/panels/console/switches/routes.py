"""The routes of the switches: read, preview, apply, undo, roll out, make exceptions."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from starlette.responses import Response
from starlette.routing import Route

from triptych.errors import EditConflict, TierError
from triptych.panels.console.switches import exceptions, view
from triptych.panels.web.forms import Form
from triptych.panels.web.notices import Notice, attempt
from triptych.panels.web.site import Pages, Site, Visit

PAGE = "/console/switches"


def routes(site: Site) -> list[Route]:
    """Return the routes of the switches."""
    pages = Pages(site)
    pages.get(PAGE, role="admin")(_show)
    pages.post(f"{PAGE}/effects", role="admin")(_effects)
    pages.post(PAGE, role="admin")(_apply)
    pages.post(f"{PAGE}/revert", role="admin")(_revert)
    pages.post(f"{PAGE}/share/effects", role="admin")(_share_effects)
    pages.post(f"{PAGE}/share", role="admin")(_share)
    pages.post(f"{PAGE}/exception", role="admin")(_exception)
    pages.post(f"{PAGE}/exception/remove", role="admin")(_remove_exception)
    return pages.routes


async def _show(visit: Visit) -> Response:
    """Show the switches as they are."""
    return await _answer(visit)


async def _answer(visit: Visit, fragment: str = "switches", **context: Any) -> Response:
    """Answer with the page; `context` is what an act left to show."""
    gateway = visit.gateway
    answer, upstreams, audit, subjects = await asyncio.gather(
        gateway.ask("GET", "/admin/flags"),
        gateway.ask("GET", "/admin/upstreams"),
        gateway.ask("GET", "/admin/audit", subject="flags*", limit=20),
        exceptions.subjects(gateway),
    )
    exception: Form[Any] = context.pop("exception", None) or exceptions.EXCEPTION.empty()
    typed = visit.form if context.pop("refused", False) else None
    shown: dict[str, Any] = {
        "notice": Notice(), "undo": (), "effects": None, "share_effects": None,
        "share": exceptions.SHARE.empty(), "beside": "",
    }  # fmt: skip
    return visit.page(
        "console/switches/page.html", fragment=fragment, page=PAGE,
        switches=view.switches(answer, upstreams["upstreams"], typed),
        history=view.history(audit["entries"], answer["flags"]),
        exceptions=exceptions.listed(answer["flags"]),
        exception=exception.with_choices(subject=subjects), subjects=subjects,
        **(shown | context),
    )  # fmt: skip


async def _effects(visit: Visit) -> Response:
    """Show what the changes would have meant; nothing is changed."""
    try:
        effects = await _foresee(visit)
    except TierError as error:
        return await _answer(visit, "effects", refused=True, notice=Notice.of(error),
                             beside="switches")  # fmt: skip
    return await _answer(visit, "effects", refused=True, effects=effects)


async def _foresee(visit: Visit) -> view.Effects | None:
    wanted = view.wanted(visit.form)
    if not wanted.changes:
        return None
    changes = {key: {"value": value} for key, value in wanted.changes.items()}
    notes = tuple(f"{label} is no longer for a share only." for label in wanted.rules)
    return await view.foresee(visit.gateway, view.named(wanted.changes), changes, notes)


async def _apply(visit: Visit) -> Response:
    """Set what was changed; a conflict keeps what was chosen."""
    done: dict[str, view.Value] = {}
    try:
        wanted = view.wanted(visit.form)
        for key, value in wanted.changes.items():
            await visit.gateway.set_flag(key, value, wanted.versions[key])
            done[key] = value
    except TierError as error:
        notice = Notice.of(_conflict(error, done))
        return await _answer(visit, refused=True, notice=notice, beside="switches")
    if not done:
        return await _answer(visit, notice=Notice("Nothing was changed"), beside="switches")
    undo = await _sequences(visit, list(done))
    notice = Notice(f"Applied: {view.named(done)}")
    return await _answer(visit, notice=notice, undo=undo, beside="switches")


def _conflict(error: TierError, done: dict[str, view.Value]) -> TierError:
    """Return the error with what was set before it, and what to do about another admin."""
    before = f" ({view.named(done)} is set)" if done else ""
    if error.code != EditConflict.default_code:
        return TierError(f"{error.message}{before}", hint=error.hint, code=error.code)
    return TierError(
        f"Another admin changed this meanwhile: {error.message}{before}",
        hint="Your choice is kept below. Reload to see what it is now, then choose again.",
        code=error.code,
    )


async def _sequences(visit: Visit, keys: list[str]) -> tuple[int, ...]:
    """Return the audit entries of changes just made, newest first."""
    found = await asyncio.gather(
        *(visit.gateway.ask("GET", "/admin/audit", subject=f"flags/{key}", limit=1) for key in keys)
    )
    entries = [answer["entries"][0]["sequence"] for answer in found if answer["entries"]]
    return tuple(sorted(map(int, entries), reverse=True))


async def _revert(visit: Visit) -> Response:
    """Undo changes, the newest first."""
    sequences = [int(text) for text in str(visit.form.get("sequences", "")).split() if
                 text.isdecimal()]  # fmt: skip

    async def revert() -> str:
        for sequence in sequences:
            await visit.gateway.ask("POST", f"/admin/flags/revert/{sequence}")
        return "Undone: the switches are as they were before"

    beside = "history" if visit.form.get("from") == "history" else "switches"
    return await _answer(visit, notice=await attempt(revert()), beside=beside)


async def _share_effects(visit: Visit) -> Response:
    """Show what a rollout to a share would have meant; nothing is changed."""
    form = exceptions.SHARE.read(visit.form)
    if form.value is None:
        return await _answer(visit, "share_effects", share=form)
    share = form.value
    label = view.LABELS.get(share.key, share.key)
    change = {share.key: {"percentage": share.percentage, "by": share.by}}
    what = f"{label} for {share.percentage:g} %"
    try:
        effects = await view.foresee(visit.gateway, what, change)
    except TierError as error:
        return await _answer(visit, "share_effects", share=form.refused(error))
    return await _answer(visit, "share_effects", share=form, share_effects=effects)


async def _share(visit: Visit) -> Response:
    """Turn a switch on for a share."""
    form = exceptions.SHARE.read(visit.form)
    if form.value is None:
        return await _answer(visit, share=form)
    try:
        seen = json.loads(str(visit.form.get("seen", "{}"))).get(form.value.key, {})
        words = await exceptions.roll_out(visit.gateway, form.value, seen.get("version"))
    except TierError as error:
        return await _answer(visit, share=form.refused(_conflict(error, {})))
    undo = await _sequences(visit, [form.value.key])
    return await _answer(visit, notice=Notice(words), undo=undo, beside="share")


async def _exception(visit: Visit) -> Response:
    """Make an exception for one company or user."""
    form = exceptions.EXCEPTION.read(visit.form)
    if form.value is None:
        return await _answer(visit, exception=form)
    one = form.value
    act = exceptions.override(visit.gateway, one.key, one.subject, one.value == "on")
    return await _answer(visit, notice=await attempt(act), beside="exceptions")


async def _remove_exception(visit: Visit) -> Response:
    """Let a switch be for one company or user as it is for all others."""
    key, subject = (str(visit.form.get(name, "")) for name in ("key", "subject"))
    act = exceptions.override(visit.gateway, key, subject, None)
    return await _answer(visit, notice=await attempt(act), beside="exceptions")
