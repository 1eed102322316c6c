"""Build a corpus from text, and look at one.

  triptych data build python-docs --out corpus
  triptych data build notes/ more.jsonl.gz owner/dataset --out corpus --max-bytes 50MB
  triptych data show corpus

A source is a file or folder (txt, md, jsonl, csv, parquet; also gz and zst), a Hugging Face
dataset id, or python-docs: the words and the code of the Python you are running.
"""

from __future__ import annotations

import argparse
import re

from triptych.errors import UsageError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments of `triptych data`."""
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="build|show")
    build = verbs.add_parser("build", help="build a corpus")
    build.add_argument("sources", nargs="+", metavar="SOURCE")
    build.add_argument("--out", required=True, metavar="DIR", help="the folder to write")
    build.add_argument("--vocab-size", type=int, help="tokens of the new tokenizer")
    build.add_argument("--tokenizer", metavar="DIR", help="use this tokenizer instead")
    build.add_argument("--max-bytes", metavar="SIZE", help="take at most 5MB, 2GB ... per source")
    build.add_argument("--seed", type=int, help="chooses the split")
    build.add_argument("--config", metavar="FILE", help="TOML file with a [data] section")
    build.add_argument(
        "--set", action="append", default=[], metavar="data.FIELD=VALUE", help="any other setting"
    )
    build.add_argument("--json", action="store_true", help="print the manifest")
    show = verbs.add_parser("show", help="what a corpus holds")
    show.add_argument("folder", metavar="DIR")
    show.add_argument("--json", action="store_true", help="print the manifest")


def run(args: argparse.Namespace) -> int:
    """Build or show a corpus."""
    return _build(args) if args.verb == "build" else _show(args)


def _build(args: argparse.Namespace) -> int:
    from pathlib import Path

    from triptych.cli.progress import Progress
    from triptych.config import load_config
    from triptych.lm.data.build import build_corpus

    settings = {
        "vocab_size": args.vocab_size,
        "tokenizer": args.tokenizer,
        "seed": args.seed,
        "max_bytes": None if args.max_bytes is None else parse_bytes(args.max_bytes),
    }
    overrides = [f"data.{name}={value}" for name, value in settings.items() if value is not None]
    config = load_config(Path(args.config) if args.config else None, [*overrides, *args.set]).data
    current: dict[str, Progress] = {}

    def show(stage: str, done_bytes: float, total_bytes: float | None) -> None:
        if stage not in current:
            for progress in current.values():
                progress.finish()
            current.clear()
            current[stage] = Progress(stage, total_bytes and total_bytes / 1e6, "MB")
        current[stage].update(done_bytes / 1e6)

    manifest = build_corpus(args.sources, Path(args.out), config, on_progress=show)
    for progress in current.values():
        progress.finish()
    _print(args.out, manifest, as_json=args.json)
    return 0


def _show(args: argparse.Namespace) -> int:
    from pathlib import Path

    from triptych.lm.data.manifest import load_manifest

    _print(args.folder, load_manifest(Path(args.folder)), as_json=args.json)
    return 0


def _print(folder: str, manifest: dict[str, object], *, as_json: bool) -> None:
    import json

    if as_json:
        print(json.dumps(manifest, indent=2, ensure_ascii=False))
        return
    print(f"{folder}  vocabulary {manifest['vocab_size']}  {manifest['fingerprint']!s:.12}")
    counts = manifest["counts"]
    assert isinstance(counts, dict)
    for split, count in counts.items():
        print(
            f"  {split:<6} {count['documents']:>9,} documents  {count['bytes'] / 1e6:>9.2f} MB  "
            f"{count['tokens']:>12,} tokens"
        )
    drops = manifest["drops"]
    assert isinstance(drops, dict)
    for reason, drop in drops.items():
        print(f"  dropped {drop['documents']:,} {reason.replace('_', ' ')}")


def parse_bytes(text: str) -> int:
    """Read a size such as 500000, 5MB or 2GB.

    Raises: UsageError when it is no size.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmgt]?)b?", text.strip(), re.IGNORECASE)
    if match is None:
        raise UsageError(f"{text!r} is no size", hint="write it as 500000, 5MB or 2GB")
    return int(float(match[1]) * 1000 ** " kmgt".index(match[2].lower() or " "))
