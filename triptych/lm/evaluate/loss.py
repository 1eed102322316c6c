"""Loss and bits per byte of a model on tokens, read in windows.

Bits per byte divide by the bytes of text that the tokens stand for, so models with different
tokenizers can be compared; the boundary token has no bytes, but its bits count. Left out: where
tokens come from.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from triptych.errors import EvaluationError
from triptych.lm.model.transformer import Transformer

IGNORED = -100
Read = Callable[[int, int], np.ndarray]


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """The scores of a model.

    Units: `nats` summed over `tokens`, which stand for `text_bytes`; `preference_loss` is what
        DPO or KTO minimise, `margin` and `accuracy` say how far, and in what share of the pairs,
        the preferred answer has gained more on the reference than the other; `kl` is KTO's
        estimate of the divergence from the reference, and `general_bpb` the bits per byte of text
        that has nothing to do with the training.
    """

    nats: float
    tokens: int
    text_bytes: int
    seconds: float
    preference_loss: float | None = None
    margin: float | None = None
    accuracy: float | None = None
    kl: float | None = None
    general_bpb: float | None = None

    @property
    def loss(self) -> float:
        """Return what is minimised: the mean nats per token, or the preference loss."""
        return self.nats / self.tokens if self.preference_loss is None else self.preference_loss

    @property
    def perplexity(self) -> float:
        """Return the exponential of the loss; infinite where a float cannot hold it."""
        return math.exp(self.loss) if self.loss < 700 else math.inf

    @property
    def bpb(self) -> float:
        """Return the bits per byte of text."""
        return self.nats / math.log(2) / self.text_bytes if self.text_bytes else math.inf

    @property
    def tok_per_s(self) -> float:
        """Return the tokens scored per second."""
        return self.tokens / self.seconds


def window_starts(length: int, context_length: int, max_tokens: int | None) -> list[int]:
    """Return where windows begin: end to end over a text, or fewer, spread evenly over it.

    Units: a window at `s` predicts tokens `s + 1` to `s + context_length`.
    """
    starts = list(range(0, length - 1, context_length))
    wanted = len(starts)
    if max_tokens is not None and max_tokens < length - 1:
        wanted = min(wanted, max(1, max_tokens // context_length))
    return [starts[i * len(starts) // wanted] for i in range(wanted)]


@torch.no_grad()
def measure(
    model: Transformer,
    read: Read,
    length: int,
    byte_lengths: np.ndarray,
    *,
    context_length: int,
    batch_size: int,
    max_tokens: int | None = None,
) -> Measurement:
    """Return the scores of a model on the tokens that `read(start, count)` returns.

    Every window predicts its tokens without any context from before it, so a shorter
    `context_length` scores worse.

    Shape: `byte_lengths` (V,); `read` returns (count,), or fewer at the end.
    Raises: EvaluationError where there are fewer than two tokens.
    """
    if length < 2:
        raise EvaluationError(
            "there is nothing to evaluate: fewer than two tokens", hint="use a longer text"
        )
    device = model.lm_head.weight.device
    starts = window_starts(length, context_length, max_tokens)
    nats, tokens, text_bytes = 0.0, 0, 0
    was_training = model.training
    model.eval()
    started_s = time.perf_counter()
    for first in range(0, len(starts), batch_size):
        windows = [read(s, context_length + 1) for s in starts[first : first + batch_size]]
        widest = max(len(window) for window in windows) - 1
        ids = np.zeros((len(windows), widest), dtype=np.int64)
        targets = np.full((len(windows), widest), IGNORED, dtype=np.int64)
        for row, window in enumerate(windows):
            ids[row, : len(window) - 1] = window[:-1]
            targets[row, : len(window) - 1] = window[1:]
            tokens += len(window) - 1
            text_bytes += int(byte_lengths[window[1:].astype(np.int64)].sum())
        losses = model.token_losses(
            torch.from_numpy(ids).to(device), torch.from_numpy(targets).to(device)
        )
        nats += float(losses.double().sum())
    model.train(was_training)
    return Measurement(
        nats=nats,
        tokens=tokens,
        text_bytes=text_bytes,
        seconds=time.perf_counter() - started_s,
    )
