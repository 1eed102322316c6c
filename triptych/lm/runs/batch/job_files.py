"""The file of a job: a batch script for SLURM or ssh, and a task file for SkyPilot."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import Any

from triptych.config import environment
from triptych.config.runs import RunsConfig
from triptych.errors import RunError

#: Seconds before a job's time limit at which it saves; more than a step and a checkpoint take.
_NOTICE_S = 120


def batch_script(run: Path, config: RunsConfig) -> str:
    """Return the script that trains a run from where it is, and once more after each requeue.

    SLURM sends SIGTERM before the time limit and the controller sends it for a pause; either way
    the worker finishes its step and saves. Only where the run shall go on is the job requeued.
    """
    folder = shlex.quote(str(run))
    options = [
        f"--job-name=triptych-{run.name}", "--requeue", "--open-mode=append",
        f"--output={run / 'worker.log'}", f"--signal=B:TERM@{_NOTICE_S}", *config.slurm_options,
    ]  # fmt: skip
    return "\n".join(
        [
            "#!/bin/bash",
            *(f"#SBATCH {option}" for option in options),
            "# Written by `triptych runs`; it resumes exactly, so it may be submitted again.",
            f"export TRIPTYCH_HOME={shlex.quote(str(environment.home()))}",
            *([config.batch_setup] if config.batch_setup else []),
            "ended=0",
            """trap 'ended=1; kill -TERM "$worker" 2>/dev/null' TERM""",
            f"{_training(folder, config)} &",
            "worker=$!",
            'wait "$worker"; code=$?',
            "# a trapped signal ends `wait` early: the step and the checkpoint still take a while",
            'while kill -0 "$worker" 2>/dev/null; do wait "$worker"; code=$?; done',
            f"""if [ "$ended" = 1 ] && grep -q '"wanted": "run"' {folder}/control.json &&""",
            '  [ -n "$SLURM_JOB_ID" ]; then scontrol requeue "$SLURM_JOB_ID"; fi',
            'exit "$code"',
            "",
        ]
    )


def _training(folder: str, config: RunsConfig) -> str:
    python = shlex.quote(config.batch_python or sys.executable)
    if config.nodes == 1 and config.batch_processes == 1:
        return f"{python} -m triptych runs work {folder}"
    launcher = f"{python} -m torch.distributed.run --nproc-per-node={config.batch_processes}"
    if config.nodes == 1:
        return f"{launcher} --standalone -m triptych runs work {folder}"
    first = '$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)'
    meeting = f'--rdzv-backend=c10d --rdzv-endpoint="{first}:29400" --rdzv-id="$SLURM_JOB_ID"'
    return (
        f"srun --ntasks-per-node=1 {launcher} --nnodes={config.nodes} {meeting}"
        f" -m triptych runs work {folder}"
    )


def skypilot_task(run: Path, config: RunsConfig) -> str:
    """Return a SkyPilot task: the run trains in a bucket and goes on after a preemption.

    Raises: RunError where the bucket is not named.
    """
    if not config.skypilot_bucket:
        raise RunError(
            "runs.skypilot_bucket names no bucket for the run and its checkpoints",
            hint="runs.skypilot_bucket=s3://my-runs",
        )
    request = json.loads((run / "request.json").read_bytes())
    corpus = str(Path(request["config"]["train"]["data"] or "").resolve())
    request["config"]["train"]["data"] = "/corpus"
    there = f"/runs/{run.name}"
    task: dict[str, Any] = {
        "name": f"triptych-{run.name}",
        "resources": {"accelerators": config.skypilot_accelerators, "use_spot": True},
        "file_mounts": {
            "/corpus": corpus,
            "/runs": {"source": config.skypilot_bucket, "mode": "MOUNT"},
        },
        "setup": config.batch_setup or "pip install triptych",
        "run": (
            f"mkdir -p {there}\n"
            f"[ -f {there}/request.json ] || echo {shlex.quote(json.dumps(request))}"
            f" > {there}/request.json\n"
            f"python -m triptych runs work {there}\n"
        ),
    }
    # JSON is YAML, and needs no writer of YAML
    return json.dumps(task, indent=2) + "\n"
