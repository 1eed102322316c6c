"""The report of a post-training run: what it began from, its figures before and after, its answers.

Every figure comes from the run's own files.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from triptych.lm.evaluate.run_history import RunHistory

_FIGURES = {
    "val/loss": "validation loss",
    "val/bpb": "bits per byte of the answers",
    "val/margin": "margin of the preferred answer",
    "val/accuracy": "share of preferences kept",
    "val/kl": "divergence from the reference (nats per answer)",
    "val/general_bpb": "bits per byte of general text",
}


def posttrain_facts(history: RunHistory) -> dict[str, Any]:
    """Return the contents of report.json."""
    sections, steps = history.config["config"], history.steps
    best = min(history.evals, key=lambda event: event["val/loss"])
    speeds = sorted(e["train/tok_per_s"] for e in steps if e["train/tok_per_s"] > 0)
    return {
        "run_id": history.name,
        "kind": history.record["kind"],
        "state": history.record["state"],
        "created_at": history.record["created_at"],
        "code_version": history.record["code_version"],
        "adapter": sections["train"]["adapter"],
        "lora": sections["lora"],
        "base": history.config["base"]["reference"],
        "base_sha256": history.config["base"]["sha256"],
        "data_fingerprint": history.config["data_fingerprint"],
        "recipe": history.config["recipe"],
        "step": steps[-1]["step"],
        "tokens_seen": steps[-1]["tokens_seen"],
        "train/tok_per_s": speeds[len(speeds) // 2] if speeds else 0.0,
        "before": _figures(history.evals[0]),
        "after": _figures(history.evals[-1]),
        "best": {"step": best["step"], **_figures(best)},
        "samples": [
            {"prompt": e["prompt"], "text": e["text"]}
            for e in history.samples
            if e["step"] == history.samples[-1]["step"]
        ],
    }


def render_posttrain(report: dict[str, Any], run_dir: Path) -> str:
    """Return the report as Markdown."""
    rows = "\n".join(
        f"| {text} | {report['before'][name]:.4f} | {report['after'][name]:.4f} "
        f"| {report['best'][name]:.4f} |"
        for name, text in _FIGURES.items()
        if name in report["after"]
    )
    samples = "\n\n".join(
        f"> **{_quote(sample['prompt'])}**\n>\n> {_quote(sample['text'])}"
        for sample in report["samples"]
    )
    adapter = report["adapter"] == "lora"
    kind = f"a LoRA adapter of rank {report['lora']['rank']}" if adapter else "all weights"
    recipe = report["recipe"]
    return f"""# {report["run_id"]}

{report["kind"].upper()} of {kind}, beginning from {report["base"]}: {report["step"]:,} steps of \
{recipe["batch_size"]} rows, {report["tokens_seen"]:,} tokens ({recipe["epochs"]:.1f} passes over \
the rows). The run is {report["state"]}.

## Result

| | before | after | lowest loss, step {report["best"]["step"]:,} |
|---|---|---|---|
{rows}

![loss and bits per byte](loss.png)

## What it answers

{samples or "No sample was drawn."}

## How to use it

```
triptych serve {_base_argument(report)} --adapter NAME={run_dir.name}
triptych merge {run_dir.name} --out merged
```
"""


def _base_argument(report: dict[str, Any]) -> str:
    return str(report["base"]) if report["adapter"] == "lora" else str(report["run_id"])


def _figures(event: dict[str, Any]) -> dict[str, float]:
    return {name: event[name] for name in _FIGURES if name in event}


def _quote(text: str) -> str:
    return text.replace("\n", "\n> ")
