"""The transformer prepared for generation: packed weights, a key-value cache per answer.

The arithmetic is that of `lm.model.transformer`; here it is laid out for few rows at a time.
Rows of different answers share every matrix product, while each answer attends alone, so what
one answer reads never depends on the others. Left out: sampling, scheduling.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from triptych.lm.generate.adapters.packed import PackedAdapter, Rows, add_adapters, load_packed
from triptych.lm.generate.packed.layout import (
    MIN_ROWS,
    LinearMap,
    PackedNorm,
    pack_linear,
    pack_norm,
    pair_order,
    qkv_order,
    turns_of,
)
from triptych.lm.model.norms import RMSNorm
from triptych.lm.model.transformer import Block, Linear, Transformer

PREFILL_ROWS = 512


class AnswerCache:
    """The keys and values of one answer, and the adapter that it is read and written with.

    Shape: (layers, 2, K, capacity, H); grows by doubling up to `limit`.
    """

    def __init__(self, decoder: PackedDecoder, limit: int, adapter: str | None = None) -> None:
        self.length = 0
        self.adapter = None if adapter is None else decoder.adapters[adapter]
        self.limit = limit
        shape = decoder.cache_shape
        self.data = torch.empty(
            (shape[0], 2, shape[1], min(limit, PREFILL_ROWS), shape[2]),
            dtype=decoder.cache_dtype,
            device=decoder.device,
        )

    def reserve(self, rows: int) -> None:
        """Grow the cache for further positions."""
        needed, capacity = self.length + rows, self.data.shape[3]
        if needed <= capacity:
            return
        # Doubled, so that an answer of T tokens copies fewer than 2 T positions in all.
        grown = self.data.new_empty(
            (*self.data.shape[:3], min(self.limit, max(needed, 2 * capacity)), self.data.shape[4])
        )
        grown[:, :, :, : self.length] = self.data[:, :, :, : self.length]
        self.data = grown

    def places(self) -> tuple[Sequence[Tensor], Sequence[Tensor]]:
        """Return where the next position goes, and what it sees, as views.

        Shape: (2, K, H) of every layer; keys and values (1, K, S, H) of every layer in turn.
        """
        new = self.data[:, :, :, self.length].unbind(0)
        past = self.data[:, :, None, :, : self.length + 1].flatten(0, 1).unbind(0)
        return new, past


class PackedDecoder:
    """A transformer ready to generate.

    Weights are copied in `dtype`; the transformer can be dropped afterwards. Normalisation,
    rotary positions and attention run in float32 on a CPU.
    """

    def __init__(
        self,
        model: Transformer,
        dtype: torch.dtype,
        device: str = "cpu",
        adapters: Mapping[str, Path] | None = None,
    ) -> None:
        config = model.config
        self.config = config
        self.dtype = dtype
        self.device = torch.device(device)
        # Attention over bfloat16 keys is the slower one on a CPU.
        self.cache_dtype = torch.float32 if self.device.type == "cpu" else dtype
        self.cache_shape = (config.num_hidden_layers, config.num_key_value_heads, config.head_dim)
        self._turns = turns_of(config, self.device)
        # Layers that see a window turn by angles of their own.
        own = bool(config.layer_types)
        self._local_turns = turns_of(config, self.device, local=True) if own else self._turns
        self._embed_scale = torch.tensor(model.model.embed_scale, dtype=dtype).item()
        with torch.inference_mode():
            self._embedding = model.model.embed_tokens.weight.detach().to(self.device, dtype)
            self._layers = [_PackedBlock(*block, self) for block in enumerate(_blocks(model))]
            self._norm = pack_norm(model.model.norm, self.device)
            head = model.lm_head.weight.detach().to(self.device, dtype)
            self._head = pack_linear(head, None)
        order = qkv_order(config)
        self.adapters: dict[str, PackedAdapter] = {
            name: load_packed(folder, config, order, dtype, self.device)
            for name, folder in (adapters or {}).items()
        }
        self._desks: dict[int, _Desk] = {}
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
        desk = _Desk(self, max(rows, MIN_ROWS))
        desk.x_MC = self._embed(ids)
        positions = slice(cache.length, cache.length + rows)
        turns = self._turns_at(positions)
        if rows < MIN_ROWS:
            turns = [table.expand(MIN_ROWS, -1, -1) for table in turns]
        q_TNH, kv_T2KH = desk.queries_MNH[:rows], desk.keys_values_M2KH[:rows]
        adapted: Rows = [] if cache.adapter is None else [(slice(0, rows), cache.adapter)]
        for index, layer in enumerate(self._layers):
            layer.project(desk, turns[layer.local], adapted)
            desk.y_MC[:rows] = _attend_prompt(
                q_TNH, kv_T2KH, cache.data[index], cache.length, layer.window
            )
            layer.finish(desk, adapted)
        cache.length += rows
        return self._norm(desk.x_MC, desk.narrow_MC)[:rows]

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
        """Read one further token of each answer, all rows in one product.

        Shape: float32 logits (M, V).
        """
        rows = len(ids)
        padded = max(rows, MIN_ROWS)
        desk = self._desks.get(padded)
        if desk is None:
            desk = self._desks[padded] = _Desk(self, padded)
        lengths = [cache.length for cache in caches]
        for cache in caches:
            cache.reserve(1)
        places = [cache.places() for cache in caches]
        desk.x_MC = self._embed(ids)
        positions = torch.tensor(lengths + [0] * (padded - rows), device=self.device)
        turns = self._turns_at(positions)
        adapted: Rows = [
            (slice(row, row + 1), cache.adapter)
            for row, cache in enumerate(caches)
            if cache.adapter is not None
        ]
        for index, layer in enumerate(self._layers):
            layer.project(desk, turns[layer.local], adapted)
            for row, (new, past) in enumerate(places):
                new[index].copy_(desk.keys_values[row])
                q_1KGH = desk.queries[row].to(self.cache_dtype)
                keys_1KSH, values_1KSH = past[2 * index], past[2 * index + 1]
                if layer.window is not None:
                    keys_1KSH = keys_1KSH[:, :, -layer.window :]
                    values_1KSH = values_1KSH[:, :, -layer.window :]
                y_1KGH = F.scaled_dot_product_attention(q_1KGH, keys_1KSH, values_1KSH)
                desk.answers[row].copy_(y_1KGH)
            layer.finish(desk, adapted)
        # Only now: every layer of this step wrote at the same position.
        for cache in caches:
            cache.length += 1
        return self.logits(self._norm(desk.x_MC, desk.narrow_MC)[:rows])

    @torch.inference_mode()
    def logits(self, hidden_TC: Tensor) -> Tensor:
        """Shape: hidden states (T, C) to float32 logits (T, V)."""
        rows = hidden_TC.shape[0]
        if rows < MIN_ROWS:
            hidden_TC = F.pad(hidden_TC, (0, 0, 0, MIN_ROWS - rows))
        return self._head(hidden_TC)[:rows].float()

    def _turns_at(self, positions: slice | Tensor) -> list[Tensor]:
        """Return the turns of ordinary layers and of those that see a window.

        Shape: complex (M, 1, H/2) each; `positions` (M,).
        """
        turns = self._turns[positions]
        own = self._local_turns is not self._turns
        return [turns, self._local_turns[positions] if own else turns]

    def _embed(self, ids: Sequence[int]) -> Tensor:
        """Shape: float32 (M, C), padded with token 0 to `MIN_ROWS`."""
        padded = [*ids, *[0] * (MIN_ROWS - len(ids))]
        rows = F.embedding(torch.tensor(padded, device=self.device), self._embedding)
        return rows.float() if self._embed_scale == 1.0 else rows.float() * self._embed_scale


class _Desk:
    """The tensors that every layer works on in turn, and views of them, for one number of rows.

    Made once per number of rows, because a tiny model waits for torch to make tensors and views
    longer than for its products. Heads that share a key are laid as rows of one product.
    """

    def __init__(self, decoder: PackedDecoder, rows: int) -> None:
        config, device, dtype = decoder.config, decoder.device, decoder.dtype
        heads, shared = config.num_attention_heads, config.num_key_value_heads
        head_dim = config.head_dim
        self.x_MC = torch.empty(0, device=device)
        self.narrow_MC = torch.zeros((rows, config.hidden_size), dtype=dtype, device=device)
        self.y_MC = torch.zeros((rows, heads * head_dim), dtype=dtype, device=device)
        self.mixed = torch.zeros((rows, heads + 2 * shared, head_dim), device=device)
        self.queries_MNH = self.mixed[:, :heads]
        self.keys_values_M2KH = self.mixed[:, heads:].view(rows, 2, shared, head_dim)
        self.turned = self.mixed[:, : heads + shared]
        self.turned_pairs = torch.view_as_complex(self.turned.view(*self.turned.shape[:2], -1, 2))
        grouped = (rows, 1, shared, heads // shared, head_dim)
        self.queries = self.queries_MNH.view(grouped).unbind(0)
        self.keys_values = self.keys_values_M2KH.unbind(0)
        self.answers = self.y_MC.view(grouped).unbind(0)


class _PackedBlock:
    """One layer with its three input maps of attention, and two of the MLP, side by side.

    The two halves of each head that rotate together are laid as pairs, which are complex numbers.
    """

    def __init__(self, index: int, block: Block, decoder: PackedDecoder) -> None:
        self.index = index
        config, device, dtype = decoder.config, decoder.device, decoder.dtype
        heads, shared = config.num_attention_heads, config.num_key_value_heads
        attention, mlp, eps = block.self_attn, block.mlp, config.rms_norm_eps
        pairs_H = pair_order(config)

        def pack(*maps: Linear, order: Tensor | None = None) -> LinearMap:
            weight = torch.cat([m.effective_weight().detach() for m in maps]).to(device, dtype)
            biases = [m.bias.detach() for m in maps if m.bias is not None]
            bias = torch.cat(biases).to(device, dtype) if biases else None
            if order is not None:
                order = order.to(device)
                weight, bias = weight[order], None if bias is None else bias[order]
            return pack_linear(weight, bias)

        order, fused = qkv_order(config), attention.fused
        qkv = ["qkv_proj"] if fused else ["q_proj", "k_proj", "v_proj"]
        self.qkv = pack(*(getattr(attention, name) for name in qkv), order=order)
        self.out = pack(attention.o_proj)
        gate_up = ["gate_up_proj"] if fused else ["gate_proj", "up_proj"]
        self.gate_up = pack(*(getattr(mlp, name) for name in gate_up))
        self.down = pack(mlp.down_proj)
        self.norm = pack_norm(block.input_layernorm, device)
        self.rotary, self.window = attention.rotary, attention.window
        self.local = int(attention.window is not None)
        self.query_scale, self.heads = attention.query_scale, heads
        self.gemma = block.gemma
        if block.gemma:
            self.after_attention = pack_norm(block.post_attention_layernorm, device)
            self.mlp_norm = pack_norm(block.pre_feedforward_layernorm, device)
            self.after_mlp = pack_norm(block.post_feedforward_layernorm, device)
        else:
            self.mlp_norm = pack_norm(block.post_attention_layernorm, device)
        self.qk_norm = None
        if isinstance(attention.q_norm, RMSNorm) and isinstance(attention.k_norm, RMSNorm):
            q_scale = attention.q_norm.scale().detach()[pairs_H].expand(heads, -1)
            k_scale = attention.k_norm.scale().detach()[pairs_H].expand(shared, -1)
            self.qk_norm = PackedNorm(torch.cat((q_scale, k_scale)), eps, device)

    def project(self, desk: _Desk, turns_M1R: Tensor, adapted: Rows) -> None:
        """Write queries, keys and values of the stream into the desk, in float32.

        Shape: turns_M1R complex (M, 1, H/2).
        """
        x_MC = self.norm(desk.x_MC, desk.narrow_MC)
        mixed = add_adapters(self.qkv(x_MC), x_MC, adapted, self.index, "qkv")
        desk.mixed.copy_(mixed.view(desk.mixed.shape))
        if self.qk_norm is not None:
            qk = desk.turned
            qk.div_(self.qk_norm.length(qk)).mul_(self.qk_norm.weight)
        if self.rotary:
            desk.turned_pairs.mul_(turns_M1R)
        if self.query_scale != 1.0:
            desk.queries_MNH.mul_(self.query_scale)

    def finish(self, desk: _Desk, adapted: Rows) -> None:
        """Add what attention and MLP give to the stream, in place."""
        add, y_MC = add_adapters, desk.y_MC
        attended = add(self.out(y_MC), y_MC, adapted, self.index, "out")
        if self.gemma:
            attended = self.after_attention(attended.float(), torch.empty_like(desk.x_MC))
        desk.x_MC.add_(attended)
        x_MC = self.mlp_norm(desk.x_MC, desk.narrow_MC)
        gate, up = add(self.gate_up(x_MC), x_MC, adapted, self.index, "gate_up").chunk(2, dim=-1)
        opened = F.gelu(gate, approximate="tanh") if self.gemma else F.silu(gate)
        inner = opened.mul_(up)
        mapped = add(self.down(inner), inner, adapted, self.index, "down")
        if self.gemma:
            mapped = self.after_mlp(mapped.float(), torch.empty_like(desk.x_MC))
        desk.x_MC.add_(mapped)


def _attend_prompt(
    q_TNH: Tensor, kv_T2KH: Tensor, data: Tensor, start: int, window: int | None
) -> Tensor:
    """Write new positions and let each see those up to itself, or a window of them.

    Shape: (T, N, H), (T, 2, K, H), (2, K, capacity, H) to (T, N*H).
    """
    rows = q_TNH.shape[0]
    stop = start + rows
    data[:, :, start:stop] = kv_T2KH.permute(1, 2, 0, 3)
    mask = None
    narrow = window is not None and window < stop
    if (start and rows > 1) or narrow:
        mask = torch.ones((rows, stop), dtype=torch.bool, device=data.device).tril(start)
        if window is not None and narrow:
            mask = mask.triu(start - window + 1)
    y_NTH = F.scaled_dot_product_attention(
        q_TNH.transpose(0, 1).to(data.dtype)[None],
        data[:1, :, :stop],
        data[1:, :, :stop],
        attn_mask=mask,
        is_causal=mask is None and start == 0 and rows > 1,
        enable_gqa=q_TNH.shape[1] != data.shape[1],
    )[0]
    return y_NTH.transpose(0, 1).flatten(1)


def _blocks(model: Transformer) -> list[Block]:
    return [block for block in model.model.layers if isinstance(block, Block)]
