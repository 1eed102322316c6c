"""Where a benchmark's figures go, and on what machine they were taken."""

from __future__ import annotations

import json
import os
import platform
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"


def environment() -> dict[str, Any]:
    """Describe the machine a figure belongs to."""
    model = platform.processor()
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "cpu": model,
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "load_at_start": round(os.getloadavg()[0], 2),
    }


def write_results(name: str, found: dict[str, Any]) -> None:
    """Write the figures as JSON and as a table to read."""
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(found, indent=2) + "\n")
    lines = [f"# {name}", "", "| what | value |", "|---|---|"]
    for key, value in found.items():
        if isinstance(value, dict):
            lines += [f"| {key}: {inner} | {_cell(v)} |" for inner, v in value.items()]
        else:
            lines.append(f"| {key} | {_cell(value)} |")
    (RESULTS / f"{name}.md").write_text("\n".join(lines) + "\n")


def _cell(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{k} {v}" for k, v in value.items())
    return str(value)
