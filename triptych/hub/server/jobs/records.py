"""The rows of jobs: what was asked, where it stands, when it started and ended."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from triptych.errors import EntryNotFound
from triptych.hub.server.database import Database, Row
from triptych.hub.server.jobs.specification import Specification
from triptych.hub.server.workloads.logs import timestamp
from triptych.secrets import Vault


class Stage(StrEnum):
    """Define the stages of a job."""

    SCHEDULING = "SCHEDULING"
    RUNNING = "RUNNING"
    COMPLETED = "COMPLETED"
    CANCELED = "CANCELED"
    ERROR = "ERROR"


OVER = frozenset({Stage.COMPLETED, Stage.CANCELED, Stage.ERROR})
_SELECT = (
    "SELECT jobs.*, owners.name AS owner, owners.kind AS owner_kind, owners.id AS owner_id,"
    " starters.name AS starter FROM jobs"
    " JOIN accounts AS owners ON owners.id = jobs.namespace_id"
    " JOIN accounts AS starters ON starters.id = jobs.account_id"
)


@dataclass(frozen=True)
class Job:
    """Describe a job as its row does."""

    id: str
    owner_id: int
    owner: str
    owner_kind: str
    account_id: int
    starter: str
    specification: Specification
    has_secrets: tuple[str, ...]
    stage: Stage
    message: str
    created_at: float
    started_at: float | None
    finished_at: float | None

    def to_dict(self) -> dict[str, Any]:
        """Describe the job as the hub's clients read it; of secrets only the names."""
        asked = self.specification
        now = time.time()
        started, end = self.started_at, self.finished_at or now
        return {
            "id": self.id,
            "createdAt": timestamp(self.created_at),
            "startedAt": timestamp(started) if started else None,
            "finishedAt": timestamp(self.finished_at) if self.finished_at else None,
            "dockerImage": asked.image or None,
            "spaceId": asked.space_id or None,
            "command": list(asked.command),
            "arguments": [],
            "environment": asked.environment,
            "secrets": dict.fromkeys(self.has_secrets, "***"),
            "flavor": asked.flavor,
            "timeout": asked.timeout_s,
            "labels": asked.labels,
            "retry": asked.attempts - 1,
            "status": {"stage": self.stage.value, "message": self.message or None},
            "durations": {
                "schedulingSecs": round((started or end) - self.created_at),
                "runningSecs": round(end - started) if started else None,
                "totalSecs": round(end - self.created_at),
            },
            "owner": {"id": str(self.owner_id), "name": self.owner, "type": self.owner_kind},
            "initiator": {"type": "user", "id": str(self.account_id), "name": self.starter},
        }


def insert(
    database: Database,
    vault: Vault,
    *,
    namespace_id: int,
    account_id: int,
    specification: Specification,
    hidden: dict[str, str],
) -> Job:
    """Add a job, waiting for its turn."""
    job_id = secrets.token_hex(12)
    sealed = vault.seal(_context(job_id), json.dumps(hidden))
    stored = {**specification.to_dict(), "secrets": sorted(hidden)}
    database.write(
        "INSERT INTO jobs (id, namespace_id, account_id, specification, secrets, stage, created_at)"
        " VALUES (?, ?, ?, ?, ?, ?, ?)",
        job_id, namespace_id, account_id, json.dumps(stored), sealed,
        Stage.SCHEDULING.value, time.time(),
    )  # fmt: skip
    return find(database, namespace_id, job_id)


def find(database: Database, namespace_id: int, job_id: str) -> Job:
    """Return one job of a namespace.

    Raises: EntryNotFound.
    """
    row = database.one(
        f"{_SELECT} WHERE jobs.id = ? AND jobs.namespace_id = ?", job_id, namespace_id
    )
    if row is None:
        raise EntryNotFound(f"There is no job {job_id[:40]}")
    return _job(row)


def by_id(database: Database, job_id: str) -> Job | None:
    """Return a job by its id, of any owner."""
    row = database.one(f"{_SELECT} WHERE jobs.id = ?", job_id)
    return _job(row) if row else None


def of_stages(database: Database, stages: Sequence[Stage]) -> list[Job]:
    """Return every job at one of these stages, oldest first."""
    marks = ", ".join("?" * len(stages))
    rows = database.query(
        f"{_SELECT} WHERE stage IN ({marks}) ORDER BY created_at", *[s.value for s in stages]
    )
    return [_job(row) for row in rows]


def page(database: Database, namespace_id: int, *, before: float | None, count: int) -> list[Job]:
    """Return jobs of a namespace, newest first, that are older than a moment."""
    rows = database.query(
        f"{_SELECT} WHERE jobs.namespace_id = ? AND jobs.created_at < ?"
        " ORDER BY jobs.created_at DESC LIMIT ?",
        namespace_id, before if before is not None else float("inf"), count,
    )  # fmt: skip
    return [_job(row) for row in rows]


def older_than(database: Database, moment: float) -> list[str]:
    """Return the ids of jobs that were over before a moment."""
    rows = database.query("SELECT id FROM jobs WHERE finished_at < ?", moment)
    return [row["id"] for row in rows]


def delete(database: Database, job_id: str) -> None:
    """Forget a job."""
    database.write("DELETE FROM jobs WHERE id = ?", job_id)


def start(database: Database, job_id: str) -> bool:
    """Move a waiting job to running; False when it was cancelled meanwhile."""
    return _advance(database, job_id, Stage.SCHEDULING, Stage.RUNNING, "started_at", "")


def end(database: Database, job_id: str, stage: Stage, message: str) -> bool:
    """Move a job to its end; False when it was there already."""
    return any(
        _advance(database, job_id, before, stage, "finished_at", message)
        for before in (Stage.RUNNING, Stage.SCHEDULING)
    )


def say(database: Database, job_id: str, message: str) -> None:
    """Set the message of a job that runs."""
    database.write(
        "UPDATE jobs SET message = ? WHERE id = ? AND stage = ?",
        message, job_id, Stage.RUNNING.value,
    )  # fmt: skip


def set_labels(database: Database, job: Job, labels: dict[str, str]) -> None:
    """Replace the labels of a job."""
    changed = replace(job.specification, labels=labels).to_dict()
    stored = {**changed, "secrets": list(job.has_secrets)}
    database.write("UPDATE jobs SET specification = ? WHERE id = ?", json.dumps(stored), job.id)


def reveal(database: Database, vault: Vault, job_id: str) -> dict[str, str]:
    """Return a job's secrets, for its process alone."""
    row = database.one("SELECT secrets FROM jobs WHERE id = ?", job_id)
    assert row is not None
    hidden: dict[str, str] = json.loads(vault.open(_context(job_id), row["secrets"]))
    return hidden


def _advance(
    database: Database, job_id: str, before: Stage, after: Stage, moment: str, message: str
) -> bool:
    return (
        database.write(
            f"UPDATE jobs SET stage = ?, message = ?, {moment} = ? WHERE id = ? AND stage = ?",  # noqa: S608
            after.value, message, time.time(), job_id, before.value,
        )
        > 0
    )  # fmt: skip


def _job(row: Row) -> Job:
    stored = json.loads(row["specification"])
    hidden = tuple(stored.pop("secrets"))
    return Job(
        id=row["id"],
        owner_id=row["owner_id"],
        owner=row["owner"],
        owner_kind=row["owner_kind"],
        account_id=row["account_id"],
        starter=row["starter"],
        specification=Specification.from_dict(stored),
        has_secrets=hidden,
        stage=Stage(row["stage"]),
        message=row["message"],
        created_at=row["created_at"],
        started_at=row["started_at"],
        finished_at=row["finished_at"],
    )


def _context(job_id: str) -> str:
    return f"job {job_id}"
