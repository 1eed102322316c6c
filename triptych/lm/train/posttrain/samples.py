"""Answers of the model being trained to a few prompts: the likeliest words, so nothing is drawn."""

from __future__ import annotations

from collections.abc import Sequence

from triptych.config.generate import Sampling
from triptych.lm.data.conversations.dataset import Example
from triptych.lm.data.conversations.formats import Message
from triptych.lm.generate.engine import GenerateRequest
from triptych.lm.generate.torch_engine import TorchEngine
from triptych.lm.model.tokenizer import Tokenizer
from triptych.lm.model.transformer import Transformer


def first_prompts(rows: Sequence[Example], count: int = 3) -> list[list[Message]]:
    """Return the prompts of the first rows, each prompt once."""
    prompts: list[list[Message]] = []
    for row in rows:
        if len(prompts) < count and row.prompt not in prompts:
            prompts.append(row.prompt)
    return prompts


def answer_prompts(
    model: Transformer,
    tokenizer: Tokenizer,
    chats: Sequence[Sequence[Message]],
    *,
    new_tokens: int,
    precision: str,
) -> list[str]:
    """Return the model's answer to each chat."""
    longest = model.config.max_position_embeddings
    sampling = Sampling(max_new_tokens=min(new_tokens, longest - 1), temperature=0.0)
    device = str(model.lm_head.weight.device)
    was_training = model.training
    engine = TorchEngine(model.eval(), tokenizer, dtype=precision, device=device)
    try:
        texts = []
        for chat in chats:
            ids = tokenizer.encode_chat(list(chat), add_generation_prompt=True)
            prompt = ids[-(longest - sampling.max_new_tokens) :]
            texts.append(engine.generate(GenerateRequest(prompt=prompt, sampling=sampling)).text)
        return texts
    finally:
        engine.close()
        model.train(was_training)
