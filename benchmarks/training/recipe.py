"""Each choice of the recipe switched off, three seeds: what is it worth, and is it certain?

A model of under a million parameters on a million tokens of books; the validation books are
other books. The interval is the two-sided 95 % Student interval of the mean difference between
runs of the same seed.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.training.learn import learn
from benchmarks.training.texts import text_corpus
from triptych.lm.model.transformer import Transformer
from triptych.lm.train.setup import Corpus

SEEDS = (1, 2, 3)
STUDENT_95 = 4.303  # two degrees of freedom
BASE = ["model.size=nano", "train.precision=bfloat16", "train.batch_tokens=2048"]
Change = Callable[[Transformer], None]


def _as_is(model: Transformer) -> None:
    pass


def _not_zero(model: Transformer) -> None:
    model.reset_parameters(zero_outputs=False)


VARIANTS: dict[str, tuple[list[str], Change]] = {
    "the recipe": ([], _as_is),
    "AdamW instead of Muon": (["train.optimizer=adamw"], _as_is),
    "no QK-norm": (["model.model_type=llama"], _as_is),
    "cosine instead of warmup-stable-decay": (["train.schedule=cosine"], _as_is),
    "output projections not zero at first": ([], _not_zero),
    "with averaged weights (EMA 0.98)": (["train.ema_decay=0.98"], _as_is),
}


def run(texts: Path, *, quick: bool) -> tuple[dict[str, Any], str]:
    """Train every variant with every seed."""
    corpus = _books(texts / "books", 1_000_000 if not quick else 100_000)
    steps = 3 if quick else 320
    results: dict[str, list[float]] = {}
    for name, (settings, change) in VARIANTS.items():
        results[name] = [
            learn(
                corpus,
                [*BASE, *settings, f"train.seed={seed}", f"train.steps={steps}"],
                change=change,
            ).scored.bpb
            for seed in (SEEDS[:2] if quick else SEEDS)
        ]
        print(name, [round(bpb, 4) for bpb in results[name]], flush=True)
    base = results["the recipe"]
    rows, figures = [], {}
    for name, bpbs in results.items():
        mean = statistics.mean(bpbs)
        differences = [bpb - reference for bpb, reference in zip(bpbs, base, strict=True)]
        worse = statistics.mean(differences)
        half = STUDENT_95 * statistics.stdev(differences) / len(differences) ** 0.5
        figures[name] = {"bpb": bpbs, "mean": mean, "worse": worse, "interval_95": half}
        shown = "" if name == "the recipe" else f"{worse:+.4f} ± {half:.4f}"
        rows.append(f"| {name} | {mean:.4f} | {shown} |")
    text = f"""Bits per byte on books that training never saw, after {steps * 2048:,} tokens; mean \
of {len(SEEDS)} seeds, and the difference to the recipe with its 95 % interval.

| | bits per byte | difference |
|---|---|---|
{chr(10).join(rows)}

The base: `{" ".join(BASE)}`, vocabulary {corpus.train.vocab_size:,}.
"""
    return {"steps": steps, "variants": figures}, text


def _books(folder: Path, tokens: int) -> Corpus:
    """Take the first books, whole, until there are enough characters; hold every tenth out."""
    files = sorted(folder.glob("*.md"))
    if not files:
        raise SystemExit(f"no books in {folder}: this part needs the texts, see --texts")
    train: list[str] = []
    val: list[str] = []
    for number, file in enumerate(files):
        text = file.read_text(encoding="utf-8")
        if number % 10 == 9:
            val.append(text[: tokens // 20])
        elif sum(map(len, train)) < 4 * tokens:
            train.append(text)
    return text_corpus(train, val[:3], 2048)
