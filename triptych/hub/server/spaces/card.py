"""What a Space's README says about how to run it, checked before anything runs."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from triptych.hub.server.spaces.stages import SpaceFailed, Stage

SDKS = ("gradio", "static")
_FRONT_MATTER = re.compile(r"\A(?:\ufeff)?---\r?\n(.*?)\r?\n---\s*(?:\n|\Z)", re.DOTALL)
_DURATION = re.compile(r"(\d+)\s*(s|m|h|d)?")
_UNIT_S = {"s": 1, "m": 60, "h": 3600, "d": 86400, None: 1}
_POLICY_HEADERS = frozenset(
    {"cross-origin-embedder-policy", "cross-origin-opener-policy", "cross-origin-resource-policy"}
)


@dataclass(frozen=True)
class Card:
    """Hold the part of the front matter that decides how a Space runs."""

    sdk: str = "gradio"
    app_file: str = "app.py"
    title: str = ""
    python_version: str = ""
    start_timeout_s: float = 1800.0
    headers: dict[str, str] = field(default_factory=dict)
    signs_in: bool = False
    scopes: tuple[str, ...] = ()
    preloads: bool = False
    oauth_scopes: str = ""
    """What the app asks of people who sign in; empty without `hf_oauth: true`."""


def read_card(folder: Path) -> Card:
    """Read and check the README of a tree.

    Raises: SpaceFailed (CONFIG_ERROR, NO_APP_FILE) in words for the Space's author.
    """
    readme = folder / "README.md"
    if not readme.is_file():
        raise _wrong("README.md is missing", "it starts with `---`, `sdk: gradio`, `---`")
    match = _FRONT_MATTER.match(readme.read_text(encoding="utf-8", errors="replace"))
    if match is None:
        raise _wrong("README.md has no front matter", "start it with `---`, `sdk: gradio`, `---`")
    try:
        values = yaml.safe_load(match[1]) or {}
    except yaml.YAMLError as error:
        raise _wrong(f"the front matter of README.md is not YAML: {error}", "") from error
    if not isinstance(values, dict):
        raise _wrong("the front matter of README.md is not a mapping", "write `name: value` lines")
    card = _card(values)
    if not (folder / card.app_file).is_file():
        raise SpaceFailed(
            Stage.NO_APP_FILE,
            f"{card.app_file} is not in the repository",
            hint="add it, or name another one with app_file in README.md",
        )
    return card


def _card(values: dict[str, Any]) -> Card:
    sdk = str(values.get("sdk") or "")
    if sdk not in SDKS:
        why = (
            "needs container images, which this hub does not run" if sdk == "docker" else "unknown"
        )
        raise _wrong(f"sdk {sdk!r}: {why}", f"use one of {', '.join(SDKS)}")
    app_file = str(values.get("app_file") or ("index.html" if sdk == "static" else "app.py"))
    path = PurePosixPath(app_file)
    if path.is_absolute() or ".." in path.parts:
        raise _wrong(f"app_file {app_file!r} leaves the repository", "name a file inside it")
    headers = values.get("custom_headers") or {}
    if not isinstance(headers, dict) or not _POLICY_HEADERS.issuperset(headers):
        raise _wrong("custom_headers", f"allowed are {', '.join(sorted(_POLICY_HEADERS))}")
    return Card(
        sdk=sdk,
        app_file=app_file,
        title=str(values.get("title") or ""),
        python_version=str(values.get("python_version") or ""),
        start_timeout_s=_duration_s(values.get("startup_duration_timeout", "30m")),
        headers={name: str(value) for name, value in headers.items()},
        signs_in=values.get("hf_oauth") is True,
        scopes=("openid", "profile", *_words(values, "hf_oauth_scopes")),
        preloads=bool(values.get("preload_from_hub")),
        oauth_scopes=_oauth_scopes(values),
    )


def _oauth_scopes(values: dict[str, Any]) -> str:
    if values.get("hf_oauth") is not True:
        return ""
    more = values.get("hf_oauth_scopes") or []
    if not isinstance(more, list) or not all(isinstance(scope, str) for scope in more):
        raise _wrong("hf_oauth_scopes", "write a list, as `- read-repos`")
    return " ".join(dict.fromkeys(["openid", "profile", *more]))


def _words(values: dict[str, Any], name: str) -> tuple[str, ...]:
    words = values.get(name) or []
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise _wrong(f"{name} is not a list of words", "write them as `- word` lines")
    return tuple(words)


def _duration_s(value: object) -> float:
    match = _DURATION.fullmatch(str(value).strip().lower())
    if match is None:
        raise _wrong(f"startup_duration_timeout {value!r}", "write it as 30m, 1h or 90s")
    return float(int(match[1]) * _UNIT_S[match[2]])


def _wrong(message: str, hint: str) -> SpaceFailed:
    return SpaceFailed(Stage.CONFIG_ERROR, message, hint=hint)
