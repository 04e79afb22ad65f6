"""numba versions of the attention kernels where they win: few queries, and the router of experts.

With many queries numpy's products are several times faster than compiled loops, so `scaled_dot` takes the loops for at
most `FEW_QUERIES` queries and calls numpy beyond. One query against a hundred keys is nine numpy calls of a microsecond
each around almost no arithmetic: there the loops win. The projections of multi-head attention are products that
numpy wins even for one query.
fastmath is limited to reordering sums and fusing multiply-adds; infinities, which gates and masks use, keep their
meaning.
"""

from __future__ import annotations

import math
from typing import Any

import numba
import numpy as np

from ...errors import UsageError
from ..attention import moe as numpy_moe
from ..attention import scaled_dot as numpy_scaled_dot
from ..attention.gate import score_bias
from ..attention.moe import Experts, Routing
from ..attention.workspace import Array, Workspace

REORDER = {"reassoc", "contract", "nsz"}
FEW_QUERIES = 4  # at 100 keys of 64 to 128 features the loops win by 3 with one query, and lose from 8 to 16


def _compiled(function: Any) -> Any:
    return numba.njit(nogil=True, cache=True, fastmath=REORDER)(function)


@_compiled
def _attend(query: Any, key: Any, value: Any, bias: Any, factor: Any, row: Any, out: Any) -> None:
    """`softmax(factor Q K^T + bias^T) V`, a query at a time; `bias` (n_k, 1), (n_k, n_q) or empty; `row` (n_k,)
    is scratch."""
    width, keys, depth = query.shape[1], value.shape[0], value.shape[1]
    for i in range(query.shape[0]):
        highest = np.float32(-np.inf)
        for j in range(keys):
            total = np.float32(0)
            for c in range(width):
                total += query[i, c] * key[j, c]
            total *= factor
            if bias.size:
                total += bias[j, i if bias.shape[1] > 1 else 0]
            row[j] = total
            highest = max(highest, total)
        out[i] = np.float32(0)
        if highest == -np.inf:
            continue
        whole = np.float32(0)
        for j in range(keys):
            share = np.float32(math.exp(row[j] - highest))
            whole += share
            for c in range(depth):
                out[i, c] += share * value[j, c]
        for c in range(depth):
            out[i, c] /= whole


def scaled_dot(
    query: Array,
    key: Array,
    value: Array,
    *,
    mask: Array | None = None,
    gate: Array | None = None,
    out: Array | None = None,
    workspace: Workspace | None = None,
) -> Array:
    """`attention.scaled_dot/1`, in loops for few queries."""
    workspace = Workspace() if workspace is None else workspace
    queries, keys = query.shape[0], key.shape[0]
    if queries > FEW_QUERIES:
        return numpy_scaled_dot.scaled_dot(query, key, value, mask=mask, gate=gate, out=out, workspace=workspace)
    if out is None:
        out = np.empty((queries, value.shape[1]), np.float32)
    bias = _bias(gate, mask, queries, keys, workspace)
    factor = np.float32(1.0 / math.sqrt(max(1, query.shape[1])))
    _attend(query, key, value, bias, factor, workspace.floats("row", (keys,)), out)
    return out


def _bias(gate: Array | None, mask: Array | None, queries: int, keys: int, workspace: Workspace) -> Array:
    """`score_bias` as a C-contiguous array (one compiled signature), empty for none."""
    found = score_bias(gate, mask, queries, keys, workspace)
    if found is None:
        return workspace.floats("no bias", (0, 1))
    bias = workspace.floats("bias", found.shape)
    np.copyto(bias, found)
    return bias


@_compiled
def _route(logits: Any, bias: Any, chosen: Any, weights: Any, probabilities: Any) -> None:
    """`bias` (E, 1), (E, n) or empty, as `score_bias` has it for queries that choose among experts."""
    count, experts = logits.shape
    for i in range(count):
        highest = np.float32(np.finfo(np.float32).min)
        for e in range(experts):
            score = logits[i, e]
            if bias.size:
                score += bias[e, i if bias.shape[1] > 1 else 0]
            probabilities[i, e] = score
            highest = max(highest, score)
        whole = np.float32(0)
        for e in range(experts):
            power = np.float32(math.exp(probabilities[i, e] - highest))
            probabilities[i, e] = power
            whole += power
        whole = max(whole, np.float32(np.finfo(np.float32).tiny))
        for e in range(experts):
            probabilities[i, e] /= whole
        kept = np.float32(0)
        for rank in range(chosen.shape[1]):
            best = -1
            for e in range(experts):
                taken = False
                for before in range(rank):
                    taken |= chosen[i, before] == e
                if not taken and (best < 0 or probabilities[i, e] > probabilities[i, best]):
                    best = e
            chosen[i, rank] = best
            weights[i, rank] = probabilities[i, best]
            kept += probabilities[i, best]
        kept = max(kept, np.float32(np.finfo(np.float32).tiny))
        for rank in range(chosen.shape[1]):
            weights[i, rank] /= kept


def route(logits: Array, k: int, *, gate: Array | None = None, workspace: Workspace | None = None) -> Routing:
    """`attention.route/1`."""
    workspace = Workspace() if workspace is None else workspace
    count, experts = logits.shape
    if not 1 <= k <= experts:
        raise UsageError(f"cannot choose {k} of {experts} experts")
    bias = _bias(gate, None, count, experts, workspace)
    routing = Routing(
        chosen=workspace.indices("chosen", (count, k)),
        weights=workspace.floats("weights", (count, k)),
        probabilities=workspace.floats("probabilities", (count, experts)),
    )
    _route(logits, bias, routing.chosen, routing.weights, routing.probabilities)
    return routing


def moe(
    experts: Experts,
    query: Array,
    key: Array,
    value: Array,
    k: int,
    *,
    gate: Array | None = None,
    expert_gate: Array | None = None,
    out: Array | None = None,
    workspace: Workspace | None = None,
) -> Array:
    """`attention.moe/1` with the router in loops."""
    workspace = Workspace() if workspace is None else workspace
    routing = route(numpy_moe.logits_of(experts, query, workspace), k, gate=expert_gate, workspace=workspace)
    return numpy_moe.mixture(experts, routing, query, key, value, gate=gate, out=out, workspace=workspace)
