"""How fast a corpus is built, stage by stage, and how near tokenising comes to the bare library.

`python benchmarks/corpus.py` builds a corpus from the books in ../shared/data (--text), times
each stage, then tokenises the same documents with `tokenizers` alone and with our last pass, by
turns. `--gigabytes 1` does the first part again with so much text, drawn sentence by sentence
from the books, and reports the peak of memory. Writes results/corpus.json and corpus.md.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import re
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime
from itertools import chain
from multiprocessing import get_context
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
RESULTS = ROOT / "benchmarks" / "results"


class Stages:
    """Add up the seconds between the first sign of a stage and the first of the next."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._current = ""
        self._since_s = time.perf_counter()

    def __call__(self, stage: str, done_bytes: float, total_bytes: float | None) -> None:
        stage = re.sub(r"^reading (?!the ).*", "reading and cleaning", stage)
        if stage != self._current:
            self.finish()
            self._current = stage

    def finish(self) -> None:
        """Close the stage that runs."""
        now_s = time.perf_counter()
        name = self._current or "reading and cleaning"
        self.seconds[name] = self.seconds.get(name, 0.0) + now_s - self._since_s
        self._since_s = now_s


def build(source: Path, out: Path, vocab_size: int) -> dict[str, Any]:
    """Build a corpus and return its size, the seconds of each stage, and the peak of memory."""
    from triptych.config.data import DataConfig
    from triptych.lm.data.build import build_corpus

    stages = Stages()
    manifest = build_corpus(
        [str(source)], out, DataConfig(vocab_size=vocab_size), on_progress=stages
    )
    stages.finish()
    return {
        "bytes": manifest["sources"][0]["bytes"],
        "documents": manifest["sources"][0]["documents"],
        "tokens": sum(count["tokens"] for count in manifest["counts"].values()),
        "vocab_size": manifest["vocab_size"],
        "stages_s": stages.seconds,
        "peak_memory_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }


def alone(work: Callable[..., dict[str, Any]], *arguments: Any) -> dict[str, Any]:
    """Do a piece of work in a process of its own, so that its peak of memory is its own."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(work, *arguments).result()


def tokenising(corpus: Path, repeats: int) -> dict[str, Any]:
    """Compare our last pass with the bare library on the same documents, by turns.

    Bare is one call of `encode_batch` or `encode_batch_fast` with every document in memory,
    whichever is faster, its ids never looked at. Ours reads parquet and leaves checksummed shards.
    """
    from triptych.config.data import DataConfig
    from triptych.lm.data.documents import read_texts
    from triptych.lm.data.tokenise import tokenise
    from triptych.lm.model.tokenizer import Tokenizer

    tokenizer = Tokenizer.load(corpus / "tokenizer")
    splits = ("train", "val")
    texts = [t for s in splits for t in chain.from_iterable(read_texts(corpus / "documents", s))]
    size_mb = sum(len(text.encode()) for text in texts) / 1e6

    def ours() -> None:
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "documents").symlink_to(corpus / "documents")
            tokenise(tokenizer, Path(folder), DataConfig(), 1, lambda *_: None)

    ways: dict[str, Callable[[], object]] = {
        "encode_batch": lambda: tokenizer.core.encode_batch(texts, add_special_tokens=False),
        "encode_batch_fast": lambda: tokenizer.core.encode_batch_fast(
            texts, add_special_tokens=False
        ),
        "triptych": ours,
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(repeats + 1):
        for name, way in ways.items():
            start_s = time.perf_counter()
            way()
            seconds[name].append(time.perf_counter() - start_s)
    # The first round warms the library's cache of words, for everyone.
    rates = {name: size_mb / statistics.median(times[1:]) for name, times in seconds.items()}
    bare = max(rate for name, rate in rates.items() if name != "triptych")
    return {
        "megabytes": size_mb,
        "repeats": repeats,
        "mb_per_s": rates,
        "of_bare_frac": rates["triptych"] / bare,
    }


def sentences(books: Path, out: Path, size_bytes: int) -> None:
    """Write documents of 2 to 14 sentences of the books, in an order that is always the same."""
    generator = random.Random(0)
    pool: list[str] = []
    for book in sorted(books.glob("*.md")):
        text = re.sub(r"\s+", " ", book.read_text(encoding="utf-8", errors="ignore"))
        pool += [s for s in re.split(r"(?<=[.!?]) ", text) if 20 < len(s) < 400]
    with out.open("w", encoding="utf-8") as file:
        while size_bytes > 0:
            text = " ".join(generator.choices(pool, k=generator.randint(2, 14)))
            size_bytes -= file.write(json.dumps({"text": text}, ensure_ascii=False) + "\n")


def table(title: str, built: dict[str, Any]) -> list[str]:
    """Draw the stages of one build."""
    size_mb = built["bytes"] / 1e6
    total_s = sum(built["stages_s"].values())
    lines = [
        f"{title}: {size_mb:,.1f} MB in {built['documents']:,} documents, "
        f"{built['tokens']:,} tokens of {built['vocab_size']:,}; "
        f"peak memory {built['peak_memory_bytes'] / 1e6:,.0f} MB.",
        "",
        "| stage | seconds | MB/s |",
        "|---|---:|---:|",
    ]
    for stage, seconds in [*built["stages_s"].items(), ("all", total_s)]:
        lines.append(f"| {stage} | {seconds:.2f} | {size_mb / max(seconds, 1e-9):,.1f} |")
    return [*lines, ""]


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--text", type=Path, default=ROOT.parent / "shared" / "data" / "books")
    parser.add_argument("--vocab-size", type=int, default=8192)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--gigabytes", type=float, default=0)
    args = parser.parse_args()
    os.environ["TOKENIZERS_PARALLELISM"] = "true"
    figures: dict[str, Any] = {
        "format_version": 1,
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()}",
        "load_1min": os.getloadavg()[0],
    }
    with tempfile.TemporaryDirectory() as folder:
        corpus = Path(folder) / "corpus"
        figures["books"] = alone(build, args.text, corpus, args.vocab_size)
        figures["tokenising"] = tokenising(corpus, args.repeats)
        lines = table("Books", figures["books"])
        if args.gigabytes:
            source = Path(folder) / "sentences.jsonl"
            sentences(args.text, source, int(args.gigabytes * 1e9))
            large = Path(folder) / "large"
            figures["large"] = alone(build, source, large, args.vocab_size)
            lines += table("Sentences drawn from the books", figures["large"])
    rates = figures["tokenising"]["mb_per_s"]
    lines += [
        "Tokenising, MB/s: "
        + ", ".join(f"`{name}` {rate:.2f}" for name, rate in rates.items())
        + f". Ours, shards written, is {figures['tokenising']['of_bare_frac']:.0%} of the faster "
        f"bare call (median of {args.repeats}, by turns).",
        "",
        f"{figures['date']}, {figures['machine']}, load {figures['load_1min']:.1f} at the start; "
        "`python benchmarks/corpus.py`"
        + (f" with --gigabytes {args.gigabytes:g}." if args.gigabytes else "."),
    ]
    text = "# Corpus building\n\n" + "\n".join(lines) + "\n"
    print(text)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "corpus.json").write_text(json.dumps(figures, indent=2) + "\n")
    (RESULTS / "corpus.md").write_text(text)


if __name__ == "__main__":
    main()
