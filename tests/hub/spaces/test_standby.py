"""The way back to the version before: kept frozen, within bounds, and never in the way."""

from __future__ import annotations

import dataclasses
import signal
import time

import httpx
import psutil
import pytest

from triptych.hub.server.spaces import standby
from triptych.processes.identity import marked

README = "---\ntitle: A test\nsdk: gradio\n---\n"


def wait_for(true, what: str = "it"):
    deadline = time.monotonic() + 90
    while not (value := true()):
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.05)
    return value


def greet(space, greeting: str) -> str:
    """Set the variable, wait until the app says it, and return what marks its start."""
    space.api.add_space_variable(space.repo_id, "GREETING", greeting)
    wait_for(lambda: space.get("/").text == greeting, greeting)
    return space.start_mark()


def frozen(mark: str) -> bool:
    processes = [psutil.Process(one.pid) for one in marked(mark)]
    return bool(processes) and all(p.status() == psutil.STATUS_STOPPED for p in processes)


@pytest.fixture(autouse=True)
def drain_soon(monkeypatch) -> None:
    monkeypatch.setattr(standby, "DRAIN_S", 1.0)


@pytest.fixture
def settings(running, monkeypatch):
    """Change the hub's settings for the time of a test."""

    def change(**fields) -> None:
        config = dataclasses.replace(running.hub.config, **fields)
        monkeypatch.setattr(running.hub, "config", config)

    return change


def test_going_back_takes_up_the_process_that_was_left(running) -> None:
    space = running.space()
    first = greet(space, "one")
    second = greet(space, "two")
    wait_for(lambda: frozen(first), "the first version to stand still")

    assert greet(space, "one") == first
    assert space.runtime["stage"] == "RUNNING"
    wait_for(lambda: frozen(second), "the second version to stand still")
    assert greet(space, "two") == second
    assert greet(space, "two") == second  # nothing changed, so nothing starts
    assert "Serves again" in "".join(space.api.fetch_space_logs(space.repo_id))

    third = greet(space, "three")
    wait_for(lambda: not marked(first), "the oldest version to end")
    space.api.restart_space(space.repo_id)
    wait_for(lambda: space.start_mark() not in (second, third), "a new process")
    wait_for(lambda: not marked(third), "what was restarted to end")
    assert marked(second), "what served before is still there for a way back"
    space.api.pause_space(space.repo_id)
    assert not marked(second) and not marked(third)


def test_an_earlier_tree_is_taken_up_under_its_new_commit(running, app) -> None:
    space = running.space(app)
    first = space.start_mark()
    space.push(app=app.replace('"hello"', '"changed"'))
    wait_for(lambda: space.get("/").text == "changed")

    sha = space.push(app=app)
    wait_for(lambda: space.runtime.get("sha") == sha, "the commit that goes back")
    assert space.start_mark() == first
    assert space.get("/").text == "hello"


def test_a_version_that_died_meanwhile_is_started_anew(running) -> None:
    space = running.space()
    first = greet(space, "one")
    second = greet(space, "two")
    wait_for(lambda: frozen(first))
    for one in marked(first):
        one.signal(signal.SIGKILL)

    again = greet(space, "one")
    assert again not in (first, second)
    assert not marked(first)


def test_what_a_withdrawn_secret_was_given_to_ends(running) -> None:
    space = running.space(space_secrets=[{"key": "API_KEY", "value": "leaked"}])
    first = greet(space, "one")
    greet(space, "two")
    wait_for(lambda: frozen(first))
    space.api.delete_space_secret(space.repo_id, "API_KEY")
    assert not marked(first)
    wait_for(lambda: "API_KEY" not in space.seen()["environment"])


def test_what_is_kept_has_a_bounded_time_and_memory(running, settings) -> None:
    space = running.space()
    settings(space_parked_s=1)
    first = greet(space, "one")
    second = greet(space, "two")
    wait_for(lambda: not marked(first), "its time to be over")

    settings(space_parked_bytes=2**20)
    third = greet(space, "three")
    wait_for(lambda: not marked(second), "it to be too large")

    settings(space_parked_s=0)
    greet(space, "four")
    wait_for(lambda: not marked(third), "it to end at once")


def test_a_stream_from_the_version_before_is_broken_off_not_left_hanging(running) -> None:
    space = running.space()
    address = space.host + "/stream?count=100000"
    with httpx.stream("GET", address, timeout=120, trust_env=False) as answer:
        lines = answer.iter_lines()
        assert next(lines) == "data: 0"
        greet(space, "another")
        with pytest.raises(httpx.RemoteProtocolError):
            list(lines)
