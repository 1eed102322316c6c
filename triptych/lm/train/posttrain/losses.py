"""The losses of answers, from the log-probabilities of their trained tokens.

Source: DPO, Rafailov et al. 2023 (2305.18290); KTO, Ethayarajh et al. 2024 (2402.01306).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from triptych.lm.data.conversations.dataset import Tokens
from triptych.lm.model.transformer import Transformer
from triptych.lm.train.posttrain.batches import Batch, by_length, lay
from triptych.lm.train.posttrain.frozen import FrozenLayers


def trained_losses(
    model: Transformer, texts: Sequence[Tokens], device: str, frozen: FrozenLayers | None = None
) -> tuple[Tensor, Batch]:
    """Return the cross-entropy of each trained token, with gradients, and how the texts lie.

    Shape: float32 (trained tokens,), in reading order.
    """
    batch = lay(texts, device)
    below = frozen.below(texts) if frozen and batch.lengths is not None else None
    return model.marked_losses(batch.ids, batch.targets, batch.lengths, below), batch


def answer_logps(
    model: Transformer, texts: Sequence[Tokens], device: str, frozen: FrozenLayers | None = None
) -> Tensor:
    """Return the summed log-probability of each text's trained tokens, with gradients.

    Shape: float32 (texts,), on the device.
    """
    losses, batch = trained_losses(model, texts, device, frozen)
    return torch.zeros(len(texts), device=losses.device).index_add(0, batch.rows(), -losses)


@torch.no_grad()
def all_logps(model: Transformer, texts: Sequence[Tokens], rows_at_once: int) -> Tensor:
    """Return `answer_logps` of any number of texts, without gradients.

    Shape: float32 (texts,), on the CPU.
    """
    device = str(model.lm_head.weight.device)
    logps = torch.zeros(len(texts))
    was_training = model.training
    model.eval()
    for part in by_length(texts, range(len(texts)), rows_at_once):
        logps[part] = answer_logps(model, [texts[row] for row in part], device).cpu()
    model.train(was_training)
    return logps


def dpo_losses(
    chosen: Tensor, rejected: Tensor, reference_B2: Tensor, beta: float
) -> tuple[Tensor, Tensor]:
    """Return DPO's loss of each pair, and its margin in units of reward.

    Shape: (B,), (B,), and (B, 2) of the reference's chosen and rejected; to (B,) and (B,).
    """
    margins = beta * ((chosen - reference_B2[:, 0]) - (rejected - reference_B2[:, 1]))
    return -F.logsigmoid(margins), margins


def kto_losses(
    logps: Tensor,
    reference: Tensor,
    liked: Tensor,
    kl: Tensor,
    *,
    beta: float,
    desirable_weight: float,
    undesirable_weight: float,
) -> Tensor:
    """Return KTO's loss of each labelled answer.

    Shape: (B,) each, `liked` bool, and a scalar `kl` that carries no gradient; to (B,).
    """
    rewards = logps - reference
    gains = torch.where(liked, rewards - kl, kl - rewards)
    weights = torch.where(liked, desirable_weight, undesirable_weight)
    return weights * (1 - torch.sigmoid(beta * gains))
