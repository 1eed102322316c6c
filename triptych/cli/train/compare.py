"""Compare checkpoints on one text: a table, and a chart of their training curves.

Example: triptych compare RUN_A RUN_B owner/model --text notes.txt
"""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments of `triptych compare`."""
    parser.add_argument("checkpoints", nargs="+", metavar="CHECKPOINT")
    parser.add_argument("--text", type=Path, required=True, metavar="FILE", help="text in UTF-8")
    parser.add_argument(
        "--out", type=Path, default=Path("comparison.png"), metavar="PNG", help="the chart"
    )
    parser.add_argument("--json", action="store_true", help="as JSON")


def run(args: argparse.Namespace) -> int:
    """Evaluate each checkpoint, print the table, draw the chart."""
    import json
    import sys

    from triptych.cli.resolve import resolve
    from triptych.config import load_config
    from triptych.lm.evaluate.charts import draw_comparison
    from triptych.lm.evaluate.comparison import evaluate_text, read_text, table
    from triptych.lm.evaluate.run_history import run_history_of
    from triptych.lm.model.adapter_record import find_source

    config = load_config().evaluate
    text = read_text(args.text)
    sources = [find_source(reference, resolve) for reference in args.checkpoints]
    evaluations = [evaluate_text(source, text, config) for source in sources]
    if args.json:
        print(json.dumps([evaluation.to_dict() for evaluation in evaluations], indent=2))
    else:
        print(table(evaluations))
    draw_comparison(
        [(e.name, run_history_of(e.folder)) for e in evaluations],
        {e.name: e.measurement.bpb for e in evaluations},
        args.out,
    )
    print(f"chart: {args.out}", file=sys.stderr)
    return 0
