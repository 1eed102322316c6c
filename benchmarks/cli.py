"""How long the command line takes before it does anything.

`python benchmarks/cli.py` times `import triptych.cli` and `triptych --help` in fresh processes;
the interpreter's own start is in the figures, and shown beside them.
Writes results/cli.json and .md.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

COMMANDS = {
    "an empty program, s": ["-c", "pass"],
    "import triptych.cli, s": ["-c", "import triptych.cli"],
    "triptych --help, s": ["-m", "triptych", "--help"],
    "triptych train --help, s": ["-m", "triptych", "train", "--help"],
}


def main() -> None:
    """Time each command, the commands taking turns."""
    from benchmarks.report import environment, write_results

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=21)
    rounds = parser.parse_args().rounds
    times: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(rounds):
        for name, arguments in COMMANDS.items():
            started_s = time.perf_counter()
            subprocess.run(
                [sys.executable, *arguments], cwd=ROOT, check=True, stdout=subprocess.DEVNULL
            )
            times[name].append(time.perf_counter() - started_s)
    figures = {name: round(statistics.median(taken), 3) for name, taken in times.items()}
    write_results("cli", {**environment(), "rounds": rounds, **figures})


if __name__ == "__main__":
    main()
