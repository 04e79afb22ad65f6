"""Modern Hopfield networks: content-addressable memory with exponential capacity, one softmax a step."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from .gate import score_bias
from .softmax import attend
from .workspace import Array, Workspace

Index = npt.NDArray[np.intp]


def hopfield(
    patterns: Array,
    state: Array,
    beta: float,
    *,
    steps: int = 1,
    gate: Array | None = None,
    out: Array | None = None,
    workspace: Workspace | None = None,
) -> Array:
    """`steps` (at least 1) updates `xi <- X^T softmax(beta X xi)` (Ramsauer et al. 2020, eq. 3).

    patterns X (n, d), state (q, d): q memories asked at once -> (q, d), float32. Each update lowers `energy`; well
    separated patterns are found in one. beta about 8 sqrt d for unit patterns. `gate`: (n,) or (q, n), see `gate`; a
    state whose every pattern is blocked becomes zero. O(steps q n d).
    """
    workspace = Workspace() if workspace is None else workspace
    out = np.empty(state.shape, np.float32) if out is None else out
    bias = None if gate is None else score_bias(gate, None, state.shape[0], patterns.shape[0], workspace)
    scaled = workspace.floats("query", state.shape)
    for step in range(steps):
        np.multiply(out if step else state, np.float32(beta), out=scaled)
        attend(scaled, patterns, patterns, bias, out, workspace)
    return out


def energy(patterns: Array, state: Array, beta: float) -> npt.NDArray[np.float64]:
    """`-lse(beta X xi) / beta + xi.xi / 2 + log(n) / beta + max |x|^2 / 2` (the same, eq. 2): (q, d) -> (q,), >= 0."""
    known, asked = patterns.astype(np.float64), state.astype(np.float64)
    scores = beta * (asked @ known.T)
    peaks = scores.max(axis=1)
    folded = (peaks + np.log(np.exp(scores - peaks[:, None]).sum(axis=1))) / beta
    rest = np.log(known.shape[0]) / beta + np.vecdot(known, known).max() / 2.0
    level: npt.NDArray[np.float64] = np.vecdot(asked, asked) / 2.0 - folded + rest
    return level


class Groups(Struct, frozen=True, eq=False):
    """Patterns in groups: `patterns[starts[g]:starts[g + 1]]` is group g; `centres` (groups, d) their means and `logs`
    (groups,) the logarithms of their sizes, in float32."""

    patterns: Array
    starts: Index
    centres: Array
    logs: Array


def groups(patterns: Array, labels: Index) -> tuple[Groups, Index]:
    """`patterns` (n, d) sorted by group number `labels` (n,), and the order that sorts them. Empty groups vanish."""
    order = np.argsort(labels, kind="stable")
    _, first = np.unique(labels[order], return_index=True)
    starts = np.append(first, labels.size).astype(np.intp)
    sizes = np.diff(starts)
    sums: Array = np.add.reduceat(patterns[order], first, axis=0)
    centres = np.divide(sums, sizes[:, None], dtype=np.float32)
    return Groups(
        patterns=patterns[order], starts=starts, centres=centres, logs=np.log(sizes).astype(np.float32)
    ), order


def hierarchical_hopfield(
    memory: Groups, state: Array, beta: float, *, top: int = 4, steps: int = 1, workspace: Workspace | None = None
) -> Array:
    """One state (d,) through two levels: the `top` groups of the highest `beta centre.xi + log(size)`, then `hopfield`
    over their patterns alone: `steps` updates, (d,).

    The score is a lower bound of the group's log-sum-exp (Jensen), tight for tight groups; with `top` at least the
    number of groups the answer is `hopfield`'s. O((groups + steps patterns in the chosen ones) d).
    """
    workspace = Workspace() if workspace is None else workspace
    scores = np.float32(beta) * (memory.centres @ state) + memory.logs
    count = min(top, scores.size)
    chosen = np.sort(np.argpartition(-scores, count - 1)[:count])
    spans = [memory.patterns[memory.starts[group] : memory.starts[group + 1]] for group in chosen.tolist()]
    near = memory.patterns if count == scores.size else np.concatenate(spans)
    found: Array = hopfield(near, state[None, :], beta, steps=steps, workspace=workspace)[0]
    return found
