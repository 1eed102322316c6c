"""How an adapter moves a text, taken when it is saved, so that a server can prove that it acts.

The texts are fixed and public, so that a published record holds nothing of the training rows. Left
out: comparing with what an engine computes (`lm/generate/adapters`).
"""

from __future__ import annotations

import torch
from torch import Tensor

from triptych.lm.model.adapter_record import Probe
from triptych.lm.model.lora import without_adapter
from triptych.lm.model.tokenizer import Tokenizer
from triptych.lm.model.transformer import Transformer

#: Tokens of a probe. An engine scores them one at a time, so each costs a server's start a step.
_LONGEST = 24
_CHATS = (
    ("What is the capital of France?", "The capital of France is Paris."),
    ("Who can help me with my order?", "Please write to us, and we will answer within a day."),
    ("Write a short sentence.", "Sorry, I do not know. Can you tell me more about it?"),
    ("2 + 2 = ?", "No. Yes, it is 4: first 2, then 2 more."),
)


def probe_texts(tokenizer: Tokenizer) -> list[list[int]]:
    """Return some fixed chats as the model reads them, each cut to its last tokens."""
    texts = []
    for question, answer in _CHATS:
        if tokenizer.chat_template is None:
            ids = tokenizer.encode(f"{question}\n{answer}")
        else:
            turns = [
                {"role": "user", "content": question},
                {"role": "assistant", "content": answer},
            ]
            ids = tokenizer.encode_chat(turns)
        texts.append(ids[-_LONGEST:])
    return texts


@torch.no_grad()
def take_probe(model: Transformer, texts: list[list[int]]) -> Probe:
    """Return the text that the adapter moves most, with its figures with and without it."""
    was_training, precision = model.training, model.compute_dtype
    model.eval()
    # A server may compute in any precision: the figures to compare with are exact.
    model.compute_dtype = torch.float32
    probes = []
    for ids in texts:
        adapted = _logps(model, ids)
        with without_adapter(model):
            base = _logps(model, ids)
        moved = float((adapted - base).square().mean())
        probes.append((moved, Probe(tuple(ids), tuple(base.tolist()), tuple(adapted.tolist()))))
    model.train(was_training)
    model.compute_dtype = precision
    return max(probes, key=lambda one: one[0])[1]


def _logps(model: Transformer, ids: list[int]) -> Tensor:
    """Shape: float32 (T - 1,), on the CPU."""
    text = torch.tensor([ids], device=model.lm_head.weight.device)
    return -model.marked_losses(text[:, :-1], text[:, 1:]).float().cpu()
