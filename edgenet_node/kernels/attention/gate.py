"""The gate that every attention kernel takes: one switch that scales or blocks edges before softmax.

A gate is an array of logits g, one per key (n_k,) or one per edge (n_q, n_k); an edge keeps the share sigma(g) of its
weight before the weights of its query are made to sum to one:

    w_ij = exp(s_ij) sigma(g_ij) / sum_j' exp(s_ij') sigma(g_ij'),    sigma(g) = 1 / (1 + exp(-g))

so +inf passes, -inf blocks, and 0 halves an edge against an open one. A query with every edge blocked attends to
nothing: its output is zero. In scores the gate is the bias log sigma(g), exact at both infinities.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ...errors import UsageError
from .workspace import Array, Workspace


def log_sigmoid(gate: Array, out: Array, work: Array) -> Array:
    """`min(g, 0) - log(1 + exp(-|g|))` into `out`: log sigma(g) without overflow for any g, the infinities included.
    `out` and `work` have the shape of `gate`."""
    np.abs(gate, out=work)
    np.negative(work, out=work)
    np.exp(work, out=work)
    np.log1p(work, out=work)
    np.minimum(gate, np.float32(0), out=out)
    return np.subtract(out, work, out=out)


def logits(share: npt.ArrayLike) -> Array:
    """The gate whose sigma is `share` in [0, 1]: `log(p / (1 - p))`, with 1 giving +inf and 0 giving -inf."""
    p = np.asarray(share, np.float64)
    with np.errstate(divide="ignore"):
        gate: Array = (np.log(p) - np.log1p(-p)).astype(np.float32)
    return gate


def boundary(query_sides: npt.NDArray[np.int64], key_sides: npt.NDArray[np.int64], share: float) -> Array:
    """The gate (n_q, n_k) that leaves edges within a side of a cut open and lets those across keep `share` in [0, 1].

    `query_sides` (n_q,) and `key_sides` (n_k,) number the side on which each end lies, as a minimum cut does.
    """
    across = query_sides[:, None] != key_sides[None, :]
    return np.where(across, logits(share), np.float32(np.inf)).astype(np.float32)


def score_bias(gate: Array | None, mask: Array | None, queries: int, keys: int, workspace: Workspace) -> Array | None:
    """What to add to transposed scores (n_k, n_q): None, (n_k, 1) or (n_k, n_q).

    `mask` is an additive bias (n_k,) or (n_q, n_k) in score units, -inf to forbid. O(size of gate and mask).
    `UsageError` for another shape, which would broadcast to a wrong answer in silence.
    """
    for name, part in (("gate", gate), ("mask", mask)):
        if part is not None and part.shape not in {(keys,), (queries, keys)}:
            raise UsageError(f"the {name} has shape {part.shape}; it takes ({keys},) or ({queries}, {keys})")
    if gate is None:
        return None if mask is None else _transposed(mask)
    bias = log_sigmoid(gate, workspace.floats("gate", gate.shape), workspace.floats("gate work", gate.shape))
    if mask is None:
        return _transposed(bias)
    if bias.ndim < mask.ndim:
        return np.add(mask, bias, out=workspace.floats("gate and mask", mask.shape)).T
    return _transposed(np.add(bias, mask, out=bias))


def _transposed(part: Array) -> Array:
    return part[:, None] if part.ndim == 1 else part.T


def tile(bias: Array, keys: slice, queries: slice) -> Array:
    """The part of a `score_bias` that belongs to one tile of scores."""
    return bias[keys] if bias.shape[1] == 1 else bias[keys, queries]
