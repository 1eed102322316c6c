"""The one decoder: exactly Qwen3 and Llama, and the other families of `families`.

Parameter names are those of the Hugging Face checkpoints, so a state dict is a checkpoint.
Parameters keep their own precision; products run in `compute_dtype`. Left out: the output head's
loss (`head`), files (`checkpoint`), sampling and batching (`lm.generate`).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from triptych.lm.model.attention import attention_with_past, causal_attention, packed_attention
from triptych.lm.model.config import ModelConfig
from triptych.lm.model.head import IGNORED, head_loss, head_losses, head_token_losses
from triptych.lm.model.norms import norm
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
    """Causal attention of one layer: rotary positions, grouped queries, QK-norm, a window."""

    def __init__(self, config: ModelConfig, layer: int = 0) -> None:
        super().__init__()
        width, family = config.hidden_size, config.family
        bias = config.attention_bias or family.qkv_bias
        self.head_dim = config.head_dim
        queries = config.num_attention_heads * config.head_dim
        keys = config.num_key_value_heads * config.head_dim
        self.widths = (queries, keys, keys)
        self.window, self.rotary = config.window_of(layer), config.rotates(layer)
        # Scores are divided by the root of this scalar; the kernels divide by that of head_dim.
        scalar = config.query_pre_attn_scalar or config.head_dim
        self.query_scale = (config.head_dim / scalar) ** 0.5
        if family.fused:
            self.qkv_proj = Linear(width, sum(self.widths), bias=bias)
        else:
            self.q_proj = Linear(width, queries, bias=bias)
            self.k_proj = Linear(width, keys, bias=bias)
            self.v_proj = Linear(width, keys, bias=bias)
        self.fused = family.fused
        self.o_proj = Linear(queries, width, bias=config.attention_bias)
        self.q_norm: nn.Module = nn.Identity()
        self.k_norm: nn.Module = nn.Identity()
        if config.qk_norm:
            self.q_norm, self.k_norm = (norm(config, config.head_dim) for _ in range(2))

    def forward(
        self,
        x_BTC: Tensor,
        cos_TR: Tensor,
        sin_TR: Tensor,
        cache: KVCache | None = None,
        layer: int = 0,
        lengths: Sequence[int] | None = None,
    ) -> Tensor:
        """Shape: (B, T, C) to (B, T, C)."""
        if self.fused:
            q, k, v = self.qkv_proj(x_BTC).split(self.widths, dim=-1)
        else:
            q, k, v = self.q_proj(x_BTC), self.k_proj(x_BTC), self.v_proj(x_BTC)
        heads = (*x_BTC.shape[:2], -1, self.head_dim)
        q_BNTH = self.q_norm(q.reshape(heads)).transpose(1, 2)
        k_BKTH = self.k_norm(k.reshape(heads)).transpose(1, 2)
        v_BKTH = v.reshape(heads).transpose(1, 2)
        if self.rotary:
            q_BNTH, k_BKTH = rotate(q_BNTH, cos_TR, sin_TR), rotate(k_BKTH, cos_TR, sin_TR)
        if self.query_scale != 1.0:
            q_BNTH = q_BNTH * self.query_scale
        if lengths is not None:
            y_BNTH = packed_attention(q_BNTH, k_BKTH, v_BKTH, lengths, self.window)
        elif cache is None:
            y_BNTH = causal_attention(q_BNTH, k_BKTH, v_BKTH, self.window)
        else:
            k_BKTH, v_BKTH = cache.extend(layer, k_BKTH, v_BKTH)
            y_BNTH = attention_with_past(q_BNTH, k_BKTH, v_BKTH, self.window)
        return self.o_proj(y_BNTH.transpose(1, 2).flatten(2))


class MLP(nn.Module):
    """The gated feed-forward map.

    Source: SwiGLU and GEGLU, Shazeer 2020.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        width, inner, bias = config.hidden_size, config.intermediate_size, config.mlp_bias
        self.fused, self.gelu = config.family.fused, config.family.gemma
        if self.fused:
            self.gate_up_proj = Linear(width, 2 * inner, bias=bias)
        else:
            self.gate_proj = Linear(width, inner, bias=bias)
            self.up_proj = Linear(width, inner, bias=bias)
        self.down_proj = Linear(inner, width, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """Shape: (..., C) to (..., C)."""
        if self.fused:
            gate, up = self.gate_up_proj(x).chunk(2, dim=-1)
        else:
            gate, up = self.gate_proj(x), self.up_proj(x)
        opened = F.gelu(gate, approximate="tanh") if self.gelu else F.silu(gate)
        return self.down_proj(opened * up)


class Block(nn.Module):
    """One layer: attention, then feed-forward, each added to the stream."""

    def __init__(self, config: ModelConfig, layer: int = 0) -> None:
        super().__init__()
        self.input_layernorm = norm(config)
        self.self_attn = Attention(config, layer)
        self.post_attention_layernorm = norm(config)
        self.gemma = config.family.gemma
        if self.gemma:
            self.pre_feedforward_layernorm = norm(config)
            self.post_feedforward_layernorm = norm(config)
        self.mlp = MLP(config)
        self.dropout = nn.Dropout(0.0)

    def forward(
        self,
        x_BTC: Tensor,
        cos_TR: Tensor,
        sin_TR: Tensor,
        cache: KVCache | None = None,
        layer: int = 0,
        lengths: Sequence[int] | None = None,
    ) -> Tensor:
        """Shape: (B, T, C) to (B, T, C)."""
        x = self.input_layernorm(x_BTC)
        attended = self.self_attn(x, cos_TR, sin_TR, cache, layer, lengths)
        if self.gemma:  # each part is normalised once more before it is added
            x_BTC = x_BTC + self.dropout(self.post_attention_layernorm(attended))
            mapped = self.mlp(self.pre_feedforward_layernorm(x_BTC))
            return x_BTC + self.dropout(self.post_feedforward_layernorm(mapped))
        x_BTC = x_BTC + self.dropout(attended)
        return x_BTC + self.dropout(self.mlp(self.post_attention_layernorm(x_BTC)))


#: A layer, and what those below it give it. Shape: (B, T, C).
Below = tuple[int, Tensor]


class Decoder(nn.Module):
    """Token ids to hidden states: the part of a checkpoint named `model.`."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(
            Block(config, layer) for layer in range(config.num_hidden_layers)
        )
        self.norm = norm(config)
        self.embed_scale = config.hidden_size**0.5 if config.family.gemma else 1.0
        self.dropout = nn.Dropout(0.0)
        self.gradient_checkpointing = False
        # Not buffers: a change of the model's precision must not round the angles.
        length = config.max_position_embeddings
        self._rope = rope_table(config, length)
        # Layers that see a window may turn by a base of their own.
        self._local_rope = rope_table(config, length, local=True) if config.layer_types else None
        self._windows = [config.window_of(layer) is not None for layer in range(len(self.layers))]

    def forward(
        self,
        ids_BT: Tensor,
        dtype: torch.dtype,
        cache: KVCache | None = None,
        lengths: Sequence[int] | None = None,
        below: Below | None = None,
        upto: int | None = None,
    ) -> Tensor:
        """Return the hidden states; with `lengths`, of texts that lie one after another.

        With `below` the layers begin from what the lower ones gave before; with `upto` they end
        below that layer, and nothing is normalised.

        Shape: (B, T) to (B, T, C); T is the sum of `lengths`.
        """
        start = 0 if cache is None else cache.length
        stop = start + ids_BT.shape[1]
        places: slice | Tensor = slice(start, stop)
        if lengths is not None:  # each text begins at position 0
            places = torch.cat([torch.arange(length) for length in lengths]).to(ids_BT.device)
        rope = self._angles(places, ids_BT.device, dtype)
        local = rope
        if self._local_rope is not None:
            local = self._angles(places, ids_BT.device, dtype, local=True)
        first, x_BTC = below or (0, self._embed(ids_BT, dtype))
        for index, block in islice(enumerate(self.layers), first, upto):
            cos_TR, sin_TR = local if self._windows[index] else rope
            if self.gradient_checkpointing and self.training:
                rest = (None, index, lengths)
                x_BTC = checkpoint(block, x_BTC, cos_TR, sin_TR, *rest, use_reentrant=False)
            else:
                x_BTC = block(x_BTC, cos_TR, sin_TR, cache, index, lengths)
        if cache is not None:
            cache.length = stop
        return x_BTC if upto is not None else self.norm(x_BTC)

    def _embed(self, ids_BT: Tensor, dtype: torch.dtype) -> Tensor:
        """Shape: (B, T) to (B, T, C)."""
        embedded = self.embed_tokens(ids_BT).to(dtype)
        if self.embed_scale != 1.0:
            # The scale is rounded to the weights' precision, as where these models were trained.
            embedded = embedded * torch.tensor(self.embed_scale, dtype=dtype)
        return self.dropout(embedded)

    def _angles(
        self,
        places: slice | Tensor,
        device: torch.device,
        dtype: torch.dtype,
        *,
        local: bool = False,
    ) -> tuple[Tensor, Tensor]:
        """Return cosine and sine of some positions.

        Shape: both (T, R/2).
        """
        table = self._local_rope if local else self._rope
        if table is None:
            raise RuntimeError("only a model with windows has angles of their own")
        if table[0].device != device:
            table = (table[0].to(device), table[1].to(device))
            if local:
                self._local_rope = table
            else:
                self._rope = table
        return table[0][places].to(dtype), table[1][places].to(dtype)


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
                offset = name.endswith("bias") or self.config.family.gemma
                nn.init.constant_(weight, 0.0 if offset else 1.0)
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

    def marked_losses(
        self,
        ids_BT: Tensor,
        targets_BT: Tensor,
        lengths: Sequence[int] | None = None,
        below: Below | None = None,
    ) -> Tensor:
        """Return the cross-entropy of the targets that are not -100, in reading order.

        Only marked positions reach the output head, which is a large part of a small model's
        work; gradients flow. With `lengths`, texts lie one after another and none sees another;
        `below` is what the lower layers gave, as for `Decoder.forward`.

        Shape: (B, T) and (B, T) to float32 (M,), M the number of marked targets.
        """
        hidden_BTC = self.model(ids_BT, self.compute_dtype, None, lengths, below)
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
