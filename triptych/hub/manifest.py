"""The sync manifest: which files of this checkout belong in which hub repository, and where.

`sync.toml` maps source globs to target paths. `*` stands for part of a name, `**` for any
folders below; each wildcard on the right repeats what the same wildcard on the left matched.
Files are those git tracks. Left out: comparing with a repository and committing to it (`sync`).
"""

from __future__ import annotations

import re
import subprocess
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from triptych.errors import ConfigError, UsageError
from triptych.hub.repository import Repo

FORMAT_VERSION = 1
STAMP = "SYNC.json"

# Written by the hub itself when a repository is created.
_ALWAYS_OWN = (".gitattributes",)
# Weights and data have repositories of their own kind; in a Space they would be copies.
_WEIGHTS_AND_DATA = (".safetensors", ".gguf", ".bin", ".pt", ".pth", ".onnx", ".parquet", ".arrow")
_WILDCARD = re.compile(r"\*\*/|\*\*|\*|\?")
_PATTERNS = {"**/": "((?:[^/]+/)*)", "**": "(.+)", "*": "([^/]*)", "?": "([^/])"}


@dataclass(frozen=True)
class Rule:
    """Map every source path that matches one glob to its path in the target."""

    source: str
    target: str

    def map(self, path: str) -> str | None:
        """Return where a source path goes, or None where the rule does not apply."""
        found = _regex(self.source).fullmatch(path)
        if not found:
            return None
        parts = iter(found.groups())
        return _WILDCARD.sub(lambda _: next(parts), self.target)


@dataclass(frozen=True)
class Target:
    """Name one repository, what goes there, and what there is not ours to touch."""

    repo: Repo
    rules: tuple[Rule, ...]
    own: tuple[str, ...] = ()
    branch: str = "main"
    sdk: str = "gradio"
    smoke: str = "/"

    def owns(self, path: str) -> bool:
        """Return whether a path belongs to the target alone."""
        return matches_any(path, (*self.own, *_ALWAYS_OWN))

    def manages(self, path: str) -> bool:
        """Return whether a path of the target is one that sync writes and deletes."""
        mapped = matches_any(path, [rule.target for rule in self.rules])
        return mapped and path != STAMP and not self.owns(path)


@dataclass(frozen=True)
class Source:
    """Describe the checkout that is synced: its commit, and what is not committed."""

    root: Path
    commit: str
    subject: str
    changed: tuple[str, ...]
    tracked: tuple[str, ...]
    untracked: tuple[str, ...]
    links: frozenset[str]


@dataclass(frozen=True)
class Manifest:
    """Hold every target of a `sync.toml`."""

    root: Path
    targets: tuple[Target, ...]
    never: tuple[str, ...]

    def select(self, names: Sequence[str]) -> tuple[Target, ...]:
        """Return the named targets, or all of them.

        Raises: UsageError for a name the manifest does not have.
        """
        known = {str(target.repo): target for target in self.targets}
        for name in names:
            if name not in known:
                raise UsageError(
                    f"the manifest has no target {name}", hint=f"it has {', '.join(known)}"
                )
        return tuple(known[name] for name in names) if names else self.targets

    def excludes(self, path: str) -> bool:
        """Return whether a source path is never synced anywhere."""
        return matches_any(path, self.never)

    def files(self, target: Target, source: Source, *, untracked: bool = False) -> dict[str, str]:
        """Return target path -> source path for everything that goes to a target.

        Raises: ConfigError listing every path that cannot or must not go there.
        """
        wanted: dict[str, str] = {}
        problems: list[str] = []
        folded: dict[str, str] = {}
        unused = {rule.source for rule in target.rules}
        for path in (*source.tracked, *(source.untracked if untracked else ())):
            if self.excludes(path):
                continue
            for rule in target.rules:
                goal = rule.map(path)
                if goal is None:
                    continue
                unused.discard(rule.source)
                problems += _problems(target, path, goal, source)
                other = folded.setdefault(goal.casefold(), path)
                if other != path:
                    problems.append(f"{goal}: both {other} and {path} go there")
                wanted[goal] = path
        problems += [f"{glob}: matches no file that git tracks" for glob in unused]
        if problems:
            raise ConfigError(
                f"{target.repo} cannot be synced:\n  - " + "\n  - ".join(sorted(set(problems))),
                hint="narrow the globs of this target in sync.toml",
            )
        return wanted


def matches_any(path: str, globs: Sequence[str]) -> bool:
    """Return whether a path matches one of several globs."""
    return any(_regex(glob).fullmatch(path) for glob in globs)


def load_manifest(file: Path, *, org: str | None = None) -> Manifest:
    """Read a `sync.toml`; `{org}` in a repository's name becomes `org`.

    Raises: ConfigError naming every mistake in it.
    """
    try:
        values = tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigError(
            f"no sync manifest {file}", hint="run this where sync.toml is, or pass --manifest"
        ) from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{file} is not valid TOML: {error}", hint="see toml.io") from error
    problems = list(_mistakes(values))
    if problems:
        raise ConfigError(
            f"{file}:\n  - " + "\n  - ".join(problems), hint="docs/guides/publish.md has an example"
        )
    targets = tuple(_target(table, org) for table in values["target"])
    names = [str(target.repo) for target in targets]
    if len(set(names)) < len(names):
        raise ConfigError(f"{file} names a repository twice", hint="one [[target]] for each")
    return Manifest(file.resolve().parent, targets, tuple(values.get("never", ())))


def read_source(root: Path) -> Source:
    """Ask git what this checkout holds.

    Raises: UsageError when it is no git checkout with a commit.
    """
    commit, _, subject = _git(root, "log", "-1", "--format=%H %s").strip().partition(" ")
    tracked = _paths(_git(root, "ls-files", "-z"))
    untracked = _paths(_git(root, "ls-files", "-z", "--others", "--exclude-standard"))
    status = _git(root, "status", "--porcelain=v1", "-z", "--untracked-files=no", ".")
    return Source(
        root=root,
        commit=commit,
        subject=subject,
        changed=tuple(_changed(status)),
        tracked=tuple(path for path in tracked if (root / path).is_file()),
        untracked=tuple(untracked),
        links=frozenset(p for p in (*tracked, *untracked) if (root / p).is_symlink()),
    )


def _paths(listing: str) -> list[str]:
    return sorted(path for path in listing.split("\0") if path)


def _git(root: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(root), *arguments], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise UsageError(
            f"git cannot read {root}: {done.stderr.strip()}",
            hint="sync works from a git checkout with at least one commit",
        )
    return done.stdout


def _changed(status: str) -> Iterator[str]:
    fields = iter(field for field in status.split("\0") if field)
    for field in fields:
        yield field[3:]
        if field[0] in "RC":
            next(fields, None)


def _regex(glob: str) -> re.Pattern[str]:
    pattern, position = "", 0
    for wildcard in _WILDCARD.finditer(glob):
        pattern += re.escape(glob[position : wildcard.start()]) + _PATTERNS[wildcard.group()]
        position = wildcard.end()
    return re.compile(pattern + re.escape(glob[position:]))


def _problems(target: Target, path: str, goal: str, source: Source) -> Iterator[str]:
    if path in source.links:
        yield f"{path}: a symbolic link; sync the file it points to"
    if target.owns(goal):
        yield f"{goal}: belongs to the target alone, yet {path} maps to it"
    if goal == STAMP:
        yield f"{path}: {STAMP} is written by sync itself"
    if target.repo.repo_type == "space" and goal.endswith(_WEIGHTS_AND_DATA):
        yield f"{path}: weights and data go to model and dataset repositories, not to a Space"


def _mistakes(values: Mapping[str, Any]) -> Iterator[str]:
    if values.get("format_version") != FORMAT_VERSION:
        yield f"format_version must be {FORMAT_VERSION}"
    yield from _unknown(values, {"format_version", "never", "target"}, "the top level")
    if not _words(values.get("never", [])):
        yield "never must be a list of globs"
    targets = values.get("target")
    if not isinstance(targets, list) or not targets:
        yield "there is no [[target]]"
        return
    for number, table in enumerate(targets, start=1):
        if isinstance(table, dict):
            yield from _mistakes_of(table, f"target {number} ({table.get('repo', 'no repo')})")
        else:
            yield f"target {number} is no table; write [[target]] above its keys"


def _mistakes_of(table: Mapping[str, Any], where: str) -> Iterator[str]:
    yield from _unknown(table, {"repo", "files", "own", "branch", "sdk", "smoke"}, where)
    if not isinstance(table.get("repo"), str):
        yield f"{where}: repo is missing"
    if not _words(table.get("own", [])):
        yield f"{where}: own must be a list of globs"
    for key in ("branch", "sdk", "smoke"):
        if not isinstance(table.get(key, ""), str):
            yield f"{where}: {key} must be text"
    files = table.get("files")
    if not isinstance(files, dict) or not files:
        yield f"{where}: files is missing; write 'source glob' = 'target path'"
        return
    for source, goal in files.items():
        if not isinstance(goal, str):
            yield f"{where}: {source!r} must name a target path, not {goal!r}"
            continue
        if _WILDCARD.findall(source) != _WILDCARD.findall(goal):
            yield f"{where}: {source!r} and {goal!r} need the same wildcards in the same order"
        parts = PurePosixPath(goal).parts
        if goal.startswith("/") or "\\" in goal or {"..", ".git"} & set(parts):
            yield f"{where}: {goal!r} must be a path inside the repository"


def _words(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(word, str) for word in value)


def _unknown(table: Mapping[str, Any], known: set[str], where: str) -> Iterator[str]:
    for key in sorted(set(table) - known):
        yield f"{where}: unknown key {key!r}; known: {', '.join(sorted(known))}"


def _target(table: Mapping[str, Any], org: str | None) -> Target:
    name: str = table["repo"]
    if "{org}" in name:
        if not org:
            raise UsageError(
                f"{name} needs an organisation", hint="pass --org NAME, or set HUGGINGFACE_ORG"
            )
        name = name.replace("{org}", org)
    rules = tuple(Rule(source, goal) for source, goal in table["files"].items())
    options = {key: table[key] for key in ("branch", "sdk", "smoke") if key in table}
    return Target(Repo.parse(name), rules, tuple(table.get("own", ())), **options)
