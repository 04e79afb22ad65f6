"""numba version of the selective scan: one pass, in which the states of a channel stay in cache.

The exponential is written out below: the scalar function of the C library keeps a loop from using vector registers, and
numpy's would need the decays of a whole block in memory. This one runs at twice the rate of `np.exp`.
"""

from __future__ import annotations

import numba
import numpy as np

from ..attention.gate import log_sigmoid
from ..attention.workspace import Array, Workspace

REORDER = {"reassoc", "contract", "nsz"}


def selective_scan(
    x: Array,
    delta: Array,
    a: Array,
    b: Array,
    c: Array,
    skip: Array | None = None,
    state: Array | None = None,
    *,
    gate: Array | None = None,
    out: Array | None = None,
    state_out: Array | None = None,
    workspace: Workspace | None = None,
) -> tuple[Array, Array]:
    """As `attention.selective.selective_scan`."""
    workspace = Workspace() if workspace is None else workspace
    (count, width), states = x.shape, a.shape[0]
    out = np.empty((count, width), np.float32) if out is None else out
    state_out = np.empty((states, width), np.float32) if state_out is None else state_out
    if state is None:
        state_out[:] = 0.0
    elif state_out is not state:
        np.copyto(state_out, state)
    share = workspace.floats("share", (count,))
    if gate is None:
        share[:] = 1.0
    else:
        np.exp(log_sigmoid(gate, share, workspace.floats("share work", (count,))), out=share)
    direct = workspace.floats("direct", (width,))
    if skip is None:
        direct[:] = 0.0
    else:
        np.copyto(direct, skip)
    row = workspace.floats("row", (width,))
    _scan(x, delta, a, b, c, direct, share, row, state_out, out)
    return out, state_out


@numba.njit(nogil=True, cache=True, fastmath=REORDER, inline="always")
def _exp(x):  # type: ignore[no-untyped-def]
    """exp of a float32, relative error 3e-7; below -87 exp(-87) = 2e-38, and not meant for x > 88.

    `exp(x) = 2^n exp(r)`, n the nearest integer to x / ln 2, ln 2 subtracted in two parts (Cody and Waite 1980), exp(r)
    by the minimax polynomial of the Cephes library (Moshier), 2^n by its bits.
    """
    x = max(x, np.float32(-87.0))
    n = np.floor(x * np.float32(1.4426950408889634) + np.float32(0.5))
    r = (x - n * np.float32(0.693359375)) - n * np.float32(-2.12194440e-4)
    p = np.float32(1.9875691500e-4)
    p = p * r + np.float32(1.3981999507e-3)
    p = p * r + np.float32(8.3334519073e-3)
    p = p * r + np.float32(4.1665795894e-2)
    p = p * r + np.float32(1.6666665459e-1)
    p = p * r + np.float32(5.0000001201e-1)
    bits = (np.int32(n) + np.int32(127)) << np.int32(23)
    return (p * r * r + r + np.float32(1.0)) * np.int32(bits).view(np.float32)


@numba.njit(nogil=True, cache=True, fastmath=REORDER)
def _scan(x, delta, a, b, c, direct, share, row, state, out):  # type: ignore[no-untyped-def]
    count, width = x.shape
    for t in range(count):
        for d in range(width):
            out[t, d] = direct[d] * x[t, d]
            row[d] = share[t] * delta[t, d] * x[t, d]
        for n in range(a.shape[0]):
            write, read = b[t, n], c[t, n]
            for d in range(width):
                held = _exp(delta[t, d] * a[n, d]) * state[n, d] + write * row[d]
                state[n, d] = held
                out[t, d] += read * held
