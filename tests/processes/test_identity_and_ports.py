from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time

import pytest

from triptych.errors import ProcessError
from triptych.processes import Identity, bind, free_port
from triptych.processes.identity import MARK, family, glance, marked, memory_bytes


def test_identity_survives_being_written_down() -> None:
    mine = Identity.of(os.getpid())
    assert mine is not None and mine.alive()
    assert Identity.from_dict(mine.to_dict()) == mine


def test_a_recycled_pid_is_never_taken_for_the_old_process() -> None:
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        real = Identity.of(child.pid)
        assert real is not None
        stranger = Identity(child.pid, real.started + "0")
        assert not stranger.alive()
        assert not stranger.signal(signal.SIGKILL)
        assert not stranger.signal_group(signal.SIGKILL)
        assert child.poll() is None
        assert real.signal(signal.SIGKILL)
    finally:
        child.kill()
        child.wait()
    assert not real.alive()
    assert not real.signal(signal.SIGKILL)


def test_a_process_awaiting_burial_is_not_alive() -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    identity = Identity.of(child.pid)
    assert identity is not None
    deadline = time.monotonic() + 20
    while identity.alive():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    child.wait()


def test_family_and_mark_find_descendants_and_memory_is_measured() -> None:
    script = (
        "import subprocess, sys;"
        "p = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'],"
        " start_new_session=True);"
        "block = bytearray(64 * 2**20); print('ready', flush=True); p.wait()"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", script],
        env={**os.environ, MARK: "family-test"},
        stdout=subprocess.PIPE,
    )
    try:
        assert child.stdout is not None and child.stdout.readline() == b"ready\n"
        identity = Identity.of(child.pid)
        assert identity is not None
        members = family(identity)
        assert len(members) == 2
        assert set(glance(identity)) == set(members)
        assert set(marked("family-test")) == set(members)
        assert 64 * 2**20 <= memory_bytes(identity) < 256 * 2**20
    finally:
        for member in marked("family-test"):
            member.signal(signal.SIGKILL)
        child.communicate()
    assert family(identity) == glance(identity) == []


def test_a_taken_port_is_refused_with_the_next_step() -> None:
    with bind("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ProcessError, match="is taken") as refusal:
            bind("127.0.0.1", port)
        assert refusal.value.code == "port_taken"
        assert f"--port {port + 1}" in refusal.value.hint


def test_a_movable_port_goes_to_the_next_free_one() -> None:
    with bind("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        with bind("127.0.0.1", port, move=True) as moved:
            assert moved.getsockname()[1] > port


def test_a_bound_port_answers_at_once() -> None:
    with bind("127.0.0.1", 0) as listener:
        socket.create_connection(listener.getsockname(), timeout=5).close()


def test_a_free_port_can_be_opened() -> None:
    with bind("127.0.0.1", free_port()):
        pass


def test_a_foreign_address_is_refused() -> None:
    with pytest.raises(ProcessError, match="cannot listen"):
        bind("192.0.2.1", 0)
