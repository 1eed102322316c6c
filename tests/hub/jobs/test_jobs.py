"""Jobs as huggingface_hub and `hf jobs` ask for them, run as real processes."""

from __future__ import annotations

import subprocess
import sys

import pytest
from huggingface_hub import CommitOperationAdd, JobInfo, Volume
from huggingface_hub.errors import HfHubHTTPError

from triptych.errors import HubRefused
from triptych.hub.server.jobs.specification import read_specification

MINOR = f"python:{sys.version_info[0]}.{sys.version_info[1]}"


def test_a_job_runs_its_command_and_keeps_its_log(running) -> None:
    job = running.python(
        "import os; print(os.environ['WORD'], os.environ['JOB_ID'], os.environ['KEY'][::-1])",
        env={"WORD": "hello"}, secrets={"KEY": "terces"}, labels={"team": "tests"},
    )  # fmt: skip
    done = running.until(job)
    assert done.status.stage == "COMPLETED"
    assert "".join(running.logs(job)).strip() == f"hello {job.id} secret"
    assert done.created_at <= done.started_at <= done.finished_at
    assert done.durations.running_secs is not None
    assert done.owner.name == "admin" and done.initiator.name == "admin"
    assert done.labels["team"] == "tests"
    assert done.secrets == {"KEY": "***"} and done.environment == {"WORD": "hello"}
    assert not (running.root / "jobs" / job.id / "work").exists()


def test_secrets_of_jobs_are_sealed_on_disk(running) -> None:
    running.until(running.python("pass", secrets={"KEY": "very-plain-secret"}))
    # In another process: closing the files in this one would let go of SQLite's locks on them.
    files = list(running.root.glob("hub.db*"))
    stored = subprocess.run(["cat", *files], capture_output=True, check=True).stdout
    assert b"very-plain-secret" not in stored


def test_a_failing_job_says_how_it_failed(running) -> None:
    done = running.until(running.python("print('last words'); raise SystemExit(9)"))
    assert done.status.stage == "ERROR"
    assert done.status.message == "Job failed: exit code 9"
    assert running.logs(done) == ["last words\n"]


def test_a_fault_of_the_hub_ends_the_job_and_frees_its_place(running, monkeypatch) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("of all things")

    with monkeypatch.context() as patched:
        patched.setattr(running.services.jobs, "_command", broken)
        for _ in range(running.hub.config.job_slots + 1):
            done = running.until(running.python("pass"))
            assert done.status.stage == "ERROR"
            assert "the hub failed: ZeroDivisionError" in done.status.message
    assert running.until(running.python("pass")).status.stage == "COMPLETED"


def test_a_job_is_tried_again_as_often_as_asked(running) -> None:
    done = running.until(running.python("print('try'); raise SystemExit(1)", attempts=2))
    assert done.status.stage == "ERROR" and "2 times in a row" in done.status.message
    assert done.retry == 1
    assert running.logs(done).count("try\n") == 2


def test_a_job_that_takes_too_long_is_ended(running) -> None:
    done = running.until(running.python("import time; time.sleep(600)", timeout=1))
    assert done.status.stage == "ERROR" and "timeout" in done.status.message.lower()


def test_logs_stream_while_the_job_runs_and_end_with_it(running) -> None:
    job = running.python(
        "import time\nfor i in range(3): print('line', i, flush=True); time.sleep(0.3)"
    )
    lines = [line.strip() for line in running.logs(job, follow=True)]
    assert [line for line in lines if line] == ["line 0", "line 1", "line 2"]
    assert running.logs(job, tail=1) == ["line 2\n"]


def test_a_job_can_be_cancelled_while_it_runs_and_while_it_waits(running, wait_for) -> None:
    busy = [running.python("import time; time.sleep(600)") for _ in range(2)]
    for job in busy:
        running.until(job, "RUNNING")
    waiting = running.python("print('never')")
    assert running.stage(waiting) == "SCHEDULING"
    for job in (waiting, *busy):
        running.api().cancel_job(job_id=job.id)
        assert running.stage(job) == "CANCELED"
    assert running.logs(waiting) == []
    assert running.services.jobs.supervisor.statuses() == []
    running.api().cancel_job(job_id=busy[0].id)


def test_metrics_measure_the_job(running) -> None:
    job = running.python("block = bytearray(64 * 2**20)\nwhile True: pass")
    running.until(job, "RUNNING")
    try:
        for measured in running.api().fetch_job_metrics(job_id=job.id, follow=True):
            if measured["memory_used_bytes"] > 64 * 2**20 and measured["cpu_usage_pct"] > 5:
                break
        assert measured["memory_used_bytes"] < 2**30
    finally:
        running.api().cancel_job(job_id=job.id)
    assert list(running.api().fetch_job_metrics(job_id=job.id)) == []


def test_jobs_are_listed_by_stage_and_label_newest_first(running) -> None:
    name, token = running.user()
    api = running.api(token)
    jobs: list[JobInfo] = []
    for number in range(3):
        jobs.append(api.run_job(image="local", command=["true"], labels={"n": str(number % 2)}))
        api.wait_for_job(jobs[-1].id, timeout=60, poll_interval=0.05)
    assert [job.id for job in api.list_jobs(namespace=name)] == [job.id for job in reversed(jobs)]
    assert [job.id for job in api.list_jobs(namespace=name, labels={"n": "1"})] == [jobs[1].id]
    assert list(api.list_jobs(namespace=name, status="RUNNING")) == []
    changed = api.update_job_labels(job_id=jobs[0].id, labels={"n": "7"})
    assert changed.labels == {"n": "7"}


def test_a_long_list_comes_in_pages(running, monkeypatch) -> None:
    monkeypatch.setattr("triptych.hub.server.http.jobs.PAGE", 2)
    name, token = running.user()
    api = running.api(token)
    ids = [api.run_job(image="local", command=["true"]).id for _ in range(5)]
    assert [job.id for job in api.list_jobs(namespace=name)] == ids[::-1]


def test_rerun_repeats_a_job_with_its_secrets(running) -> None:
    first = running.until(running.python("import os; print(os.environ['K'])", secrets={"K": "v"}))
    again = running.api().rerun_job(job_id=first.id)
    assert again.id != first.id
    running.until(again)
    assert running.logs(again) == ["v\n"]


def test_a_job_runs_on_the_tree_of_a_space(running) -> None:
    api = running.api()
    api.create_repo("admin/tools", repo_type="space", space_sdk="static", private=True)
    files = {
        "README.md": b"---\nsdk: static\n---\n",
        "index.html": b"",
        "train.py": b"import sys; print('trained', sys.argv[1])",
    }
    operations = [CommitOperationAdd(path, content) for path, content in files.items()]
    api.create_commit("admin/tools", operations, commit_message="tools", repo_type="space")
    job = api.run_job(image="hf.co/spaces/admin/tools", command=["python", "train.py", "well"])
    running.until(job)
    assert "trained well\n" in running.logs(job)
    _, stranger = running.user()
    with pytest.raises(HfHubHTTPError, match="404"):
        running.api(stranger).run_job(image="hf.co/spaces/admin/tools", command=["true"])


def test_only_who_may_write_runs_jobs_and_only_members_see_them(running) -> None:
    name, token = running.user()
    mine = running.api(token).run_job(image="local", command=["true"])
    _, other = running.user()
    reader = running.user("read")
    for attempt in (
        lambda: running.api(other).run_job(image="local", command=["true"], namespace=name),
        lambda: running.api(reader[1]).run_job(image="local", command=["true"]),
        lambda: running.api(other).inspect_job(job_id=mine.id, namespace=name),
        lambda: list(running.api(other).list_jobs(namespace=name)),
        lambda: running.api(other).cancel_job(job_id=mine.id, namespace=name),
        lambda: list(running.api(other).fetch_job_logs(job_id=mine.id, namespace=name)),
        lambda: running.api(other).run_job(image="local", command=["true"], namespace="nobody"),
    ):
        with pytest.raises(HfHubHTTPError, match="403"):
            attempt()
    with pytest.raises(HfHubHTTPError, match="404"):
        running.api().inspect_job(job_id="0" * 24)
    assert list(running.api(reader[1]).list_jobs(namespace=reader[0])) == []


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        ({"image": "ubuntu:24.04"}, "container images"),
        ({"image": "python:2.7"}, "container images"),
        ({"volumes": [Volume(type="bucket", source="a/b", mount_path="/d")]}, "no buckets"),
        ({"expose": [8000]}, "does not expose"),
        ({"ssh": True}, "SSH"),
    ],
)
def test_what_this_hub_does_not_do_is_refused_with_a_reason(running, asked, why: str) -> None:
    with pytest.raises(HfHubHTTPError, match="501") as refusal:
        running.api().run_job(**{"image": MINOR, "command": ["true"], **asked})
    assert why in str(refusal.value)


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"command": "true"},
        {"command": ["a\0b"]},
        {"command": ["true"], "timeoutSeconds": 0},
        {"command": ["true"], "timeoutSeconds": True},
        {"command": ["true"], "attempts": 99},
        {"command": ["true"], "environment": {"A=B": "x"}},
        {"command": ["true"], "environment": ["x"]},
        {"command": ["true"], "labels": {"a b": "c"}},
        {"command": ["true"], "flavor": "../x"},
        {"command": ["x" * 200_000]},
    ],
)
def test_what_makes_no_sense_is_refused(body) -> None:
    with pytest.raises(HubRefused) as refusal:
        read_specification({"dockerImage": "local", **body})
    assert refusal.value.status == 400


def test_the_command_line_runs_lists_shows_and_cancels(running, wait_for) -> None:
    done = running.hf("jobs", "run", MINOR, "python", "-c", "print('from the command line')")
    assert done.returncode == 0, done.stderr
    assert "from the command line" in done.stdout
    failed = running.hf("jobs", "run", MINOR, "python", "-c", "raise SystemExit(5)")
    assert failed.returncode != 0 and "exit code 5" in failed.stderr
    started = running.hf("jobs", "run", "--detach", MINOR, "python", "-c", "import time;"
                         "print('up', flush=True); time.sleep(600)")  # fmt: skip
    assert started.returncode == 0, started.stderr
    job = next(iter(running.api().list_jobs(namespace="admin")))
    running.until(job, "RUNNING")
    assert job.id in running.hf("jobs", "ps", "--format", "json").stdout
    wait_for(lambda: "up" in running.hf("jobs", "logs", job.id).stdout)
    assert running.hf("jobs", "cancel", job.id).returncode == 0
    assert running.stage(job) == "CANCELED"
    assert "cpu-basic" in running.hf("jobs", "hardware").stdout


def test_a_job_reaches_neither_the_hubs_files_nor_its_variables(running, monkeypatch) -> None:
    monkeypatch.setenv("HUB_ADMINS_OWN_SECRET", "do-not-pass-on")
    job = running.python(
        f"import os; print(sorted(os.environ)); print(os.path.exists({str(running.root)!r}))"
    )
    running.until(job)
    log = "".join(running.logs(job))
    assert "HUB_ADMINS_OWN_SECRET" not in log
    assert log.strip().endswith("False")
