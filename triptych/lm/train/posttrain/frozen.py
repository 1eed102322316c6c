"""What the frozen lower layers give for each text, computed once and kept in memory.

With an adapter on the upper layers only, the lower ones never change, so a text needs them once in
a run. Each text is computed alone: a resumed run, which meets the texts in other company, keeps the
same numbers to the last bit.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from triptych.lm.data.conversations.dataset import Tokens
from triptych.lm.model.transformer import Below, Transformer

#: Memory that kept states may take; texts beyond it are computed again.
MOST_BYTES = 2 * 2**30


class FrozenLayers:
    """The layers below an adapter's lowest."""

    def __init__(self, model: Transformer, first_layer: int) -> None:
        self._model, self._first = model, first_layer
        self._kept: dict[int, tuple[Tokens, Tensor]] = {}
        self._bytes = 0

    def below(self, texts: Sequence[Tokens]) -> Below:
        """Return what the adapted layers begin from, for texts that lie one after another."""
        return self._first, torch.cat([self._states(text) for text in texts], dim=1)

    @torch.no_grad()
    def _states(self, text: Tokens) -> Tensor:
        """Shape: (1, T, C), T one less than the text's tokens."""
        # The text is kept beside its states, so that no other object gets its identity.
        kept = self._kept.get(id(text))
        if kept is not None:
            return kept[1]
        ids = torch.from_numpy(text.ids[None, :-1])
        states = self._model.model(ids, self._model.compute_dtype, upto=self._first)
        size = states.numel() * states.element_size()
        if self._bytes + size <= MOST_BYTES:
            self._bytes += size
            self._kept[id(text)] = text, states
        return states
