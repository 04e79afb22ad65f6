"""The functions behind `matmul`, run in worker processes."""

from __future__ import annotations

from typing import Final

import numpy as np

from ...kernels.verify import freivalds
from ...wire.codec import decode
from ...wire.task import INPUT_BYTES_MAX
from .array_kind import KernelContext
from .arrays import frame, read_npy
from .matmul import read_item

TRIALS: Final = 16


def run(context: KernelContext, spec: bytes, data: bytes) -> bytes:
    """The partial products of a chunk."""
    multiply = context.kernel("linear.matmul/1")
    items: list[bytes] = decode(bytes(data), list[bytes], bytes_max=INPUT_BYTES_MAX)
    return frame(np.stack([multiply(*read_item(spec, item)) for item in items]))


def confirm(context: KernelContext, spec: bytes, data: bytes, claimed: bytes, seed: int) -> bytes:
    """Each claimed block that passes Freivalds' check, and the product itself in place of each that does not."""
    rng = np.random.default_rng(seed)
    items: list[bytes] = decode(bytes(data), list[bytes], bytes_max=INPUT_BYTES_MAX)
    blocks = []
    for item, block in zip(items, read_npy(bytes(claimed)), strict=True):
        a, b = read_item(spec, item)
        signs = rng.integers(0, 2, (b.shape[1], TRIALS)).astype(np.float64) * 2.0 - 1.0
        passed = bool(freivalds(a, b, block, signs).all())
        blocks.append(block if passed else context.kernel("linear.matmul/1")(a, b))
    return frame(np.stack(blocks))
