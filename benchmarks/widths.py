"""What each width of the weights costs: bits per byte beside the exact reference, bytes, choices.

Windows of a text are scored by the torch engine in float32 and by llama.cpp on our GGUF files of
every width. The model must be a trained one: `python benchmarks/widths.py CHECKPOINT TEXT`.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

from report import environment, write_results

from triptych.lm.export.gguf import GGUF_TYPES, export_gguf
from triptych.lm.generate.llama_cpp import LlamaCppEngine, LlamaCppOptions
from triptych.lm.generate.parity import Parity, compare_engines
from triptych.lm.generate.torch_engine import TorchEngine


def main() -> None:
    """Measure and write results/widths.json and .md."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("text", type=Path)
    parser.add_argument("--windows", type=int, default=6)
    args = parser.parse_args()
    reference = TorchEngine.load(args.checkpoint, dtype="float32", max_batch=1)
    text = args.text.read_text(encoding="utf-8")
    step = len(text) // (args.windows + 1)
    windows = [text[step * (n + 1) :][:1200] for n in range(args.windows)]
    found: dict[str, Any] = {
        "machine": environment(),
        "model": f"{reference.info.parameters / 1e6:.1f} M parameters, trained",
        "text": f"{args.text.name}, {args.windows} windows of 1,200 characters",
    }
    with tempfile.TemporaryDirectory(prefix="triptych-bench-") as temporary:
        for dtype in GGUF_TYPES:
            file = Path(temporary) / f"{dtype}.gguf"
            export_gguf(args.checkpoint, file, dtype=dtype)
            engine = LlamaCppEngine(args.checkpoint, file, LlamaCppOptions(dtype=dtype))
            try:
                found[dtype] = summed(
                    [compare_engines(reference, engine, window) for window in windows],
                    file.stat().st_size,
                )
            finally:
                engine.close()
            print(dtype, found[dtype], flush=True)
    reference.close()
    write_results("widths", found)


def summed(parities: list[Parity], size_bytes: int) -> dict[str, float | int]:
    """Put the windows of one width together, each weighing as many tokens as it has."""
    tokens = sum(one.tokens for one in parities)

    def mean(values: list[float]) -> float:
        pairs = zip(values, parities, strict=True)
        return sum(value * one.tokens for value, one in pairs) / tokens

    return {
        "file, MB": round(size_bytes / 1e6, 2),
        "tokens": tokens,
        "bits per byte": round(mean([one.bits_per_byte for one in parities]), 5),
        "loss, bits per byte": round(mean([one.loss_bits_per_byte for one in parities]), 5),
        "same choice, share": round(mean([one.same_choice_frac for one in parities]), 4),
        "worst difference, nats": round(max(one.max_difference_nats for one in parities), 5),
    }


if __name__ == "__main__":
    main()
