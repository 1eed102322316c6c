"""What goes wrong around a run has a defined end, and none of them costs the run."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from triptych.config import load_config
from triptych.config.runs import RunsConfig
from triptych.errors import RunError
from triptych.lm.data.build import build_corpus
from triptych.lm.runs import control
from triptych.lm.runs.store import Run, RunStore, write_worker
from triptych.lm.runs.supervisor import RunSupervisor, is_stalled
from triptych.lm.runs.worker import work
from triptych.lm.train.folder import RunFolder

from .storm import kept, said

QUIET = RunsConfig(resume_interrupted=False, grace_s=20.0)
SOME = ("train.checkpoint_every=25",)


def drive(supervisor: RunSupervisor, true: Callable[[], object], seconds: float = 90.0) -> None:
    deadline = time.monotonic() + seconds
    while supervisor.tick() is None or not true():
        assert time.monotonic() < deadline, [(r.state, r.message) for r in supervisor.store.list()]
        time.sleep(0.05)


def test_a_second_worker_is_refused_a_still_one_noticed_and_lost_text_waited_for(
    store: RunStore, request_for, calm: Callable[..., Run], corpus: Path, tmp_path: Path
) -> None:
    expected, text = calm(600, *SOME), tmp_path / "corpus"
    shutil.copytree(corpus, text)
    run_id = store.create(request_for(600, *SOME, f"train.data={text}")).run_id
    with RunSupervisor(store, QUIET) as supervisor:
        drive(supervisor, lambda: store.get(run_id).step > 20)
        run = store.get(run_id)
        assert run.child is not None
        os.kill(run.child.pid, signal.SIGSTOP)
        assert work(run.path, Path) == 1, "somebody else is at it"
        time.sleep(0.3)
        assert store.get(run_id).state == "running", "and the record says nothing of it"
        assert is_stalled(store.get(run_id), 0.2) and not is_stalled(store.get(run_id), 60.0)
        os.kill(run.child.pid, signal.SIGCONT)

        control.pause(store, run_id)
        text.rename(tmp_path / "elsewhere")
        drive(supervisor, lambda: store.get(run_id).state == "paused")
    assert work(run.path, Path) == 1
    assert store.get(run_id).state == "paused"
    assert str(text) in store.get(run_id).message, "it says what is missing, and rests"
    (tmp_path / "elsewhere").rename(text)
    assert work(run.path, Path) == 0
    assert store.get(run_id).state == "succeeded"
    assert said(store.get(run_id)) == said(expected)
    assert kept(store.get(run_id)) == kept(expected)


FULL_DISK = """
import json, sys, time
from pathlib import Path
from triptych.config.runs import RunsConfig
from triptych.errors import StorageError
from triptych.lm.runs import control
from triptych.lm.runs.states import LIVE
from triptych.lm.runs.store import Request, RunStore
from triptych.lm.runs.supervisor import RunSupervisor

store = RunStore(Path(sys.argv[1]))
run_id = store.create(Request(config=json.loads(sys.argv[2]))).run_id

def drive(supervisor, true):
    until = time.monotonic() + 90
    while supervisor.tick() is None or not true(store.get(run_id)):
        assert time.monotonic() < until, store.get(run_id)
        time.sleep(0.05)

with RunSupervisor(store, RunsConfig(resume_interrupted=False)) as supervisor:
    drive(supervisor, lambda run: run.step > 20)
    ballast = (store.root / "ballast").open("wb", buffering=0)
    try:
        while True:
            ballast.write(bytes(4096))
    except OSError:
        pass
    drive(supervisor, lambda run: run.state not in LIVE)
    full = store.get(run_id)
    try:
        control.resume(store, run_id)
        refused = ""
    except StorageError as error:
        refused = error.code
    ballast.truncate(0)
    control.resume(store, run_id)
    drive(supervisor, lambda run: run.state == "succeeded")
    print(json.dumps({"state": full.state, "refused": refused, "path": str(full.path)}))
    for name in ("events.jsonl", "run.json", "config.json"):
        (Path(sys.argv[3]) / name).write_bytes((full.path / name).read_bytes())
    import shutil
    shutil.copytree(full.path / "checkpoints", Path(sys.argv[3]) / "checkpoints")
"""


def test_a_disk_that_a_reader_of_the_run_finds_full_rests_it(store: RunStore, request_for) -> None:
    run = store.create(request_for(40, "train.checkpoint_every=10"))

    def readers(trainer: object) -> list[Callable[[object], None]]:
        def hear(event: object) -> None:
            if getattr(event, "step", 0) == 15:
                with Path("/dev/full").open("w") as full:
                    print(event, file=full)

        return [hear]

    assert work(run.path, Path, readers) == 1
    record = RunFolder(run.path).read_record()
    assert record["state"] == "stopped" and "No space left" in record["state_message"]
    assert work(run.path, Path) == 0 and store.get(run.run_id).state == "succeeded"


def test_a_full_disk_rests_the_run_and_space_lets_it_go_on(
    request_for, calm: Callable[..., Run], tmp_path: Path
) -> None:
    # A disk of its own, in a namespace of its own: nobody needs to be root for it.
    private = ["unshare", "--map-root-user", "--mount"]
    if subprocess.run([*private, "true"], capture_output=True, check=False).returncode:
        if os.environ.get("CI"):
            pytest.fail("CI must let us mount a disk of our own")
        pytest.skip("this machine lets nobody mount a disk of their own")
    disk, home = tmp_path / "disk", RunStore(tmp_path / "home")
    disk.mkdir()
    expected = calm(600, *SOME)
    arrived = home.create(request_for(600, *SOME))
    mounted = f'mount -t tmpfs -o size=48m none "{disk}" && exec "$@"'
    script = [sys.executable, "-c", FULL_DISK, str(disk), json.dumps(arrived.request["config"])]
    done = subprocess.run(
        [*private, "sh", "-c", mounted, "sh", *script, str(arrived.path)],
        capture_output=True, text=True, timeout=200, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    told = json.loads(done.stdout)
    assert told["state"] in ("paused", "interrupted"), "it can go on where it was"
    assert told["refused"] == "disk_full"
    assert said(home.get(arrived.run_id)) == said(expected)
    assert kept(home.get(arrived.run_id)) == kept(expected)


def test_a_clock_that_is_set_neither_deletes_runs_nor_shortens_the_grace(
    store: RunStore, request_for
) -> None:
    stubborn = textwrap.dedent(
        """
        import signal, time
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        print("deaf", flush=True)
        time.sleep(600)
        """
    )
    old = store.create(request_for(5))
    control.cancel(store, old.run_id)
    run_id = store.create(request_for(5)).run_id
    offset_s = 0.0
    config = RunsConfig(resume_interrupted=False, grace_s=1.0, expire_days=1)
    with RunSupervisor(
        store,
        config,
        launchers={"local": lambda run, device: [sys.executable, "-c", stubborn]},
        clock=lambda: time.time() + offset_s,
    ) as supervisor:
        log = store.get(run_id).path / "worker.log"
        drive(supervisor, lambda: log.exists() and "deaf" in log.read_text())
        control.pause(store, run_id)
        supervisor.tick()
        offset_s = 40 * 86400.0
        supervisor.tick()
        assert store.get(run_id).state == "stopping", "its grace is a second, whatever the clock"
        assert store.get(old.run_id).state == "cancelled", "nothing is old by a jump"
        offset_s = -40 * 86400.0
        drive(supervisor, lambda: store.get(run_id).state == "paused", seconds=30)
    offset_s = 0.0
    with RunSupervisor(store, config, clock=lambda: time.time() + 2 * 86400) as supervisor:
        supervisor.tick()
        assert [run.run_id for run in store.list()] == [run_id], "what is old, by a steady clock"


def test_a_diverging_run_fails_in_words_and_can_be_branched(store: RunStore, request_for) -> None:
    # Weights that are multiplied by -9,800 at every step leave what a float can hold.
    wild = ("train.optimizer=adamw", "train.learning_rate=99", "train.weight_decay=99")
    run = store.create(request_for(100, *wild, "train.warmup_steps=0"))
    write_worker(run.path, {"ticket": 1})
    assert work(run.path, Path) == 1
    failed = store.get(run.run_id)
    assert failed.state == "failed"
    assert "not finite at step" in failed.message and "learning rate" in failed.message
    with pytest.raises(RunError, match="failed; it cannot be resumed"):
        control.resume(store, run.run_id)
    assert failed.newest_checkpoint, "what came before is kept"
    branched = control.branch(store, run.run_id, ["train.learning_rate=0.001"])
    assert store.get(branched.run_id).state == "queued"


def test_ten_words_are_too_few_to_learn_from_and_the_run_says_so(
    store: RunStore, request_for, tmp_path: Path
) -> None:
    text = tmp_path / "words.txt"
    text.write_text("one two three four five six seven eight nine ten")
    build_corpus([str(text)], tmp_path / "data", load_config(None, ["data.vocab_size=300"]).data)
    run = store.create(request_for(5, f"train.data={tmp_path / 'data'}"))
    write_worker(run.path, {"ticket": 1})
    assert work(run.path, Path) != 0
    assert store.get(run.run_id).state == "failed"
    assert "less than one batch" in store.get(run.run_id).message


@pytest.mark.parametrize("name", ["../../escape", "/etc/passwd", "..", "a\0b", "\u202e", "x" * 500])
def test_a_name_names_and_never_leads_anywhere(store: RunStore, request_for, name: str) -> None:
    run = store.create(request_for(5, name=name))
    assert run.path.parent == store.root
    assert run.name == name
    assert [path.name for path in store.root.parent.iterdir()] == [store.root.name]
