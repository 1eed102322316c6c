"""Runs written down as a trainer would have, for pages that only read them."""

from __future__ import annotations

import json

from triptych.config import load_config
from triptych.lm.runs.store import Request, Run, RunStore


def make(
    store: RunStore,
    name: str,
    losses: list[float],
    settings: list[str] | None = None,
    **fields: object,
) -> Run:
    """Write a finished run whose validation loss took these values, one every step."""
    run = store.create(Request.of(load_config(None, settings or []), name=name, **fields))
    events = []
    for step, loss in enumerate(losses, 1):
        stamp = {"time_s": float(step), "step": step}
        events.append({
            **stamp, "type": "step", "tokens_seen": step * 10, "train/loss": loss, "train/lr": 0.1,
            "train/grad_norm": 1.0, "train/tok_per_s": 500.0, "train/mfu": 0.4,
            "memory_bytes": 600_000_000, "eta_s": 5.0,
        })  # fmt: skip
        events.append({**stamp, "type": "eval", "val/loss": loss, "val/bpb": loss / 2})
    events.append(
        {"time_s": 9.0, "type": "sample", "step": len(losses), "prompt": "<b>", "text": "&x"}
    )
    lines = "".join(json.dumps({"seq": n, **event}) + "\n" for n, event in enumerate(events, 1))
    (run.path / "events.jsonl").write_text(lines)
    record = {"format_version": 1, "state": "finished", "step": len(losses)}
    (run.path / "run.json").write_text(json.dumps(record))
    folder = run.path / "checkpoints" / f"step-{len(losses):08d}"
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(b"weights")
    (folder / "optimizer.safetensors").write_bytes(b"not for download")
    (folder.parent / "latest").write_text(folder.name)
    return store.get(run.run_id)
