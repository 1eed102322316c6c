"""Run an exported file beside the reference model and measure how far apart they are.

Left out: what difference is too much, which depends on the width of the weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from triptych.lm.generate.engine import Engine

#: Contractions, digits, code, several scripts, an emoji: what exports get wrong first.
PROBE = (
    "The company doesn't sell 1,024 tools in 2026; it's the customers who call again and again.\n\n"
    "def total(prices):\n    return sum(prices) * 1.19  # Köln, crème brûlée, 数字, Ελλάδα 🙂\n"
    "A model that was written down in another format must give the same answer, word for word."
)


@dataclass(frozen=True)
class Parity:
    """How close two engines are on one text.

    Units: `max_difference_nats` over the log-probabilities of the text's own tokens and of the
    five likeliest tokens at each place; `bits_per_byte` of the reference and of the other;
    `same_choice_frac` is the share of places where both would choose the same token.
    """

    tokens: int
    same_tokens: bool
    max_difference_nats: float
    reference_bits_per_byte: float
    bits_per_byte: float
    same_choice_frac: float

    @property
    def loss_bits_per_byte(self) -> float:
        """Return what the other costs beside the reference; below zero where it happens to gain."""
        return self.bits_per_byte - self.reference_bits_per_byte


def compare_engines(
    reference: Engine, other: Engine, text: str = PROBE, *, alternatives: int = 5
) -> Parity:
    """Score one text with both engines; only as much of it as both can read.

    Raises: GenerationError as `Engine.score`.
    """
    ids = reference.encode(text)
    same_tokens = ids == other.encode(text)
    ids = ids[: reference.info.context_length - 1]
    one, two = (engine.score(ids, alternatives=alternatives) for engine in (reference, other))
    worst, agreed = 0.0, 0
    for expected, given in zip(one.tokens[1:], two.tokens[1:], strict=True):
        worst = max(worst, abs(expected.logprob - given.logprob))
        known = {token.token_id: token.logprob for token in given.alternatives}
        for token in expected.alternatives:
            if token.token_id in known:
                worst = max(worst, abs(token.logprob - known[token.token_id]))
        agreed += expected.alternatives[0].token_id == given.alternatives[0].token_id
    return Parity(
        tokens=len(ids),
        same_tokens=same_tokens,
        max_difference_nats=worst,
        reference_bits_per_byte=one.bits_per_byte,
        bits_per_byte=two.bits_per_byte,
        same_choice_frac=agreed / max(one.scored_tokens, 1),
    )


def onnx_difference(
    folder: Path, path: Path, shapes: Sequence[tuple[int, int]] = ((1, 1), (2, 9), (3, 33))
) -> float:
    """Run an ONNX file in onnxruntime and return its largest distance from the model's logits."""
    import numpy as np
    import onnxruntime
    import torch

    from triptych.lm.model.checkpoint import load_model

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    model = load_model(folder, dtype=torch.float32).eval()
    draw = np.random.default_rng(0)
    worst = 0.0
    for shape in shapes:
        ids_BT = draw.integers(0, model.config.vocab_size, shape)
        (given_BTV,) = session.run(None, {"input_ids": ids_BT})
        with torch.no_grad():
            expected_BTV = model(torch.from_numpy(ids_BT)).numpy()
        worst = max(worst, float(np.abs(given_BTV - expected_BTV).max()))
    return worst
