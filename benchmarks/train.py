"""How fast training is, and how much the recipe learns from how little.

`python benchmarks/train.py speed` tokens per second of `small` beside `transformers.Trainer`
`python benchmarks/train.py shakespeare` characters of tinyshakespeare beside a plain GPT
`python benchmarks/train.py recipe` each choice of the recipe switched off, three seeds
`python benchmarks/train.py passages` tokens needed beside the original's GPT-2 recipe, 35.8 M
Without a name all but the last run. Each writes results/train-NAME.json and .md.
The texts are looked for in ../shared/data beside the checkout (--texts).
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
RESULTS = ROOT / "benchmarks" / "results"


def main() -> None:
    """Run the parts that were asked for."""
    from benchmarks.training import passages, recipe, shakespeare, speed

    parts: dict[str, Callable[..., tuple[dict[str, Any], str]]] = {
        "speed": speed.run,
        "shakespeare": shakespeare.run,
        "recipe": recipe.run,
        "passages": passages.run,
    }
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(parts))
    parser.add_argument("--texts", type=Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--quick", action="store_true", help="a few steps, to see that it runs")
    args = parser.parse_args()
    unknown = set(args.parts) - set(parts)
    if unknown:
        parser.error(f"no part {', '.join(sorted(unknown))}; there are {', '.join(parts)}")
    for name in args.parts or [name for name in parts if name != "passages"]:
        figures, text = parts[name](args.texts, quick=args.quick)
        write(name, figures, text, keep=not args.quick)


def write(name: str, figures: dict[str, Any], text: str, *, keep: bool) -> None:
    """Write one part's results, with the date and the machine."""
    import torch

    from triptych.lm.train.probe import probe_machine

    machine = probe_machine("cuda" if torch.cuda.is_available() else "cpu", 0)
    when = datetime.now(UTC).strftime("%Y-%m-%d")
    where = (
        f"{machine.name}, {machine.threads} threads, torch {torch.__version__}, "
        f"Python {platform.python_version()}"
    )
    command = f"`python benchmarks/train.py {name}`"
    text = f"# train: {name}\n\n{text}\nMeasured on {when}: {where}, by {command}.\n"
    print(text)
    if keep:
        RESULTS.mkdir(exist_ok=True)
        values = {"date": when, "machine": where, **figures}
        (RESULTS / f"train-{name}.json").write_text(json.dumps(values, indent=2) + "\n")
        (RESULTS / f"train-{name}.md").write_text(text)


if __name__ == "__main__":
    main()
