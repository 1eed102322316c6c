"""What the model being trained would write: short continuations, equal for equal weights.

Left out: engines, batching and streaming (`lm/generate`), which want a finished checkpoint.
"""

from __future__ import annotations

import torch

from triptych.lm.data.shards import TokenShards
from triptych.lm.model.tokenizer import Tokenizer
from triptych.lm.model.transformer import KVCache, Transformer

TEMPERATURE = 0.7
TOP_P = 0.9


@torch.no_grad()
def continue_text(
    model: Transformer, tokenizer: Tokenizer, prompt: str, *, new_tokens: int, seed: int
) -> str:
    """Continue a prompt by at most `new_tokens` tokens."""
    device = model.lm_head.weight.device
    limit = model.config.max_position_embeddings
    ids = [tokenizer.boundary_id, *tokenizer.encode(prompt)][: max(1, limit - new_tokens)]
    new_tokens = min(new_tokens, limit - len(ids))
    generator = torch.Generator().manual_seed(seed)
    cache = KVCache(model.config, 1, len(ids) + new_tokens, model.compute_dtype, str(device))
    new: list[int] = []
    model.eval()
    step = ids
    for _ in range(new_tokens):
        logits = model(torch.tensor([step], device=device), cache)[0, -1].float().cpu()
        probabilities, order = (logits / TEMPERATURE).softmax(-1).sort(descending=True)
        kept = int((probabilities.cumsum(-1) < TOP_P).sum()) + 1
        choice = torch.multinomial(probabilities[:kept], 1, generator=generator)
        token = int(order[choice])
        if token == tokenizer.boundary_id:
            break
        new.append(token)
        step = [token]
    return tokenizer.decode(new)


def openings(
    val: TokenShards, tokenizer: Tokenizer, *, count: int = 3, tokens: int = 8
) -> list[str]:
    """Give the first words of some documents that training never sees."""
    starts = val.document_starts
    chosen = [int(starts[i * len(starts) // count]) for i in range(min(count, len(starts)))]
    return [tokenizer.decode(val.read(start + 1, tokens).tolist()) for start in chosen]
