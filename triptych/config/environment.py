"""The one place that reads the environment: the home folder, tokens, addresses, Space variables.

Secrets are wrapped in `Secret`, which shows stars wherever it is printed. Original names with
`VITE_` are accepted as aliases on the server side; nothing here is ever sent to a browser.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

DEFAULT_HUB_ENDPOINT = "https://huggingface.co"

# name -> older names that are still understood, in order of preference
ALIASES: Mapping[str, tuple[str, ...]] = {
    "HF_TOKEN": ("HUGGINGFACE_API_KEY", "VITE_HUGGINGFACE_API_KEY", "HUGGING_FACE_HUB_TOKEN"),
    "HUGGINGFACE_ORG": ("VITE_HUGGINGFACE_ORG",),
    "HF_BASE_SPACE": ("VITE_HF_BASE_SPACE",),
    "HF_COMPANY_SPACE": ("VITE_HF_COMPANY_SPACE",),
    "HF_ABSTRACTION_SPACE": ("VITE_HF_ABSTRACTION_SPACE",),
}


class Secret:
    """Hold a secret so that printing, logging or formatting it shows stars."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value.strip()

    def reveal(self) -> str:
        """Hand out the value, at the one place that sends it."""
        return self._value

    def __bool__(self) -> bool:
        return bool(self._value)

    def __repr__(self) -> str:
        return "Secret('***')"

    __str__ = __repr__


def get(name: str, default: str | None = None) -> str | None:
    """Read a variable or one of its older names."""
    for candidate in (name, *ALIASES.get(name, ())):
        value = os.environ.get(candidate)
        if value:
            return value
    return default


def secret(name: str) -> Secret | None:
    """Read a secret, wrapped so that it cannot be printed by accident."""
    value = get(name)
    return Secret(value) if value else None


def home() -> Path:
    """Return TRIPTYCH_HOME, the folder of runs, data, hub and gateway; default `~/.triptych`."""
    value = get("TRIPTYCH_HOME")
    return Path(value).expanduser() if value else Path.home() / ".triptych"


def hub_endpoint() -> str:
    """Return the address of the hub in use."""
    return (get("HF_ENDPOINT") or DEFAULT_HUB_ENDPOINT).rstrip("/")


def snapshot() -> dict[str, str]:
    """Copy the whole environment, for handing a chosen part of it to a child process."""
    return dict(os.environ)


def suggest(name: str, value: str) -> None:
    """Set a variable for what loads or starts later in this process, unless the user has set it."""
    os.environ.setdefault(name, value)
