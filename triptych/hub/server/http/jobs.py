"""The interface of jobs, as `hf jobs` and huggingface_hub speak it."""

from __future__ import annotations

import math
from urllib.parse import urlencode

from starlette.responses import JSONResponse, Response, StreamingResponse

from triptych.errors import AccessDenied, HubRefused, RepositoryNotFound
from triptych.hub.server import limits
from triptych.hub.server.http.call import Access, Call
from triptych.hub.server.http.routing import Router
from triptych.hub.server.jobs import records
from triptych.hub.server.jobs.records import OVER, Job
from triptych.hub.server.jobs.specification import (
    Specification,
    read_labels,
    read_specification,
    read_variables,
)
from triptych.hub.server.repositories import catalog
from triptych.hub.server.storage.identity.access import Level, level, may_create
from triptych.hub.server.storage.identity.accounts import find_account
from triptych.hub.server.threads import in_thread
from triptych.hub.server.workloads import hardware, metrics
from triptych.hub.server.workloads.logs import stream
from triptych.wire import sse

routes = Router()
PAGE = 100


@routes.get("/api/jobs/hardware", Access.PUBLIC)
async def list_hardware(call: Call) -> Response:
    """List what jobs can run on: this machine."""
    return JSONResponse([hardware.describe()])


@routes.post("/api/jobs/{namespace}", Access.SIGNED_IN)
async def run(call: Call) -> Response:
    """Queue a job."""
    namespace_id = await in_thread(_namespace, call, True)
    body = await call.json()
    asked = read_specification(body)
    hidden = read_variables(body.get("secrets"), "secrets")
    if asked.space_id:
        await in_thread(_require_space, call, asked.space_id)
    return JSONResponse(await _submit(call, namespace_id, asked, hidden))


@routes.get("/api/jobs/{namespace}", Access.SIGNED_IN)
async def list_jobs(call: Call) -> Response:
    """List jobs, newest first, by stage and label."""
    namespace_id = await in_thread(_namespace, call, False)
    before = _moment(call.query("before"))
    found = await in_thread(
        lambda: records.page(call.hub.database, namespace_id, before=before, count=PAGE)
    )
    answer = JSONResponse([job.to_dict() for job in found if _matches(call, job)])
    if len(found) == PAGE:
        query = [*call.request.query_params.multi_items(), ("before", str(found[-1].created_at))]
        rest = urlencode([pair for pair in query[:-1] if pair[0] != "before"] + query[-1:])
        path = f"/api/jobs/{call.params['namespace']}"
        answer.headers["Link"] = f'<{call.base_url}{path}?{rest}>; rel="next"'
    return answer


@routes.get("/api/jobs/{namespace}/{job}", Access.SIGNED_IN)
async def inspect(call: Call) -> Response:
    """Describe a job."""
    return JSONResponse((await _job(call, acting=False)).to_dict())


@routes.get("/api/jobs/{namespace}/{job}/logs", Access.SIGNED_IN)
async def logs(call: Call) -> Response:
    """Stream a job's output."""
    job = await _job(call, acting=False)
    tail = call.query("tail")
    return stream(call.services.jobs.book(job), limits.whole(tail, limits.LOG_LINES))


@routes.get("/api/jobs/{namespace}/{job}/metrics", Access.SIGNED_IN)
async def statistics(call: Call) -> Response:
    """Stream what a job uses, once a second."""
    job = await _job(call, acting=False)
    if job.stage in OVER:
        raise HubRefused(406, "This job is over")
    events = metrics.follow(
        lambda: call.services.jobs.status(job.id), call.hub.config.space_memory_bytes
    )
    return StreamingResponse(events, media_type=sse.MEDIA_TYPE)


@routes.post("/api/jobs/{namespace}/{job}/cancel", Access.SIGNED_IN)
async def cancel(call: Call) -> Response:
    """End a job."""
    await call.services.jobs.cancel(await _job(call, acting=True))
    return JSONResponse((await _job(call, acting=True)).to_dict())


@routes.post("/api/jobs/{namespace}/{job}/duplicate", Access.SIGNED_IN)
async def rerun(call: Call) -> Response:
    """Queue a job like another."""
    job = await _job(call, acting=True)
    hidden = await in_thread(records.reveal, call.hub.database, call.hub.vault, job.id)
    if job.specification.space_id:
        await in_thread(_require_space, call, job.specification.space_id)
    return JSONResponse(await _submit(call, job.owner_id, job.specification, hidden))


@routes.put("/api/jobs/{namespace}/{job}/labels", Access.SIGNED_IN)
async def relabel(call: Call) -> Response:
    """Replace a job's labels."""
    job = await _job(call, acting=True)
    labels = read_labels((await call.json()).get("labels"))
    await in_thread(records.set_labels, call.hub.database, job, labels)
    return JSONResponse((await _job(call, acting=True)).to_dict())


@routes.put("/api/jobs/{namespace}/{job}/expose", Access.SIGNED_IN)
async def expose(call: Call) -> Response:
    """Refuse to expose ports."""
    await _job(call, acting=True)
    raise HubRefused(501, "This hub does not expose ports of jobs; deploy a Space instead")


@routes.get("/api/scheduled-jobs/{namespace}", Access.SIGNED_IN)
async def list_scheduled(call: Call) -> Response:
    """List scheduled jobs: there are none."""
    await in_thread(_namespace, call, False)
    return JSONResponse([])


@routes.post("/api/scheduled-jobs/{namespace}", Access.SIGNED_IN)
async def schedule(call: Call) -> Response:
    """Refuse schedules."""
    await in_thread(_namespace, call, True)
    raise HubRefused(501, "This hub has no scheduled jobs", hint="use cron and `hf jobs run`")


async def _submit(
    call: Call, namespace_id: int, asked: Specification, hidden: dict[str, str]
) -> dict[str, object]:
    job = await in_thread(
        lambda: records.insert(
            call.hub.database,
            call.hub.vault,
            namespace_id=namespace_id,
            account_id=call.who.account_id,
            specification=asked,
            hidden=hidden,
        )
    )
    call.services.jobs.submit(job)
    return job.to_dict()


async def _job(call: Call, *, acting: bool) -> Job:
    namespace_id = await in_thread(_namespace, call, acting)
    return await in_thread(records.find, call.hub.database, namespace_id, call.params["job"])


def _namespace(call: Call, acting: bool) -> int:
    """Return the namespace of the route, if the caller may see its jobs, or act for it.

    A job runs code on this machine, so acting needs a token that may create repositories there.
    """
    account, who = find_account(call.hub.database, call.params["namespace"]), call.who
    if account is not None and may_create(who, account.id):
        return account.id
    member = account is not None and (
        who.is_admin or account.id == who.account_id or account.id in who.memberships
    )
    if acting or not member or who.scope == "fineGrained":
        raise AccessDenied(f"You may not use the jobs of {call.params['namespace']!r}")
    assert account is not None
    return account.id


def _require_space(call: Call, space_id: str) -> None:
    namespace, _, name = space_id.partition("/")
    repository = catalog.find(call.hub.database, "space", namespace, name)
    if repository is None or level(call.who, repository) < Level.READ:
        raise RepositoryNotFound("Repository not found")


def _matches(call: Call, job: Job) -> bool:
    stages = {stage.upper() for stage in call.request.query_params.getlist("stage")}
    if stages and job.stage.value not in stages:
        return False
    labels = (pair.partition("=") for pair in call.request.query_params.getlist("label"))
    return all(job.specification.labels.get(key) == value for key, _, value in labels)


def _moment(text: str) -> float | None:
    try:
        moment = float(text)
    except ValueError:
        return None
    return moment if math.isfinite(moment) else None
