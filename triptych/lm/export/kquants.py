"""Weights in llama.cpp's k-quants: blocks of 256 with scales of 6 bits, in 4.5, 5.5 and 6.6 bits.

The same search for scales as llama.cpp's own, over many blocks at once. Left out: importance
matrices, which weigh the errors by what a text makes of them.

Source: ggml-quants.c of llama.cpp (MIT), `quantize_row_q4_K_ref` and its siblings.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np

if TYPE_CHECKING:
    import gguf
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]
    Bytes = NDArray[np.uint8]

KQuant = Literal["q4_k", "q5_k", "q6_k"]
BLOCK = 256
_AT_ONCE = 2**14
_TINY = 1e-15


def stored(weights: Floats, kind: gguf.GGMLQuantizationType) -> NDArray[Any]:
    """Return a tensor as a GGUF file of any kind holds it.

    Shape: (out, in) or (C,), to the bytes of each row.
    """
    import gguf

    if kind.name in ("Q4_K", "Q5_K", "Q6_K"):
        return quantize(weights, kind.name.lower())
    plain: NDArray[Any] = gguf.quants.quantize(weights, kind)
    return plain


def quantize(weights: Floats, kind: KQuant) -> Bytes:
    """Return the blocks of a tensor.

    Shape: (..., C) with C a multiple of 256 to (..., bytes of a row).
    """
    blocks = weights.reshape(-1, BLOCK)
    write = {"q4_k": _q4, "q5_k": _q5, "q6_k": _q6}[kind]
    found = [
        write(np.ascontiguousarray(blocks[start : start + _AT_ONCE], dtype=np.float32))
        for start in range(0, len(blocks), _AT_ONCE)
    ]
    return np.concatenate(found).reshape(*weights.shape[:-1], -1)


def more_bits(layer: int, layers: int) -> bool:
    """Return whether a layer's values and down maps get 6 bits in the mixed widths."""
    return layer < layers // 8 or layer >= 7 * layers // 8 or (layer - layers // 8) % 3 == 2


def _q4(x_B256: Floats) -> Bytes:
    """Shape: (B, 256) to (B, 144)."""
    head, levels = _with_minima(x_B256, 15, rmin=-1.0, steps=20)
    pairs = levels.reshape(-1, 4, 2, 32)
    packed = pairs[:, :, 0] | (pairs[:, :, 1] << 4)
    return np.concatenate([head, packed.reshape(len(x_B256), -1)], axis=1)


def _q5(x_B256: Floats) -> Bytes:
    """Shape: (B, 256) to (B, 176)."""
    head, levels = _with_minima(x_B256, 31, rmin=-0.5, steps=15)
    pairs = levels.reshape(-1, 4, 2, 32)
    low = (pairs[:, :, 0] & 15) | ((pairs[:, :, 1] & 15) << 4)
    high = np.zeros((len(x_B256), 32), np.uint8)
    for place in range(8):
        high |= (levels.reshape(-1, 8, 32)[:, place] >> 4) << place
    return np.concatenate([head, high, low.reshape(len(x_B256), -1)], axis=1)


def _with_minima(x_B256: Floats, top: int, *, rmin: float, steps: int) -> tuple[Bytes, Bytes]:
    """Choose a scale and a minimum for each 32 weights, and the level of each weight.

    Shape: (B, 256) to the head of the blocks (B, 16) and levels (B, 256).
    """
    x = x_B256.reshape(-1, 32)
    scale, least = _scale_and_minimum(x, top, rmin, steps)
    scales, minima = scale.reshape(-1, 8), least.reshape(-1, 8)
    d, scale_levels = _six_bits(scales)
    dmin, minimum_levels = _six_bits(minima)
    step = (d[:, None].astype(np.float32) * scale_levels).reshape(-1, 1)
    shift = (dmin[:, None].astype(np.float32) * minimum_levels).reshape(-1, 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        levels = np.where(step > 0, np.rint((x + shift) / step), 0)
    levels = np.clip(levels, 0, top).astype(np.uint8).reshape(-1, 256)
    head = [d[:, None].view(np.uint8), dmin[:, None].view(np.uint8)]
    return np.concatenate([*head, _packed(scale_levels, minimum_levels)], axis=1), levels


def _six_bits(values_B8: Floats) -> tuple[NDArray[np.float16], Bytes]:
    """Write eight numbers as 6 bits each and one factor.

    Shape: (B, 8) to (B,) and (B, 8).
    """
    most = values_B8.max(axis=1)
    factor = np.divide(63, most, out=np.zeros_like(most), where=most > 0)
    levels = np.minimum(63, np.rint(values_B8 * factor[:, None])).astype(np.uint8)
    return (most / 63).astype(np.float16), levels


def _packed(scales_B8: Bytes, minima_B8: Bytes) -> Bytes:
    """Lay sixteen numbers of 6 bits into 12 bytes, as llama.cpp reads them.

    Shape: (B, 8) and (B, 8) to (B, 12).
    """
    found = np.zeros((len(scales_B8), 12), np.uint8)
    found[:, 0:4] = scales_B8[:, :4] | ((scales_B8[:, 4:] >> 4) << 6)
    found[:, 4:8] = minima_B8[:, :4] | ((minima_B8[:, 4:] >> 4) << 6)
    found[:, 8:12] = (scales_B8[:, 4:] & 15) | ((minima_B8[:, 4:] & 15) << 4)
    return found


def _scale_and_minimum(x: Floats, top: int, rmin: float, steps: int) -> tuple[Floats, Floats]:
    """Find the scale and the (negated) minimum with the least weighted error.

    Shape: (G, 32) to (G,) and (G,).
    """
    weight = np.sqrt((x * x).mean(axis=1, keepdims=True)) + np.abs(x)
    low, high = np.minimum(x.min(axis=1), 0), x.max(axis=1)
    span = high - low
    flat = span <= 0
    span = np.where(flat, 1, span)
    sum_w, sum_x = weight.sum(axis=1), (weight * x).sum(axis=1)

    def levels_at(factor: NDArray[Any]) -> Floats:
        return np.clip(np.rint(factor[:, None] * (x - low[:, None])), 0, top)

    def error_of(scale: NDArray[Any], least: Floats, levels: Floats) -> Floats:
        off = scale[:, None] * levels + least[:, None] - x
        return (weight * off * off).sum(axis=1)

    scale, least = span / top, low.copy()
    best = error_of(scale, least, levels_at(top / span))
    for step in range(steps + 1):
        levels = levels_at((rmin + 0.1 * step + top) / span)
        weighted = weight * levels
        sum_l, sum_l2 = weighted.sum(axis=1), (weighted * levels).sum(axis=1)
        sum_xl = (weighted * x).sum(axis=1)
        determinant = sum_w * sum_l2 - sum_l * sum_l
        safe = np.where(determinant > 0, determinant, 1)
        tried = (sum_w * sum_xl - sum_x * sum_l) / safe
        moved = (sum_l2 * sum_x - sum_l * sum_xl) / safe
        above = moved > 0
        tried = np.where(above, sum_xl / np.where(sum_l2 > 0, sum_l2, 1), tried)
        moved = np.where(above, 0, moved)
        error = error_of(tried, moved, levels)
        better = (determinant > 0) & (error < best)
        best, scale = np.where(better, error, best), np.where(better, tried, scale)
        least = np.where(better, moved, least)
    return np.where(flat, 0, scale).astype(np.float32), (-least).astype(np.float32)


def _q6(x_B256: Floats) -> Bytes:
    """Shape: (B, 256) to (B, 210)."""
    x = x_B256.reshape(-1, 16)
    scales = _symmetric_scale(x, 32).reshape(-1, 16)
    place = np.abs(scales).argmax(axis=1)
    most = scales[np.arange(len(scales)), place]
    empty = np.abs(most) < _TINY
    factor = -128 / np.where(empty, 1, most)
    d = np.where(empty, 0, 1 / factor).astype(np.float16)
    scale_levels = np.minimum(127, np.rint(factor[:, None] * scales))
    scale_levels = np.where(empty[:, None], 0, scale_levels).astype(np.int8)
    step = (d[:, None].astype(np.float32) * scale_levels).reshape(-1, 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        levels = np.where(step != 0, np.rint(x / step), 0)
    levels = (np.clip(levels, -32, 31) + 32).astype(np.uint8).reshape(-1, 2, 4, 32)
    low = np.stack(
        [(levels[:, :, 0] & 15) | ((levels[:, :, 2] & 15) << 4),
         (levels[:, :, 1] & 15) | ((levels[:, :, 3] & 15) << 4)], axis=2,
    )  # fmt: skip
    high = levels[:, :, 0] >> 4
    for number in (1, 2, 3):
        high = high | ((levels[:, :, number] >> 4) << (2 * number))
    rows = len(x_B256)
    parts = [low.reshape(rows, -1), high.reshape(rows, -1), scale_levels.view(np.uint8),
             d[:, None].view(np.uint8)]  # fmt: skip
    return np.concatenate(parts, axis=1)


def _symmetric_scale(x: Floats, top: int) -> Floats:
    """Find the scale with the least squared error, weighed by the squares of the weights.

    Shape: (G, 16) to (G,).
    """
    most = x[np.arange(len(x)), np.abs(x).argmax(axis=1)]
    empty = np.abs(most) < _TINY
    most = np.where(empty, 1, most)
    square = x * x
    scale = best = np.zeros(len(x), np.float32)
    for step in (0, *range(-9, 0), *range(1, 10)):
        factor = -(top + 0.1 * step) / most
        levels = np.clip(np.rint(factor[:, None] * x), -top, top - 1)
        sum_lx = (square * x * levels).sum(axis=1)
        sum_l2 = (square * levels * levels).sum(axis=1)
        safe = np.where(sum_l2 > 0, sum_l2, 1)
        better = (sum_l2 > 0) & ((sum_lx * sum_lx > best * sum_l2) | (step == 0))
        tried = sum_lx / safe
        scale, best = np.where(better, tried, scale), np.where(better, tried * sum_lx, best)
    return np.where(empty, 0, scale).astype(np.float32)
