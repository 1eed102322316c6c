"""The run API: own runs only, events that miss nothing, errors with a hint."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Thread

import pytest
import uvicorn
from fastapi import FastAPI, Request
from fastapi.testclient import TestClient

from triptych.config.runs import RunsConfig
from triptych.lm.runs.api import add_error_answers, router
from triptych.lm.runs.store import RunStore
from triptych.lm.runs.supervisor import RunSupervisor
from triptych.processes import bind
from triptych.wire import sse


async def user_of_header(request: Request) -> str:
    return request.headers.get("x-user", "local")


def app_of(store: RunStore) -> FastAPI:
    app = FastAPI()
    app.include_router(router(store, RunsConfig(), user_of_header))
    add_error_answers(app)
    return app


@contextmanager
def served(app: FastAPI) -> Iterator[str]:
    listener = bind("127.0.0.1", 0)
    server = uvicorn.Server(uvicorn.Config(app, log_level="error"))
    thread = Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()


def test_a_foreign_run_is_absent_on_every_route(store: RunStore, request_for) -> None:
    run = store.create(request_for(5, user="ann"))
    client = TestClient(app_of(store))
    routes = [
        ("GET", f"/runs/{run.run_id}"),
        ("POST", f"/runs/{run.run_id}/pause"),
        ("POST", f"/runs/{run.run_id}/resume"),
        ("POST", f"/runs/{run.run_id}/cancel"),
        ("POST", f"/runs/{run.run_id}/branches/latest"),
        ("PATCH", f"/runs/{run.run_id}"),
        ("DELETE", f"/runs/{run.run_id}"),
        ("GET", f"/runs/{run.run_id}/series?names=train/loss"),
        ("GET", f"/runs/{run.run_id}/log"),
        ("GET", f"/runs/{run.run_id}/events"),
        ("GET", f"/runs/{run.run_id}/config.toml"),
        ("GET", f"/runs/{run.run_id}/checkpoints/latest/model.safetensors"),
        ("GET", f"/runs/compare?ids={run.run_id}"),
    ]
    for method, path in routes:
        body = {} if method in ("PATCH",) or "branches" in path else None
        foreign = client.request(method, path, json=body, headers={"x-user": "ben"})
        absent = client.request(
            method, path.replace(run.run_id, "nothing"), json=body, headers={"x-user": "ben"}
        )
        assert foreign.status_code == absent.status_code == 404, (method, path, foreign.text)
    assert client.get("/runs", headers={"x-user": "ben"}).json() == []
    assert store.get(run.run_id).state == "queued"


def test_every_route_that_names_a_run_was_tried_with_a_foreign_one(store: RunStore) -> None:
    named = {
        (method, route.path)
        for route in router(store, RunsConfig()).routes
        for method in route.methods
    }
    assert len(named) == 14, "a new route needs its row in the test above"


def test_wrong_settings_are_refused_with_the_nearest_name(store: RunStore) -> None:
    answer = TestClient(app_of(store)).post("/runs", json={"settings": ["train.stesp=3"]})
    assert answer.status_code == 422
    assert "train.steps" in answer.json()["error"]["message"]
    assert store.list() == []


def test_only_the_owner_of_the_place_trains_with_its_token(store: RunStore, request_for) -> None:
    client = TestClient(app_of(store))
    body = {"settings": ["train.steps=5"], "backend": "jobs"}
    refused = client.post("/runs", json=body, headers={"x-user": "ann"})
    assert refused.status_code == 422 and "only the owner" in refused.json()["error"]["message"]
    assert client.post("/runs", json={**body, "backend": "moon"}).status_code == 422
    assert store.list() == []
    smuggled = store.create(request_for(5, user="ann", backend="jobs"))
    with RunSupervisor(store, RunsConfig()) as supervisor:
        supervisor.tick()
    assert store.get(smuggled.run_id).state == "failed"
    assert not (smuggled.path / "worker.log").exists(), "nothing was started"


def test_events_stream_to_the_end_and_a_reader_that_returns_misses_nothing(
    store: RunStore, request_for
) -> None:
    run = store.create(request_for(12))
    with (
        RunSupervisor(store, RunsConfig()) as supervisor,
        served(app_of(store)) as address,
    ):
        supervisor.run_in_background()
        url = f"{address}/runs/{run.run_id}/events"
        everything = list(read_stream(url))
        assert everything[-1].event == "end"
        steps = [json.loads(e.data)["step"] for e in everything if e.event == "step"]
        assert steps == list(range(1, 13))
        middle = everything[len(everything) // 2]
        rest = list(read_stream(url, last_event_id=middle.id))
        assert [e.id for e in rest] == [e.id for e in everything[len(everything) // 2 + 1 :]]
        polled = json.load(urllib.request.urlopen(url))
        assert len(polled["events"]) == len(everything) - 1


def read_stream(url: str, last_event_id: str = "") -> Iterator[sse.Event]:
    headers = {"accept": "text/event-stream"}
    if last_event_id:
        headers["last-event-id"] = last_event_id
    parser = sse.Parser()
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=120) as body:
        while block := body.read1(4096):
            yield from parser.feed(block)


def test_notes_and_tags_can_be_changed(store: RunStore, request_for) -> None:
    run = store.create(request_for(5))
    client = TestClient(app_of(store))
    answer = client.patch(f"/runs/{run.run_id}", json={"name": "first try", "tags": ["a"]})
    assert answer.json()["name"] == "first try"
    assert answer.json()["notes"]["tags"] == ["a"]


def test_the_state_of_a_thousand_runs_is_read_without_their_logs(
    store: RunStore, request_for
) -> None:
    for _ in range(20):
        run = store.create(request_for(5))
        (run.path / "run.json").write_text('{"format_version":1,"state":"finished","step":5}')
    assert {run.state for run in store.list()} == {"succeeded"}
    assert len(store._ended) == 20
    assert {run.step for run in store.list()} == {5}


@pytest.mark.parametrize("act", ["explode", "__init__"])
def test_an_unknown_act_names_the_known_ones(store: RunStore, request_for, act: str) -> None:
    run = store.create(request_for(5))
    answer = TestClient(app_of(store)).post(f"/runs/{run.run_id}/{act}")
    assert answer.status_code == 404
    assert "pause" in answer.text
