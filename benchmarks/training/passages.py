"""Tokens needed at 35.8 M parameters beside the original's recipe: GPT-2, AdamW, cosine.

The text is one passage a line; duplicates and near duplicates across the split are dropped while
the corpus is built. Both read the same tokens.
"""

from __future__ import annotations

import math
import tempfile
from pathlib import Path
from typing import Any

import torch

from benchmarks.training.learn import learn
from benchmarks.training.texts import read
from triptych.config.data import DataConfig
from triptych.lm.data import loader
from triptych.lm.data.build import build_corpus
from triptych.lm.train.setup import Corpus

VOCAB, CONTEXT, ROWS, PASSES = 32_000, 512, 4, 1
RATE, DECAY = 3e-4, 0.01


def run(texts: Path, *, quick: bool) -> tuple[dict[str, Any], str]:
    """Train the original's recipe for a pass, then ours until it is as good."""
    corpus = _corpus(texts / "squad-passages.txt")
    tokens = len(corpus.train)
    steps = 4 if quick else PASSES * tokens // (CONTEXT * ROWS)
    bpb = original(corpus, steps)
    settings = [
        "model.size=small",
        f"train.context_length={CONTEXT}",
        f"train.batch_tokens={CONTEXT * ROWS}",
        f"train.steps={max(2, steps // 2)}",
        "train.precision=bfloat16",
    ]
    ours = learn(
        corpus,
        settings,
        evaluate_every=max(1, steps // 40),
        eval_tokens=65_536,
        enough=lambda scored: scored.bpb <= bpb,
    )
    needed = ours.curve[-1][0]
    theirs = steps * CONTEXT * ROWS
    figures = {
        "original": {"bpb": bpb, "tokens": theirs},
        "ours": {"bpb": ours.scored.bpb, "tokens": needed},
        "tokens_frac": needed / theirs,
        "curve": ours.curve,
    }
    text = f"""{tokens:,} training tokens, vocabulary {VOCAB:,}; bits per byte of held-out passages.

| | bits per byte | tokens seen |
|---|---|---|
| the original's recipe | {bpb:.4f} | {theirs:,} |
| ours | {ours.scored.bpb:.4f} | {needed:,} |

Ours needs {needed / theirs:.0%} of the tokens.
"""
    return figures, text


def original(corpus: Corpus, steps: int) -> float:
    """Train the original's shape and recipe; give bits per byte."""
    import transformers

    torch.manual_seed(1)
    config = transformers.GPT2Config(
        vocab_size=corpus.train.vocab_size, n_positions=1024, n_embd=512, n_layer=6, n_head=8
    )
    model = transformers.GPT2LMHeadModel(config)
    groups = [
        {"params": [p for p in model.parameters() if p.ndim >= 2], "weight_decay": DECAY},
        {"params": [p for p in model.parameters() if p.ndim < 2], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=RATE, betas=(0.9, 0.95), fused=True)
    batches = loader.batches_per_epoch(corpus.train, ROWS, CONTEXT)
    warm = max(1, steps // 10)
    for step in range(steps):
        done = max(0.0, (step - warm) / max(1, steps - warm))
        share = (step + 1) / warm if step < warm else 0.55 + 0.45 * math.cos(math.pi * done)
        for group in optimizer.param_groups:
            group["lr"] = RATE * min(1.0, share)
        epoch, index = loader.locate(step, batches)
        inputs, targets = loader.batch(
            corpus.train, seed=1, epoch=epoch, index=index, batch_size=ROWS, sequence_length=CONTEXT
        )
        with torch.autocast("cpu", torch.bfloat16):
            logits = model(torch.from_numpy(inputs)).logits
        loss = torch.nn.functional.cross_entropy(
            logits.float().flatten(0, 1), torch.from_numpy(targets).flatten()
        )
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if step % 20 == 0:
            print(
                f"the original's recipe: step {step} of {steps}, loss {loss.item():.3f}", flush=True
            )
    return _bits_per_byte(model.eval(), corpus)


@torch.no_grad()
def _bits_per_byte(model: Any, corpus: Corpus) -> float:
    nats, text_bytes = 0.0, 0
    for start in range(0, len(corpus.val) - 1, CONTEXT):
        ids = corpus.val.read(start, CONTEXT + 1).astype("int64")
        with torch.autocast("cpu", torch.bfloat16):
            logits = model(torch.from_numpy(ids[None, :-1])).logits
        nats += float(
            torch.nn.functional.cross_entropy(
                logits[0].float(), torch.from_numpy(ids[1:]), reduction="sum"
            )
        )
        text_bytes += int(corpus.byte_lengths[ids[1:]].sum())
    return nats / math.log(2) / text_bytes


def _corpus(path: Path) -> Corpus:
    read(path)
    folder = Path(tempfile.mkdtemp(prefix="triptych-bench-")) / "corpus"
    config = DataConfig(vocab_size=VOCAB, text_documents="line", validation_frac=0.05)
    build_corpus([str(path)], folder, config)
    return Corpus.open(folder)
