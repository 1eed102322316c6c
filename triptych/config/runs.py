"""Settings of training runs as durable things: queue, grace, quotas. Left out: the training."""

from __future__ import annotations

from typing import Annotated

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

SETTINGS = ConfigDict(extra="forbid", use_attribute_docstrings=True)


@dataclass(frozen=True, kw_only=True, config=SETTINGS)
class RunsConfig:
    """Settings of training runs as durable things."""

    devices: tuple[str, ...] = ("cpu",)
    """Devices that train, one run each at a time, such as `cpu` or `cuda:0`."""

    processes: Annotated[int, Field(ge=1)] = 2
    """Processes that a run of the back end `torchrun` is spread over."""

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
    """Disk that one user's runs may take together; empty means any."""

    expire_days: Annotated[int, Field(ge=1)] | None = None
    """Ended runs older than this are deleted; empty keeps them."""
