"""Decide from evidence whether the documents hold an answer.

A logistic regression over features of the retrieval; no score alone separates. Its coefficients are
fitted by `benchmarks/company.py fit` on two handbooks, and measured on two others
(benchmarks/results/company.md, where it refuses less than is asked for). Left out: the words.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib import resources

from triptych.learning.company.retrieval import Ranked, Weights
from triptych.learning.company.sentences import Sentence

FEATURES = (
    "coverage", "rarest", "sentence", "heading", "pairs", "margin", "bm25", "cosine",
)  # fmt: skip


@dataclass(frozen=True)
class Calibration:
    """The fitted decision: one coefficient a feature, an intercept, and a threshold."""

    coefficients: dict[str, float]
    intercept: float
    threshold: float

    def above(self, threshold: float) -> Calibration:
        """Return the calibration with a threshold at least this high."""
        return replace(self, threshold=max(self.threshold, threshold))

    def always(self) -> Calibration:
        """Return the calibration that refuses nothing that has any evidence."""
        return replace(self, threshold=0.0)

    def probability(self, features: dict[str, float]) -> float:
        """Return the probability that the documents hold an answer."""
        total = self.intercept + sum(
            weight * features.get(name, 0.0) for name, weight in self.coefficients.items()
        )
        return 1 / (1 + math.exp(-max(-30.0, min(30.0, total))))


@cache
def calibration(with_vectors: bool = False) -> Calibration:
    """Return the calibration that comes with the package, with or without vectors."""
    values = json.loads(
        resources.files("triptych.learning.company").joinpath("refusal.json").read_text("utf-8")
    )
    chosen = values["vectors" if with_vectors and "vectors" in values else "words"]
    return Calibration(chosen["coefficients"], chosen["intercept"], chosen["threshold"])


def features(
    ranked: Sequence[Ranked],
    weights: Weights,
    chosen: Sequence[Sentence],
    cosine: float | None = None,
) -> dict[str, float]:
    """Return what the decision is made of, each between 0 and about 1."""
    if not ranked:
        return dict.fromkeys(FEATURES, 0.0)
    top = ranked[0]
    fifth = ranked[min(4, len(ranked) - 1)]
    from triptych.learning.company.words import terms

    held = set(terms(" ".join((top.passage.title, *top.passage.headings, top.passage.text))))
    rarest = max(weights.of, key=lambda one: (weights.of[one], one)) if weights.of else ""
    return {
        "coverage": top.coverage,
        "rarest": float(rarest in held),
        "sentence": chosen[0].coverage if chosen else 0.0,
        "heading": max(one.heading for one in ranked[:3]),
        "pairs": top.pairs,
        "margin": (top.score - fifth.score) / (abs(top.score) or 1.0),
        # Relative to the rarity of the words, so that a larger company gets no larger value.
        "bm25": min(max(top.bm25, 0.0) / (4 * weights.total or 1.0), 1.0),
        "cosine": 0.0 if cosine is None else cosine,
    }
