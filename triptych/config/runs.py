"""Settings of training runs as durable things: queue, grace, quotas. Left out: the training."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

SETTINGS = ConfigDict(extra="forbid", use_attribute_docstrings=True)


@dataclass(frozen=True, kw_only=True, config=SETTINGS)
class RunsConfig:
    """Settings of training runs as durable things."""

    devices: tuple[str, ...] = ("cpu",)
    """Devices that train, one run each at a time, such as `cpu` or `cuda:0`."""

    backend: Literal["local", "torchrun", "jobs", "slurm", "ssh"] = "local"
    """Where a run trains that says nothing else: a process here, several, a job on the hub, a
    batch job of SLURM, or another machine by ssh."""

    processes: Annotated[int, Field(ge=1)] = 2
    """Processes on each machine that a run of the backend `torchrun` is spread over."""

    nodes: Annotated[int, Field(ge=1)] = 1
    """Machines of the backend `torchrun`; the others join with `triptych runs join`."""

    rendezvous: str = "127.0.0.1:29400"
    """Where the machines of a run meet: an address of the supervisor's machine and a port."""

    jobs_at_once: Annotated[int, Field(ge=1)] = 4
    """Runs of the backend `jobs` that are under way at the same time."""

    jobs_namespace: str = ""
    """Account on the hub whose jobs and private repositories are used; empty is the token's."""

    jobs_image: str = "local"
    """What a job runs in. `local` is the embedded hub's own Python; on huggingface.co, an image
    or a Space (`hf.co/spaces/ORG/NAME`) in which triptych is installed."""

    jobs_flavor: str = "cpu-basic"
    """Hardware of a job; `hf jobs hardware` lists what the hub has."""

    jobs_timeout_s: Annotated[int, Field(ge=60)] = 86400
    """Seconds after which the hub ends a job; the run is then interrupted, and resumes."""

    slurm_options: tuple[str, ...] = ()
    """Options of `sbatch` for a run's job, such as `--partition=gpu`, `--gpus=1`."""

    ssh_host: str = ""
    """Machine on which runs of the backend `ssh` train: `user@host`, without a password."""

    ssh_options: tuple[str, ...] = ()
    """Further options of `ssh`, such as `-p`, `2222`."""

    batch_processes: Annotated[int, Field(ge=1)] = 1
    """Processes on each machine of a batch job; with more than one, torchrun starts them."""

    batch_python: str = ""
    """Python of batch jobs and of the machine reached by ssh; empty is the one of this process."""

    batch_setup: str = ""
    """Shell lines that a job runs before it trains, such as `module load cuda`."""

    skypilot_accelerators: str = "H100:1"
    """Accelerators that `triptych runs job-file RUN --for skypilot` asks for."""

    skypilot_bucket: str = ""
    """Bucket in which a SkyPilot task keeps the run and its checkpoints, such as `s3://my-runs`."""

    grace_s: Annotated[float, Field(gt=0)] = 60.0
    """Seconds a worker has, after it was asked to stop, to finish its step and save."""

    stalled_s: Annotated[float, Field(gt=0)] = 300.0
    """A running worker that wrote no event for this many seconds is reported as stalled."""

    resume_interrupted: bool = True
    """Queue a run again by itself when its worker or the machine died."""

    max_resumes: Annotated[int, Field(ge=0)] = 3
    """Resumes by policy without a new checkpoint in between, before a run is left interrupted."""

    max_queued_per_user: Annotated[int, Field(ge=1)] = 20
    """Queued runs of one user."""

    max_running_per_user: Annotated[int, Field(ge=1)] = 4
    """Runs of one user that train at the same time."""

    max_steps: Annotated[int, Field(ge=1)] | None = None
    """Most steps one run may ask for; empty means any."""

    max_disk_bytes: Annotated[int, Field(ge=1)] | None = None
    """Disk that one user's runs and corpora may take together; empty means any."""

    expire_days: Annotated[int, Field(ge=1)] | None = None
    """Ended runs older than this are deleted; empty keeps them."""
