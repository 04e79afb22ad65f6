"""The rules by name, and the recommended ones: what a job's settings choose from.

Every rule has one face, `rule(round)`: rows (n, d) from n peers of which at most f lie. The cap on lengths is not a
rule but always there (`aggregate`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Literal

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from . import coordinatewise, geometry, mixing
from .workspace import Workspace

Array = npt.NDArray[np.float32]
RuleName = Literal[
    "mean",
    "median",
    "trimmed_mean",
    "krum",
    "multi_krum",
    "geometric_median",
    "centred_clipping",
    "nnm_trimmed_mean",
    "nnm_median",
    "nearest_neighbour_average",
]

DEFAULT_RULE: RuleName = "nnm_trimmed_mean"  # where one node aggregates
DEFAULT_GOSSIP_RULE: RuleName = (
    "nearest_neighbour_average"  # where each node averages what it received; row 0 is its own
)


class Round(Struct, frozen=True):
    """What a rule may use: capped rows (n, d), f, the last aggregate (d,), the clipping radius, and where to put the
    result."""

    updates: Array
    adversaries: int
    centre: Array
    radius: float
    workspace: Workspace
    out: Array | None = None


def aggregate(
    updates: Array,
    rule: RuleName,
    adversaries: int,
    length_max: float,
    *,
    centre: Array | None = None,
    order: npt.NDArray[np.int64] | None = None,
    bucket: int = 1,
    radius: float | None = None,
    out: Array | None = None,
    workspace: Workspace | None = None,
) -> Array:
    """Rows of updates (n, d) capped to `length_max`, bucketed, and combined by `rule`: (d,).

    `order` (n,), a random permutation, puts rows into buckets of `bucket` (1: none). The rule stands `adversaries` of
    what it gets; one liar spoils one bucket. Buckets are not for `nearest_neighbour_average`, whose row 0 is its own.
    `centre` (d,), the last aggregate (None: zeros), and `radius` (None: `length_max`) are for centred clipping.
    `KeyError` for an unknown rule, `ValueError` where the rule cannot stand that many.
    """
    count, width = updates.shape
    space = workspace if workspace is not None else Workspace(count)
    rows = mixing.cap_norms(updates, length_max, out=space.matrix("capped", count, width), workspace=space)
    if order is not None and bucket > 1:
        means = space.matrix("buckets", -(-count // bucket), width)
        rows = mixing.bucketing(rows, order, bucket, out=means, workspace=space)
    start = centre if centre is not None else _zeros(space, width)
    return RULES[rule](Round(rows, adversaries, start, length_max if radius is None else radius, space, out))


def _zeros(space: Workspace, width: int) -> Array:
    zeros: Array = space.matrix("zeros", 1, width)[0]
    zeros[...] = 0
    return zeros


def _mixed(r: Round) -> Array:
    out = r.workspace.matrix("mixed", *r.updates.shape)
    return mixing.nearest_neighbour_mixing(r.updates, r.adversaries, out=out, workspace=r.workspace)


def _mean(r: Round) -> Array:
    return coordinatewise.mean(r.updates, out=r.out, workspace=r.workspace)


def _median(r: Round) -> Array:
    return coordinatewise.median(r.updates, out=r.out, workspace=r.workspace)


def _trimmed_mean(r: Round) -> Array:
    return coordinatewise.trimmed_mean(r.updates, r.adversaries, out=r.out, workspace=r.workspace)


def _krum(r: Round) -> Array:
    return geometry.krum(r.updates, r.adversaries, out=r.out, workspace=r.workspace)


def _multi_krum(r: Round) -> Array:
    return geometry.multi_krum(r.updates, r.adversaries, out=r.out, workspace=r.workspace)


def _geometric_median(r: Round) -> Array:
    return geometry.geometric_median(r.updates, out=r.out, workspace=r.workspace)


def _centred_clipping(r: Round) -> Array:
    return geometry.centred_clipping(r.updates, r.centre, r.radius, out=r.out, workspace=r.workspace)


def _nnm_trimmed_mean(r: Round) -> Array:
    mixed = _mixed(r)
    return coordinatewise.trimmed_mean(mixed, r.adversaries, out=r.out, workspace=r.workspace)


def _nnm_median(r: Round) -> Array:
    mixed = _mixed(r)
    return coordinatewise.median(mixed, out=r.out, workspace=r.workspace)


def _nearest_neighbour_average(r: Round) -> Array:
    return mixing.nearest_neighbour_average(r.updates, r.adversaries, out=r.out, workspace=r.workspace)


RULES: Mapping[RuleName, Callable[[Round], Array]] = MappingProxyType(
    {
        "mean": _mean,
        "median": _median,
        "trimmed_mean": _trimmed_mean,
        "krum": _krum,
        "multi_krum": _multi_krum,
        "geometric_median": _geometric_median,
        "centred_clipping": _centred_clipping,
        "nnm_trimmed_mean": _nnm_trimmed_mean,
        "nnm_median": _nnm_median,
        "nearest_neighbour_average": _nearest_neighbour_average,
    }
)
