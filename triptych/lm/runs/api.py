"""The run API: create, list, watch and control runs over HTTP; events as server-sent events.

Every event has an id, so a browser that reconnects with `Last-Event-ID` misses none; polling
`/events?after=` is the fallback. Every route reads and changes only the user's own runs, so a
shared Space and a single user run the same code. Left out: who the user is (`identify` is handed
in by the app that mounts this).
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Body, Depends, HTTPException, Query, Request
from fastapi.responses import FileResponse, JSONResponse, PlainTextResponse, StreamingResponse

from triptych.config import load_config
from triptych.config.runs import RunsConfig
from triptych.errors import RunError, TriptychError
from triptych.lm.runs import control, store
from triptych.lm.runs.comparison import compare
from triptych.lm.runs.history import tail
from triptych.lm.runs.metrics import MAX_POINTS, series
from triptych.lm.runs.reproduce import config_toml
from triptych.lm.runs.rights import check_backend, check_request
from triptych.lm.runs.states import LIVE
from triptych.lm.runs.store import Run, RunStore
from triptych.lm.runs.supervisor import is_stalled
from triptych.lm.runs.sweep import runs_of, to_csv
from triptych.wire import sse
from triptych.wire.run_events import read_from

POLL_S = 0.2
HEARTBEAT_S = 15.0
DOWNLOADS = ("model.safetensors", "config.json", "tokenizer.json", "tokenizer_config.json")
Identify = Callable[[Request], Awaitable[str]]
"""Return the user of a request; raise HTTPException 401 where a sign-in is required."""
Own = Callable[[str, str], Run]
"""Return a user's run; raise `run_not_found` for a run of another user."""


async def local_user(request: Request) -> str:
    """Return `local`, the only user of a machine that is not shared."""
    return "local"


def router(runs: RunStore, config: RunsConfig, identify: Identify = local_user) -> APIRouter:
    """Return the routes for a store; mount them under any prefix."""
    routes = APIRouter(tags=["runs"])
    caller = Depends(identify)

    def own(run_id: str, user: str) -> Run:
        run = runs.get(run_id)
        if run.user != user:
            # The same answer as for a run that does not exist: ids of other users stay unknown.
            raise RunError(f"no run {run_id}", hint="see the list of runs", code="run_not_found")
        return run

    @routes.get("/runs")
    async def list_runs(user: str = caller) -> list[dict[str, Any]]:
        listed = await asyncio.to_thread(runs.list, user=user)
        return [_shown(run, config) for run in listed]

    @routes.post("/runs", status_code=201)
    async def create_run(
        settings: Annotated[list[str], Body()],
        name: Annotated[str, Body()] = "",
        key: Annotated[str, Body()] = "",
        backend: Annotated[Literal["", "local", "torchrun", "jobs", "slurm", "ssh"], Body()] = "",
        user: str = caller,
    ) -> dict[str, Any]:
        resolved = load_config(None, settings)
        check_request(runs, config, resolved, user)
        where = backend or config.backend
        check_backend(where, user)
        request = store.Request.of(resolved, user=user, name=name, key=key, backend=where)
        return _shown(await asyncio.to_thread(runs.create, request), config)

    @routes.get("/runs/compare")
    async def compare_runs(
        ids: Annotated[list[str], Query()], user: str = caller
    ) -> dict[str, Any]:
        return compare([own(run_id, user) for run_id in ids])

    @routes.get("/runs/{run_id}")
    async def show_run(run_id: str, user: str = caller) -> dict[str, Any]:
        run = own(run_id, user)
        return {**_shown(run, config), "config": run.request.get("config"), "record": run.record}

    @routes.get("/sweeps/{sweep}.csv", response_class=PlainTextResponse)
    async def sweep_csv(sweep: str, user: str = caller) -> str:
        return to_csv(runs_of(runs, sweep, user=user))

    _add_acting_routes(routes, runs, config, own, identify)
    _add_reading_routes(routes, own, identify)
    return routes


def _add_acting_routes(
    routes: APIRouter, runs: RunStore, config: RunsConfig, own: Own, identify: Identify
) -> None:
    caller = Depends(identify)

    @routes.post("/runs/{run_id}/{act}")
    async def control_run(run_id: str, act: str, user: str = caller) -> dict[str, Any]:
        own(run_id, user)
        acts = {"pause": control.pause, "resume": control.resume, "cancel": control.cancel}
        if act not in acts:
            raise HTTPException(404, f"no act {act!r}; there are {', '.join(acts)}")
        return _shown(acts[act](runs, run_id, by=user), config)

    @routes.post("/runs/{run_id}/branches/{checkpoint}", status_code=201)
    async def branch_run(
        run_id: str,
        checkpoint: str,
        settings: Annotated[list[str], Body(embed=True)] = [],  # noqa: B006
        user: str = caller,
    ) -> dict[str, Any]:
        own(run_id, user)
        made = control.branch(
            runs,
            run_id,
            settings,
            checkpoint=checkpoint,
            user=user,
            check=lambda wanted: check_request(runs, config, wanted, user),
        )
        return _shown(made, config)

    @routes.patch("/runs/{run_id}")
    async def annotate_run(
        run_id: str,
        name: Annotated[str | None, Body()] = None,
        notes: Annotated[str | None, Body()] = None,
        tags: Annotated[list[str] | None, Body()] = None,
        user: str = caller,
    ) -> dict[str, Any]:
        own(run_id, user)
        changes = {"name": name, "notes": notes, "tags": tags}
        given = {field: value for field, value in changes.items() if value is not None}
        return _shown(runs.annotate(run_id, **given), config)

    @routes.delete("/runs/{run_id}", status_code=204)
    async def delete_run(run_id: str, user: str = caller) -> None:
        own(run_id, user)
        await asyncio.to_thread(runs.delete, run_id)


def _add_reading_routes(routes: APIRouter, own: Own, identify: Identify) -> None:
    caller = Depends(identify)

    @routes.get("/runs/{run_id}/series")
    async def run_series(
        run_id: str,
        names: Annotated[list[str], Query()],
        points: Annotated[int, Query(ge=4, le=MAX_POINTS)] = MAX_POINTS,
        user: str = caller,
    ) -> dict[str, list[tuple[int, float]]]:
        path = own(run_id, user).path
        return await asyncio.to_thread(series, path, names, max_points=points)

    @routes.get("/runs/{run_id}/config.toml", response_class=PlainTextResponse)
    async def run_config(run_id: str, user: str = caller) -> str:
        return config_toml(own(run_id, user))

    @routes.get("/runs/{run_id}/checkpoints/{checkpoint}/{file}", response_model=None)
    async def run_file(run_id: str, checkpoint: str, file: str, user: str = caller) -> FileResponse:
        folder = control.checkpoint_folder(own(run_id, user), checkpoint)
        if file not in DOWNLOADS or not (folder / file).is_file():
            raise HTTPException(404, f"no file {file!r}; there may be {', '.join(DOWNLOADS)}")
        return FileResponse(folder / file, filename=f"{run_id}-{folder.name}-{file}")

    @routes.get("/runs/{run_id}/log")
    async def run_log(
        run_id: str,
        tail_bytes: Annotated[int, Query(ge=1, le=1_000_000)] = 16384,
        user: str = caller,
    ) -> dict[str, str]:
        return {"text": tail(own(run_id, user).path / "worker.log", tail_bytes)}

    @routes.get("/runs/{run_id}/events", response_model=None)
    async def run_events(
        request: Request,
        run_id: str,
        after: Annotated[int, Query(ge=0)] = 0,
        user: str = caller,
    ) -> StreamingResponse | JSONResponse:
        run = own(run_id, user)
        wants_stream = "text/event-stream" in request.headers.get("accept", "")
        if not wants_stream:
            events, position = read_from(run.path / "events.jsonl", after)
            return JSONResponse({"events": events, "next": position})
        start = int(request.headers.get("last-event-id") or after)
        return StreamingResponse(
            _follow(own, run_id, user, start, request),
            media_type="text/event-stream",
            headers={"cache-control": "no-store"},
        )


async def _follow(
    own: Own, run_id: str, user: str, position: int, request: Request
) -> AsyncIterator[bytes]:
    """Yield new events as they are written, until the run ends or pauses or the client leaves."""
    quiet_s = 0.0
    while not await request.is_disconnected():
        run = own(run_id, user)
        events, position = read_from(run.path / "events.jsonl", position)
        for event in events:
            yield sse.encode(json.dumps(event), event=event["type"], id=str(event["next"]))
        if not events and run.state not in LIVE and run.state != "queued":
            yield sse.encode(json.dumps({"state": run.state}), event="end", id=str(position))
            return
        quiet_s = 0.0 if events else quiet_s + POLL_S
        if quiet_s >= HEARTBEAT_S:
            quiet_s = 0.0
            yield sse.PING
        await asyncio.sleep(POLL_S)


def add_error_answers(app: Any) -> None:
    """Turn TriptychError into a JSON answer with its message, hint and code."""

    async def answer(request: Request, error: TriptychError) -> JSONResponse:
        status = {"run_not_found": 404, "quota": 429, "illegal_transition": 409}
        body = {"message": error.message, "hint": error.hint, "code": error.code}
        return JSONResponse({"error": body}, status_code=status.get(error.code, 422))

    app.add_exception_handler(TriptychError, answer)


def _shown(run: Run, config: RunsConfig) -> dict[str, Any]:
    return {**run.summary(), "stalled": is_stalled(run, config.stalled_s)}
