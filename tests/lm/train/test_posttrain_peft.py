"""Losses on the same batches are those of peft with transformers: SFT, and DPO against the base."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
import torch.nn.functional as F
import transformers

from triptych.config import load_config
from triptych.lm.data.conversations.dataset import Tokens
from triptych.lm.model import lora
from triptych.lm.train.distribution import World
from triptych.lm.train.methods import prepare


def setup_of(method: str, base: Path, at: Path) -> Any:
    """Set up a run whose adapter is moved off zero after the reference was taken."""
    rows = []
    for n in range(8):
        row = {"prompt": f"Count to {n}. " * (1 + n % 3)}
        good, bad = f"It is {n}." * (1 + n % 4), "No idea." * (1 + n % 2)
        rows.append(row | ({"completion": good} if method == "sft" else
                           {"chosen": good, "rejected": bad}))  # fmt: skip
    (at / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings = [
        f"train.method={method}", "train.adapter=lora", f"train.init_from={base}",
        f"train.data={at / 'rows.jsonl'}", "train.precision=float32", "train.threads=1",
        "posttrain.batch_rows=8", "posttrain.val_frac=0", "train.micro_batch=3",
    ]  # fmt: skip
    return prepare(load_config(None, settings), Path, World())


def theirs_of(setup: Any, base: Path, at: Path) -> Any:
    """Open the adapter with peft."""
    lora.save_lora(at / "adapter", setup.model, str(base))
    model = transformers.AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    return peft.PeftModel.from_pretrained(model, at / "adapter").eval()


def laid(texts: list[Tokens]) -> dict[str, torch.Tensor]:
    """Lay texts as padded rows with labels, as transformers' collators do."""
    longest = max(len(text) for text in texts)
    fill = [longest - len(text) for text in texts]
    ids = [F.pad(torch.from_numpy(t.ids), (0, n)) for t, n in zip(texts, fill, strict=True)]
    seen = [F.pad(torch.ones(len(t)), (0, n)) for t, n in zip(texts, fill, strict=True)]
    labels = []
    for text, more in zip(texts, fill, strict=True):
        marked = torch.where(torch.from_numpy(text.mask), torch.from_numpy(text.ids), -100)
        labels.append(F.pad(marked, (0, more), value=-100))
    return {
        "input_ids": torch.stack(ids),
        "attention_mask": torch.stack(seen).long(),
        "labels": torch.stack(labels),
    }


def nudge(model: torch.nn.Module) -> None:
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for weight in (p for p in model.parameters() if p.requires_grad):
            weight.add_(torch.randn(weight.shape, generator=generator) * 0.05)


def test_the_loss_of_sft_is_that_of_peft(qwen3_folder: Path, tmp_path: Path) -> None:
    setup = setup_of("sft", qwen3_folder, tmp_path)
    step = setup.make_step(World())
    nudge(setup.model)
    theirs = theirs_of(setup, qwen3_folder, tmp_path)
    with torch.no_grad():
        wanted = float(theirs(**laid([row.answer for row in setup.train.rows])).loss)
    assert step.step(0).loss == pytest.approx(wanted, abs=1e-4)


def test_the_loss_of_dpo_is_that_of_peft_with_its_adapter_off_as_reference(
    qwen3_folder: Path, tmp_path: Path
) -> None:
    setup = setup_of("dpo", qwen3_folder, tmp_path)
    step = setup.make_step(World())
    nudge(setup.model)
    theirs = theirs_of(setup, qwen3_folder, tmp_path)

    def sums(texts: list[Tokens]) -> torch.Tensor:
        rows = laid(texts)
        labels = rows.pop("labels")[:, 1:]
        logps = theirs(**rows).logits[:, :-1].log_softmax(-1)
        picked = logps.gather(-1, labels.clamp(min=0)[..., None])[..., 0]
        return (picked * (labels >= 0)).sum(-1)

    chosen = [row.answer for row in setup.train.rows]
    rejected = [row.rejected for row in setup.train.rows]
    with torch.no_grad():
        gained = sums(chosen) - sums(rejected)
        with theirs.disable_adapter():
            gained -= sums(chosen) - sums(rejected)
    wanted = float(-F.logsigmoid(setup.config.posttrain.beta * gained).mean())
    assert abs(wanted - 0.6931) > 0.01, "an adapter that changes nothing proves nothing"
    assert step.step(0).loss == pytest.approx(wanted, abs=1e-4)
