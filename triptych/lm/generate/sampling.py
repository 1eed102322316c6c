"""How the next token is drawn from one row of logits.

Every answer has its own random numbers and its own row, so nothing here sees the batch.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Mapping

import torch
from torch import Tensor

from triptych.config.generate import Sampling

# Enough of the head of a distribution for nearly every top-p; the rest is sorted only if needed.
_HEAD = 256


class Sampler:
    """Draw the tokens of one answer.

    The repetition penalty applies to the prompt's tokens and to each one drawn, the presence and
    frequency penalties to those drawn.
    """

    def __init__(self, sampling: Sampling, prompt_ids: list[int]) -> None:
        self.sampling = sampling
        self._random = random.Random(sampling.seed)
        self._seen = dict.fromkeys(prompt_ids)
        self._drawn: Counter[int] = Counter()

    def draw(self, logits_V: Tensor) -> int:
        """Choose the next token.

        Shape: (V,) float32.
        """
        sampling = self.sampling
        if sampling.logit_bias:
            logits_V = _added(logits_V, dict(sampling.logit_bias))
        if sampling.repetition_penalty != 1.0:
            logits_V = self._penalise(logits_V)
        if self._drawn and (sampling.presence_penalty or sampling.frequency_penalty):
            once, each = sampling.presence_penalty, sampling.frequency_penalty
            logits_V = _added(logits_V, {t: -once - each * n for t, n in self._drawn.items()})
        if sampling.temperature == 0.0:
            token_id = int(logits_V.argmax())
        else:
            ids, probabilities = candidates(logits_V, sampling)
            token_id = self._pick(ids, probabilities)
        self._seen[token_id] = None
        self._drawn[token_id] += 1
        return token_id

    def _penalise(self, logits_V: Tensor) -> Tensor:
        """Make the tokens of prompt and answer less likely.

        Shape: (V,) to (V,).
        Source: Keskar et al. 2019 (CTRL), with the sign taken into account as transformers does.
        """
        penalty = self.sampling.repetition_penalty
        seen = torch.tensor(list(self._seen), device=logits_V.device)
        values = logits_V[seen]
        return logits_V.index_copy(
            0, seen, torch.where(values < 0, values * penalty, values / penalty)
        )

    def _pick(self, ids: Tensor | None, probabilities: Tensor) -> int:
        """Invert the cumulative distribution at one uniform number.

        Shape: ids and probabilities (J,).
        """
        cumulative = probabilities.double().cumsum(0)
        point = self._random.random() * float(cumulative[-1])
        place = int(torch.searchsorted(cumulative, point, right=True))
        place = min(place, len(cumulative) - 1)
        return place if ids is None else int(ids[place])


def _added(logits_V: Tensor, amounts: Mapping[int, float]) -> Tensor:
    """Add to single logits.

    Shape: (V,) to (V,).
    """
    ids = torch.tensor(list(amounts), device=logits_V.device)
    values = torch.tensor(list(amounts.values()), dtype=logits_V.dtype, device=logits_V.device)
    return logits_V.index_add(0, ids, values)


def candidates(logits_V: Tensor, sampling: Sampling) -> tuple[Tensor | None, Tensor]:
    """Return the tokens that temperature, top-k, top-p and min-p leave, with their probabilities.

    Shape: (V,) to ids (J,) and float32 probabilities (J,) that sum to 1; ids None means all.
    """
    logits = logits_V / sampling.temperature
    ids: Tensor | None = None
    if 0 < sampling.top_k < len(logits):
        logits, ids = logits.topk(sampling.top_k)
    if sampling.top_p < 1.0:
        logits, ids = _top_p(logits, ids, sampling.top_p)
    if sampling.min_p > 0.0:
        keep = logits >= logits.max() + math.log(sampling.min_p)
        ids = keep.nonzero()[:, 0] if ids is None else ids[keep]
        logits = logits[keep]
    return ids, logits.softmax(0)


def _top_p(logits: Tensor, ids: Tensor | None, top_p: float) -> tuple[Tensor, Tensor]:
    """Keep the most probable tokens until their sum reaches `top_p`; never fewer than one.

    Shape: logits and ids (J,) to at most as many, the most probable first.
    """
    total = logits.logsumexp(0)
    for count in (min(_HEAD, len(logits)), len(logits)):
        ordered, order = logits.topk(count)
        before = (ordered - total).exp().cumsum(0).roll(1)
        before[0] = 0.0
        kept = max(1, int((before < top_p).sum()))
        if kept < count:
            break
    order = order[:kept]
    return ordered[:kept], order if ids is None else ids[order]
