"""numba versions of the coordinate-wise rules: the sorting network runs on strips that stay in the first-level
cache."""

from __future__ import annotations

import numba
import numpy as np
import numpy.typing as npt

from ..aggregation.coordinatewise import Array, comparators
from ..aggregation.workspace import Workspace

STRIP = 128  # coordinates at a time: 25 rows of them are 12.8 KiB


@numba.njit(nogil=True, cache=True)
def _middle(updates, pairs, start, stop, rows, result):  # type: ignore[no-untyped-def]
    count, width = updates.shape
    share = np.float32(1.0 / (stop - start))
    for first in range(0, width, STRIP):
        size = min(STRIP, width - first)
        for i in range(count):
            for c in range(size):
                rows[i, c] = updates[i, first + c]
        for p in range(pairs.shape[0]):
            low, high = rows[pairs[p, 0]], rows[pairs[p, 1]]
            for c in range(STRIP):
                a, b = low[c], high[c]
                low[c] = min(b, a)
                high[c] = max(a, b)
        for c in range(size):
            result[first + c] = rows[start, c] * share
        for i in range(start + 1, stop):
            for c in range(size):
                result[first + c] += rows[i, c] * share


def median(updates: Array, *, out: Array | None = None, workspace: Workspace | None = None) -> Array:
    """See `kernels.aggregation.median`."""
    count = updates.shape[0]
    return _run(updates, (count - 1) // 2, count // 2 + 1, out)


def trimmed_mean(
    updates: Array, adversaries: int, *, out: Array | None = None, workspace: Workspace | None = None
) -> Array:
    """See `kernels.aggregation.trimmed_mean`."""
    count = updates.shape[0]
    if adversaries < 0 or count <= 2 * adversaries:
        raise ValueError(f"a trimmed mean of {count} updates cannot drop {adversaries} at each end")
    return _run(updates, adversaries, count - adversaries, out)


def _run(updates: Array, start: int, stop: int, out: Array | None) -> Array:
    count, width = updates.shape
    result = out if out is not None else np.empty(width, np.float32)
    pairs: npt.NDArray[np.int64] = np.array(comparators(count, start, stop), np.int64).reshape(-1, 2)
    _middle(updates, pairs, start, stop, np.zeros((count, STRIP), np.float32), result)
    return result
