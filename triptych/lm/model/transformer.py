"""The one decoder: exactly Qwen3, and with QK-norm off exactly Llama.

Parameter names are those of the Hugging Face checkpoints, so a state dict is a checkpoint.
Parameters keep their own precision; products run in `compute_dtype`. Left out: the output head's
loss (`head`), files (`checkpoint`), sampling and batching (`lm.generate`).
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from triptych.lm.model.attention import causal_attention
from triptych.lm.model.config import ModelConfig
from triptych.lm.model.head import IGNORED, head_loss, head_losses, head_token_losses
from triptych.lm.model.rope import rope_table, rotate


class Linear(nn.Linear):
    """A linear map whose weight is cast to the precision of what flows through it."""

    def forward(self, x: Tensor) -> Tensor:
        """Shape: (..., in) to (..., out)."""
        bias = None if self.bias is None else self.bias.to(x.dtype)
        return F.linear(x, self.weight.to(x.dtype), bias)

    def effective_weight(self) -> Tensor:
        """Return the weight this map multiplies by, adapters included.

        Shape: (out, in).
        """
        return self.weight


class RMSNorm(nn.Module):
    """Divide by the root mean square, in float32, then scale.

    Source: Zhang and Sennrich 2019.
    """

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """Shape: (..., C) to (..., C)."""
        if torch.compiler.is_compiling():
            scale = torch.rsqrt(x.float().square().mean(-1, keepdim=True) + self.eps)
            return (x.float() * scale).to(x.dtype) * self.weight.to(x.dtype)
        normalised: Tensor = _RMSNorm.apply(x, self.weight, self.eps)  # type: ignore[no-untyped-call]
        return normalised


class _RMSNorm(torch.autograd.Function):
    """The gradient in closed form: half the time of what autograd derives."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        """Shape: (..., C), (C,) to (..., C)."""
        scale = torch.rsqrt(x.float().square().mean(-1, keepdim=True) + eps)
        unit = (x.float() * scale).to(x.dtype)
        ctx.save_for_backward(unit, scale, weight)
        return unit * weight.to(x.dtype)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        """Shape: (..., C) to the gradients (..., C) and (C,).

        With u = x * scale and scale = 1 / rms(x), which itself depends on x:
        dx = scale * (g - u * mean(g * u)), where g is the gradient of u.
        """
        unit, scale, weight = ctx.saved_tensors
        by_unit = grad * unit
        grad_weight = by_unit.flatten(0, -2).sum(0, dtype=torch.float32)
        narrow = weight.to(grad.dtype)
        along = (by_unit @ narrow).float()[..., None] / grad.shape[-1]
        grad_x = torch.addcmul((grad * narrow).float(), unit.float(), along, value=-1) * scale
        return grad_x.to(grad.dtype), grad_weight.to(weight.dtype), None


class KVCache:
    """Keys and values of the positions read so far, for every layer.

    Shape: both (layers, B, K, capacity, H).
    """

    def __init__(
        self,
        config: ModelConfig,
        batch: int,
        capacity: int,
        dtype: torch.dtype,
        device: str = "cpu",
    ) -> None:
        self.keys = torch.zeros(
            config.num_hidden_layers,
            batch,
            config.num_key_value_heads,
            capacity,
            config.head_dim,
            dtype=dtype,
            device=device,
        )
        self.values = torch.zeros_like(self.keys)
        self.length = 0

    def extend(self, layer: int, k_BKTH: Tensor, v_BKTH: Tensor) -> tuple[Tensor, Tensor]:
        """Write the new positions of one layer and return all positions.

        `length` moves on only after the last layer (`Decoder.forward`): all layers of a step write
        at the same place.

        Shape: two (B, K, T, H) to two (B, K, S, H), S the positions read so far and these.
        """
        end = self.length + k_BKTH.shape[2]
        self.keys[layer, :, :, self.length : end] = k_BKTH
        self.values[layer, :, :, self.length : end] = v_BKTH
        return self.keys[layer, :, :, :end], self.values[layer, :, :, :end]


class Attention(nn.Module):
    """Causal attention with rotary positions, grouped queries and, for Qwen3, QK-norm."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        width, bias = config.hidden_size, config.attention_bias
        self.head_dim = config.head_dim
        queries = config.num_attention_heads * config.head_dim
        keys = config.num_key_value_heads * config.head_dim
        self.q_proj = Linear(width, queries, bias=bias)
        self.k_proj = Linear(width, keys, bias=bias)
        self.v_proj = Linear(width, keys, bias=bias)
        self.o_proj = Linear(queries, width, bias=bias)
        if config.qk_norm:
            self.q_norm: RMSNorm | nn.Identity = RMSNorm(config.head_dim, config.rms_norm_eps)
            self.k_norm: RMSNorm | nn.Identity = RMSNorm(config.head_dim, config.rms_norm_eps)
        else:
            self.q_norm = self.k_norm = nn.Identity()

    def forward(
        self,
        x_BTC: Tensor,
        cos_TR: Tensor,
        sin_TR: Tensor,
        cache: KVCache | None = None,
        layer: int = 0,
    ) -> Tensor:
        """Shape: (B, T, C) to (B, T, C)."""
        heads = (*x_BTC.shape[:2], -1, self.head_dim)
        q_BNTH = self.q_norm(self.q_proj(x_BTC).view(heads)).transpose(1, 2)
        k_BKTH = self.k_norm(self.k_proj(x_BTC).view(heads)).transpose(1, 2)
        v_BKTH = self.v_proj(x_BTC).view(heads).transpose(1, 2)
        q_BNTH, k_BKTH = rotate(q_BNTH, cos_TR, sin_TR), rotate(k_BKTH, cos_TR, sin_TR)
        if cache is None:
            y_BNTH = causal_attention(q_BNTH, k_BKTH, v_BKTH)
        else:
            k_BKTH, v_BKTH = cache.extend(layer, k_BKTH, v_BKTH)
            y_BNTH = _attend_with_past(q_BNTH, k_BKTH, v_BKTH)
        return self.o_proj(y_BNTH.transpose(1, 2).flatten(2))


def _attend_with_past(q_BNTH: Tensor, k_BKSH: Tensor, v_BKSH: Tensor) -> Tensor:
    """Let the last T of S positions see everything up to themselves.

    Shape: (B, N, T, H), (B, K, S, H), (B, K, S, H) to (B, N, T, H).
    """
    length, total = q_BNTH.shape[2], k_BKSH.shape[2]
    # Row t is position S - T + t; torch's own causal mask would take it for position t.
    seen = torch.ones((length, total), dtype=torch.bool, device=q_BNTH.device)
    return F.scaled_dot_product_attention(
        q_BNTH,
        k_BKSH,
        v_BKSH,
        attn_mask=seen.tril(total - length),
        enable_gqa=q_BNTH.shape[1] != k_BKSH.shape[1],
    )


class MLP(nn.Module):
    """The gated feed-forward map.

    Source: SwiGLU, Shazeer 2020.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        width, inner, bias = config.hidden_size, config.intermediate_size, config.mlp_bias
        self.gate_proj = Linear(width, inner, bias=bias)
        self.up_proj = Linear(width, inner, bias=bias)
        self.down_proj = Linear(inner, width, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """Shape: (..., C) to (..., C)."""
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class Block(nn.Module):
    """One layer: attention, then feed-forward, each added to the stream."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.input_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.self_attn = Attention(config)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.mlp = MLP(config)
        self.dropout = nn.Dropout(0.0)

    def forward(
        self,
        x_BTC: Tensor,
        cos_TR: Tensor,
        sin_TR: Tensor,
        cache: KVCache | None = None,
        layer: int = 0,
    ) -> Tensor:
        """Shape: (B, T, C) to (B, T, C)."""
        attended = self.self_attn(self.input_layernorm(x_BTC), cos_TR, sin_TR, cache, layer)
        x_BTC = x_BTC + self.dropout(attended)
        return x_BTC + self.dropout(self.mlp(self.post_attention_layernorm(x_BTC)))


class Decoder(nn.Module):
    """Token ids to hidden states: the part of a checkpoint named `model.`."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(Block(config) for _ in range(config.num_hidden_layers))
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.dropout = nn.Dropout(0.0)
        self.gradient_checkpointing = False
        # Not buffers: a change of the model's precision must not round the angles.
        self._rope = rope_table(config, config.max_position_embeddings)

    def forward(self, ids_BT: Tensor, dtype: torch.dtype, cache: KVCache | None = None) -> Tensor:
        """Shape: (B, T) to (B, T, C)."""
        start = 0 if cache is None else cache.length
        stop = start + ids_BT.shape[1]
        if self._rope[0].device != ids_BT.device:
            self._rope = (self._rope[0].to(ids_BT.device), self._rope[1].to(ids_BT.device))
        cos_TR, sin_TR = (table[start:stop].to(dtype) for table in self._rope)
        x_BTC = self.dropout(self.embed_tokens(ids_BT).to(dtype))
        for index, block in enumerate(self.layers):
            if self.gradient_checkpointing and self.training:
                x_BTC = checkpoint(block, x_BTC, cos_TR, sin_TR, use_reentrant=False)
            else:
                x_BTC = block(x_BTC, cos_TR, sin_TR, cache, index)
        if cache is not None:
            cache.length = stop
        return self.norm(x_BTC)


class Transformer(nn.Module):
    """A causal language model whose state dict is a Hugging Face checkpoint."""

    def __init__(self, config: ModelConfig, compute_dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.config = config
        self.compute_dtype = compute_dtype
        self.model = Decoder(config)
        self.lm_head = Linear(config.hidden_size, config.vocab_size, bias=False)
        if config.tie_word_embeddings:
            self.lm_head.weight = self.model.embed_tokens.weight
        self.reset_parameters()

    def reset_parameters(self, zero_outputs: bool = True) -> None:
        """Draw new weights: matrices normal with 1/sqrt(inputs), each layer's outputs zero.

        Source: zero outputs make every layer the identity at first (muP; Yang et al. 2022).
        """
        for name, weight in self.named_parameters():
            if weight.dim() < 2:
                nn.init.constant_(weight, 0.0 if name.endswith("bias") else 1.0)
            elif zero_outputs and name.endswith(("o_proj.weight", "down_proj.weight")):
                nn.init.zeros_(weight)
            elif "embed_tokens" in name or "lm_head" in name:
                nn.init.normal_(weight, std=self.config.initializer_range)
            else:
                nn.init.normal_(weight, std=weight.shape[1] ** -0.5)

    def set_dropout(self, probability: float) -> None:
        """Drop this share of the embedding and of what each layer adds, while training."""
        for module in self.modules():
            if isinstance(module, nn.Dropout):
                module.p = probability

    def set_gradient_checkpointing(self, enabled: bool) -> None:
        """Keep only each layer's input for the backward pass and compute the rest again."""
        self.model.gradient_checkpointing = enabled

    def forward(self, ids_BT: Tensor, cache: KVCache | None = None) -> Tensor:
        """Return the logits of the next token at every position.

        Shape: (B, T) to (B, T, V).
        """
        return self.lm_head(self.model(ids_BT, self.compute_dtype, cache))

    def loss(self, ids_BT: Tensor, targets_BT: Tensor) -> Tensor:
        """Return the mean cross-entropy; a target of -100 does not count.

        `targets_BT[b, t]` is the token that follows `ids_BT[b, t]`: the caller shifts.
        Shape: (B, T) and (B, T) to a float32 scalar.
        """
        hidden_BTC = self.model(ids_BT, self.compute_dtype)
        return head_loss(hidden_BTC.flatten(0, 1), self.lm_head.weight, targets_BT.flatten())

    def marked_losses(self, ids_BT: Tensor, targets_BT: Tensor) -> Tensor:
        """Return the cross-entropy of the targets that are not -100, in reading order.

        Only marked positions reach the output head, which is a large part of a small model's
        work; gradients flow.

        Shape: (B, T) and (B, T) to float32 (M,), M the number of marked targets.
        """
        hidden_BTC = self.model(ids_BT, self.compute_dtype)
        marked_BT = targets_BT != IGNORED
        return head_losses(hidden_BTC[marked_BT], self.lm_head.weight, targets_BT[marked_BT])

    @torch.no_grad()
    def token_losses(self, ids_BT: Tensor, targets_BT: Tensor) -> Tensor:
        """Return the cross-entropy of every position, 0 where the target is -100.

        Shape: (B, T) and (B, T) to float32 (B, T).
        """
        hidden_BTC = self.model(ids_BT, self.compute_dtype)
        weight = self.lm_head.weight
        losses = head_token_losses(hidden_BTC.flatten(0, 1), weight, targets_BT.flatten())
        return losses.view_as(targets_BT)
