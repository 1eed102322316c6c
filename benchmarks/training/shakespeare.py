"""Characters of tinyshakespeare: our recipe in the time a plain GPT takes, and in a quarter of it.

The plain GPT is the one everybody starts with: 4 layers, 4 heads, width 128, context 64, batch
12, 2000 steps of AdamW with cosine decay, in float32. Both read bytes, so losses are nats per
character; the first nine tenths are for training.
"""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.training.learn import Learned, learn, learner_of
from benchmarks.training.texts import corpus_of, read
from triptych.lm.model.tokenizer import Tokenizer
from triptych.lm.train.setup import Corpus

LAYERS, HEADS, WIDTH, CONTEXT, ROWS, STEPS = 4, 4, 128, 64, 12, 2000
OURS = [
    "model.size=nano",
    "model.max_position_embeddings=256",
    "train.batch_tokens=2048",
    "train.precision=bfloat16",
]


def run(texts: Path, *, quick: bool) -> tuple[dict[str, Any], str]:
    """Train the plain GPT, then ours for its whole time and for a quarter."""
    data = read(texts / "tinyshakespeare.txt").encode()[: 20_000 if quick else None]
    cut = int(0.9 * len(data))
    plain_loss, plain_s = plain_gpt(data[:cut], data[cut:], 20 if quick else STEPS)
    corpus = _bytes_corpus(data[:cut], data[cut:])
    quarter, whole = (train_for(corpus, plain_s * share) for share in (0.25, 1.0))
    rows = [
        ("plain GPT", plain_loss, plain_s, STEPS * ROWS * CONTEXT),
        ("ours, a quarter of the time", quarter.scored.loss, quarter.seconds, _tokens(quarter)),
        ("ours, the whole time", whole.scored.loss, whole.seconds, _tokens(whole)),
    ]
    figures = {
        name: {"val_loss": loss, "seconds": seconds, "tokens": tokens}
        for name, loss, seconds, tokens in rows
    }
    table = "\n".join(f"| {n} | {loss:.3f} | {s:.0f} | {t:,} |" for n, loss, s, t in rows)
    text = f"""Validation loss in nats per character; each model at its own context length.

| | val loss | seconds | tokens seen |
|---|---|---|---|
{table}

Ours: `{" ".join(OURS)}`, {whole.recipe.steps} steps in the whole time.
"""
    return figures, text


def train_for(corpus: Corpus, seconds: float) -> Learned:
    """Train ours for a time: measure a step, then plan the whole schedule into the time."""
    probe = learner_of(corpus, [*OURS, "train.steps=24"])
    times = []
    for step in range(24):
        started_s = time.perf_counter()
        probe.step(step)
        times.append(time.perf_counter() - started_s)
    # The first steps also fill caches and fetch memory from the system.
    steps = max(2, int(0.97 * seconds / float(np.median(times[8:]))))
    return learn(corpus, [*OURS, f"train.steps={steps}"])


def _bytes_corpus(train: bytes, val: bytes) -> Corpus:
    tokenizer = Tokenizer.train(iter(["bytes"]), vocab_size=259)
    ids = [tokenizer.encode(part.decode()) for part in (train, val)]
    return corpus_of(tokenizer, ids[:1], ids[1:], tokenizer.vocab_size)


def _tokens(learned: Learned) -> int:
    return learned.recipe.steps * learned.recipe.batch_tokens


class PlainBlock(nn.Module):
    """Attention and a feed-forward map of four times the width, each after a LayerNorm."""

    def __init__(self) -> None:
        super().__init__()
        self.norm_1, self.norm_2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.qkv = nn.Linear(WIDTH, 3 * WIDTH, bias=False)
        self.out = nn.Linear(WIDTH, WIDTH, bias=False)
        self.up = nn.Linear(WIDTH, 4 * WIDTH, bias=False)
        self.down = nn.Linear(4 * WIDTH, WIDTH, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Shape: (B, T, C) to (B, T, C)."""
        batch, length, _ = x.shape
        q, k, v = (
            part.view(batch, length, HEADS, -1).transpose(1, 2)
            for part in self.qkv(self.norm_1(x)).chunk(3, dim=-1)
        )
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(y.transpose(1, 2).reshape(batch, length, WIDTH))
        return x + self.down(F.gelu(self.up(self.norm_2(x))))


class PlainGPT(nn.Module):
    """Learned positions, tied table."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.places = nn.Embedding(256, WIDTH), nn.Embedding(CONTEXT, WIDTH)
        self.blocks = nn.Sequential(*(PlainBlock() for _ in range(LAYERS)))
        self.norm = nn.LayerNorm(WIDTH)
        for name, weight in self.named_parameters():
            if weight.ndim == 2:
                scale = (2 * LAYERS) ** -0.5 if name.endswith(("out.weight", "down.weight")) else 1
                nn.init.normal_(weight, std=0.02 * scale)

    def forward(self, ids: Tensor, targets: Tensor) -> Tensor:
        """Return the mean loss."""
        x = self.table(ids) + self.places(torch.arange(ids.shape[1]))
        logits = F.linear(self.norm(self.blocks(x)), self.table.weight)
        return F.cross_entropy(logits.flatten(0, 1), targets.flatten())


def plain_gpt(train: bytes, val: bytes, steps: int) -> tuple[float, float]:
    """Train the plain GPT; give its validation loss and the seconds of training."""
    torch.manual_seed(1337)
    model = PlainGPT()
    decay = [p for p in model.parameters() if p.ndim == 2]
    rest = [p for p in model.parameters() if p.ndim < 2]
    groups = [{"params": decay, "weight_decay": 0.1}, {"params": rest, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=1e-3, betas=(0.9, 0.99), fused=True)
    data = torch.frombuffer(bytearray(train), dtype=torch.uint8).long()
    started_s = time.perf_counter()
    for step in range(steps):
        share = 0.5 * (1 + math.cos(math.pi * min(1.0, max(0, step - 100) / (STEPS - 100))))
        for group in optimizer.param_groups:
            group["lr"] = 1e-3 * (step + 1) / 101 if step < 100 else 1e-4 + 9e-4 * share
        starts = torch.randint(len(data) - CONTEXT - 1, (ROWS,)).tolist()
        window = torch.stack([data[s : s + CONTEXT + 1] for s in starts])
        loss = model(window[:, :-1], window[:, 1:])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    seconds = time.perf_counter() - started_s
    held = torch.frombuffer(bytearray(val), dtype=torch.uint8).long()
    count = (len(held) - 1) // CONTEXT
    inputs = held[: count * CONTEXT].view(count, CONTEXT)
    targets = held[1 : count * CONTEXT + 1].view(count, CONTEXT)
    with torch.no_grad():
        parts = zip(inputs.split(64), targets.split(64), strict=True)
        total = sum(float(model(x, y)) * len(x) for x, y in parts)
    return total / count, seconds
