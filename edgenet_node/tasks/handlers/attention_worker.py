"""The functions behind `attention`, run in worker processes."""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ...wire.codec import decode
from ...wire.task import INPUT_BYTES_MAX
from .array_kind import KernelContext
from .arrays import Array, frame, read_npy
from .attention import Block, read_item

UNIT: Final = 2.0**-24
"""The rounding of one float32 operation."""


def run(context: KernelContext, spec: bytes, data: bytes) -> bytes:
    """The blocks of a chunk."""
    flash = context.kernel("attention.flash/1")
    items: list[bytes] = decode(bytes(data), list[bytes], bytes_max=INPUT_BYTES_MAX)
    return frame(np.stack([_block(flash, *read_item(spec, item)) for item in items]))


def _block(flash: Any, query: Array, key: Array, value: Array, block: Block) -> Array:
    found: Array = flash(query, key, value, causal=block.causal, offset=block.offset)
    return found


def confirm(context: KernelContext, spec: bytes, data: bytes, claimed: bytes, seed: int) -> bytes:
    """Each claimed block that rounding can explain, and this node's own in place of each that it cannot."""
    items: list[bytes] = decode(bytes(data), list[bytes], bytes_max=INPUT_BYTES_MAX)
    blocks = []
    for item, block in zip(items, read_npy(bytes(claimed)), strict=True):
        query, key, value, where = read_item(spec, item)
        wanted, slack = exact(query, key, value, where)
        stands = bool(np.all(np.abs(block - wanted) <= slack))
        blocks.append(block if stands else wanted.astype(np.float32))
    return frame(np.stack(blocks))


def exact(
    query: Array, key: Array, value: Array, block: Block
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """The block (n, d_v) in float64, and by row (n, 1) how far float32 may be from it.

    A score s = q k / sqrt d is off by at most (d + 8) u |q| |k| / sqrt d = e in float32, in any order of summation, so
    that a weight is off by a factor of at most exp(2 e); sums over n_k keys and their quotient add (2 n_k + 64) u. A
    weighted mean of values is then off by at most that share of twice the largest value.
    """
    q, k, v = query.astype(np.float64), key.astype(np.float64), value.astype(np.float64)
    width, keys = q.shape[1], k.shape[0]
    scores = q @ k.T / math.sqrt(width)
    if block.causal:
        hidden = np.arange(keys) > np.arange(len(q))[:, None] + block.offset
        scores[hidden] = -np.inf
    highest = np.maximum(scores.max(axis=1, keepdims=True), -np.finfo(np.float64).max)
    weights = np.exp(scores - highest)
    sums = weights.sum(axis=1, keepdims=True)
    wanted = weights @ v / np.where(sums > 0, sums, 1.0)
    largest = float(np.sqrt(np.vecdot(k, k)).max(initial=0.0))
    error = (width + 8) * UNIT * np.sqrt(np.vecdot(q, q))[:, None] * largest / math.sqrt(width)
    share = np.minimum(np.expm1(np.minimum(2 * error, 1.0)) + (2 * keys + 64) * UNIT, 1.0)
    return wanted, 2 * share * float(np.abs(v).max(initial=0.0))
