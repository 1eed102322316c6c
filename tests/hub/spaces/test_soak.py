"""A long mixed life: everything at once, for minutes, and nothing left over."""

from __future__ import annotations

import contextlib
import random
import threading
import time

import httpx
import psutil
import pytest

STEPS = 50


def wait_for(true, what: str = "it"):
    deadline = time.monotonic() + 180
    while not (value := true()):
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.1)
    return value


@pytest.mark.prove
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("seed", range(3))
def test_spaces_survive_a_long_mixed_life(start_hub, app: str, proven, seed: int) -> None:
    running = start_hub(space_wake_s=120, space_parked_s=0)  # what is kept is proven elsewhere
    chance = random.Random(20_261_121 + seed)
    answers = 0
    spaces = [running.space() for _ in range(3)]
    hosts = [space.host for space in spaces]
    wrong: list[str] = []
    over = threading.Event()

    def ask(host: str) -> None:
        nonlocal answers
        while not over.is_set():
            try:
                answer = httpx.get(host + "/", timeout=150, trust_env=False)
            except httpx.HTTPError as error:
                wrong.append(repr(error))
                continue
            answers += 1
            # A Space that is paused or crashed says 503; anything else must be its own words.
            if answer.status_code not in (200, 502, 503):
                wrong.append(f"{answer.status_code} {answer.text[:80]}")
            if answer.status_code == 200 and not answer.text.startswith("hello"):
                wrong.append(answer.text[:80])
            time.sleep(0.05)

    askers = [threading.Thread(target=ask, args=(host,)) for host in hosts]
    for asker in askers:
        asker.start()
    try:
        for step in range(STEPS):
            space = chance.choice(spaces)
            deed = chance.choice(["restart", "push", "break", "pause", "crash", "variable", "wait"])
            if deed == "restart":
                space.api.restart_space(space.repo_id)
            elif deed == "push":
                space.push(app=f"# {step}\n" + app)
            elif deed == "break":
                space.push(app=f"raise SystemExit({step % 7})")
            elif deed == "pause":
                space.api.pause_space(space.repo_id)
            elif deed == "crash":
                with contextlib.suppress(httpx.HTTPError):
                    httpx.get(hosts[spaces.index(space)] + "/crash", timeout=1, trust_env=False)
            elif deed == "variable":
                space.api.add_space_variable(space.repo_id, "GREETING", f"hello {step}")
            time.sleep(chance.uniform(0, 0.6))
        for space in spaces:
            space.push(app="# whole again\n" + app)
            space.api.restart_space(space.repo_id)
        for space in spaces:
            head = space.api.space_info(space.repo_id).sha
            wait_for(lambda s=space, h=head: s.runtime.get("sha") == h and s.stage == "RUNNING")
    finally:
        over.set()
        for asker in askers:
            asker.join()
    assert wrong == []
    processes = running.root / "spaces" / "processes"
    wait_for(lambda: len(list(processes.glob("*.json"))) == len(spaces))
    for space in spaces:
        folder = running.root / "spaces" / space.uid
        wait_for(lambda f=folder: len(list(f.iterdir())) == 1, "old folders to go")
    supervised = {
        s.pid for s in running.services.spaces._supervisor.statuses() if s.state == "running"
    }
    ours = [c for c in psutil.Process().children() if c.pid in supervised]
    assert len(ours) == len(spaces)
    proven(
        "proofs-hub",
        f"Spaces over a long mixed life, seed {seed}",
        {
            "acts (restart, push, break, pause, crash, change)": STEPS,
            "answers meanwhile": answers,
            "of them wrong": 0,
            "processes and folders left over": 0,
        },
    )
