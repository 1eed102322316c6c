"""Jobs of a hub as a place to train: commands in jobs, folders in private repositories.

The same calls reach Hugging Face Jobs and the embedded hub's. What is wanted of a job is a label
on it, which both ends read and `hf jobs ps` shows. Left out: what is trained (`lm/runs`), which
describes the place it needs and is given this one.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from triptych.config.runs import RunsConfig
from triptych.errors import AccessDenied, CommitConflict, HubError, RepositoryNotFound
from triptych.hub.client import Hub
from triptych.hub.repository import Repo
from triptych.hub.upload import put_files

RUN, WANTED = "triptych-run", "triptych-wanted"
_OVER = ("COMPLETED", "CANCELED", "ERROR", "DELETED")


@dataclass(frozen=True)
class Seen:
    """What a hub says of a job."""

    over: bool
    ended_by_hand: bool
    message: str
    wanted: str


class JobPlace:
    """One account's jobs and repositories on a hub."""

    def __init__(self, hub: Hub, config: RunsConfig) -> None:
        self.hub = hub
        self.config = config
        self._namespace = config.jobs_namespace

    @property
    def namespace(self) -> str:
        """Return the account that jobs and repositories belong to."""
        self._namespace = self._namespace or self.hub.whoami()
        return self._namespace

    def names(self, folder: str) -> Collection[str]:
        """List the files of a folder; none where there is no such folder."""
        repo = self._repo(folder)
        try:
            return set(self.hub.tree(repo, self.hub.head(repo)))
        except RepositoryNotFound:
            return ()

    def put(self, folder: str, files: Mapping[str, bytes | Path], stale: str) -> None:
        """Write files in one commit; delete others whose names begin with `stale`."""
        for tries_left in (2, 1, 0):
            try:
                put_files(
                    self.hub,
                    self._repo(folder),
                    files,
                    f"Send {len(files)} files",
                    stale=lambda path: bool(stale) and path.startswith(stale),
                    private=True,
                )
            except CommitConflict:  # two runs send one corpus at once: the other may be done
                if not tries_left:
                    raise
            else:
                return

    def get(self, folder: str, into: Path, leave: Sequence[str] = ()) -> None:
        """Bring a folder's files here, except those that match a pattern of `leave`."""
        repo = self._repo(folder)
        with self.hub.speaking(repo) as api:
            api.snapshot_download(
                repo.repo_id,
                repo_type=repo.repo_type,
                local_dir=into,
                ignore_patterns=list(leave) or None,
            )

    def find(self, run_id: str) -> str | None:
        """Name the job of a run that waits or runs, if there is one."""
        with self.hub.speaking(run_id) as api:
            listed = api.list_jobs(labels={RUN: run_id}, namespace=self.namespace)
            return next((job.id for job in listed if job.status.stage not in _OVER), None)

    def start(self, run_id: str) -> str:
        """Start a job that trains what is in the folder of that name."""
        with self.hub.speaking(run_id) as api:
            if not api.token:
                raise AccessDenied("a job needs a token", hint="set HF_TOKEN, or `hf auth login`")
            command = ["python", "-m", "triptych", "runs", "work", "--sent", run_id]
            job = api.run_job(
                image=self.config.jobs_image,
                command=command,
                env={"TRIPTYCH_RUNS__JOBS_NAMESPACE": self.namespace},
                # The job writes into the run's repository; the hub keeps secrets sealed.
                secrets={"HF_TOKEN": str(api.token)},
                flavor=self.config.jobs_flavor,
                timeout=self.config.jobs_timeout_s,
                labels={RUN: run_id, WANTED: "run"},
                namespace=self.namespace,
            )
        return job.id

    def look(self, job: str) -> Seen:
        """Say where a job stands."""
        with self.hub.speaking(job) as api:
            info = api.inspect_job(job_id=job, namespace=self.namespace)
        stage = str(getattr(info.status.stage, "value", info.status.stage))
        return Seen(
            over=stage in _OVER,
            ended_by_hand=stage == "CANCELED",
            message=info.status.message or "",
            wanted=(info.labels or {}).get(WANTED, "run"),
        )

    def lines(self, job: str) -> Iterator[str]:
        """Yield a job's output from its beginning, as it is written, until the job is over."""
        with self.hub.speaking(job) as api:
            yield from api.fetch_job_logs(job_id=job, namespace=self.namespace, follow=True)

    def ask(self, job: str, wanted: str) -> None:
        """Write on a job what is wanted of it."""
        with self.hub.speaking(job) as api:
            info = api.inspect_job(job_id=job, namespace=self.namespace)
            labels = {**(info.labels or {}), WANTED: wanted}
            api.update_job_labels(job_id=job, labels=labels, namespace=self.namespace)

    def end(self, job: str) -> None:
        """End a job at once."""
        with self.hub.speaking(job) as api:
            api.cancel_job(job_id=job, namespace=self.namespace)

    def _repo(self, folder: str) -> Repo:
        kind = "dataset" if folder.startswith("corpus-") else "model"
        repo = Repo(f"{self.namespace}/{folder}", kind)
        if "/" in folder:
            raise HubError(f"{folder!r} is no folder here", hint="use a plain name")
        return repo
