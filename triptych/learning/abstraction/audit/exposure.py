"""Exposure of canaries by a counting language model, beside a control that must leak.

The model is a character model of orders up to six with backing off. Trained on the cards it stands
for any model of the abstraction tier; trained on the raw text of the companies it is the control.
It is no transformer: it shows that the cards hold nothing, not how a certain network forgets.
Source: N. Carlini et al., The Secret Sharer, 2019: log2 of the references less log2 of the rank.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from triptych.learning.abstraction.audit.synthetic import SHAPES, secret

ORDER = 6
CANARIES = 100
REFERENCES = 4096
REPEATS = 16
CONTROL_BITS = 10.0
#: Limits under no leak: 99 % of the mean exposure of 100 canaries, 95 % of right guesses of 100.
MEAN_LIMIT_BITS = 1.80
GUESS_LIMIT = 58
CONTROL_GUESSES = 80
_BACK_OFF = 0.4


class CountingModel:
    """A character model: the relative frequency after the longest context that was seen."""

    def __init__(self, texts: Iterable[str]) -> None:
        self._counts: Counter[str] = Counter()
        self._letters = 0
        for text in texts:
            padded = " " * ORDER + text.lower()
            self._letters += len(text)
            for end in range(ORDER, len(padded)):
                for length in range(ORDER + 1):
                    self._counts[padded[end - length : end + 1]] += 1
        self._contexts: Counter[str] = Counter()
        for gram, count in self._counts.items():
            self._contexts[gram[:-1]] += count

    def loss(self, text: str) -> float:
        """Return the negative log-likelihood of a text, in nats; lower is more likely."""
        padded = " " * ORDER + text.lower()
        total = 0.0
        for end in range(ORDER, len(padded)):
            total -= math.log(self._probability(padded, end))
        return total

    def _probability(self, text: str, end: int) -> float:
        factor = 1.0
        for length in range(ORDER, 0, -1):
            gram = text[end - length : end + 1]
            seen = self._counts.get(gram)
            if seen:
                return factor * seen / self._contexts[gram[:-1]]
            factor *= _BACK_OFF
        # Add one: a character never seen has a probability too.
        return factor * (self._counts.get(text[end], 0) + 1) / (self._letters + 256)


@dataclass(frozen=True)
class Canaries:
    """Secrets by shape; those of `inserted` are in the documents, the others are not."""

    inserted: tuple[tuple[str, str], ...]
    held_out: tuple[tuple[str, str], ...]


def draw_canaries(seed: int) -> Canaries:
    """Return `CANARIES` to insert and as many that are held out."""
    drawn = random.Random(seed)
    listed = [(shape, secret(drawn, shape)) for _ in range(CANARIES * 2 // len(SHAPES))
              for shape in SHAPES]  # fmt: skip
    drawn.shuffle(listed)
    return Canaries(tuple(listed[:CANARIES]), tuple(listed[CANARIES:]))


@dataclass(frozen=True)
class Exposure:
    """Mean and largest exposure in bits, and how many of the guesses of membership were right."""

    mean_bits: float
    largest_bits: float
    right_guesses: int
    guesses: int


def exposure(model: CountingModel, canaries: Canaries, seed: int) -> Exposure:
    """Return how far canaries stand out among references that no text holds."""
    drawn = random.Random(seed + 1)
    references = {
        shape: sorted(model.loss(secret(drawn, shape)) for _ in range(REFERENCES))
        for shape in SHAPES
    }
    bits = [_bits(model.loss(text), references[shape], drawn) for shape, text in canaries.inserted]
    # Half of each kind, and "inside" is guessed where a canary stands among the first twentieth.
    half = CANARIES // 2
    asked = [(one, True) for one in canaries.inserted[:half]]
    asked += [(one, False) for one in canaries.held_out[:half]]
    right = 0
    for (shape, text), is_inside in asked:
        stands_out = _bits(model.loss(text), references[shape], drawn) > math.log2(20)
        right += stands_out == is_inside
    return Exposure(sum(bits) / len(bits), max(bits), right, len(asked))


def _bits(loss: float, references: Sequence[float], drawn: random.Random) -> float:
    """Return the exposure; among equals the place is drawn, or ties would look like no leak."""
    less = sum(one < loss for one in references)
    equal = sum(one == loss for one in references)
    rank = 1 + less + drawn.randint(0, equal)
    return math.log2(len(references) + 1) - math.log2(rank)
