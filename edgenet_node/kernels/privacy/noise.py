"""Discrete Gaussian noise: integers k with probability proportional to exp(-k^2 / (2 deviation^2)).

A draw is `512 coarse + fine`, both from one table of a discrete Gaussian of deviation 1024. For a value v of the sum,
completing the square leaves exp(-v^2 / (2 deviation^2)) times a sum over a shifted lattice of step 512, which by
Poisson's formula is constant to a relative 2 exp(-2 pi^2 (1024/512)^2 (1 - 4e-6)) < 2^-112. So each probability is that
of a discrete Gaussian of deviation^2 = (512 * 1024)^2 + 1024^2 within a factor 1 +- 2^-111, and the table adds a total
variation below 2^-112 a lookup: over 2^40 coordinates both change epsilon and delta by less than 2^-70. (The method:
Micciancio and Walter 2017, section 4. Nothing is sampled by rejection, so no loop's length depends on a secret.)

The table is Walker's alias table with exact integer weights of 128 bits: a lookup reads 64 random bits, and 64 more in
the one case of 2^49 in which those do not decide.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from decimal import Decimal, localcontext

import numpy as np
import numpy.typing as npt
from msgspec import Struct

Array = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int64]
Words = npt.NDArray[np.uint64]
RandomBytes = Callable[[int], bytes]

TABLE_DEVIATION = 1024
COARSE = 512
DEVIATION = math.sqrt((COARSE * TABLE_DEVIATION) ** 2 + TABLE_DEVIATION**2)  # 524,289.0 to nine digits
COLUMN_BITS = 15  # -16384..16383 is sixteen deviations to each side: beyond lies less than 2^-184
WEIGHT_BITS = 128  # the weights of the table sum to 2^128
FRACTION_BITS = 64 - COLUMN_BITS
GUARD_BITS = 300  # of the fixed-point probabilities: rounding stays far below 2^-128
TILE = 1 << 15  # draws at a time: their words and columns stay in the second-level cache


class NoiseTable(Struct, frozen=True):
    """Column c stands for the integer c - 2^14, or else for `other[c]`: the former if the 113 random bits below the
    column's are less than `high[c] 2^64 + low[c]`. All (2^15,)."""

    high: Words
    low: Words
    other: Integers


def table_weights() -> list[int]:
    """Integer weights, summing to 2^128, of -2^14..2^14 - 1 under the discrete Gaussian of deviation 1024."""
    with localcontext() as context:
        context.prec = 120
        ratio = int((Decimal(-1) / (2 * TABLE_DEVIATION**2)).exp() * (1 << GUARD_BITS))
    half = 1 << (COLUMN_BITS - 1)
    densities = [1 << GUARD_BITS]
    step, square = ratio, (ratio * ratio) >> GUARD_BITS
    for _ in range(half):  # exp(-(k+1)^2 c) = exp(-k^2 c) exp(-(2k+1) c)
        densities.append((densities[-1] * step) >> GUARD_BITS)
        step = (step * square) >> GUARD_BITS
    total = 2 * sum(densities[1:half]) + densities[0] + densities[half]
    weights = [(densities[abs(k)] << WEIGHT_BITS) // total for k in range(-half, half)]
    weights[half] += (1 << WEIGHT_BITS) - sum(weights)
    return weights


def noise_table() -> NoiseTable:
    """The table, computed: a tenth of a second; make it once. Source: Walker 1977; Vose 1991, in exact integers."""
    columns = 1 << COLUMN_BITS
    capacity = 1 << (WEIGHT_BITS - COLUMN_BITS)
    left = table_weights()
    other = list(range(columns))
    small = [c for c in range(columns) if left[c] < capacity]
    large = [c for c in range(columns) if left[c] >= capacity]
    while small and large:
        giver, taker = large[-1], small.pop()
        other[taker] = giver
        left[giver] -= capacity - left[taker]
        if left[giver] < capacity:
            small.append(large.pop())
    mask = (1 << 64) - 1
    return NoiseTable(
        high=np.array([weight >> 64 for weight in left], np.uint64),
        low=np.array([weight & mask for weight in left], np.uint64),
        other=np.array(other, np.int64) - columns // 2,
    )


def discrete_gaussian(
    table: NoiseTable, random_bytes: RandomBytes, count: int, *, out: Integers | None = None
) -> Integers:
    """`count` independent draws of deviation `DEVIATION`: (count,) int64. Takes 16 random bytes a draw. O(count).

    `random_bytes(n)` gives n uniform bytes: `os.urandom` where privacy is meant; the `bytes` method of a seeded numpy
    Generator in tests, never elsewhere: its output can be computed from what it has shown.
    """
    result = out if out is not None else np.empty(count, np.int64)
    for first in range(0, count, TILE):
        part = result[first : first + TILE]
        words = np.frombuffer(random_bytes(16 * part.size), "<u8").reshape(2, part.size)
        np.multiply(_lookup(table, words[0], random_bytes), COARSE, out=part)
        np.add(part, _lookup(table, words[1], random_bytes), out=part)
    return result


def _lookup(table: NoiseTable, words: Words, random_bytes: RandomBytes) -> Integers:
    columns = (words >> np.uint64(FRACTION_BITS)).astype(np.int64)
    fractions = words & np.uint64((1 << FRACTION_BITS) - 1)
    limits = table.high[columns]
    own = fractions < limits
    open_ = np.flatnonzero(fractions == limits)
    if open_.size:
        more = np.frombuffer(random_bytes(8 * open_.size), "<u8")
        own[open_] = more < table.low[columns[open_]]
    return np.where(own, columns - (1 << (COLUMN_BITS - 1)), table.other[columns])


def private_mean(
    sums: Integers,
    limit: float,
    steps: int,
    expected: float,
    table: NoiseTable,
    random_bytes: RandomBytes,
    *,
    out: Array | None = None,
) -> Array:
    """`(sums + noise) limit / (steps expected)`: the released mean of a `clipped_sum`: (d,) float32. O(d).

    `expected`: the expected number of examples, rate times population. The actual number is private. What is done to
    the result after this (top-k with its residual, quantising, averaging) costs no privacy. One release is
    `renyi_divergences(DEVIATION / steps, rate)`. For `random_bytes` see `discrete_gaussian`.
    """
    noised = discrete_gaussian(table, random_bytes, sums.size)
    np.add(noised, sums, out=noised)
    result = out if out is not None else np.empty(sums.size, np.float32)
    np.multiply(noised, limit / (steps * expected), out=result, casting="unsafe")
    return result
