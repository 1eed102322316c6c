"""The transformer prepared for generation: packed weights, a key-value cache per answer.

The arithmetic is that of `lm.model.transformer`; here it is laid out for few rows at a time.
Rows of different answers share every matrix product, while each answer attends alone, so what
one answer reads never depends on the others. Left out: sampling, scheduling.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from triptych.lm.model.rope import rope_table
from triptych.lm.model.transformer import Block, Linear, RMSNorm, Transformer

LinearMap = Callable[[Tensor], Tensor]
PREFILL_ROWS = 512
# oneDNN multiplies one row by another kernel, with another rounding, than two or more.
MIN_ROWS = 2


class AnswerCache:
    """The keys and values of one answer.

    Shape: (layers, 2, K, capacity, H); grows by doubling up to `limit`.
    """

    def __init__(self, decoder: PackedDecoder, limit: int) -> None:
        self.length = 0
        self.limit = limit
        shape = decoder.cache_shape
        self.data = torch.empty(
            (shape[0], 2, shape[1], min(limit, PREFILL_ROWS), shape[2]),
            dtype=decoder.cache_dtype,
            device=decoder.device,
        )

    def reserve(self, rows: int) -> None:
        """Make room for further positions."""
        needed, capacity = self.length + rows, self.data.shape[3]
        if needed <= capacity:
            return
        grown = self.data.new_empty(
            (*self.data.shape[:3], min(self.limit, max(needed, 2 * capacity)), self.data.shape[4])
        )
        grown[:, :, :, : self.length] = self.data[:, :, :, : self.length]
        self.data = grown


class PackedDecoder:
    """A transformer ready to generate.

    Weights are copied in `dtype`; the transformer can be dropped afterwards. Normalisation,
    rotary positions and attention run in float32 on a CPU.
    """

    def __init__(self, model: Transformer, dtype: torch.dtype, device: str = "cpu") -> None:
        config = model.config
        self.config = config
        self.dtype = dtype
        self.device = torch.device(device)
        # Attention over bfloat16 keys is the slower one on a CPU.
        self.cache_dtype = torch.float32 if self.device.type == "cpu" else dtype
        self.cache_shape = (config.num_hidden_layers, config.num_key_value_heads, config.head_dim)
        cos, sin = rope_table(config, config.max_position_embeddings)
        self._cos = torch.cat((cos, cos), dim=-1).to(self.device)
        self._sin = torch.cat((-sin, sin), dim=-1).to(self.device)
        with torch.inference_mode():
            self._embedding = model.model.embed_tokens.weight.detach().to(self.device, dtype)
            self._layers = [_PackedBlock(block, self) for block in _blocks(model)]
            self._norm = model.model.norm.weight.detach().to(self.device, torch.float32)
            head = model.lm_head.weight.detach().to(self.device, dtype)
            self._head = pack_linear(head, None)
        self._agreeing: dict[int, bool] = {}
        past = AnswerCache(self, 3)
        self.prefill([0, 1, 2], past)
        self._trial_past = past.data

    @torch.inference_mode()
    def prefill(self, ids: Sequence[int], cache: AnswerCache) -> Tensor:
        """Read at most `PREFILL_ROWS` tokens of one answer.

        Shape: gives the normalised hidden states, (T, C) in `dtype`.
        """
        rows = len(ids)
        cache.reserve(rows)
        x_MC = self._embed(ids)
        positions = slice(cache.length, cache.length + rows)
        cos_M1H, sin_M1H = self._cos[positions, None], self._sin[positions, None]
        if rows < MIN_ROWS:
            padding = (0, 0, 0, 0, 0, MIN_ROWS - rows)
            cos_M1H, sin_M1H = F.pad(cos_M1H, padding), F.pad(sin_M1H, padding)
        for index, layer in enumerate(self._layers):
            q_MNH, kv_M2KH = layer.project(x_MC, cos_M1H, sin_M1H)
            y = _attend_prompt(q_MNH[:rows], kv_M2KH[:rows], cache.data[index], cache.length)
            if rows < MIN_ROWS:
                y = F.pad(y, (0, 0, 0, MIN_ROWS - rows))
            layer.finish(x_MC, y)
        cache.length += rows
        return self._normalise(x_MC[:rows])

    @torch.inference_mode()
    def step(self, ids: Sequence[int], caches: Sequence[AnswerCache]) -> Tensor:
        """Read one further token of each answer.

        Shape: gives float32 logits (M, V), a row per answer, the same whatever M is.
        """
        size = len(ids) if self._rows_agree(len(ids)) else MIN_ROWS
        groups = [slice(start, start + size) for start in range(0, len(ids), size)]
        logits = [self._step(ids[group], caches[group]) for group in groups]
        return logits[0] if len(logits) == 1 else torch.cat(logits)

    def _rows_agree(self, rows: int) -> bool:
        """Find out, once, whether this many rows at a time give what pairs of rows give.

        Libraries choose another kernel, with another rounding, where they expect it to pay; which
        numbers of rows agree depends on the library and the processor, so it is tried.
        """
        if rows <= MIN_ROWS or rows in self._agreeing:
            return self._agreeing.get(rows, True)

        def trial(first: int, count: int) -> list[bytes]:
            caches = [AnswerCache(self, 4) for _ in range(count)]
            ids = [(first + row) % self.config.vocab_size for row in range(count)]
            for cache in caches:
                cache.data[:, :, :, :3] = self._trial_past
                cache.length = 3
            return [row.numpy(force=True).tobytes() for row in self._step(ids, caches)]

        pairs = [trial(first, MIN_ROWS) for first in range(0, rows, MIN_ROWS)]
        expected = [row for pair in pairs for row in pair]
        self._agreeing[rows] = trial(0, rows) == expected[:rows]
        return self._agreeing[rows]

    def _step(self, ids: Sequence[int], caches: Sequence[AnswerCache]) -> Tensor:
        """Read one further token of each answer, all rows in one product."""
        rows = len(ids)
        padded = max(rows, MIN_ROWS)
        lengths = [cache.length for cache in caches]
        for cache in caches:
            cache.reserve(1)
        x_MC = self._embed(ids)
        positions = torch.tensor(lengths + [0] * (padded - rows), device=self.device)
        cos_M1H, sin_M1H = self._cos[positions, None], self._sin[positions, None]
        y_MNH = torch.zeros(
            (padded, self.config.num_attention_heads, self.config.head_dim), device=self.device
        )
        for index, layer in enumerate(self._layers):
            q_MNH, kv_M2KH = layer.project(x_MC, cos_M1H, sin_M1H)
            for row, (cache, length) in enumerate(zip(caches, lengths, strict=True)):
                data = cache.data[index]
                data[:, :, length] = kv_M2KH[row]
                y_MNH[row] = _attend_token(q_MNH[row], data[:, :, : length + 1])
            layer.finish(x_MC, y_MNH.flatten(1))
        for cache in caches:
            cache.length += 1
        return self.logits(self._normalise(x_MC))[:rows]

    @torch.inference_mode()
    def logits(self, hidden_TC: Tensor) -> Tensor:
        """Shape: hidden states (T, C) to float32 logits (T, V)."""
        rows = hidden_TC.shape[0]
        if rows < MIN_ROWS:
            hidden_TC = F.pad(hidden_TC, (0, 0, 0, MIN_ROWS - rows))
        return self._head(hidden_TC)[:rows].float()

    def _embed(self, ids: Sequence[int]) -> Tensor:
        padded = [*ids, *[0] * (MIN_ROWS - len(ids))]
        return F.embedding(torch.tensor(padded, device=self.device), self._embedding).float()

    def _normalise(self, x_MC: Tensor) -> Tensor:
        return _rms_norm(x_MC, self._norm, self.config.rms_norm_eps).to(self.dtype)


class _PackedBlock:
    """One layer with its three input maps of attention, and two of the MLP, side by side."""

    def __init__(self, block: Block, decoder: PackedDecoder) -> None:
        config, device, dtype = decoder.config, decoder.device, decoder.dtype
        self.eps, self.dtype = config.rms_norm_eps, dtype
        self.heads, self.shared = config.num_attention_heads, config.num_key_value_heads
        self.head_dim = config.head_dim
        attention, mlp = block.self_attn, block.mlp

        def pack(*maps: Linear) -> LinearMap:
            weight = torch.cat([m.effective_weight().detach() for m in maps]).to(device, dtype)
            biases = [m.bias.detach() for m in maps if m.bias is not None]
            return pack_linear(weight, torch.cat(biases).to(device, dtype) if biases else None)

        self.qkv = pack(attention.q_proj, attention.k_proj, attention.v_proj)
        self.out = pack(attention.o_proj)
        self.gate_up = pack(mlp.gate_proj, mlp.up_proj)
        self.down = pack(mlp.down_proj)
        self.norm = block.input_layernorm.weight.detach().to(device, torch.float32)
        self.mlp_norm = block.post_attention_layernorm.weight.detach().to(device, torch.float32)
        self.qk_scale = None
        if isinstance(attention.q_norm, RMSNorm) and isinstance(attention.k_norm, RMSNorm):
            q_scale = attention.q_norm.weight.detach().expand(self.heads, -1)
            k_scale = attention.k_norm.weight.detach().expand(self.shared, -1)
            self.qk_scale = torch.cat((q_scale, k_scale)).to(device, torch.float32)

    def project(self, x_MC: Tensor, cos_M1H: Tensor, sin_M1H: Tensor) -> tuple[Tensor, Tensor]:
        """Shape: (M, C) to queries (M, N, H), and keys and values (M, 2, K, H), in float32."""
        mixed = self.qkv(_rms_norm(x_MC, self.norm, self.eps).to(self.dtype)).float()
        mixed = mixed.view(x_MC.shape[0], -1, self.head_dim)
        qk = mixed[:, : self.heads + self.shared]
        if self.qk_scale is not None:
            qk = _rms_norm(qk, self.qk_scale, self.eps)
        qk = torch.addcmul(qk * cos_M1H, qk.roll(self.head_dim // 2, dims=-1), sin_M1H)
        keys = qk[:, self.heads :]
        values = mixed[:, self.heads + self.shared :]
        return qk[:, : self.heads], torch.stack((keys, values), dim=1)

    def finish(self, x_MC: Tensor, y_MC: Tensor) -> None:
        """Add what attention and MLP give to the stream, in place."""
        x_MC += self.out(y_MC.to(self.dtype))
        mixed = self.gate_up(_rms_norm(x_MC, self.mlp_norm, self.eps).to(self.dtype))
        gate, up = mixed.chunk(2, dim=-1)
        x_MC += self.down(F.silu(gate) * up)


def pack_linear(weight: Tensor, bias: Tensor | None) -> LinearMap:
    """Lay a weight out for few rows, where this build of torch can (oneDNN); else keep it.

    Source: measured: benchmarks/results/generate.md.
    """
    if weight.device.type == "cpu" and torch._C._has_mkldnn:
        packed = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), MIN_ROWS)
        return lambda x: torch.ops.mkldnn._linear_pointwise(x, packed, bias, "none", [], "")
    return lambda x: F.linear(x, weight, bias)


def _rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    return F.rms_norm(x, x.shape[-1:], None, eps) * weight


def _attend_prompt(q_TNH: Tensor, kv_T2KH: Tensor, data: Tensor, start: int) -> Tensor:
    """Write new positions and let each see those up to itself.

    Shape: (T, N, H), (T, 2, K, H), (2, K, capacity, H) to (T, N*H).
    """
    rows = q_TNH.shape[0]
    stop = start + rows
    data[:, :, start:stop] = kv_T2KH.permute(1, 2, 0, 3)
    mask = None
    if start and rows > 1:
        mask = torch.ones((rows, stop), dtype=torch.bool, device=data.device).tril(start)
    y_NTH = F.scaled_dot_product_attention(
        q_TNH.transpose(0, 1).to(data.dtype)[None],
        data[:1, :, :stop],
        data[1:, :, :stop],
        attn_mask=mask,
        is_causal=start == 0 and rows > 1,
        enable_gqa=q_TNH.shape[1] != data.shape[1],
    )[0]
    return y_NTH.transpose(0, 1).flatten(1)


def _attend_token(q_NH: Tensor, data_2KSH: Tensor) -> Tensor:
    """Let one token see every position of its answer.

    Heads that share a key are laid as rows of one product.
    Shape: (N, H) and (2, K, S, H) to (N, H).
    """
    q_KGH = q_NH.view(data_2KSH.shape[1], -1, q_NH.shape[-1]).to(data_2KSH.dtype)
    y_KGH = F.scaled_dot_product_attention(q_KGH[None], data_2KSH[:1], data_2KSH[1:])
    return y_KGH.view(q_NH.shape)


def _blocks(model: Transformer) -> list[Block]:
    return [block for block in model.model.layers if isinstance(block, Block)]
