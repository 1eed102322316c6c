"""Every route and every event of a shared Studio, asked by everybody, about somebody else's run.

The owner's secrets and one person's run are planted as canaries and looked for in every answer. A
route or an event that has no rule here fails, so nothing new goes out without a decision.
"""

from __future__ import annotations

import json
import re
import secrets
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr
import httpx
import pytest
from browsing import serving
from starlette.routing import Mount
from visitors import OWNER, SECRET, become_space, cookie_of, token_of

from triptych.config import load_config
from triptych.durable import FolderLock
from triptych.lm.runs.rights import corpora_of
from triptych.lm.runs.store import Request, Run, RunStore
from triptych.panels.studio.app import build_app

pytestmark = [pytest.mark.timeout(400)]

UPLOAD_BYTES = 8 * 2**20
SILENCE = httpx.Timeout(120, read=60)
# These speak until one leaves, and of nothing but that they are there.
ENDLESS = ("heartbeat", "queue/data", "dev/reload", "upload_progress")
PEOPLE = ("nobody", "ann", "owner", "ben")
FOREIGN = PEOPLE[:3]
SECRETS = (OWNER, SECRET, "hf_admin-of-the-hub", *map(token_of, PEOPLE))
# Ben's alone: what he called the run, wrote about it, fed it, and what it printed.
BENS = ("bens-name", "bens-notes", "bens-sample", "bens-log", "bens-weights", "bens-text")

# open: anybody. known: whoever signed in. own: the run's user. door: the way in.
ROUTES: Mapping[str, str] = {
    "GET /health": "open",
    "GET /openapi.json": "open",
    "GET /docs": "open",
    "GET /docs/oauth2-redirect": "open",
    "GET /redoc": "open",
    "GET /login/huggingface": "door",
    "GET /login/callback": "door",
    "GET /logout": "door",
    "GET /api/runs": "known",
    "POST /api/runs": "known",
    "GET /api/runs/compare": "own",
    "GET /api/runs/{run_id}": "own",
    "PATCH /api/runs/{run_id}": "own",
    "POST /api/runs/{run_id}/{act}": "own",
    "POST /api/runs/{run_id}/branches/{checkpoint}": "own",
    "GET /api/sweeps/{sweep}.csv": "own",
    "GET /api/runs/{run_id}/series": "own",
    "GET /api/runs/{run_id}/config.toml": "own",
    "GET /api/runs/{run_id}/checkpoints/{checkpoint}/{file}": "own",
    "GET /api/runs/{run_id}/log": "own",
    "GET /api/runs/{run_id}/events": "own",
    "GET /api/runs/{run_id}/places": "own",
    "GET /api/lessons/{name}/places": "known",
    "DELETE /api/runs/{run_id}": "own",
}
BODIES: Mapping[str, Any] = {
    "POST /api/runs": {"settings": ["train.steps=5"]},
    "PATCH /api/runs/{run_id}": {"tags": ["touched"]},
    "POST /api/runs/{run_id}/branches/{checkpoint}": {"settings": []},
}
# looks: shows what is one's own. acts: changes something, and asks for a name first.
EVENTS: Mapping[str, str] = {
    "describe": "looks", "describe_again": "looks", "check_text": "looks",
    "allow": "looks", "list_again": "looks",
    "compare": "looks", "sweep": "looks", "average": "looks",
    "choose": "looks", "advise": "looks", "offer": "looks",
    "arrive": "looks", "greet": "looks", "save": "acts", "evaluate": "acts", "publish": "acts",
    "deploy": "acts", "go_on": "acts", "lesson": "acts", "start": "acts", "estimate": "acts",
    "pause": "acts", "resume": "acts", "cancel": "acts",
}  # fmt: skip


@dataclass
class World:
    """A shared Studio with one finished run, Ben's."""

    app: Any
    http: httpx.Client
    store: RunStore
    run: Run

    def ask(self, person: str, method: str, path: str, **more: Any) -> httpx.Response:
        """Send a request as somebody; of an answer without end, read the beginning."""
        cookie = "" if person == "nobody" else f"session={cookie_of(person)['session']}"
        until, body = time.monotonic() + 60, b""
        request = self.http.build_request(
            method, path, headers={"cookie": cookie, "accept-encoding": "identity"}, **more
        )
        answer = self.http.send(request, stream=True)
        try:
            for piece in answer.iter_raw():
                body += piece
                if time.monotonic() > until or b"process_completed" in body:
                    break
        except httpx.ReadTimeout:
            pass
        finally:
            answer.close()
        answer._content = body
        return answer


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    home = tmp_path_factory.mktemp("space")
    with pytest.MonkeyPatch.context() as patch:
        become_space(patch)
        patch.setenv("TRIPTYCH_HOME", str(home))
        # A choice that was never offered is refused by the page framework; here ours must refuse.
        patch.setattr(gr.Dropdown, "preprocess", lambda self, value: value)
        (home / "hub").mkdir()
        (home / "hub" / "admin_token").write_text("hf_admin-of-the-hub")
        store = RunStore(home / "runs")
        run = bens_run(store)
        app = build_app(load_config(None, [f"panels.upload_bytes={UPLOAD_BYTES}"]), store)
        # Nothing trains here: the place of the supervisor is taken.
        lock = FolderLock(store.root / "supervisor.lock").acquire()
        # A connection kept for later may be closed by then, on a busy machine.
        limits = httpx.Limits(max_keepalive_connections=0)
        with (
            serving(app) as address,
            httpx.Client(base_url=address, timeout=SILENCE, limits=limits) as http,
        ):
            yield World(app, http, store, run)
        lock.release()


def bens_run(store: RunStore) -> Run:
    corpus = corpora_of(store, "hub/ben") / "text"
    corpus.mkdir(parents=True)
    (corpus / "manifest.json").write_text('{"format_version": 1, "note": "bens-text"}')
    config = load_config(None, [f"train.data={corpus}", "train.steps=5"])
    run = store.create(Request.of(config, user="hub/ben", sweep="one-of-ben"))
    store.annotate(run.run_id, name="bens-name", notes="bens-notes")
    events = [
        {"seq": 1, "time_s": 1.0, "type": "eval", "step": 5, "val/loss": 1.0, "val/bpb": 1.0},
        {
            "seq": 2,
            "time_s": 1.0,
            "type": "sample",
            "step": 5,
            "prompt": "A",
            "text": "bens-sample",
        },
    ]
    (run.path / "events.jsonl").write_text("".join(json.dumps(e) + "\n" for e in events))
    (run.path / "run.json").write_text('{"format_version": 1, "state": "finished", "step": 5}')
    (run.path / "worker.log").write_text("bens-log")
    folder = run.path / "checkpoints" / "step-00000005"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text('"bens-weights"')
    (folder.parent / "latest").write_text(folder.name)
    return store.get(run.run_id)


def routes(found: Any, prefix: str = "", inside: bool = False) -> Iterator[tuple[bool, str, str]]:
    """List every route: whether it is the page framework's, its method and its path."""
    for route in found:
        if hasattr(route, "effective_candidates"):
            known = [(c.path, c.methods) for c in route.effective_candidates()]
        elif isinstance(route, Mount):
            yield from routes(route.routes, prefix + route.path, True)
            continue
        else:
            known = [(route.path, getattr(route, "methods", None))]
        for path, methods in known:
            for method in sorted((methods or {"GET"}) - {"HEAD"}):
                yield inside, method, prefix + path


def search(answer: httpx.Response, person: str, where: str) -> None:
    """Look for what this person must not see."""
    text = f"{answer.headers} {answer.text}"
    seen = [canary for canary in SECRETS if canary in text]
    seen += [canary for canary in BENS if canary in text and person != "ben"]
    assert not seen, f"{where} showed {seen} to {person}"


def test_every_route_has_a_rule_and_keeps_to_it(world: World) -> None:
    found = {f"{method} {path}" for inside, method, path in routes(world.app.routes) if not inside}
    assert found == set(ROUTES), "give every new route a rule"
    places = {
        "run_id": world.run.run_id, "act": "pause", "checkpoint": "latest",
        "file": "config.json", "sweep": "one-of-ben", "name": "cooldown",
    }  # fmt: skip
    query = {"ids": [world.run.run_id], "names": ["val/loss"], "have": ["samples:", "log:"]}
    for rule, kind in ROUTES.items():
        method, path = rule.split()
        for person in PEOPLE:
            where = path.format(**places)
            answer = world.ask(person, method, where, params=query, json=BODIES.get(rule))
            search(answer, person, rule)
            code = answer.status_code
            if kind == "open":
                assert code == 200, (rule, person, code)
            elif kind == "known":
                assert (code == 401) == (person == "nobody") and code < 500, (rule, person, code)
            elif kind == "own" and person == "ben":
                assert code in (200, 201, 204, 409), (rule, code, answer.text)
                # Ben himself sees his own, so the questions were the right ones.
                if path.endswith("/places"):
                    assert "bens-log" in answer.text and "bens-sample" in answer.text
            elif kind == "own":
                expected = (401,) if person == "nobody" else (404, 422)
                assert code in expected, (rule, person, code)
        if method == "DELETE":
            assert not world.run.path.exists()
            bens_again = bens_run_again(world)
            assert bens_again.user == "hub/ben"


def bens_run_again(world: World) -> Run:
    """Ben deleted his run, as he may; give the other tests a new one."""
    import shutil

    shutil.rmtree(corpora_of(world.store, "hub/ben"))
    world.run = bens_run(world.store)
    return world.run


def test_the_page_framework_s_own_routes_serve_no_secret_and_no_file(world: World) -> None:
    files = [
        str(world.store.root.parent / "hub" / "admin_token"),
        str(world.run.path / "worker.log"),
        "/proc/self/environ",
    ]
    asked = 0
    for inside, method, path in routes(world.app.routes):
        if not inside or any(name in path for name in ENDLESS):
            continue
        fillings = files if "path" in path else ["x"]
        for filling in fillings:
            where = re.sub(r"\{[^}]+\}", filling, path)
            for person in ("nobody", "ann"):
                try:
                    answer = world.ask(person, method, where, json={} if method == "POST" else None)
                except httpx.TransportError:
                    continue  # it waits for something, or hangs up; either way it says nothing
                search(answer, person, f"{method} {where}")
                asked += 1
    assert asked > 60


def call(world: World, person: str, event: Mapping[str, Any], data: list[Any]) -> httpx.Response:
    """Do as the page does when a button is pressed."""
    session = secrets.token_hex(6)
    body = {"fn_index": event["id"], "data": data, "session_hash": session}
    if not event["queue"]:
        return world.ask(person, "POST", "/gradio_api/run/predict", json=body)
    joined = world.ask(person, "POST", "/gradio_api/queue/join", json=body)
    if joined.status_code != 200:
        return joined
    return world.ask(person, "GET", "/gradio_api/queue/data", params={"session_hash": session})


def inputs_of(world: World, event: Mapping[str, Any], parts: Mapping[int, Any]) -> list[Any]:
    """Fill an event's inputs with what is Ben's wherever something can be named."""
    step, corpus = "step-00000005", str(corpora_of(world.store, "hub/ben") / "text")
    bens = {
        "Run": world.run.run_id, "Runs": [world.run.run_id], "or a sweep": "one-of-ben",
        "Start": f"{world.run.run_id}/{step}", "A corpus you built": corpus,
        "Text to learn from": corpus, "Repository": "ben/model", "Space": "ben/space",
        "Name": "taken", "More steps": 5, "Lesson": "cooldown",
    }  # fmt: skip
    data = []
    for number in event["inputs"]:
        properties = parts[number]["props"]
        label = properties.get("label")
        data.append(bens.get(label, properties.get("value")))
        if parts[number]["type"] == "state":
            data[-1] = None
        if properties.get("elem_id") == "prediction":
            data[-1] = "The decaying rate"
    return data


def test_every_event_has_a_rule_and_shows_and_does_nothing_to_others(world: World) -> None:
    page = world.ask("nobody", "GET", "/config").json()
    parts = {part["id"]: part for part in page["components"]}
    events = [event for event in page["dependencies"] if event["backend_fn"]]
    names = {re.sub(r"^_|_\d+$", "", event["api_name"]) for event in events}
    assert names == set(EVENTS), "give every new event a rule"

    def small_files() -> dict[str, str]:
        return {path.name: path.read_text() for path in world.run.path.glob("*.json")}

    before, others = small_files(), len(world.store.list())
    shown = ""
    for event in events:
        data = inputs_of(world, event, parts)
        for person in FOREIGN:
            search(call(world, person, event, data), person, event["api_name"])
        if EVENTS[re.sub(r"^_|_\d+$", "", event["api_name"])] == "looks":
            answer = call(world, "ben", event, data)
            search(answer, "ben", event["api_name"])
            shown += answer.text
    assert small_files() == before and len(world.store.list()) == others
    # Ben himself sees his own, so the questions were the right ones.
    assert {canary for canary in BENS if canary in shown} >= {"bens-name", "bens-notes"}


def test_an_upload_is_refused_unread_when_too_large_or_without_a_session(world: World) -> None:
    def pieces() -> Iterator[bytes]:
        nonlocal sent
        yield b'--b\r\ncontent-disposition: form-data; name="files"; filename="a.txt"\r\n\r\n'
        while sent < 2 * 2**30:
            sent += 2**20
            yield bytes(2**20)

    def refused(**headers: str) -> bool:
        """Send 2 GiB; tell whether the server said no, or left before all was sent."""
        form = {"content-type": "multipart/form-data; boundary=b", **cookie, **headers}
        request = world.http.build_request("POST", place, headers=form, content=pieces())
        try:
            return world.http.send(request).status_code == 413
        except (httpx.WriteError, httpx.ReadError, httpx.RemoteProtocolError):
            return True

    place, sent = "/gradio_api/upload", 0
    cookie = {"cookie": f"session={cookie_of('ann')['session']}"}
    small = {"files": ("a.txt", b"hello")}
    assert world.http.post(place, files=small).status_code == 401
    assert world.http.post(place, files=small, headers=cookie).status_code == 200
    assert refused(**{"content-length": str(2 * 2**30)})
    assert sent < 100 * 2**20, "it was taken in although it was announced as too large"
    sent = 0
    assert refused()  # in pieces, and its length is not said
    assert sent < 2**30, "it was taken in to its end"


def test_a_name_that_climbs_stays_in_its_folder(world: World) -> None:
    climbing = "../../../escaped.txt"
    cookie = {"cookie": f"session={cookie_of('ann')['session']}"}
    files = {"files": (climbing, b"hello")}
    saved = world.http.post("/gradio_api/upload", files=files, headers=cookie).json()
    assert "escaped" in saved[0] and ".." not in saved[0]
    assert Path(saved[0]).parent.parent.name == "gradio" or "gradio" in saved[0]
    for name in ("../x", "..%2Fx", "a/../../x"):
        answer = world.ask("ben", "GET", f"/api/runs/{name}/log")
        assert answer.status_code in (404, 422), name
