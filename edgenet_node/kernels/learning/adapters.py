"""An adapter's life off the hot path: start, step, blend, merge."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from ...errors import UsageError
from .lora import RANK_MAX, SCALE, Adapter, Gradients


class Merged(Struct, frozen=True, eq=False):
    """`dropped`: the singular values left out, largest first; `error` is the Frobenius distance to the exact sum."""

    adapter: Adapter
    dropped: npt.NDArray[np.float64]

    @property
    def error(self) -> float:
        return float(np.sqrt(np.sum(np.square(self.dropped))))


def start(inputs: int, outputs: int, rank: int, generator: np.random.Generator, scale: float = SCALE) -> Adapter:
    """A new adapter that changes nothing yet: entries of `down` N(0, 1/inputs), `up` zero (Hu et al. 2021, section
    4.1).

    With `up` zero the first step moves only `up`; from then on both move. `UsageError` outside rank 1 to 16.
    """
    if not (1 <= rank <= RANK_MAX and inputs > 0 and outputs > 0):
        raise UsageError(f"no such adapter: rank {rank} of 1 to {RANK_MAX}, {inputs} inputs, {outputs} outputs")
    down = generator.standard_normal((rank, inputs), np.float32) * np.float32(1.0 / math.sqrt(inputs))
    return Adapter(down=down, up=np.zeros((rank, outputs), np.float32), scale=scale)


def step(adapter: Adapter, gradients: Gradients, rate: float) -> Adapter:
    """One step of gradient descent on both factors; `adapter` itself is left as it is."""
    factor = np.float32(rate)
    return Adapter(
        down=adapter.down - factor * gradients.down, up=adapter.up - factor * gradients.up, scale=adapter.scale
    )


def blend(parts: Sequence[tuple[float, Adapter]]) -> Adapter:
    """The exact weighted sum of changes, as one adapter whose rank is the sum of ranks.

    `sum_i w_i s_i A_i B_i = [A_1 A_2 ...] [w_1 s_1 B_1; w_2 s_2 B_2; ...]`: nothing is approximated. `UsageError` for
    no parts.
    """
    if not parts:
        raise UsageError("nothing to blend")
    return Adapter(
        down=np.concatenate([part.down for _, part in parts]),
        up=np.concatenate([np.float32(weight * part.scale) * part.up for weight, part in parts]),
        scale=1.0,
    )


def merge(parts: Sequence[tuple[float, Adapter]], rank: int) -> Merged:
    """The adapter of at most `rank` that is nearest to `sum_i w_i s_i A_i B_i` (Eckart and Young 1936).

    Averaging the A's and the B's apart is not this: the mean of products is not the product of means. With P = stacked
    A's and Q = stacked weighted B's, P = Q_p R_p and Q^T = Q_q R_q by QR, the sum is Q_p (R_p R_q^T) Q_q^T, so its SVD
    is that of an R x R core, R the sum of ranks; the d x e matrix is never formed. Singular values are shared evenly
    between the factors. float64 inside; O((d + e) R^2). `UsageError` for no parts or rank outside 1 to 16.
    """
    if not 1 <= rank <= RANK_MAX:
        raise UsageError(f"cannot merge into rank {rank}: it is 1 to {RANK_MAX}")
    both = blend(parts)
    read, triangle_read = np.linalg.qr(both.down.astype(np.float64).T)
    write, triangle_write = np.linalg.qr(both.up.astype(np.float64).T)
    left, values, right = np.linalg.svd(triangle_read @ triangle_write.T)
    kept = min(rank, values.size)
    roots = np.sqrt(values[:kept])
    down = np.ascontiguousarray((read @ (left[:, :kept] * roots)).T, np.float32)
    up = np.ascontiguousarray((roots[:, None] * right[:kept]) @ write.T, np.float32)
    return Merged(adapter=Adapter(down=down, up=up, scale=1.0), dropped=values[kept:])
