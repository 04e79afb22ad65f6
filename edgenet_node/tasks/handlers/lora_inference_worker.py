"""The functions behind `lora_inference`, run in worker processes."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ...wire.codec import decode
from ...wire.task import INPUT_BYTES_MAX
from .array_kind import KernelContext
from .arrays import Array, frame, read_npy
from .lora_inference import read_item

UNIT: Final = 2.0**-24
"""The rounding of one float32 operation."""


def run(context: KernelContext, spec: bytes, data: bytes) -> bytes:
    """The blocks of a chunk."""
    multiply, adapt = context.kernel("linear.matmul/1"), context.kernel("learning.lora_forward/1")
    items: list[bytes] = decode(bytes(data), list[bytes], bytes_max=INPUT_BYTES_MAX)
    return frame(np.stack([_block(multiply, adapt, *read_item(spec, item)) for item in items]))


def _block(multiply: Any, adapt: Any, x: Array, w: Array, down: Array, up: Array) -> Array:
    found: Array = adapt(x, multiply(x, w), down, up)
    return found


def confirm(context: KernelContext, spec: bytes, data: bytes, claimed: bytes, seed: int) -> bytes:
    """Each claimed block that rounding can explain, and this node's own in place of each that it cannot."""
    items: list[bytes] = decode(bytes(data), list[bytes], bytes_max=INPUT_BYTES_MAX)
    blocks = []
    for item, block in zip(items, read_npy(bytes(claimed)), strict=True):
        wanted, slack = exact(*read_item(spec, item))
        stands = bool(np.all(np.abs(block - wanted) <= slack))
        blocks.append(block if stands else wanted.astype(np.float32))
    return frame(np.stack(blocks))


def exact(x: Array, w: Array, down: Array, up: Array) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """The block in float64, and how far float32 may be from it in any order of summation: (d + r + 8) u times
    |x| |W| + |x| |A| |B| (Higham 2002, sec. 3.5)."""
    inputs, base, read, write = (part.astype(np.float64) for part in (x, w, down.T, up))
    wanted = inputs @ base + (inputs @ read) @ write
    mass = np.abs(inputs) @ np.abs(base) + (np.abs(inputs) @ np.abs(read)) @ np.abs(write)
    steps = (x.shape[1] + down.shape[0] + 8) * UNIT
    return wanted, steps / (1.0 - steps) * mass + 1e-35
