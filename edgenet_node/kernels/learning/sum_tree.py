"""A binary tree of sums over priorities: draw a leaf in proportion to its weight in O(log n).

Layout: an array of 2 c float64, c a power of two; leaf i is at c + i, node j is the sum of 2j and 2j + 1, the root is
at 1, place 0 is unused. A node is always recomputed from its children, never adjusted by a difference, so rounding
does not build up over a node's life. Both functions write or read the tree that their caller owns.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ...errors import UsageError

Tree = npt.NDArray[np.float64]
Slots = npt.NDArray[np.intp]


def empty(capacity: int) -> Tree:
    """A tree of zeros for at least `capacity` leaves. `UsageError` below 1."""
    if capacity < 1:
        raise UsageError(f"a sum tree of {capacity} leaves")
    return np.zeros(2 << (capacity - 1).bit_length(), np.float64)


def refresh(tree: Tree, slots: Slots, weights: npt.NDArray[np.float64]) -> None:
    """Set the leaves `slots` (m,) to `weights` (m,), finite and not negative, and all sums above them; writes `tree`.

    Of a slot named twice the last weight counts. O(m log n).
    """
    leaves = tree.size // 2
    nodes = slots + leaves
    tree[nodes] = weights
    while leaves > 1:
        leaves >>= 1
        nodes = nodes >> 1
        if nodes.size > 1:
            nodes = np.unique(nodes)
        tree[nodes] = tree[2 * nodes] + tree[2 * nodes + 1]


def find(tree: Tree, targets: npt.NDArray[np.float64]) -> Slots:
    """The leaf whose share of the running sum holds each target in [0, root): the least i with `sum_{j<=i} w_j > t`.

    targets (m,) -> (m,). A leaf of weight 0 is never returned while another exists: where rounding would lead into an
    empty half, the other half is taken. O(m log n).
    """
    leaves = tree.size // 2
    rest = targets.astype(np.float64)
    nodes = np.ones(targets.size, np.intp)
    level = 1
    while level < leaves:
        nodes = nodes << 1
        left = tree[nodes]
        right = ((rest >= left) & (tree[nodes + 1] > 0.0)) | (left <= 0.0)
        rest -= np.where(right, left, 0.0)
        nodes += right
        level <<= 1
    return nodes - leaves
