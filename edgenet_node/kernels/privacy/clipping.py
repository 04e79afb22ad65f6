"""The sum of clipped examples, exactly: integers on a grid whose step is a fixed share of the clipping length.

The grid is so fine (half a million steps to one deviation of the noise) that cutting an example down to it costs a
millionth of the noise a coordinate.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from .noise import DEVIATION

Array = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int64]

STEPS_MAX = 94_906_265  # its square is the last below 2^53, so float64 sums squared lengths exactly
SHRINK = 1.0 - 2.0**-20  # undoes a rounding of the scale; one round of it is enough


def grid_steps(noise_multiplier: float) -> int:
    """Steps of the grid to one clipping length, so that the noise is at least `noise_multiplier` times that length.

    `floor(DEVIATION / z)`: the true multiplier, DEVIATION / steps, is what the accountant should be given; it is above
    z by less than z^2 / 500,000. 0.0056 < z <= 512 (`ValueError`): beyond, integers or the grid are too coarse.
    """
    if not 0.0056 < noise_multiplier <= 512.0:
        raise ValueError(f"noise multiplier {noise_multiplier} is not between 0.0056 and 512")
    return min(STEPS_MAX, math.floor(DEVIATION / noise_multiplier))


def clipped_sum(examples: Array, limit: float, steps: int, *, out: Integers | None = None) -> Integers:
    """`sum_i trunc(x_i steps / max(limit, |x_i|))` over rows of examples (B, d): (d,) int64.

    Times limit/steps it is the sum of the clipped examples. Each row's integers have a length of at most `steps`,
    checked exactly, and depend on that row alone: adding or removing an example changes the sum by a vector of at most
    that length, which is the sensitivity. Truncation costs a coordinate of an example at most one step. A row that is
    not finite counts as zeros: it must not void the others' privacy or result. limit > 0. O(B d). Source: Abadi et al.
    2016 (1607.00133, algorithm 1).
    """
    width = examples.shape[1]
    total = out if out is not None else np.empty(width, np.int64)
    total[...] = 0
    wide, whole = np.empty(width), np.empty(width, np.int64)
    for row in examples:
        np.copyto(wide, row)
        with np.errstate(invalid="ignore"):
            length = math.sqrt(float(np.vecdot(wide, wide)))
        if not math.isfinite(length):
            continue
        np.multiply(wide, steps / max(limit, length), out=wide)
        np.trunc(wide, out=wide)
        while float(np.vecdot(wide, wide)) > float(steps) * float(steps):
            np.multiply(wide, SHRINK, out=wide)
            np.trunc(wide, out=wide)
        np.copyto(whole, wide, casting="unsafe")
        np.add(total, whole, out=total)
    return total
