from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from triptych.errors import ProcessError, StorageError
from triptych.processes import Backoff, Command, Identity, Limits, Status, Supervisor

PATIENCE_S = 30.0
SLEEP = "import time; print('ready', flush=True); time.sleep(120)"


def wait_for(condition, what: str = "condition") -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.02)


@pytest.fixture
def heard() -> list[Status]:
    return []


@pytest.fixture
def supervisor(tmp_path: Path, heard: list[Status]) -> Iterator[Supervisor]:
    with Supervisor(tmp_path / "processes", on_change=heard.append) as supervisor:
        yield supervisor


def python(tmp_path: Path, code: str, name: str = "child", **fields) -> Command:
    fields.setdefault("grace_s", 5.0)
    return Command(name, [sys.executable, "-c", code], tmp_path / f"{name}.log", **fields)


def state(supervisor: Supervisor, name: str = "child") -> str:
    status = supervisor.status(name)
    assert status is not None
    return status.state


def test_an_end_is_seen_and_reported(supervisor, heard, tmp_path: Path) -> None:
    supervisor.start(python(tmp_path, "raise SystemExit(3)"))
    wait_for(lambda: state(supervisor) == "exited")
    wait_for(lambda: len(heard) == 2)
    assert [status.state for status in heard] == ["running", "exited"]
    assert heard[-1].exit_code == 3
    assert heard[-1].reason == "exit code 3"
    assert heard[-1].pid is None


def test_a_crash_is_restarted_with_growing_pauses_and_then_left_alone(
    supervisor, heard, tmp_path: Path
) -> None:
    backoff = Backoff(first_s=0.05, factor=4, ceiling_s=10, attempts=3)
    supervisor.start(python(tmp_path, "import os; os.kill(os.getpid(), 9)"), backoff=backoff)
    wait_for(lambda: state(supervisor) == "exited")
    wait_for(lambda: heard[-1].state == "exited")
    states = [status.state for status in heard]
    assert states == ["running", "waiting", "running", "waiting", "running", "exited"]
    first, second = (heard[i + 1].since_s - heard[i].since_s for i in (1, 3))
    assert 0.05 <= first < second
    assert heard[-1].reason == "killed by signal 9; 3 times in a row"
    assert heard[-1].restarts == 2


def test_a_child_that_ran_well_starts_counting_afresh(supervisor, tmp_path: Path) -> None:
    backoff = Backoff(first_s=0.01, attempts=2, healthy_s=0.0)
    supervisor.start(python(tmp_path, ""), backoff=backoff)
    wait_for(lambda: supervisor.status("child").restarts >= 4)


def test_pauses_never_exceed_the_ceiling() -> None:
    backoff = Backoff(first_s=1, factor=2, ceiling_s=8)
    assert [backoff.pause_s(n) for n in range(1, 7)] == [1, 2, 4, 8, 8, 8]


def test_stop_is_final_even_while_waiting_for_a_restart(supervisor, tmp_path: Path) -> None:
    supervisor.start(python(tmp_path, ""), backoff=Backoff(first_s=0.3))
    wait_for(lambda: state(supervisor) == "waiting")
    assert supervisor.stop("child").state == "stopped"
    time.sleep(0.6)
    assert state(supervisor) == "stopped"
    supervisor.forget("child")
    assert supervisor.status("child") is None


def test_a_name_runs_once_and_can_be_used_again(supervisor, tmp_path: Path) -> None:
    supervisor.start(python(tmp_path, SLEEP))
    with pytest.raises(ProcessError, match="runs already"):
        supervisor.start(python(tmp_path, SLEEP))
    supervisor.stop("child")
    assert supervisor.start(python(tmp_path, SLEEP)).state == "running"


def test_too_much_memory_ends_the_whole_family(supervisor, tmp_path: Path) -> None:
    hungry = "import time; block = bytearray(48 * 2**20); time.sleep(60)"
    code = (
        f"import subprocess, sys; [subprocess.Popen([sys.executable, '-c', {hungry!r}])"
        " for _ in range(3)]; import time; time.sleep(60)"
    )
    supervisor.start(python(tmp_path, code, limits=Limits(memory_bytes=128 * 2**20)))
    wait_for(lambda: state(supervisor) == "exited")
    assert "128 MiB are allowed" in supervisor.status("child").reason


def test_too_many_processes_end_the_whole_family(supervisor, tmp_path: Path) -> None:
    code = "import os, time; [os.fork() for _ in range(4)]; time.sleep(60)"
    supervisor.start(python(tmp_path, code, limits=Limits(processes=6)))
    wait_for(lambda: state(supervisor) == "exited")
    assert "processes, 6 are allowed" in supervisor.status("child").reason


def test_a_chatty_child_does_not_fill_the_disk(supervisor, tmp_path: Path) -> None:
    code = "import time\nwhile True: print('x' * 999, flush=True); time.sleep(0.001)"
    supervisor.start(python(tmp_path, code, limits=Limits(log_bytes=100_000)))
    log = tmp_path / "child.log"
    wait_for(lambda: log.exists() and b"[older lines dropped]" in log.read_bytes())
    assert state(supervisor) == "running"


def test_close_ends_everything_and_frees_the_folder(tmp_path: Path) -> None:
    with Supervisor(tmp_path / "p") as supervisor:
        pids = [supervisor.start(python(tmp_path, SLEEP, name)).pid for name in ("a/b", "c", "d")]
        identities = [Identity.of(pid) for pid in pids]
        with pytest.raises(StorageError, match="in use"):
            Supervisor(tmp_path / "p")
    assert not any(identity.alive() for identity in identities)
    assert not list((tmp_path / "p").glob("*.json"))
    with Supervisor(tmp_path / "p") as successor:
        assert successor.reaped == []


HOST = """
import sys, time
from pathlib import Path
from triptych.processes import Command, Supervisor
supervisor = Supervisor(Path("processes"))
ignore = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
away = "import os; os.fork() and os._exit(0); os.setsid();"
for name, prefix in (("plain", ""), ("org/stubborn", ignore), ("runaway", away)):
    code = prefix + "import time; time.sleep(120)"
    supervisor.start(Command(name, [sys.executable, "-c", code], Path(name + ".log")))
print("ready", flush=True)
time.sleep(120)
"""


def test_orphans_of_a_killed_supervisor_are_reaped_at_the_next_start(tmp_path: Path) -> None:
    host = subprocess.Popen([sys.executable, "-c", HOST], cwd=tmp_path, stdout=subprocess.PIPE)
    assert host.stdout is not None and host.stdout.readline() == b"ready\n"
    records = [json.loads(path.read_text()) for path in (tmp_path / "processes").glob("*.json")]
    os.kill(host.pid, signal.SIGKILL)
    host.communicate()
    orphans = [Identity.from_dict(record) for record in records if "pid" in record]
    assert sum(orphan.alive() for orphan in orphans) >= 2
    with Supervisor(tmp_path / "processes") as successor:
        assert {"plain", "org/stubborn"} <= set(successor.reaped)
        assert not any(orphan.alive() for orphan in orphans)


def test_a_stranger_with_a_recycled_pid_is_spared(tmp_path: Path) -> None:
    folder = tmp_path / "processes"
    folder.mkdir()
    stranger = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        record = {
            "format_version": 1,
            "name": "old",
            "pid": stranger.pid,
            "started": "another-boot:1",
            "mark": "0" * 32,
        }
        (folder / "old.json").write_text(json.dumps(record))
        with Supervisor(folder) as supervisor:
            assert supervisor.reaped == []
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_a_child_whose_record_was_never_finished_is_found_by_its_mark(tmp_path: Path) -> None:
    folder = tmp_path / "processes"
    folder.mkdir()
    orphan = subprocess.Popen(
        [sys.executable, "-c", "import time; time.sleep(60)"],
        env={**os.environ, "TRIPTYCH_CHILD": "half-written"},
    )
    record = {"format_version": 1, "name": "new", "mark": "half-written"}
    (folder / "new.json").write_text(json.dumps(record))
    with Supervisor(folder) as supervisor:
        assert supervisor.reaped == ["new"]
    assert orphan.wait(5) != 0


def test_two_who_stop_the_same_child_both_wait_for_its_end(supervisor, tmp_path: Path) -> None:
    stubborn = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); " + SLEEP
    started = supervisor.start(python(tmp_path, stubborn, grace_s=0.5))
    wait_for(lambda: "ready" in (tmp_path / "child.log").read_text())
    identity = Identity.of(started.pid)
    alive: list[bool] = []

    def stop() -> None:
        supervisor.stop("child")
        alive.append(identity.alive())

    stoppers = [threading.Thread(target=stop) for _ in range(3)]
    for stopper in stoppers:
        stopper.start()
    for stopper in stoppers:
        stopper.join()
    assert alive == [False] * 3


def test_the_pause_before_a_restart_stays_at_its_ceiling_however_often_it_ended() -> None:
    backoff = Backoff(first_s=0.1, ceiling_s=10.0)
    assert [backoff.pause_s(n) for n in (1, 2, 3)] == [0.1, 0.2, 0.4]
    assert backoff.pause_s(10_000) == 10.0
