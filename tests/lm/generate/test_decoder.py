"""The packed decoder: whatever shares a product with an answer, its numbers stay the same."""

from __future__ import annotations

import torch
from torch import Tensor

from tests.lm.generate.conftest import build_model
from triptych.lm.generate.packed.decoder import AnswerCache, PackedDecoder
from triptych.lm.generate.packed.layout import MIN_ROWS


class RowsMatter(PackedDecoder):
    """A library whose products round differently for every number of rows."""

    def logits(self, hidden_TC: Tensor) -> Tensor:
        return super().logits(hidden_TC) + 1e-6 * max(hidden_TC.shape[0], MIN_ROWS)


def read(decoder: PackedDecoder, prompt: list[int]) -> AnswerCache:
    cache = AnswerCache(decoder, 64)
    decoder.prefill(prompt, cache)
    return cache


def steps(decoder: PackedDecoder, together: bool) -> list[Tensor]:
    prompts = [[3, 4, 5], [7], [9, 10, 11, 12, 13], [2, 3], [8, 8, 8]]
    caches = [read(decoder, prompt) for prompt in prompts]
    ids = list(range(20, 25))
    if together:
        return list(decoder.step(ids, caches))
    return [decoder.step([token], [cache])[0] for token, cache in zip(ids, caches, strict=True)]


def test_rows_that_would_change_each_other_are_kept_apart() -> None:
    model = build_model()
    sound, touchy = (kind(model, torch.float32) for kind in (PackedDecoder, RowsMatter))
    for decoder in (sound, touchy):
        for alone, batched in zip(steps(decoder, False), steps(decoder, True), strict=True):
            assert torch.equal(alone, batched)
    assert not touchy._rows_agree(5)


def test_a_cache_grows_without_losing_what_was_read() -> None:
    decoder = PackedDecoder(build_model(), torch.float32)
    prompt = [3 + token % 300 for token in range(505)]
    cache = AnswerCache(decoder, 600)
    decoder.prefill(prompt, cache)
    for token in range(20):
        logits = decoder.step([3 + token], [cache])
    with torch.no_grad():
        expected = build_model()(torch.tensor([[*prompt, *range(3, 23)]]))[0, -1]
    assert torch.allclose(logits[0], expected, atol=1e-4)
    assert cache.data.shape[3] == 600
