"""One hub, at one address, as one identity: the only user of huggingface_hub.

The same calls reach huggingface.co, an enterprise hub or the embedded hub; only the endpoint
differs. huggingface_hub reads its constants once at import, so endpoint and token are passed
to every call and never assumed. Each of its exceptions becomes one of ours in `translation`.
Left out: what to publish, how to sync, when a deployment is live; those are modules of their own.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx2
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, get_token
from huggingface_hub.hf_api import RepoFile
from huggingface_hub.utils import (
    build_hf_headers,
    disable_progress_bars,
    get_session,
    hf_raise_for_status,
)

from triptych.config import environment
from triptych.errors import AccessDenied, CommitConflict
from triptych.hub.credentials import find_token
from triptych.hub.repository import Content, RemoteFile, Repo, SpaceState
from triptych.hub.translation import translated

# How long a log may be silent before it counts as read, and how long one is read at most.
_LOG_SILENCE_S = 1.5
_LOG_READ_S = 10.0


class Hub:
    """One hub and one token: the one given, else the one `credentials` finds.

    An empty token means no login: it sees what is public.
    """

    def __init__(self, endpoint: str | None = None, token: str | None = None) -> None:
        self.endpoint = (endpoint or environment.hub_endpoint()).rstrip("/")
        self._given_token = token
        self._api_or_none: HfApi | None = None

    def __repr__(self) -> str:
        return f"Hub({self.endpoint!r})"

    @property
    def _api(self) -> HfApi:
        if self._api_or_none is None:
            with translated("authentication", self.endpoint):
                token = self._given_token
                if token is None:
                    token = find_token(self.endpoint, get_token)
            if not sys.stderr.isatty():
                disable_progress_bars()
            # False, not None: None would send whatever login is stored to whatever endpoint.
            self._api_or_none = HfApi(endpoint=self.endpoint, token=token or False)
        return self._api_or_none

    @contextmanager
    def speaking(self, subject: object) -> Iterator[HfApi]:
        """Hold the library for the other modules of `hub`, and translate its exceptions."""
        with translated(subject, self.endpoint):
            yield self._api

    def whoami(self) -> str:
        """Return the name this token belongs to.

        Raises: AccessDenied without a valid token.
        """
        if not self._api.token:
            raise AccessDenied(
                f"there is no token for {self.endpoint}", hint="set HF_TOKEN, or `hf auth login`"
            )
        with translated("whoami", self.endpoint):
            return str(self._api.whoami()["name"])

    # --- repositories ---

    def create(self, repo: Repo, *, private: bool = False, sdk: str | None = None) -> bool:
        """Create a repository unless it exists; return whether it was created."""
        if self.exists(repo):
            return False
        with translated(repo, self.endpoint):
            self._api.create_repo(
                repo.repo_id,
                repo_type=repo.repo_type,
                private=private,
                exist_ok=True,
                space_sdk=sdk if repo.repo_type == "space" else None,
            )
        return True

    def delete(self, repo: Repo) -> None:
        """Delete a repository with everything in it."""
        with translated(repo, self.endpoint):
            self._api.delete_repo(repo.repo_id, repo_type=repo.repo_type)

    def exists(self, repo: Repo) -> bool:
        """Return whether the repository exists and this token may see it."""
        with translated(repo, self.endpoint):
            return self._api.repo_exists(repo.repo_id, repo_type=repo.repo_type)

    def models(self, words: str = "", *, limit: int = 20) -> list[str]:
        """List the model repositories whose names hold some words, the newest first."""
        with translated("models", self.endpoint):
            return [found.id for found in self._api.list_models(search=words or None, limit=limit)]

    def spaces(self, owner: str, *, limit: int = 100) -> list[str]:
        """List the Spaces of a user or organisation, the newest first."""
        with translated("spaces", self.endpoint):
            return [found.id for found in self._api.list_spaces(author=owner, limit=limit)]

    def is_private(self, repo: Repo) -> bool:
        """Return whether only its owners may see the repository."""
        with translated(repo, self.endpoint):
            return bool(self._api.repo_info(repo.repo_id, repo_type=repo.repo_type).private)

    def head(self, repo: Repo, revision: str | None = None) -> str:
        """Resolve a branch, tag or commit to its full sha.

        Raises: RepositoryNotFound, RevisionNotFound.
        """
        with translated(repo, self.endpoint):
            info = self._api.repo_info(repo.repo_id, repo_type=repo.repo_type, revision=revision)
        return str(info.sha)

    def tree(self, repo: Repo, revision: str) -> dict[str, RemoteFile]:
        """List every file of a revision with its content hash."""
        with translated(repo, self.endpoint):
            entries = self._api.list_repo_tree(
                repo.repo_id, repo_type=repo.repo_type, revision=revision, recursive=True
            )
            return {
                entry.path: RemoteFile(
                    entry.size, entry.blob_id, entry.lfs.sha256 if entry.lfs else None
                )
                for entry in entries
                if isinstance(entry, RepoFile)
            }

    def read(self, repo: Repo, path: str, revision: str) -> bytes:
        """Return the bytes of one file."""
        with translated(repo, self.endpoint):
            local = self._api.hf_hub_download(
                repo.repo_id, path, repo_type=repo.repo_type, revision=revision
            )
        return Path(local).read_bytes()

    def download(
        self,
        repo: Repo,
        revision: str | None = None,
        *,
        allow: Iterable[str] | None = None,
        ignore: Iterable[str] | None = None,
    ) -> Path:
        """Bring a revision to the local cache and return its folder, named by the commit.

        Raises: HubUnavailable when the hub does not answer and the cache does not have it.
        """
        with translated(repo, self.endpoint):
            folder = self._api.snapshot_download(
                repo.repo_id,
                repo_type=repo.repo_type,
                revision=revision,
                allow_patterns=list(allow) if allow is not None else None,
                ignore_patterns=list(ignore) if ignore is not None else None,
            )
        return Path(folder)

    def commit(
        self,
        repo: Repo,
        changes: Mapping[str, Content],
        message: str,
        *,
        description: str = "",
        parent: str | None = None,
        revision: str = "main",
    ) -> str:
        """Write all changes as one atomic commit and return its sha.

        Raises: CommitConflict when `parent` is no longer the head.
        """
        operations: list[CommitOperationAdd | CommitOperationDelete] = [
            CommitOperationDelete(path_in_repo=path, is_folder=False)
            if content is None
            else CommitOperationAdd(
                path_in_repo=path,
                path_or_fileobj=content if isinstance(content, bytes) else str(content),
            )
            for path, content in sorted(changes.items())
        ]
        with translated(repo, self.endpoint):
            info = self._api.create_commit(
                repo.repo_id,
                operations,
                commit_message=message,
                commit_description=description,
                repo_type=repo.repo_type,
                revision=revision,
                parent_commit=parent,
            )
        return str(info.oid)

    def tags(self, repo: Repo) -> dict[str, str]:
        """Return every tag with the commit it names."""
        with translated(repo, self.endpoint):
            refs = self._api.list_repo_refs(repo.repo_id, repo_type=repo.repo_type)
        return {tag.name: tag.target_commit for tag in refs.tags}

    def tag(self, repo: Repo, name: str, revision: str, *, move: bool = False) -> None:
        """Name a commit; a tag that already names another one moves only with `move`.

        Raises: CommitConflict when the tag names another commit and `move` is false.
        """
        present = self.tags(repo).get(name)
        if present == revision:
            return
        if present and not move:
            raise CommitConflict(
                f"tag {name} of {repo} already names {present[:12]}",
                hint="choose another tag, or pass --move-tag",
            )
        with translated(repo, self.endpoint):
            if present:
                self._api.delete_tag(repo.repo_id, tag=name, repo_type=repo.repo_type)
            self._api.create_tag(
                repo.repo_id, tag=name, revision=revision, repo_type=repo.repo_type
            )

    # --- Spaces ---

    def space(self, space: Repo) -> SpaceState:
        """Describe what a Space is doing and where it answers."""
        with translated(space, self.endpoint):
            info = self._api.space_info(space.repo_id)
            runtime = self._api.get_space_runtime(space.repo_id)
        domains = runtime.raw.get("domains") or []
        address = info.host or (domains[0].get("domain") if domains else None)
        if address and "://" not in address:
            address = f"https://{address}"
        return SpaceState(
            stage=str(getattr(runtime.stage, "value", runtime.stage)),
            url=address.rstrip("/") if address else None,
            private=bool(info.private),
            sha=info.sha,
            running_sha=runtime.raw.get("sha"),
            hardware=runtime.hardware or runtime.requested_hardware,
            sleep_time_s=runtime.sleep_time,
            error=runtime.raw.get("errorMessage"),
        )

    def restart(self, space: Repo, *, rebuild: bool = False) -> None:
        """Restart a Space, also a paused one; with `rebuild`, without any cached environment."""
        with translated(space, self.endpoint):
            self._api.restart_space(space.repo_id, factory_reboot=rebuild)

    def pause(self, space: Repo) -> None:
        """Stop a Space until it is restarted."""
        with translated(space, self.endpoint):
            self._api.pause_space(space.repo_id)

    def logs(self, space: Repo, *, build: bool = False, follow: bool = False) -> Iterator[str]:
        """Yield the lines of a Space's run or build log; with `follow`, as they are written."""
        with translated(space, self.endpoint):
            if follow:
                for text in self._api.fetch_space_logs(space.repo_id, build=build, follow=True):
                    yield from text.splitlines()
                return
            # The library waits five seconds for a silent log; a hub sends what there is at once.
            until = time.monotonic() + _LOG_READ_S
            part = "build" if build else "run"
            url = f"{self.endpoint}/api/spaces/{space.repo_id}/logs/{part}"
            headers = build_hf_headers(token=self._api.token)
            patience = httpx2.Timeout(10.0, read=_LOG_SILENCE_S)
            with (
                suppress(httpx2.ReadTimeout),
                get_session().stream("GET", url, headers=headers, timeout=patience) as answer,
            ):
                hf_raise_for_status(answer)
                for line in answer.iter_lines():
                    if line.startswith("data: {"):
                        yield from json.loads(line.removeprefix("data: "))["data"].splitlines()
                    if time.monotonic() > until:
                        return

    def variables(self, space: Repo) -> dict[str, tuple[str, str]]:
        """Return each variable's value and description."""
        with translated(space, self.endpoint):
            found = self._api.get_space_variables(space.repo_id)
        return {name: (v.value, v.description or "") for name, v in sorted(found.items())}

    def set_variable(self, space: Repo, name: str, value: str, description: str = "") -> None:
        """Set a variable; the hub restarts the Space with it."""
        with translated(space, self.endpoint):
            self._api.add_space_variable(
                space.repo_id, name, value, description=description or None
            )

    def delete_variable(self, space: Repo, name: str) -> None:
        """Remove a variable."""
        with translated(space, self.endpoint):
            self._api.delete_space_variable(space.repo_id, name)

    def secrets(self, space: Repo) -> list[str]:
        """List the names of a Space's secrets; their values never come back."""
        with translated(space, self.endpoint):
            return sorted(self._api.get_space_secrets(space.repo_id))

    def set_secret(self, space: Repo, name: str, value: environment.Secret) -> None:
        """Set a secret; the hub restarts the Space with it."""
        with translated(space, self.endpoint):
            self._api.add_space_secret(space.repo_id, name, value.reveal())

    def delete_secret(self, space: Repo, name: str) -> None:
        """Remove a secret."""
        with translated(space, self.endpoint):
            self._api.delete_space_secret(space.repo_id, name)

    def ask_space(
        self, state: SpaceState, path: str, *, timeout_s: float = 10.0
    ) -> dict[str, Any] | None:
        """Return the JSON that a Space answers.

        Only a private Space is sent the token: the code of a public one must not receive it.
        Returns: an empty object when the answer is not a JSON object, None without an answer or
        with a status other than 200.
        """
        if state.url is None:
            return None
        token = self._api.token if state.private else None
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        try:
            answer = get_session().get(f"{state.url}{path}", headers=headers, timeout=timeout_s)
            body = answer.json() if answer.status_code == 200 else None
        except httpx2.HTTPError:
            return None
        except ValueError:
            body = {}
        return body if isinstance(body, dict) or body is None else {}
