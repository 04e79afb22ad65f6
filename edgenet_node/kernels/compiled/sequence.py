"""numba version of the selective scan: one pass over the states, where numpy needs two calls a step.

The exponentials stay numpy's, whose vector code beats a compiled loop over the scalar function.
"""

from __future__ import annotations

import numba
import numpy as np

from ..attention.gate import log_sigmoid
from ..attention.selective import block_steps
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
    block = block_steps(states, width)
    for first in range(0, count, block):
        rows = slice(first, min(first + block, count))
        decay = workspace.floats("decay", (rows.stop - first, states, width))
        np.multiply(delta[rows, None, :], a, out=decay)
        np.exp(decay, out=decay)
        _scan(x[rows], delta[rows], decay, b[rows], c[rows], direct, share[rows], state_out, out[rows])
    return out, state_out


@numba.njit(nogil=True, cache=True, fastmath=REORDER)
def _scan(x, delta, decay, b, c, direct, share, state, out):  # type: ignore[no-untyped-def]
    count, states, width = decay.shape
    for t in range(count):
        for d in range(width):
            out[t, d] = direct[d] * x[t, d]
        for n in range(states):
            write = b[t, n] * share[t]
            read = c[t, n]
            for d in range(width):
                held = decay[t, n, d] * state[n, d] + write * (delta[t, d] * x[t, d])
                state[n, d] = held
                out[t, d] += read * held
