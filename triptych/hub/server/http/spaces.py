"""The programming interface of Spaces, as the hub's clients speak it."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

from starlette.responses import JSONResponse, Response, StreamingResponse

from triptych.errors import HubRefused
from triptych.hub.server import limits
from triptych.hub.server.http.call import Access, Call
from triptych.hub.server.http.routing import Router
from triptych.hub.server.repositories import variables
from triptych.hub.server.spaces import approvals, records
from triptych.hub.server.spaces.space import Space
from triptych.hub.server.threads import in_thread
from triptych.hub.server.workloads import hardware, metrics
from triptych.hub.server.workloads.logs import LogBook, stream
from triptych.wire import sse

routes = Router()
_SPACE = ("space",)
_LONGEST_SLEEP_S = 10 * 365 * 86400


@routes.get("/api/spaces/hardware", Access.PUBLIC)
async def list_hardware(call: Call) -> Response:
    """List what Spaces can run on: this machine."""
    return JSONResponse([hardware.describe()])


@routes.get("/api/spaces/templates", Access.PUBLIC)
async def list_templates(call: Call) -> Response:
    """List templates; Triptych's own are in its repository."""
    return JSONResponse([])


@routes.get("{api}/runtime", Access.SEE, kinds=_SPACE)
async def runtime(call: Call) -> Response:
    """Return the stage of a Space."""
    return await _runtime(await _space(call))


@routes.post("{api}/restart", Access.WRITE, kinds=_SPACE)
async def restart(call: Call) -> Response:
    """Start a Space again; `factory=true` builds its environment anew."""
    space = await _space(call)
    await space.bring_up(afresh=call.flag("factory"))
    return await _runtime(space)


@routes.post("{api}/pause", Access.WRITE, kinds=_SPACE)
async def pause(call: Call) -> Response:
    """Stop a Space until it is restarted."""
    space = await _space(call)
    await space.pause()
    return await _runtime(space)


@routes.post("{api}/wake", Access.WRITE, kinds=_SPACE)
async def wake(call: Call) -> Response:
    """Wake a sleeping Space without a visit."""
    space = await _space(call)
    await space.wake()
    return await _runtime(space)


@routes.post("{api}/sleep", Access.WRITE, kinds=_SPACE)
async def sleep(call: Call) -> Response:
    """Put a Space to sleep until its next visit."""
    space = await _space(call)
    await space.sleep()
    return await _runtime(space)


@routes.post("{api}/hardware", Access.WRITE, kinds=_SPACE)
async def request_hardware(call: Call) -> Response:
    """Remember the hardware asked for; there is one machine, so nothing restarts."""
    body = await call.json()
    space = await _space(call)
    fields: dict[str, Any] = {"flavor": hardware.require_flavor(body.get("flavor"))}
    if body.get("sleepTimeSeconds") is not None:
        fields["sleep_s"] = _seconds(body["sleepTimeSeconds"])
    await in_thread(_remember, call, fields)
    return await _runtime(space)


@routes.post("{api}/sleeptime", Access.WRITE, kinds=_SPACE)
async def set_sleep_time(call: Call) -> Response:
    """Set the idle time after which a Space sleeps; -1 for never."""
    body = await call.json()
    space = await _space(call)
    await in_thread(_remember, call, {"sleep_s": _seconds(body.get("seconds"))})
    return await _runtime(space)


@routes.put("{api}/approval", Access.SITE_ADMIN, kinds=_SPACE)
async def approve(call: Call) -> Response:
    """Approve a commit of a Space: `commit` of the body, or the present head."""
    body = await call.json()
    sha = await in_thread(_commit, call, str(body.get("commit") or ""))
    hub, repository = call.hub, call.repository
    await in_thread(approvals.approve, hub.database, repository.id, sha, call.who.name)
    await call.services.spaces.refresh(await _space(call))
    return JSONResponse({"approved": True, "commit": sha})


@routes.delete("{api}/approval", Access.SITE_ADMIN, kinds=_SPACE)
async def withdraw_approval(call: Call) -> Response:
    """Take back the approval of a commit, or of all commits of a Space."""
    space = await _space(call)
    asked = call.query("commit")
    sha = await in_thread(_commit, call, asked) if asked else ""
    await in_thread(approvals.withdraw, call.hub.database, call.repository.id, sha)
    await space.stop()  # what runs now may be what the approval was for
    await call.services.spaces.refresh(space)
    return JSONResponse({"approved": False, "commit": sha or None})


@routes.get("{api}/logs/build", Access.WRITE, kinds=_SPACE)
async def build_log(call: Call) -> Response:
    """Stream the build log."""
    return _log((await _space(call)).log_book(build=True), call)


@routes.get("{api}/logs/run", Access.WRITE, kinds=_SPACE)
async def run_log(call: Call) -> Response:
    """Stream what the app writes."""
    return _log((await _space(call)).log_book(build=False), call)


@routes.get("{api}/metrics", Access.WRITE, kinds=_SPACE)
async def statistics(call: Call) -> Response:
    """Stream what the app uses, once a second."""
    space = await _space(call)
    return StreamingResponse(
        metrics.follow(space.process, call.hub.config.space_memory_bytes),
        media_type=sse.MEDIA_TYPE,
    )


@routes.get("{api}/secrets", Access.WRITE, kinds=_SPACE)
async def list_secrets(call: Call) -> Response:
    """List the names of secrets; their values leave by no route."""
    return await _settings(call, variables.SECRET)


@routes.post("{api}/secrets", Access.WRITE, kinds=_SPACE)
async def add_secret(call: Call) -> Response:
    """Set a secret and restart the Space with it."""
    return await _set(call, variables.SECRET)


@routes.delete("{api}/secrets", Access.WRITE, kinds=_SPACE)
async def delete_secret(call: Call) -> Response:
    """Drop a secret and restart the Space without it."""
    return await _drop(call, variables.SECRET)


@routes.get("{api}/variables", Access.WRITE, kinds=_SPACE)
async def list_variables(call: Call) -> Response:
    """List variables with their values."""
    return await _settings(call, variables.VARIABLE)


@routes.post("{api}/variables", Access.WRITE, kinds=_SPACE)
async def add_variable(call: Call) -> Response:
    """Set a variable and restart the Space with it."""
    return await _set(call, variables.VARIABLE)


@routes.delete("{api}/variables", Access.WRITE, kinds=_SPACE)
async def delete_variable(call: Call) -> Response:
    """Drop a variable and restart the Space without it."""
    return await _drop(call, variables.VARIABLE)


@routes.put("{api}/volumes", Access.WRITE, kinds=_SPACE)
async def set_volumes(call: Call) -> Response:
    """Refuse volumes."""
    raise _no_volumes()


@routes.delete("{api}/volumes", Access.WRITE, kinds=_SPACE)
async def delete_volumes(call: Call) -> Response:
    """Refuse volumes."""
    raise _no_volumes()


@routes.post("{api}/dev-mode", Access.WRITE, kinds=_SPACE)
async def dev_mode(call: Call) -> Response:
    """Refuse development mode."""
    raise HubRefused(501, "This hub has no development mode for Spaces", hint="push a commit")


def _no_volumes() -> HubRefused:
    return HubRefused(
        501, "This hub mounts no volumes", hint="download from the hub when the app starts"
    )


async def _space(call: Call) -> Space:
    return await call.services.spaces.of(call.repository)


async def _runtime(space: Space) -> Response:
    return JSONResponse((await asyncio.to_thread(space.runtime)).to_dict())


def _log(book: LogBook | None, call: Call) -> Response:
    if book is None:
        return Response(b"", media_type="text/event-stream")
    tail = call.query("tail")
    return stream(book, limits.whole(tail, limits.LOG_LINES))


async def _settings(call: Call, kind: str) -> Response:
    return JSONResponse(await in_thread(variables.describe, call.hub, call.repository, kind))


async def _set(call: Call, kind: str) -> Response:
    body = await call.json()
    put = partial(variables.put, by_admin=call.who.administers)
    await in_thread(
        put, call.hub, call.repository, kind, body.get("key", ""), body.get("value", ""),
        str(body.get("description") or ""),
    )  # fmt: skip
    await _follow(call, kind)
    return await _settings(call, kind)


async def _drop(call: Call, kind: str) -> Response:
    body = await call.json()
    there = await in_thread(
        variables.remove, call.hub, call.repository, kind, str(body.get("key", ""))
    )
    if there:
        await _follow(call, kind)
    return await _settings(call, kind)


async def _follow(call: Call, kind: str) -> None:
    space = await _space(call)
    if kind == variables.SECRET:
        await space.forget_earlier()  # a secret that was withdrawn must be in no process
    await call.services.spaces.refresh(space, only_if_running=True)


def _commit(call: Call, text: str) -> str:
    folder = call.hub.layout.repository(call.repository.uid)
    return approvals.commit_id(folder, text or call.repository.head)


def _remember(call: Call, fields: dict[str, Any]) -> None:
    records.change(call.hub.database, call.repository.id, **fields)


def _seconds(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not -1 <= value <= _LONGEST_SLEEP_S:
        raise HubRefused(400, f"{value!r} is not a number of seconds", hint="-1 means never")
    return value
