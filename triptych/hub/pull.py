"""Bring a model from a hub to this machine: by name and revision, only what loading it takes.

Left out: loading it (`lm`), and references that are not repositories (`cli`).
"""

from __future__ import annotations

from pathlib import Path

from triptych.hub.client import Hub
from triptych.hub.record import MODEL_FILES
from triptych.hub.repository import Repo, split_revision

# Pickled weights are never fetched: loading them can run code.
_WANTED = (
    *MODEL_FILES,
    "*.safetensors",
    "model.gguf",
    "gguf.json",
    "*.safetensors.index.json",
    "manifest.json",
    "training_record.json",
    "README.md",
    "LICENSE*",
)
_UNWANTED = ("optimizer.safetensors", "onnx/*", "original/*")


def is_repository(reference: str) -> bool:
    """Return whether a reference has the form `owner/name` or `owner/name@revision`."""
    name, _ = split_revision(reference.removeprefix("hf://"))
    owner, slash, rest = name.partition("/")
    return bool(slash and owner and rest) and "/" not in rest and not owner.startswith((".", "~"))


def pull(reference: str, hub: Hub | None = None, *, everything: bool = False) -> Path:
    """Fetch a model into the local cache and return its folder, named by its commit.

    Without a network, what the cache already has of that revision is used.

    Raises: RepositoryNotFound, RevisionNotFound, HubUnavailable.
    """
    name, revision = split_revision(reference)
    hub = hub or Hub()
    if everything:
        return hub.download(Repo.parse(name), revision)
    return hub.download(Repo.parse(name), revision, allow=_WANTED, ignore=_UNWANTED)
