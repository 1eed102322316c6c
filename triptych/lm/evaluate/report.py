"""The report of a run: `report.md` for people, `report.json` for programs, `loss.png` for both.

Every figure comes from the run's own files and its corpus; nothing is typed by hand.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

from triptych.durable import write_atomic
from triptych.errors import EvaluationError
from triptych.lm.data.shards import TokenShards
from triptych.lm.evaluate.charts import draw_run
from triptych.lm.evaluate.posttrain_report import posttrain_facts, render_posttrain
from triptych.lm.evaluate.run_history import RunHistory, read_run_history
from triptych.lm.evaluate.yardsticks import OnProgress, Yardsticks, measure_yardsticks
from triptych.lm.model.config import ModelConfig
from triptych.lm.model.tokenizer import Tokenizer
from triptych.wire.run_events import whole_split

FORMAT_VERSION = 1


def write_report(run_dir: Path, on_progress: OnProgress = lambda text: None) -> dict[str, Any]:
    """Write report.md, report.json and loss.png into a run folder.

    Returns: the contents of report.json.
    Raises: EvaluationError where the run has not been evaluated yet.
    """
    history = read_run_history(run_dir)
    if not history.evals or not history.steps:
        raise EvaluationError(
            f"{run_dir} has no evaluation to report yet",
            hint="let it train until its first evaluation",
        )
    if history.record.get("kind", "pretrain") != "pretrain":
        facts = {"format_version": FORMAT_VERSION, **posttrain_facts(history)}
        _write(run_dir, facts, history, {}, render_posttrain(facts, run_dir))
        return facts
    data = Path(history.config["config"]["train"]["data"])
    tokenizer = Tokenizer.load(data / "tokenizer")
    train, val = (TokenShards(data, split, verify=False) for split in ("train", "val"))
    yardsticks = measure_yardsticks(train, val, tokenizer, on_progress)
    report = _facts(history, yardsticks, train.manifest)
    _write(run_dir, report, history, _yardstick_names(report), render(report))
    return report


def _write(
    run_dir: Path,
    report: dict[str, Any],
    history: RunHistory,
    lines: dict[str, float],
    text: str,
) -> None:
    write_atomic(run_dir / "report.json", json.dumps(report, indent=2, ensure_ascii=False) + "\n")
    draw_run(history, lines, run_dir / "loss.png")
    write_atomic(run_dir / "report.md", text)


def _facts(history: RunHistory, yardsticks: Yardsticks, manifest: dict[str, Any]) -> dict[str, Any]:
    first, last = history.evals[0], history.evals[-1]
    scores = whole_split(last) or last
    best = min(history.evals, key=lambda event: event["val/loss"])
    steps = history.steps
    seconds = [e["train/tok_per_s"] for e in steps if e["train/tok_per_s"] > 0]
    model = ModelConfig.from_hf_dict(history.config["model"])
    speed = sorted(seconds)[len(seconds) // 2] if seconds else 0.0
    mfu = sorted(e["train/mfu"] for e in steps)[len(steps) // 2]
    return {
        "format_version": FORMAT_VERSION,
        "run_id": history.name,
        "state": history.record["state"],
        "created_at": history.record["created_at"],
        "code_version": history.record["code_version"],
        "model": history.config["model"],
        "parameters": model.num_parameters,
        "parent": history.record["parent"],
        "data": {
            "fingerprint": history.config["data_fingerprint"],
            "sources": manifest.get("sources"),
            "licences": manifest.get("licences"),
        },
        "recipe": history.config["recipe"],
        "optimizer": history.config["config"]["train"]["optimizer"],
        "schedule": history.config["config"]["train"]["schedule"],
        "step": steps[-1]["step"],
        "tokens_seen": steps[-1]["tokens_seen"],
        "training_s": round(steps[-1]["tokens_seen"] / speed, 1) if speed else None,
        "train/tok_per_s": speed,
        "train/mfu": mfu,
        "val/loss": scores["val/loss"],
        "val/bpb": scores["val/bpb"],
        "val/perplexity": math.exp(min(700.0, scores["val/loss"])),
        "val/tokens": scores["val/tokens"],
        "best": {name: best[name] for name in ("step", "val/loss", "val/bpb", "val/tokens")},
        "yardsticks": {**asdict(yardsticks), "before_training_bpb": first["val/bpb"]},
        "samples": [
            {"prompt": e["prompt"], "text": e["text"]}
            for e in history.samples
            if e["step"] == history.samples[-1]["step"]
        ],
    }


def _yardstick_names(report: dict[str, Any]) -> dict[str, float]:
    values = report["yardsticks"]
    return {
        "unigram": values["unigram_bpb"],
        "xz": values["xz_bpb"],
        "xz, having read the training text": values["xz_primed_bpb"],
    }


def render(report: dict[str, Any]) -> str:
    """Return the report as Markdown."""
    recipe, model = report["recipe"], report["model"]
    rows = [("this model", report["val/bpb"]), *_yardstick_names(report).items()]
    rows.append(("before training", report["yardsticks"]["before_training_bpb"]))
    table = "\n".join(f"| {name} | {bpb:.3f} |" for name, bpb in sorted(rows, key=lambda r: r[1]))
    samples = "\n\n".join(
        f"> **{_quote(sample['prompt'])}**{_quote(sample['text'])}" for sample in report["samples"]
    )
    best = report["best"]
    all_of_it = best["val/tokens"] == report["val/tokens"]
    part = "" if all_of_it else f", over a part of {best['val/tokens']:,} tokens"
    ended = "" if report["state"] == "finished" else f" The run is {report['state']}."
    return f"""# {report["run_id"]}

A {model["model_type"]} model of {report["parameters"]:,} parameters \
({model["num_hidden_layers"]} layers, width {model["hidden_size"]}, \
{model["num_attention_heads"]} heads, vocabulary {model["vocab_size"]:,}), trained on \
{report["tokens_seen"]:,} tokens ({recipe["epochs"]:.1f} passes over the corpus).{ended}

## Result

Bits per byte of the validation text, which was not used for training; lower is better.

| | bits per byte |
|---|---|
{table}

Loss {report["val/loss"]:.4f} nats per token, perplexity {report["val/perplexity"]:.1f}, over \
{report["val/tokens"]:,} validation tokens. Lowest at step {best["step"]:,}: \
{best["val/bpb"]:.4f} bits per byte{part}.

![loss and bits per byte](loss.png)

## What it writes

{samples}

## How it was trained

| | |
|---|---|
| optimizer, schedule | {report["optimizer"]}, {report["schedule"]} |
| steps | {report["step"]:,} of {recipe["batch_tokens"]:,} tokens |
| sequence | {recipe["context_length"]} tokens |
| peak learning rate | {recipe["learning_rate"]:.4g} |
| machine | {recipe["machine"]}, {recipe["device"]}, {recipe["precision"]}\
{", compiled" if recipe["compile"] else ""}, {recipe["threads"]} threads |
| speed | {report["train/tok_per_s"]:,.0f} tokens per second, {report["train/mfu"]:.0%} of the \
measured {recipe["machine_flops"] / 1e9:,.0f} GFLOP/s |
| corpus | `{report["data"]["fingerprint"][:12]}` |
| triptych | {report["code_version"]}, {report["created_at"][:10]} |
"""


def _quote(text: str) -> str:
    return text.replace("\n", "\n> ").replace("*", "\\*")
