"""Top-k with error feedback: what is not sent now is sent later, and nothing is lost on the way."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from .integers import dequantise_int8, quantise_int8
from .workspace import Workspace

Array = npt.NDArray[np.float32]
Indices = npt.NDArray[np.int64]
Int8 = npt.NDArray[np.int8]

SAMPLE = 4096  # magnitudes looked at to guess the threshold: puts the guess within about 3 % of the wanted count
MARGIN = 5.0  # standard deviations that the guess keeps below the wanted count; missing it costs time, not truth


def top_k(
    gradient: Array, residual: Array, k: int, *, out: Array | None = None, workspace: Workspace | None = None
) -> tuple[Indices, Array, Array]:
    """The k entries of largest magnitude of `total = gradient + residual` (m,): indices ascending, values, new
    residual.

    m' = min(k, m) entries; equal magnitudes by lower index. The new residual is `total` with the sent places zero, so
    `sent + residual == total` bit for bit. `total` itself is one float32 addition a place: rounding happens there, as
    in any sum of gradients, and nowhere else. `residual` starts as zeros; `out` may be `residual`. Finite float32.
    O(m) expected. Source: Stich, Cordonnier and Jaggi 2018 (1809.07599); error feedback, Karimireddy et al. 2019
    (1901.09847).
    """
    total = np.add(gradient, residual, out=out)
    places = largest(total, k)
    values = total[places]
    total[places] = 0
    return places, values, total


def top_k_int8(
    gradient: Array,
    residual: Array,
    k: int,
    block: int,
    *,
    out: Array | None = None,
    workspace: Workspace | None = None,
) -> tuple[Indices, Int8, Array, Array]:
    """`top_k` whose values are sent as int8 codes with one scale a block: indices, codes, scales, new residual.

    The residual also takes back what the codes rounded away, and still `code * scale + residual == total` exactly, as
    real numbers: value and sent value are within a factor of two of each other or the code is 0, and such differences
    are exact in floating point (Sterbenz 1974). Rounding may turn a value just below scale/2 into the code 1; it is
    made 0 here, which costs at most 1e-4 of a scale.
    """
    places, values, rest = top_k(gradient, residual, k, out=out, workspace=workspace)
    codes, scales = quantise_int8(values, block, workspace=workspace)
    sent = dequantise_int8(codes, scales, block, workspace=workspace)
    low = np.flatnonzero((np.abs(codes) == 1) & (np.abs(values) < np.float32(0.5) * np.abs(sent)))
    codes[low] = 0
    sent[low] = 0
    rest[places] = values - sent
    return places, codes, scales, rest


def largest(x: Array, k: int) -> Indices:
    """Indices, ascending, of the min(k, m) values of x (m,) of largest magnitude, equal ones by lower index.

    A sample guesses a threshold that slightly more than k values pass; only those are partitioned. Where the guess
    fails, all are.
    """
    if k >= x.size:
        return np.arange(x.size)
    if k <= 0:
        return np.empty(0, np.int64)
    magnitudes = np.abs(x)
    guess = sampled_threshold(x, k)
    candidates = np.flatnonzero(magnitudes >= guess) if guess > 0 else np.arange(x.size)
    if candidates.size < k:
        candidates = np.arange(x.size)
    return best_of(magnitudes[candidates], candidates, k)


def best_of(magnitudes: Array, places: Indices, k: int) -> Indices:
    """The `places`, ascending, of the k largest of `magnitudes`, 1 <= k <= size; equal ones by lower place."""
    threshold = np.partition(magnitudes, magnitudes.size - k)[magnitudes.size - k]
    keep = magnitudes > threshold
    equal = np.flatnonzero(magnitudes == threshold)[: k - int(np.count_nonzero(keep))]
    keep[equal] = True
    chosen: Indices = places[keep]
    return chosen


def sampled_threshold(x: Array, k: int) -> np.float32:
    """A magnitude that at least k values of x reach, most likely; 0 where a sample says nothing."""
    if k <= 0 or x.size < 8 * SAMPLE:
        return np.float32(0)
    sample = np.abs(x[:: x.size // SAMPLE])
    share = k / x.size
    rank = int(sample.size * share + MARGIN * np.sqrt(sample.size * share * (1 - share)) + 1) if share < 1 else x.size
    if rank >= sample.size:
        return np.float32(0)
    return np.float32(np.partition(sample, sample.size - rank)[sample.size - rank])


def densify(indices: Indices, values: Array, size: int, *, out: Array | None = None) -> Array:
    """(size,) float32 with `values` at `indices` and zeros elsewhere."""
    result = out if out is not None else np.empty(size, np.float32)
    result[...] = 0
    result[indices] = values
    return result
