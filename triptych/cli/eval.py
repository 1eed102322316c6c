"""Evaluate a checkpoint: loss, bits per byte, perplexity, tokens per second.

Examples:
  triptych eval RUN --text notes.txt
  triptych eval checkpoints/step-00000100 --data corpus --json
CHECKPOINT is a folder, a run (its best checkpoint), or OWNER/NAME on the hub.
"""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments of `triptych eval`."""
    parser.add_argument("checkpoint", metavar="CHECKPOINT")
    parser.add_argument("settings", nargs="*", help="evaluate.field=value")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--data", type=Path, metavar="DIR", help="validation split of a corpus")
    what.add_argument("--text", type=Path, metavar="FILE", help="a text file in UTF-8")
    parser.add_argument("--json", action="store_true", help="as JSON")


def run(args: argparse.Namespace) -> int:
    """Evaluate and print."""
    import json

    from triptych.cli.resolve import resolve
    from triptych.config import load_config
    from triptych.lm.evaluate.comparison import evaluate_corpus, evaluate_text, read_text

    config = load_config(None, args.settings).evaluate
    folder = resolve(args.checkpoint)
    if args.text:
        evaluation = evaluate_text(folder, read_text(args.text), config)
    else:
        evaluation = evaluate_corpus(folder, args.data, config)
    values = evaluation.to_dict()
    if args.json:
        print(json.dumps(values, indent=2))
        return 0
    for name, value in values.items():
        shown = f"{value:,.4f}" if isinstance(value, float) else f"{value:,}" if value else ""
        print(f"{name:<12} {value if isinstance(value, str) else shown}")
    return 0
