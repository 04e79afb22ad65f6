"""The graph's tree on the hyperboloid: near means close in the hierarchy."""

from __future__ import annotations

import numpy as np

from .plan import Plan
from .topology import F64

RADIUS_MAX = 300.0  # the product of two sinh of it is 1e260: below the largest float64


def polar(plan: Plan, *, step: float = 1.0) -> tuple[F64, F64]:
    """Radius and angle (n,) of each node in the hyperbolic plane of curvature -1 (after Sarkar 2011).

    Radius is `step` times depth, shrunk to keep the deepest within `RADIUS_MAX`. A node's tree parent is its first
    parent of the greatest depth; each subtree has a sector of the angle in proportion to its leaves.
    """
    begin, child_list = plan.starts.tolist(), plan.targets.tolist()
    depth, sequence = plan.depth.tolist(), plan.order.tolist()
    parent = [-1] * plan.nodes
    for node in sequence:
        for child in child_list[begin[node] : begin[node + 1]]:
            if parent[child] < 0 and depth[child] == depth[node] + 1:
                parent[child] = node
    leaves = [0] * plan.nodes
    for node in reversed(sequence):
        leaves[node] = max(leaves[node], 1)
        if parent[node] >= 0:
            leaves[parent[node]] += leaves[node]
    total = sum(leaves[node] for node in sequence if parent[node] < 0)
    free = [0.0] * plan.nodes  # where the next child's sector begins
    angle = [0.0] * plan.nodes
    roots = 0.0
    for node in sequence:
        sector = 2.0 * np.pi * leaves[node] / total
        begins = roots if parent[node] < 0 else free[parent[node]]
        if parent[node] < 0:
            roots += sector
        else:
            free[parent[node]] += sector
        free[node] = begins
        angle[node] = begins + sector / 2.0
    deepest = max(int(plan.depth.max()), 1)
    radius: F64 = plan.depth.astype(np.float64) * min(step, RADIUS_MAX / deepest)
    return radius, np.array(angle, np.float64)


def points(radius: F64, angle: F64) -> F64:
    """(n, 3) on the hyperboloid: `(cosh r, sinh r cos a, sinh r sin a)`, so that `-x0^2 + x1^2 + x2^2 = -1`."""
    return np.stack([np.cosh(radius), np.sinh(radius) * np.cos(angle), np.sinh(radius) * np.sin(angle)], axis=1)


def distances(radius: F64, angle: F64, node: int) -> F64:
    """(n,) `arccosh(-<x, y>)` of `node` to each, from polar coordinates.

    `-<x, y> = 1 + 2 sinh^2((r - s) / 2) + 2 sinh r sinh s sin^2((a - b) / 2)` and `arccosh(1 + 2 t) =
    2 arcsinh(sqrt t)`: nothing cancels, neither near zero nor far out.
    """
    apart = np.sinh((radius - radius[node]) / 2.0) ** 2
    aside = np.sinh(radius) * np.sinh(radius[node]) * np.sin((angle - angle[node]) / 2.0) ** 2
    away: F64 = 2.0 * np.arcsinh(np.sqrt(apart + aside))
    return away


def hierarchical_lorentz(plan: Plan, node: int, *, step: float = 1.0, temperature: float = 0.1) -> F64:
    """`softmax(-distance(node, i) / temperature)` on the hyperboloid (Nickel and Kiela 2018): scores (n,), sum 1."""
    radius, angle = polar(plan, step=step)
    away = distances(radius, angle, node)
    scores = np.exp(-away / temperature)  # `node` itself has distance 0, so the largest score is 1 without a shift
    share: F64 = scores / scores.sum()
    return share
