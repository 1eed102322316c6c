"""Train in jobs of a hub: commands in jobs, folders in private repositories.

The same calls reach Hugging Face Jobs and the embedded hub's. The desired state of a job is a
label on it, which both ends read and `hf jobs ps` shows. Left out: what is trained: `lm/runs`
defines the interface (`JobBackend`) and gets this implementation.
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

# Labels of a job.
RUN, DESIRED_STATE = "triptych-run", "triptych-wanted"
_OVER = ("COMPLETED", "CANCELED", "ERROR", "DELETED")


@dataclass(frozen=True)
class JobStatus:
    """The status of a job, as the hub reports it."""

    over: bool
    cancelled: bool
    message: str
    desired_state: str


class HubJobs:
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
        """List the files of a folder; empty where there is no such folder."""
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
        """Download a folder's files, except those that match a pattern of `leave`."""
        repo = self._repo(folder)
        with self.hub.speaking(repo) as api:
            api.snapshot_download(
                repo.repo_id,
                repo_type=repo.repo_type,
                local_dir=into,
                ignore_patterns=list(leave) or None,
            )

    def find(self, run_id: str) -> str | None:
        """Return the name of a run's waiting or running job, or None."""
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
                labels={RUN: run_id, DESIRED_STATE: "run"},
                namespace=self.namespace,
            )
        return job.id

    def status(self, job: str) -> JobStatus:
        """Return the status of a job."""
        with self.hub.speaking(job) as api:
            info = api.inspect_job(job_id=job, namespace=self.namespace)
        stage = str(getattr(info.status.stage, "value", info.status.stage))
        return JobStatus(
            over=stage in _OVER,
            cancelled=stage == "CANCELED",
            message=info.status.message or "",
            desired_state=(info.labels or {}).get(DESIRED_STATE, "run"),
        )

    def lines(self, job: str) -> Iterator[str]:
        """Yield a job's output from its beginning, as it is written, until the job is over."""
        with self.hub.speaking(job) as api:
            yield from api.fetch_job_logs(job_id=job, namespace=self.namespace, follow=True)

    def set_desired_state(self, job: str, desired_state: str) -> None:
        """Write the desired state on a job: run, pause or cancel."""
        with self.hub.speaking(job) as api:
            info = api.inspect_job(job_id=job, namespace=self.namespace)
            labels = {**(info.labels or {}), DESIRED_STATE: desired_state}
            api.update_job_labels(job_id=job, labels=labels, namespace=self.namespace)

    def end(self, job: str) -> None:
        """Cancel a job at once."""
        with self.hub.speaking(job) as api:
            api.cancel_job(job_id=job, namespace=self.namespace)

    def _repo(self, folder: str) -> Repo:
        kind = "dataset" if folder.startswith("corpus-") else "model"
        repo = Repo(f"{self.namespace}/{folder}", kind)
        if "/" in folder:
            raise HubError(f"{folder!r} is not a folder name", hint="use a plain name")
        return repo
