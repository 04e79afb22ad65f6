"""Elastic weight consolidation: weights that mattered before are held where they were.

Kirkpatrick et al. 2017, "Overcoming catastrophic forgetting in neural networks", eq. 3; the online form with one anchor
and a decayed sum of Fisher information is Schwarz et al. 2018, "Progress & Compress", section 4.
"""

from __future__ import annotations

import numpy as np
from msgspec import Struct

from ...errors import UsageError
from .workspace import Array

STRENGTH = 2000.0  # lambda, for a Fisher of mean 1 (`normalised`); useful values run from 100 to 15,000
KEEP = 0.95  # gamma: what an earlier task's information counts for after the next one


class Consolidated(Struct, frozen=True, eq=False):
    """`fisher` and `anchor`, float32 of one shape; `tasks`: how many went into them."""

    fisher: Array
    anchor: Array
    tasks: int = 0


def empty(weights: Array) -> Consolidated:
    """Nothing learnt yet: no weight is held."""
    return Consolidated(fisher=np.zeros_like(weights, np.float32), anchor=weights.astype(np.float32))


def consolidate(state: Consolidated, weights: Array, fisher: Array, keep: float = KEEP) -> Consolidated:
    """After a task: `F <- keep F + fisher`, anchored at the weights reached. `UsageError` unless 0 <= keep <= 1."""
    if not 0.0 <= keep <= 1.0:
        raise UsageError(f"the share of earlier Fisher information is 0 to 1, not {keep}")
    return Consolidated(
        fisher=np.float32(keep) * state.fisher + fisher, anchor=weights.astype(np.float32), tasks=state.tasks + 1
    )


def normalised(fisher: Array) -> Array:
    """Scaled to mean 1, so that one strength suits models of any size and confidence; all zeros stay so."""
    mean = float(fisher.mean(dtype=np.float64)) if fisher.size else 0.0
    scaled: Array = fisher / np.float32(mean) if mean > 0.0 else fisher.astype(np.float32)
    return scaled


def penalty(weights: Array, anchor: Array, fisher: Array, strength: float) -> float:
    """`strength / 2 sum_j F_j (theta_j - anchor_j)^2`, summed in float64. O(p)."""
    moved = np.subtract(weights, anchor, dtype=np.float64)
    return 0.5 * strength * float(np.vdot(moved * fisher, moved))


def gradient(weights: Array, anchor: Array, fisher: Array, strength: float, *, out: Array | None = None) -> Array:
    """Its gradient `strength F (theta - anchor)`, as weights; no array is allocated with `out`. O(p).

    Added to the gradient of the loss: dividing that by `1 + strength F` instead would follow no penalty at all.
    """
    moved = np.subtract(weights, anchor, out=out)
    np.multiply(moved, fisher, out=moved)
    return np.multiply(moved, np.float32(strength), out=moved)


def stable_rate(fisher: Array, strength: float) -> float:
    """The step size below which plain descent on the penalty cannot diverge: `2 / (strength max F)`; inf for none."""
    largest = strength * float(fisher.max(initial=0.0))
    return 2.0 / largest if largest > 0.0 else float("inf")
