"""Mixture of attention experts: each query is answered by the k experts that a router picks for it."""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from ...errors import UsageError
from .gate import log_sigmoid, score_bias
from .softmax import attend
from .workspace import Array, Workspace


class Experts(Struct, frozen=True, eq=False):
    """Each expert has its own query and output projection; keys and values are shared by all."""

    router: Array  # (d, E)
    query: Array  # (E, d, d_h), (in, out), times 1/sqrt(d_h)
    mix: Array  # (E, d_v, d), (in, out)


class Routing(NamedTuple):
    """`chosen` (n, k): experts, most probable first, the lower number first among equals. `weights` (n, k): their
    shares, a row sums to one, or is zero where every expert is blocked. `probabilities` (n, E): before the choice."""

    chosen: npt.NDArray[np.intp]
    weights: Array
    probabilities: Array


def route(logits: Array, k: int, *, gate: Array | None = None, workspace: Workspace | None = None) -> Routing:
    """Softmax over experts, the k most probable, renormalised (Shazeer et al. 2017, "Outrageously large neural
    networks", section 2.1, without its noise).

    logits (n, E), 1 <= k <= E. `gate` (E,) or (n, E) scales or blocks experts before the choice; a blocked expert that
    is chosen for want of others has weight 0. O(n E k). The arrays returned lie in `workspace` when one is given and
    last until its next use. `UsageError` for another k or shape of gate.
    """
    workspace = Workspace() if workspace is None else workspace
    count, experts = logits.shape
    if not 1 <= k <= experts:
        raise UsageError(f"cannot choose {k} of {experts} experts")
    if gate is not None and gate.shape not in {(experts,), (count, experts)}:
        raise UsageError(f"the gate has shape {gate.shape}; it takes ({experts},) or ({count}, {experts})")
    p = workspace.floats("probabilities", logits.shape)
    np.copyto(p, logits)
    if gate is not None:
        shape = gate.shape
        np.add(
            p, log_sigmoid(gate, workspace.floats("expert gate", shape), workspace.floats("gate work", shape)), out=p
        )
    totals = workspace.floats("totals", (count,))
    np.maximum.reduce(p, axis=1, initial=np.finfo(np.float32).min, out=totals)
    np.subtract(p, totals[:, None], out=p)
    np.exp(p, out=p)
    _divide_rows(p, totals)
    chosen, weights = workspace.indices("chosen", (count, k)), workspace.floats("weights", (count, k))
    left, place = workspace.floats("left", logits.shape), workspace.indices("place", (count,))
    np.copyto(left, p)
    starts = np.arange(0, count * experts, experts)
    for rank in range(k):
        np.argmax(left, axis=1, out=place)
        chosen[:, rank] = place
        np.add(place, starts, out=place)
        np.take(p.reshape(-1), place, out=totals, mode="clip")
        weights[:, rank] = totals
        np.put(left, place, -1.0, mode="clip")
    _divide_rows(weights, totals)
    return Routing(chosen=chosen, weights=weights, probabilities=p)


def _divide_rows(rows: Array, totals: Array) -> None:
    """Make each row sum to one; a row of zeros stays."""
    np.add.reduce(rows, axis=1, out=totals)
    np.maximum(totals, np.finfo(np.float32).tiny, out=totals)
    np.divide(rows, totals[:, None], out=rows)


def load_balance(routing: Routing) -> float:
    """`E sum_e f_e P_e`, f_e the share of choices that fell on expert e and P_e its mean probability: 1 when balanced,
    up to E when one expert has all (Fedus et al. 2022, "Switch Transformers", eq. 4, over all k choices). 0 for no
    queries."""
    count, experts = routing.probabilities.shape
    if not count:
        return 0.0
    share = np.bincount(routing.chosen.reshape(-1), minlength=experts) / routing.chosen.size
    return float(experts * np.dot(share, routing.probabilities.mean(axis=0, dtype=np.float64)))


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
    """`sum over the k chosen experts e of w_e softmax(x W_Q^e K^T / sqrt d_h) V W_O^e`, w from `route` of x router
    (Zhang et al. 2022, "Mixture of attention heads", section 3).

    query x (n_q, d), key (n_k, d_h), value (n_k, d_v) -> (n_q, d), float32. `gate` is on edges as everywhere,
    `expert_gate` (E,) or (n_q, E) on experts. Only chosen experts are computed: O(k n_q (d d_h + n_k (d_h + d_v))).
    With a workspace it allocates the lists of rows, a few times 8 n_q k bytes, and no more.
    """
    workspace = Workspace() if workspace is None else workspace
    routing = route(logits_of(experts, query, workspace), k, gate=expert_gate, workspace=workspace)
    return mixture(experts, routing, query, key, value, gate=gate, out=out, workspace=workspace)


def logits_of(experts: Experts, query: Array, workspace: Workspace) -> Array:
    """What the router says to each query, (n_q, E), in the workspace."""
    shape = (query.shape[0], experts.router.shape[1])
    return np.matmul(query, experts.router, out=workspace.floats("logits", shape))


def mixture(
    experts: Experts,
    routing: Routing,
    query: Array,
    key: Array,
    value: Array,
    *,
    gate: Array | None = None,
    out: Array | None = None,
    workspace: Workspace | None = None,
) -> Array:
    """The second half of `moe`, for a routing that is known.

    Every (query, chosen expert) is a row; rows are sorted by expert, so that each projection is one product over its
    expert's rows and, as keys and values are shared, attention is one product over all.
    """
    workspace = Workspace() if workspace is None else workspace
    (queries, width), (_, k) = query.shape, routing.chosen.shape
    if out is None:
        out = np.empty((queries, width), np.float32)
    bias = None if gate is None else score_bias(gate, None, queries, key.shape[0], workspace)
    flat = routing.chosen.reshape(-1)
    order = np.argsort(flat, kind="stable")
    sources = order // k
    if bias is not None and bias.shape[1] > 1:
        bias = _rows(bias.T, sources, "row bias", workspace).T
    rows = _rows(query, sources, "rows", workspace)
    scaled = workspace.floats("query", (flat.size, experts.query.shape[2]))
    context = workspace.floats("context", (flat.size, value.shape[1]))
    stops = np.cumsum(np.bincount(flat, minlength=experts.router.shape[1])).tolist()
    spans = [slice(start, stop) for start, stop in pairwise([0, *stops])]
    for number, span in enumerate(spans):
        np.matmul(rows[span], experts.query[number], out=scaled[span])
    attend(scaled, key, value, bias, context, workspace)
    shares = np.take(routing.weights.reshape(-1), order, out=workspace.floats("shares", flat.shape), mode="clip")
    np.multiply(context, shares[:, None], out=context)
    answers = workspace.floats("answers", (flat.size, width))
    for number, span in enumerate(spans):
        np.matmul(context[span], experts.mix[number], out=rows[span])
    answers[order] = rows
    by_query = answers.reshape(queries, k, width)
    np.copyto(out, by_query[:, 0])
    for rank in range(1, k):
        np.add(out, by_query[:, rank], out=out)
    return out


def _rows(x: Array, positions: npt.NDArray[np.intp], name: str, workspace: Workspace) -> Array:
    # mode "clip" is what lets numpy write into `out` without a buffer; the positions are in range.
    return np.take(x, positions, axis=0, out=workspace.floats(name, (positions.size, x.shape[1])), mode="clip")
