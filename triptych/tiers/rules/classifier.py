"""Guess which tier a question is for: a calibrated logistic regression over hashed n-grams.

Plain Python and a small file of whole numbers, so that it costs a fraction of a millisecond and no
dependency. It abstains when it is not sure; the selector then takes the base tier. Policy stands
above it and it never sees the caller. `benchmarks/selector.py` trains and evaluates it.
"""

from __future__ import annotations

import base64
import math
import re
import zlib
from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import orjson

from triptych.errors import ConfigError

FORMAT_VERSION = 1
BUCKETS = 1 << 14
CHARACTERS_READ = 400
MODEL_FILE = Path(__file__).with_name("classifier.json")
_WORD = re.compile(r"[^\W_]+(?:'[a-z]+)?")


def features(text: str) -> list[int]:
    """Hash a text's words, word pairs and character n-grams, each once.

    Only the beginning and the end of a long text are read: that is where a question stands.
    """
    if len(text) > CHARACTERS_READ:
        half = CHARACTERS_READ // 2
        text = f"{text[:half]} {text[-half:]}"
    words = _WORD.findall(text.lower())
    return list(
        {zlib.crc32(gram.encode("utf-8", "replace")) & (BUCKETS - 1) for gram in _grams(words)}
    )


def _grams(words: Sequence[str]) -> Iterator[str]:
    previous = "^"
    for word in words:
        yield word
        yield f"{previous} {word}"
        previous = word
        padded = f"<{word}>"
        for start in range(len(padded) - 3):
            yield padded[start : start + 4]
    yield f"{previous} $"
    yield "#" + str(min(len(words) // 4, 8))


class NgramClassifier:
    """Hold the weights and tell a text's tier, or abstain."""

    def __init__(self, model: dict[str, Any]) -> None:
        if model.get("format_version") != FORMAT_VERSION or model.get("buckets") != BUCKETS:
            raise ConfigError(
                "the classifier's file is of another version",
                hint="train it again: python benchmarks/selector.py --write",
            )
        self.version = str(model["version"])
        self.labels: tuple[str, ...] = tuple(model["labels"])
        self.threshold = float(model["threshold"])
        self._scale = float(model["scale"]) / float(model["temperature"])
        self._bias = [float(b) / float(model["temperature"]) for b in model["bias"]]
        self._weights = [array("b", base64.b85decode(text)) for text in model["weights"]]

    @classmethod
    def load(cls, file: Path = MODEL_FILE) -> NgramClassifier:
        """Load the trained weights."""
        return cls(orjson.loads(file.read_bytes()))

    def probabilities(self, text: str) -> list[float]:
        """Return each label's calibrated probability."""
        found = features(text)
        scale = self._scale / math.sqrt(len(found))
        scores = [
            bias + scale * sum([weights[bucket] for bucket in found])
            for bias, weights in zip(self._bias, self._weights, strict=True)
        ]
        top = max(scores)
        powers = [math.exp(score - top) for score in scores]
        whole = sum(powers)
        return [power / whole for power in powers]

    def classify(self, text: str) -> tuple[str | None, float]:
        """Return the tier and its probability; None as the tier when not sure enough."""
        probabilities = self.probabilities(text)
        probability = max(probabilities)
        if probability < self.threshold:
            return None, probability
        return self.labels[probabilities.index(probability)], probability


def pack(
    weights: Sequence[Sequence[float]],
    bias: Sequence[float],
    labels: Sequence[str],
    *,
    temperature: float,
    threshold: float,
    about: dict[str, Any],
) -> dict[str, Any]:
    """Write trained weights as the file's content, each weight in one byte."""
    top = max(max(abs(w) for w in row) for row in weights)
    scale = top / 127
    rows = [array("b", (round(w / scale) for w in row)).tobytes() for row in weights]
    return {
        "format_version": FORMAT_VERSION,
        "version": f"ngram-{zlib.crc32(b''.join(rows)):08x}",
        "buckets": BUCKETS,
        "labels": list(labels),
        "scale": scale,
        "bias": [round(float(b), 6) for b in bias],
        "temperature": round(temperature, 4),
        "threshold": threshold,
        "weights": [base64.b85encode(row).decode() for row in rows],
        **about,
    }
