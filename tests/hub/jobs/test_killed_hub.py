"""What becomes of jobs when their hub is killed."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import httpx
from huggingface_hub import HfApi

from triptych.processes import Identity


def start(root: Path) -> tuple[subprocess.Popen[str], HfApi]:
    process = subprocess.Popen(
        [sys.executable, "-m", "triptych", "hub", "serve", "--port", "0", "--root", str(root)],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        env={**os.environ, "TRIPTYCH_HUB__SPACE_PORT": "0", "TRIPTYCH_HUB__JOB_SLOTS": "1"},
    )  # fmt: skip
    assert process.stdout is not None
    url = process.stdout.readline().removeprefix("hub: ").strip()
    deadline = time.monotonic() + 60
    while True:
        try:
            httpx.get(url + "/api/jobs/hardware", trust_env=False, timeout=60)
            break
        except httpx.HTTPError:
            assert time.monotonic() < deadline
            time.sleep(0.05)
    return process, HfApi(endpoint=url, token=(root / "admin_token").read_text().strip())


def until(api: HfApi, job_id: str, *stages: str):
    deadline = time.monotonic() + 60
    while (job := api.inspect_job(job_id=job_id)).status.stage not in stages:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return job


def test_what_ran_has_failed_what_waited_runs_and_nothing_is_left(tmp_path: Path) -> None:
    import json

    root = tmp_path / "hub"
    process, api = start(root)
    try:
        long = api.run_job(image="local", command=["sleep", "600"])
        until(api, long.id, "RUNNING")
        records = root / "jobs" / "processes"
        deadline = time.monotonic() + 60
        while not (found := [r for p in records.glob("*.json")
                             if "pid" in (r := json.loads(p.read_text()))]):  # fmt: skip
            assert time.monotonic() < deadline
            time.sleep(0.02)
        orphan = Identity.from_dict(found[0])
        waiting = api.run_job(image="local", command=["echo", "at last"])
        process.kill()
        process.communicate()
        assert orphan.alive()
        process, api = start(root)
        assert not orphan.alive()
        ended = until(api, long.id, "ERROR")
        assert ended.status.message == "the hub stopped while this job ran"
        until(api, waiting.id, "COMPLETED")
        assert "at last\n" in list(api.fetch_job_logs(job_id=waiting.id))
    finally:
        process.terminate()
        process.communicate(timeout=60)
