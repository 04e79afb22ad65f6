"""numba versions of the dense kernels where they win: steps that numpy takes in several passes over memory.

`error_model="numpy"` because Python's check for a division by zero is a branch that keeps a loop from using vectors.
"""

from __future__ import annotations

import math

import numba
import numpy as np
import numpy.typing as npt

from ..linear.workspace import Array, Workspace
from ..transformer import GELU_COEFFICIENTS, GELU_SCALE_IN

REORDER = {"reassoc", "contract", "nsz"}
"""What the compiler may do to sums, so that they take whole vectors: reorder, fuse, ignore the sign of zero."""

ONE = np.float32(1.0)
HALF = np.float32(0.5)
SCALE = np.float32(GELU_SCALE_IN)
C0, C1, C2, C3, C4, C5 = (np.float32(value) for value in GELU_COEFFICIENTS)
SATURATED = np.float32(9.0)  # |tanh| is 1 in float32 from here on
# tanh(z) = z N(z^2) / D(z^2) for |z| <= 9, within 4e-7: the rational approximation that Eigen and XLA use.
N0, N1 = np.float32(4.89352455891786e-03), np.float32(6.37261928875436e-04)
N2, N3 = np.float32(1.48572235717979e-05), np.float32(5.12229709037114e-08)
N4, N5 = np.float32(-8.60467152213735e-11), np.float32(2.00018790482477e-13)
N6 = np.float32(-2.76076847742355e-16)
D0, D1 = np.float32(4.89352518554385e-03), np.float32(2.26843463243900e-03)
D2, D3 = np.float32(1.18534705686654e-04), np.float32(1.19825839466702e-06)


@numba.njit(nogil=True, cache=True, inline="always", error_model="numpy")
def one_plus_tanh(u):  # type: ignore[no-untyped-def]
    """`1 + tanh(u P(u^2))`, P as in `transformer.gelu_scaled`."""
    t = u * u
    z = u * ((((((t + C5) * t + C4) * t + C3) * t + C2) * t + C1) * t + C0)
    z = SATURATED if z > SATURATED else z  # noqa: FURB136 - min and max look for NaN, which costs the vectors
    z = -SATURATED if z < -SATURATED else z  # noqa: FURB136 - likewise
    s = z * z
    top = ((((((N6 * s + N5) * s + N4) * s + N3) * s + N2) * s + N1) * s + N0) * z
    return ONE + top / (((D3 * s + D2) * s + D1) * s + D0)


@numba.njit(nogil=True, cache=True, fastmath=REORDER, error_model="numpy")
def _gelu(x, out):  # type: ignore[no-untyped-def]
    for i in range(x.size):
        out[i] = HALF * x[i] * one_plus_tanh(x[i] * SCALE)


@numba.njit(nogil=True, cache=True, fastmath=REORDER, error_model="numpy")
def _gelu_in_place(x):  # type: ignore[no-untyped-def]
    """Apart: with two names for one memory the compiler would have to go number by number."""
    for i in range(x.size):
        x[i] = HALF * x[i] * one_plus_tanh(x[i] * SCALE)


@numba.njit(nogil=True, cache=True, fastmath=REORDER, error_model="numpy")
def _rms_norm(x, gain, eps, out):  # type: ignore[no-untyped-def]
    rows, width = x.shape
    for i in range(rows):
        squares = np.float32(0)
        for j in range(width):
            squares += x[i, j] * x[i, j]
        scale = ONE / math.sqrt(squares / np.float32(width) + eps)
        for j in range(width):
            out[i, j] = x[i, j] * scale * gain[j]


@numba.njit(nogil=True, cache=True, fastmath=REORDER, error_model="numpy")
def _layer_norm(x, gain, shift, eps, out):  # type: ignore[no-untyped-def]
    rows, width = x.shape
    share = ONE / np.float32(width)
    for i in range(rows):
        total = np.float32(0)
        for j in range(width):
            total += x[i, j]
        mean = total * share
        squares = np.float32(0)
        for j in range(width):
            away = x[i, j] - mean
            squares += away * away
        scale = ONE / math.sqrt(squares * share + eps)
        for j in range(width):
            out[i, j] = (x[i, j] - mean) * scale * gain[j] + shift[j]


LANES = 16
"""Running sums side by side: two vectors of eight, and no dependence of one addition on the last."""


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _dot_partial(a, b):  # type: ignore[no-untyped-def]
    """No `fastmath`: TwoSum lives on the exact order of its operations."""
    sums, errors = np.zeros(LANES), np.zeros(LANES)
    whole = a.size - a.size % LANES
    for start in range(0, whole, LANES):
        for lane in range(LANES):
            value = np.float64(a[start + lane]) * np.float64(b[start + lane])
            before = sums[lane]
            total = before + value
            rest = total - before
            errors[lane] += (before - (total - rest)) + (value - rest)
            sums[lane] = total
    high, low = 0.0, 0.0
    for lane in range(LANES + a.size - whole):
        if lane < LANES:
            value = sums[lane]
            low += errors[lane]
        else:
            value = np.float64(a[whole + lane - LANES]) * np.float64(b[whole + lane - LANES])
        total = high + value
        rest = total - high
        low += (high - (total - rest)) + (value - rest)
        high = total
    return np.array([high, low])


def gelu(x: Array, *, out: Array | None = None, workspace: Workspace | None = None) -> Array:
    """`linear.gelu/1` in one pass, its tanh as a quotient of polynomials."""
    out = np.empty(x.shape, np.float32) if out is None else out
    if out is x:
        _gelu_in_place(out.reshape(-1))
    else:
        _gelu(np.ascontiguousarray(x).reshape(-1), out.reshape(-1))
    return out


def rms_norm(
    x: Array, gain: Array, eps: float = 1e-6, *, out: Array | None = None, workspace: Workspace | None = None
) -> Array:
    """`linear.rms_norm/1`, row by row."""
    out = np.empty(x.shape, np.float32) if out is None else out
    _rms_norm(x, gain, np.float32(eps), out)
    return out


def layer_norm(
    x: Array,
    gain: Array,
    shift: Array,
    eps: float = 1e-5,
    *,
    out: Array | None = None,
    workspace: Workspace | None = None,
) -> Array:
    """`linear.layer_norm/1`, row by row."""
    out = np.empty(x.shape, np.float32) if out is None else out
    _layer_norm(x, gain, shift, np.float32(eps), out)
    return out


def dot_partial(a: Array, b: Array) -> npt.NDArray[np.float64]:
    """`linear.dot_partial/1` in one pass: sixteen running TwoSums, which are then added in the same way."""
    parts: npt.NDArray[np.float64] = _dot_partial(a, b)
    return parts
