"""Evaluate a checkpoint: loss, bits per byte, perplexity, tokens per second.

Examples:
  triptych eval RUN --text notes.txt
  triptych eval checkpoints/step-00000100 --data corpus --json
  triptych eval RUN --tasks hellaswag my_task.yaml --limit 100
  triptych eval ADAPTER --probe
CHECKPOINT is a folder, a run (its best checkpoint), or OWNER/NAME on the hub.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments of `triptych eval`."""
    parser.add_argument("checkpoint", metavar="CHECKPOINT")
    parser.add_argument("settings", nargs="*", help="evaluate.field=value")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--data", type=Path, metavar="DIR", help="validation split of a corpus")
    what.add_argument("--text", type=Path, metavar="FILE", help="a text file in UTF-8")
    what.add_argument(
        "--tasks", nargs="+", metavar="TASK", help="names or YAML files for the lm-eval harness"
    )
    what.add_argument(
        "--probe", action="store_true", help="whether an adapter acts as when it was trained"
    )
    parser.add_argument("--base", metavar="REF", help="base of an adapter that names another place")
    parser.add_argument("--limit", type=int, help="questions per task")
    parser.add_argument("--json", action="store_true", help="as JSON")


def run(args: argparse.Namespace) -> int:
    """Evaluate and print."""
    if args.tasks:
        return _tasks(args)
    if args.probe:
        return _probe(args)
    from triptych.cli.resolve import resolve
    from triptych.config import load_config
    from triptych.lm.evaluate.comparison import evaluate_corpus, evaluate_text, read_text
    from triptych.lm.model.adapter_record import find_source

    config = load_config(None, args.settings).evaluate
    source = find_source(args.checkpoint, resolve, args.base)
    if args.text:
        evaluation = evaluate_text(source, read_text(args.text), config)
    else:
        evaluation = evaluate_corpus(source, args.data, config)
    values = evaluation.to_dict()
    if args.json:
        print(json.dumps(values, indent=2))
        return 0
    for name, value in values.items():
        print(f"{name:<12} {_shown(value)}")
    return 0


def _tasks(args: argparse.Namespace) -> int:
    from triptych.cli.resolve import resolve
    from triptych.errors import UsageError
    from triptych.lm.generate.torch_engine import TorchEngine
    from triptych.lm.model.adapter_record import find_source
    from triptych.lm.model.checkpoint import load_tokenizer
    from triptych.lm.model.source import load_source

    try:
        from triptych.lm.evaluate.harness import run_tasks
    except ImportError as error:
        raise UsageError(
            "tasks need the package lm-eval", hint="pip install 'triptych[tasks]'"
        ) from error
    source = find_source(args.checkpoint, resolve, args.base)
    model = load_source(source)
    tokenizer = load_tokenizer(source.folder)
    engine = TorchEngine(model, tokenizer, name=source.folder.name)
    try:
        scores = run_tasks(engine, tokenizer, args.tasks, limit=args.limit)
    finally:
        engine.close()
    if args.json:
        print(json.dumps(scores, indent=2))
        return 0
    for task, metrics in scores.items():
        for name, value in metrics.items():
            print(f"{task:<24} {name:<24} {_shown(value)}")
    return 0


def _probe(args: argparse.Namespace) -> int:
    import math
    from dataclasses import asdict

    from triptych.cli.resolve import resolve
    from triptych.config import load_config
    from triptych.errors import UsageError
    from triptych.lm.generate.adapters.movement import measure_movement
    from triptych.lm.generate.select_engine import open_engine
    from triptych.lm.model.adapter_record import find_source

    source = find_source(args.checkpoint, resolve, args.base)
    if source.adapter is None:
        raise UsageError(
            f"{args.checkpoint} is a model, and only an adapter has a probe",
            hint="use --text FILE or --data DIR",
        )
    # Opening it refuses an adapter that does not act as it was trained.
    adapters = {"adapter": source.adapter}
    engine = open_engine(
        source.folder, load_config(None, args.settings).generate, adapters=adapters
    )
    try:
        movement = measure_movement(engine, "adapter", source.adapter)
    finally:
        engine.close()
    values = {
        name: value for name, value in asdict(movement).items() if not math.isnan(value or 0.0)
    }
    if args.json:
        print(json.dumps(values, indent=2))
        return 0
    for name, value in values.items():
        print(f"{name:<12} {_shown(value)} nats per token")
    return 0


def _shown(value: float | str | None) -> str:
    if isinstance(value, float):
        return f"{value:,.4f}"
    return f"{value:,}" if isinstance(value, int) else value or "unknown"
