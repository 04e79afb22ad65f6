"""numba versions of the statistics kernels that win by it: the sums of a k-means iteration."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import njit

from ..statistics.clusters import F64, Array, Labels


def centre_sums(points: Array, labels: Labels, k: int) -> tuple[F64, npt.NDArray[np.int64]]:
    """As `statistics.clusters.centre_sums`, in one pass over the points."""
    sums = np.zeros((k, points.shape[1]), np.float64)
    counts = np.zeros(k, np.int64)
    _centre_sums(points, labels, sums, counts)
    return sums, counts


@njit(nogil=True, cache=True)
def _centre_sums(points, labels, sums, counts):  # type: ignore[no-untyped-def]
    for n in range(points.shape[0]):
        place = labels[n]
        counts[place] += 1
        for i in range(points.shape[1]):
            sums[place, i] += points[n, i]
