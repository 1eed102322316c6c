"""Make a Space serve a model, and believe it only when the Space itself says so.

A deployment pins the model by commit in the Space's variables `MODEL_ID` and `MODEL_VERSION`,
waits for the Space, and asks its `/health` which revision it serves. Only the wanted answer is
`live`; anything else puts the previous pin and app back and shows the logs. A rollback flips
the pin to what served before. Left out: how a hub runs Spaces, and what is inside them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from triptych.durable import FolderLock
from triptych.errors import (
    CommitConflict,
    DeploymentFailed,
    HubError,
    HubUnavailable,
    PublishRefused,
    RepositoryNotFound,
    StorageError,
    UsageError,
)
from triptych.hub.client import Hub
from triptych.hub.ledger import Deployment, Ledger, Pin, State
from triptych.hub.repository import Content, Repo, SpaceState, split_revision
from triptych.hub.upload import put_files

MODEL = "MODEL_ID"
VERSION = "MODEL_VERSION"
FAILED = frozenset({"NO_APP_FILE", "CONFIG_ERROR", "BUILD_ERROR", "RUNTIME_ERROR", "DELETING"})
HALTED = frozenset({"PAUSED", "STOPPED", "SLEEPING"})
RUNNING = "RUNNING"
_PREVIOUS = "before: "
_LOG_LINES = 20


@dataclass(frozen=True)
class Patience:
    """Hold how long to wait for a Space.

    Units: `total_s` for all of it; `stale_s` during which a failure may still be the one from
    before the change; `settle_s` after it runs, for requests to reach the new version.
    """

    total_s: float = 900.0
    stale_s: float = 15.0
    settle_s: float = 60.0
    poll_s: float = 0.25


@dataclass(frozen=True)
class Deployer:
    """Deploy to the Spaces of one hub, writing every step to a ledger.

    `on_state` hears of every change of state.
    """

    hub: Hub
    ledger: Ledger = field(default_factory=Ledger)
    patience: Patience = field(default_factory=Patience)
    on_state: Callable[[Deployment], None] = lambda _: None

    def deploy(self, reference: str, space: Repo, app: Path | None = None) -> Deployment:
        """Make a Space serve `REPO_ID@REV`, with the files of `app` where given.

        Returns: the deployment, live. One that is live already is left as it is.
        Raises: DeploymentFailed with the Space's last words; the previous version serves on.
        """
        files = app_files(app) if app else None
        return self._carry_out(space, self._resolve(reference), files)

    def roll_back(self, space: Repo) -> Deployment:
        """Make a Space serve what it served before its live deployment.

        Raises: UsageError when nothing was there before; DeploymentFailed as `deploy` does.
        """
        live = self.ledger.live(self.hub.endpoint, space)
        pin = live.previous if live else _noted(self.hub.variables(space))
        if pin is None:
            raise UsageError(
                f"{space.repo_id} served nothing before", hint="deploy another revision instead"
            )
        done = self._carry_out(space, pin, rollback_of=live)
        if live:
            self.ledger.write(live.entered("rolled_back", f"by {done.id}"))
        return done

    def _carry_out(
        self,
        space: Repo,
        pin: Pin,
        files: Mapping[str, Content] | None = None,
        rollback_of: Deployment | None = None,
    ) -> Deployment:
        endpoint = self.hub.endpoint
        with self._locked(space):
            interrupted = self.ledger.close_interrupted(endpoint, space)
            new = not self.hub.exists(space)
            if new and files is None:
                raise RepositoryNotFound(
                    f"there is no Space {space.repo_id}",
                    hint=f"`triptych spaces create {space.repo_id} --app DIR` makes one",
                )
            before = None if new else _pinned(self.hub.variables(space))
            live = self.ledger.live(endpoint, space)
            if live and before == pin == live.pin and files is None and self._answers(space, pin):
                return live
            # Pinned, but not known to serve: an interrupted deployment, or the same one again.
            doubted = interrupted or (live if live and live.pin == pin else None)
            previous = doubted.previous if doubted else before
            deployment = self.ledger.begin(
                endpoint, space, pin, previous, rollback_of.id if rollback_of else None
            )
            self.on_state(deployment)
            try:
                deployment = self._hand_over(deployment, space, files, rollback_of, new=new)
                deployment = self._verify(deployment, space)
            except HubError as error:
                raise self._fail(deployment, space, error.message) from error
            except KeyboardInterrupt:
                self._fail(deployment, space, "interrupted")
                raise
            return self._enter(deployment, "live")

    def _hand_over(
        self,
        deployment: Deployment,
        space: Repo,
        files: Mapping[str, Content] | None,
        rollback_of: Deployment | None,
        *,
        new: bool,
    ) -> Deployment:
        """Commit the app of the Space and its pinned model."""
        deployment = self._enter(deployment, "uploading")
        if new:
            # The first start of a new Space should already know its model.
            self.hub.create(space, sdk="gradio")
            self._pin(space, deployment.pin, None)
        head = self.hub.head(space)
        commit = head
        if files is not None:
            commit, _ = put_files(self.hub, space, files, f"Deploy {deployment.pin}")
        elif rollback_of and rollback_of.app_commit != rollback_of.previous_app_commit:
            commit = self._restore_app(space, rollback_of.previous_app_commit)
        deployment = replace(deployment, app_commit=commit, previous_app_commit=head)
        deployment = self._enter(deployment, "building")
        changed = self._pin(space, deployment.pin, deployment.previous)
        stage = self.hub.space(space).stage
        if stage in HALTED or (stage in FAILED and not changed and commit == head):
            self.hub.restart(space)
        return deployment

    def _pin(self, space: Repo, pin: Pin, previous: Pin | None) -> bool:
        """Set the variables that differ; tell whether any did."""
        variables = self.hub.variables(space)
        note = f"{_PREVIOUS}{previous}" if previous and previous != pin else ""
        changed = False
        for name, value in ((MODEL, pin.model), (VERSION, pin.revision)):
            if variables.get(name, ("", ""))[0] != value:
                self.hub.set_variable(space, name, value, note if name == VERSION else "")
                changed = True
        return changed

    def _verify(self, deployment: Deployment, space: Repo) -> Deployment:
        """Wait until the Space itself answers with the wanted revision."""
        runs = False

        def note(state: SpaceState) -> None:
            nonlocal runs, deployment
            if state.stage == RUNNING and not runs:
                runs = True
                deployment = self._enter(deployment, "verifying")

        self._wait(space, deployment.pin, note)
        return deployment if runs else self._enter(deployment, "verifying")

    def _fail(self, deployment: Deployment, space: Repo, reason: str) -> DeploymentFailed:
        """Put back what served before, note the failure, and say what happened."""
        logs = last_words(self.hub, space)
        after = self._put_back(deployment, space)
        failed = self._enter(deployment, "failed", f"{reason}; {after}")
        return DeploymentFailed(
            f"{space.repo_id} does not serve {deployment.pin}: {reason}\n"
            + "".join(f"  | {line}\n" for line in logs)
            + f"  {after}",
            hint=f"deployment {failed.id}; `triptych spaces logs {space.repo_id}` has all of it",
        )

    def _put_back(self, deployment: Deployment, space: Repo) -> str:
        previous = deployment.previous
        try:
            if deployment.app_commit != deployment.previous_app_commit:
                self._restore_app(space, deployment.previous_app_commit)
            if previous is None:
                return "nothing served before, so nothing was put back"
            self._pin(space, previous, None)
            self._wait(space, previous)
        except HubError as error:
            return f"what served before could not be put back: {error.message}"
        return f"{previous} serves on"

    def _wait(
        self, space: Repo, pin: Pin, on_poll: Callable[[SpaceState], None] = lambda _: None
    ) -> None:
        wait_for(
            self.hub,
            space,
            lambda _, health: health is not None and health.get("revision") == pin.revision,
            self.patience,
            what=f"revision {pin.revision[:12]}",
            on_poll=on_poll,
        )

    def _answers(self, space: Repo, pin: Pin) -> bool:
        health = self.hub.ask_space(self.hub.space(space), "/health")
        return health is not None and health.get("revision") == pin.revision

    def _restore_app(self, space: Repo, commit: str | None) -> str:
        """Make the Space's files what they were at one of its own commits."""
        if commit is None:
            return self.hub.head(space)
        folder = self.hub.download(space, commit)
        wanted = {path: folder / path for path in self.hub.tree(space, commit)}
        message = f"Restore {commit[:12]}"
        return put_files(self.hub, space, wanted, message, stale=lambda path: True)[0]

    def _resolve(self, reference: str) -> Pin:
        name, revision = split_revision(reference)
        model = Repo.parse(name)
        commit = self.hub.head(model, revision)
        files = self.hub.tree(model, commit)
        weights = any(name.endswith(".safetensors") or name == "model.gguf" for name in files)
        if "config.json" not in files or not weights:
            raise PublishRefused(
                f"{reference} is no model: config.json, or safetensors or model.gguf, is missing",
                hint="publish a checkpoint there first: triptych publish CHECKPOINT REPO_ID",
            )
        return Pin(model.repo_id, commit)

    def _enter(self, deployment: Deployment, state: State, note: str = "") -> Deployment:
        deployment = deployment.entered(state, note)
        self.ledger.write(deployment)
        self.on_state(deployment)
        return deployment

    def _locked(self, space: Repo) -> FolderLock:
        lock = self.ledger.lock(self.hub.endpoint, space)
        try:
            return lock.acquire()
        except StorageError as error:
            raise CommitConflict(
                f"another deployment to {space.repo_id} is under way: {error.message}",
                hint="wait for it to end",
            ) from error


def wait_for(
    hub: Hub,
    space: Repo,
    accept: Callable[[SpaceState, dict[str, Any] | None], bool],
    patience: Patience,
    *,
    what: str,
    path: str = "/health",
    on_poll: Callable[[SpaceState], None] = lambda _: None,
) -> SpaceState:
    """Poll a Space until `accept` takes its state and what it answers on `path`.

    Raises: DeploymentFailed when it fails, halts, or keeps giving another answer.
    """
    begun = time.monotonic()
    failures, under_way, running_since = 0, False, None
    while True:
        state = _look(hub, space)
        now = time.monotonic()
        if state is not None:
            on_poll(state)
            answer = hub.ask_space(state, path)
            if accept(state, answer):
                return state
            failed = state.stage in FAILED | HALTED
            under_way = under_way or not (failed or state.stage == RUNNING)
            failures = failures + 1 if failed else 0
            if failures >= 2 and (under_way or now - begun > patience.stale_s):
                detail = f": {state.error}" if state.error else ""
                raise DeploymentFailed(f"its stage is {state.stage}{detail}")
            running_since = (running_since or now) if state.stage == RUNNING else None
            if running_since and now - running_since > patience.settle_s:
                said = (answer or {}).get("revision")
                raise DeploymentFailed(
                    f"it runs, but answers {path} with revision {said} instead of {what}"
                    if said
                    else f"it runs, but does not answer {path} as it should"
                )
        if now - begun > patience.total_s:
            stage = state.stage if state else "unknown"
            raise DeploymentFailed(f"no answer after {patience.total_s:.0f} s (stage {stage})")
        time.sleep(patience.poll_s)


def wait_for_commit(
    hub: Hub, space: Repo, commit: str | None, path: str, patience: Patience
) -> SpaceState:
    """Wait until a Space answers on `path`, and does so from `commit` where one is named.

    Raises: DeploymentFailed as `wait_for` does.
    """

    def accept(state: SpaceState, answer: dict[str, Any] | None) -> bool:
        if answer is None or commit is None:
            return answer is not None
        # While a new version builds, the old one answers; not every hub says which it is.
        return state.stage == RUNNING and state.running_sha in (None, commit)

    what = f"commit {commit[:12]}" if commit else "any answer"
    return wait_for(hub, space, accept, patience, what=what, path=path)


def app_files(folder: Path) -> dict[str, Content]:
    """Return the files of a Space's app folder by their path in the repository.

    Raises: UsageError when it is no app.
    """
    files: dict[str, Content] = {
        file.relative_to(folder).as_posix(): file
        for file in sorted(folder.rglob("*"))
        if file.is_file() and "__pycache__" not in file.parts
    }
    if "README.md" not in files:
        raise UsageError(
            f"{folder} is no Space: it has no README.md",
            hint="its front matter names the sdk; `--app minimal` is the smallest example",
        )
    return files


def last_words(hub: Hub, space: Repo) -> list[str]:
    """Return the end of a Space's log, of its build where the app never spoke."""
    for build in (False, True):
        try:
            lines = [line for line in hub.logs(space, build=build) if line.strip()]
        except HubError:
            continue
        if lines:
            return lines[-_LOG_LINES:]
    return []


def _look(hub: Hub, space: Repo) -> SpaceState | None:
    try:
        return hub.space(space)
    except HubUnavailable:
        return None


def _pinned(variables: Mapping[str, tuple[str, str]]) -> Pin | None:
    if MODEL not in variables or VERSION not in variables:
        return None
    return Pin(variables[MODEL][0], variables[VERSION][0])


def _noted(variables: Mapping[str, tuple[str, str]]) -> Pin | None:
    """Read what served before from the note that every deployment leaves at the Space."""
    _, _, previous = variables.get(VERSION, ("", ""))[1].partition(_PREVIOUS)
    model, revision = split_revision(previous)
    return Pin(model, revision) if revision else None
