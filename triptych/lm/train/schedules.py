"""Learning-rate schedules as pure functions of the step.

Left out: the peak rates, which belong to the optimizer's groups; a schedule only returns which
share of its peak every group uses.
"""

from __future__ import annotations

import math


def lr_share(
    schedule: str,
    step: int,
    *,
    steps: int,
    warmup_steps: int,
    cooldown_frac: float,
    final_lr_frac: float,
) -> float:
    """Return the share of the peak learning rate for step `step`, counted from 0.

    Source: warmup-stable-decay, Hägele et al. 2024 (arXiv 2405.18392): a linear decay from a
    constant rate matches a tuned cosine, and any plateau step can be continued or branched.
    """
    if step < warmup_steps:
        return (step + 1) / (warmup_steps + 1)
    if schedule == "constant":
        return 1.0
    decay_steps = steps - warmup_steps
    if schedule == "wsd":
        decay_steps = min(decay_steps, round(cooldown_frac * steps))
    done_frac = (step - (steps - decay_steps)) / decay_steps if decay_steps > 0 else 0.0
    done_frac = min(1.0, max(0.0, done_frac))
    if schedule == "cosine":
        fall = 0.5 * (1.0 + math.cos(math.pi * done_frac))
    else:
        fall = 1.0 - done_frac
    return final_lr_frac + (1.0 - final_lr_frac) * fall


def momentum_at(step: int, peak: float, *, warmup_steps: int = 300, start: float = 0.85) -> float:
    """Return Muon's momentum, which rises from 0.85 over the first 300 steps.

    Source: Keller Jordan's modded-nanogpt; early gradients point in changing directions.
    """
    if peak <= start:
        return peak
    return start + (peak - start) * min(1.0, step / warmup_steps)
