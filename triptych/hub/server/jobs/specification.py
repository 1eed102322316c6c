"""What a job asks for, checked; and what this hub does not do, said at once."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from triptych.errors import HubRefused
from triptych.hub.server.workloads import hardware

DEFAULT_TIMEOUT_S = 30 * 60
LONGEST_TIMEOUT_S = 30 * 86400
MOST_ATTEMPTS = 10
_LABEL = re.compile(r"[A-Za-z0-9_.-]{0,100}")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_MAXIMUM_BYTES = 128 * 1024
_NOT_HERE = {
    "volumes": "This hub mounts no volumes and has no buckets; download inside the job",
    "expose": "This hub does not expose ports of jobs; deploy a Space instead",
    "ssh": "This hub opens no SSH into jobs",
    "network": "This hub has no network groups for jobs",
}


@dataclass(frozen=True)
class Specification:
    """Hold what one job runs; secrets are kept apart."""

    command: tuple[str, ...]
    image: str = ""
    space_id: str = ""
    environment: dict[str, str] = field(default_factory=dict)
    flavor: str = hardware.DEFAULT
    timeout_s: int = DEFAULT_TIMEOUT_S
    attempts: int = 1
    labels: dict[str, str] = field(default_factory=dict)

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> Specification:
        """Read a specification back from its row."""
        return cls(**{**record, "command": tuple(record["command"])})

    def to_dict(self) -> dict[str, Any]:
        """Write the specification down."""
        return asdict(self)


def read_specification(body: Mapping[str, Any]) -> Specification:
    """Check what a client asks for.

    Raises: HubRefused (400) for what makes no sense, (501) for what this hub does not do.
    """
    for name, why in _NOT_HERE.items():
        if body.get(name):
            raise HubRefused(501, why)
    image, space_id = str(body.get("dockerImage") or ""), str(body.get("spaceId") or "")
    if not space_id:
        _require_running_environment(image)
    return Specification(
        command=_words(body),
        image=image,
        space_id=space_id,
        environment=read_variables(body.get("environment"), "environment"),
        flavor=hardware.require_flavor(body.get("flavor") or hardware.DEFAULT),
        timeout_s=_whole(body, "timeoutSeconds", DEFAULT_TIMEOUT_S, LONGEST_TIMEOUT_S),
        attempts=_whole(body, "attempts", 1, MOST_ATTEMPTS),
        labels=read_labels(body.get("labels")),
    )


def read_variables(value: object, name: str) -> dict[str, str]:
    """Check a mapping of variables."""
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise HubRefused(400, f"{name} is not a mapping")
    variables = {str(key): str(one) for key, one in value.items()}
    size = sum(len(key) + len(one.encode()) for key, one in variables.items())
    if size > _MAXIMUM_BYTES or any("\0" in one for one in variables.values()):
        raise HubRefused(400, f"{name} is larger than {_MAXIMUM_BYTES} bytes, or not text")
    for key in variables:
        if not _VARIABLE.fullmatch(key):
            raise HubRefused(400, f"{key[:80]!r} cannot be the name of a variable")
    return variables


def read_labels(value: object) -> dict[str, str]:
    """Check labels."""
    if value is None:
        return {}
    if not isinstance(value, dict) or len(value) > 50:
        raise HubRefused(400, "labels are a mapping of up to 50 names")
    labels = {str(key): str(one) for key, one in value.items()}
    for text in (*labels.keys(), *labels.values()):
        if not _LABEL.fullmatch(text):
            raise HubRefused(400, f"{text[:120]!r} cannot be in a label")
    return labels


def _require_running_environment(image: str) -> None:
    """Accept the names that mean the Python this hub runs on."""
    major, minor = sys.version_info[:2]
    name, _, tag = image.partition(":")
    plain = tag.partition("-")[0] or "latest"
    is_running = plain in ("latest", f"{major}") or plain.split(".")[:2] == [str(major), str(minor)]
    if name in ("local", "triptych") or (name == "python" and is_running):
        return
    raise HubRefused(
        501,
        f"This hub runs no container images, so not {image or 'none'!r}",
        hint=f"its own Python is python:{major}.{minor}; or name a Space, hf.co/spaces/ORG/NAME",
    )


def _words(body: Mapping[str, Any]) -> tuple[str, ...]:
    words: list[str] = []
    for name in ("command", "arguments"):
        value = body.get(name) or []
        if not isinstance(value, list) or not all(isinstance(word, str) for word in value):
            raise HubRefused(400, f"{name} is a list of words")
        words += value
    if not words or any("\0" in word for word in words) or len(str(words)) > _MAXIMUM_BYTES:
        raise HubRefused(400, "command is empty, too long, or not text")
    return tuple(words)


def _whole(body: Mapping[str, Any], name: str, default: int, most: int) -> int:
    value = body.get(name)
    if value is None:
        return default
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= most:
        raise HubRefused(400, f"{name} is a whole number from 1 to {most}")
    return value
