from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from triptych.errors import ProcessError
from triptych.processes import Child, Command, Identity, Limits, start
from triptych.processes.child import trim
from triptych.processes.identity import marked

PATIENCE_S = 30.0


def wait_for(condition, what: str = "condition") -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.02)


def python(tmp_path: Path, code: str, **fields) -> Command:
    return Command("child", [sys.executable, "-u", "-c", code], tmp_path / "child.log", **fields)


def test_output_lands_in_the_log_file_and_the_exit_code_is_known(tmp_path: Path) -> None:
    code = "import sys; print('out'); print('err', file=sys.stderr); sys.exit(7)"
    child = start(python(tmp_path, code))
    assert child.wait(PATIENCE_S)
    assert child.exit_code() == 7
    assert sorted((tmp_path / "child.log").read_text().split()) == ["err", "out"]


def test_without_a_log_a_child_writes_to_our_own_output_and_keeps_inherited_files(
    tmp_path: Path, capfd
) -> None:
    reader, writer = os.pipe()
    code = (
        f"import os, sys; os.write({writer}, b'kept'); print('out'); print('err', file=sys.stderr)"
    )
    child = start(Command("child", [sys.executable, "-c", code], None, inherited=[writer]))
    assert child.wait(PATIENCE_S)
    os.close(writer)
    assert os.read(reader, 16) == b"kept"
    os.close(reader)
    assert capfd.readouterr() == ("out\n", "err\n")


def test_a_child_leads_a_group_of_its_own(tmp_path: Path) -> None:
    child = start(python(tmp_path, "import time; time.sleep(60)"))
    try:
        assert os.getpgid(child.pid) == child.pid != os.getpgid(0)
    finally:
        child.stop(grace_s=5)
    assert not child.alive()


def test_stop_lets_a_child_finish_in_its_grace(tmp_path: Path) -> None:
    code = (
        "import signal, sys, time\n"
        "def end(*_): print('saved'); sys.exit(0)\n"
        "signal.signal(signal.SIGTERM, end); print('ready')\n"
        "while True: time.sleep(0.05)"
    )
    child = start(python(tmp_path, code))
    wait_for(lambda: "ready" in (tmp_path / "child.log").read_text())
    child.stop(grace_s=PATIENCE_S)
    assert child.exit_code() == 0
    assert "saved" in (tmp_path / "child.log").read_text()


RUNAWAY = r"""
import os, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
if os.fork() == 0:
    if os.fork() == 0:
        os.setsid()
        os.write(1, b"%d\n" % os.getpid())
        time.sleep(60)
    os._exit(0)
time.sleep(60)
"""


def test_stop_kills_what_ignores_it_and_what_ran_away(tmp_path: Path) -> None:
    child = start(python(tmp_path, RUNAWAY))
    log = tmp_path / "child.log"
    wait_for(lambda: log.read_text().endswith("\n"))
    runaway = Identity.of(int(log.read_text()))
    assert runaway is not None and runaway.alive()
    child.stop(grace_s=0.2)
    assert child.exit_code() == -9
    assert not runaway.alive()


def test_a_frozen_child_stands_still_with_its_descendants_and_can_still_be_stopped(
    tmp_path: Path,
) -> None:
    script = tmp_path / "count.py"
    script.write_text("""
import subprocess, sys, time
if len(sys.argv) < 2:
    subprocess.Popen([sys.executable, __file__, "descendant"], start_new_session=True)
while True:
    print(len(sys.argv), flush=True)
    time.sleep(0.01)
""")
    log = tmp_path / "log"
    child = start(Command("child", [sys.executable, str(script)], log))
    wait_for(lambda: log.exists() and {"1", "2"} <= set(log.read_text().split()))

    child.freeze()
    time.sleep(0.05)
    before = log.stat().st_size
    time.sleep(0.2)
    assert log.stat().st_size == before
    assert child.alive()

    child.thaw()
    wait_for(lambda: log.stat().st_size > before)
    child.freeze()
    child.stop(grace_s=5.0)
    assert not child.alive()
    assert marked(child.mark) == []


def test_a_child_outlives_its_starter_and_is_found_again(tmp_path: Path) -> None:
    code = (
        "import json, sys; from pathlib import Path; from triptych.processes import Command, start;"
        "c = start(Command('w', [sys.executable, '-c', 'import time; time.sleep(60)'],"
        "Path('w.log'))); print(json.dumps(c.to_dict()), flush=True); import os; os._exit(1)"
    )
    out = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, stdout=subprocess.PIPE, check=False
    ).stdout
    child = Child.from_dict(json.loads(out))
    assert child.alive()
    child.stop(grace_s=5)
    assert not child.alive()
    assert child.exit_code() is None


def test_a_missing_program_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ProcessError, match="no-such-program"):
        start(Command("child", ["no-such-program"], tmp_path / "child.log"))


def test_only_the_given_environment_reaches_the_child(tmp_path: Path) -> None:
    code = "import os; print(sorted(k for k in os.environ if not k.startswith('LC_')))"
    child = start(python(tmp_path, code, environment={"ONLY": "this"}))
    assert child.wait(PATIENCE_S)
    assert (tmp_path / "child.log").read_text().strip() == "['ONLY', 'TRIPTYCH_CHILD']"


def test_the_environment_is_not_in_the_repr_of_a_command(tmp_path: Path) -> None:
    assert "hunter2" not in repr(python(tmp_path, "", environment={"PASSWORD": "hunter2"}))


def test_a_memory_wall_stops_sudden_growth(tmp_path: Path) -> None:
    code = "import time; time.sleep(0.3); bytearray(4 * 2**30); print('too late')"
    child = start(python(tmp_path, code, limits=Limits(memory_bytes=256 * 2**20)))
    assert child.wait(PATIENCE_S)
    assert "MemoryError" in (tmp_path / "child.log").read_text()


def test_a_log_that_outgrew_its_limit_keeps_its_newest_lines(tmp_path: Path) -> None:
    log = tmp_path / "long.log"
    log.write_text("".join(f"line {number}\n" for number in range(10_000)))
    trim(log, 10_000)
    lines = log.read_text().splitlines()
    assert lines[0] == "[older lines dropped]"
    assert lines[-1] == "line 9999"
    assert log.stat().st_size < 6_000
