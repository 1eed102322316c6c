"""Samples of the model being trained: short continuations, the same for the same weights."""

from __future__ import annotations

from collections.abc import Sequence

from triptych.config.generate import Sampling
from triptych.lm.data.shards import TokenShards
from triptych.lm.generate.engine import GenerateRequest
from triptych.lm.generate.torch_engine import TorchEngine
from triptych.lm.model.tokenizer import Tokenizer
from triptych.lm.model.transformer import Transformer


def generate_samples(
    model: Transformer,
    tokenizer: Tokenizer,
    prompts: Sequence[str],
    *,
    new_tokens: int,
    seed: int,
    precision: str,
) -> list[str]:
    """Return a continuation of each prompt, read as the beginning of a document."""
    device = str(model.lm_head.weight.device)
    longest = model.config.max_position_embeddings
    new_tokens = min(new_tokens, longest - 1)
    sampling = Sampling(max_new_tokens=new_tokens, temperature=0.7, top_p=0.9, seed=seed)
    engine = TorchEngine(model, tokenizer, dtype=precision, device=device)
    try:
        return [
            engine.generate(
                GenerateRequest(
                    prompt=[tokenizer.boundary_id, *tokenizer.encode(prompt)][
                        : longest - new_tokens
                    ],
                    sampling=sampling,
                )
            ).text
            for prompt in prompts
        ]
    finally:
        engine.close()


def document_prompts(
    val: TokenShards, tokenizer: Tokenizer, *, count: int = 3, tokens: int = 8
) -> list[str]:
    """Return the first tokens of some validation documents, as text."""
    starts = val.document_starts
    chosen = [int(starts[i * len(starts) // count]) for i in range(min(count, len(starts)))]
    return [tokenizer.decode(val.read(start + 1, tokens).tolist()) for start in chosen]
