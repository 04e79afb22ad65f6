"""Seven ways to say which step matters (one of them in `lorentz`): each maps a plan to scores (n,) that sum to 1.

Float64 in and out; n is at most `query.NODES_MAX`. O(n) once the plan's properties are there.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from . import topology
from .plan import Plan
from .query import GatePacket, openness
from .topology import F64, Index

BRANCHES_MAX = 8  # a wider level gains nothing more: few owners have more executors at hand


def topological(plan: Plan, *, decay: float = 0.9) -> F64:
    """`score_i ~ decay^(1 - depth_i / max depth)`: strictly higher along every edge, so that scores respect the order.

    The deepest steps, on which the result waits last, weigh most; `Plan.order` is the order of execution.
    """
    deepest = max(int(plan.depth.max()), 1)
    return _share(decay ** (1.0 - plan.depth / deepest))


def causal_cone(plan: Plan, node: int, *, decay: float = 0.8, breadth: float = 0.9) -> F64:
    """`score_j ~ (1 + breadth descendants_j) decay^hops(node, j)` in the cone of `node`, zero outside.

    The cone is `node` and what depends on it: the scope of a re-run or a cancellation after `node` failed.
    """
    inside, hops = topology.cone(plan.starts, plan.targets, node)
    scores = np.zeros(plan.nodes)
    scores[inside] = (1.0 + breadth * plan.descendants[inside]) * decay**hops
    return _share(scores)


def critical_path(plan: Plan, *, boost: float = 2.0) -> F64:
    """`score_i ~ boost^(1 - slack_i / makespan)`: `boost` on the critical path, 1 where the whole makespan is slack."""
    timing = plan.timing
    slack = np.maximum(timing.latest - timing.earliest, 0.0)
    return _share(boost ** (1.0 - slack / (timing.makespan or 1.0)))


def mincut_gated(plan: Plan, scores: F64, packet: GatePacket) -> F64:
    """`score_i (1 - (1 - g) crossing_i)`, with g = `openness(packet)` and `crossing` of the plan, brought to sum 1.

    A gate of 1 is the identity. When all that has a score crosses a closed gate, the answer is uniform over it.
    """
    gate = openness(packet)
    if gate == 1.0:
        return scores.copy()
    gated = scores * (1.0 - (1.0 - gate) * plan.crossing)
    return _share(gated if gated.any() else (scores > 0.0).astype(np.float64))


def parallel_branch(plan: Plan, *, branches_max: int = BRANCHES_MAX, balance: float = 0.5, penalty: float = 0.2) -> F64:
    """`score_i ~ min(width_i, branches_max)^balance (1 - penalty |work_i - mean| / largest)`, by level.

    `width` is the number of steps at one depth (no two depend on each other), `work` the cost that hangs on a step,
    mean and largest over its level. Equal branches get equal scores; an unbalanced level splits worse.
    """
    levels = np.bincount(plan.depth)
    mean = np.bincount(plan.depth, weights=plan.work) / levels
    largest = np.zeros(levels.size)
    np.maximum.at(largest, plan.depth, plan.work)
    uneven = np.abs(plan.work - mean[plan.depth]) / np.maximum(largest[plan.depth], np.finfo(np.float64).tiny)
    return _share(np.minimum(plan.width, branches_max) ** balance * (1.0 - penalty * uneven))


def temporal_btsp(
    plan: Plan,
    events: Index,
    ages_s: F64,
    successes: F64,
    *,
    window_s: float = 3.0,
    plateau_s: float = 0.5,
    decay: float = 0.95,
    boost: float = 1.5,
) -> F64:
    """`score_i ~ 1 + (boost - 1) min(1, e_i)`, `e_i = sum of success_k decay^(age_k / plateau_s)` over i's events.

    Behavioural time scale plasticity (Bittner et al. 2017) as an eligibility trace: `events` (k,) are the nodes that
    ran, `ages_s` (k,) how long ago, `successes` (k,) in [0, 1] what it brought. Older than `window_s` or in the future
    does not count. Without events uniform.
    """
    recent = (ages_s >= 0.0) & (ages_s <= window_s)
    traces = successes[recent] * decay ** (ages_s[recent] / plateau_s)
    eligibility = np.bincount(events[recent], weights=traces, minlength=plan.nodes)
    return _share(1.0 + (boost - 1.0) * np.minimum(eligibility, 1.0))


def importance(plan: Plan, priorities: F64, done: npt.NDArray[np.bool_]) -> F64:
    """`softmax(0.4 critical + 0.3 downstream + 0.2 priority + 0.1 ready)`, zero where `done`.

    `critical` 1 - slack / makespan, `downstream` the share of the other nodes that depend on the step, `priorities`
    (n,) in [0, 1] the owner's, `ready` 1 when all parents are done. Uniform when everything is done.
    """
    timing = plan.timing
    critical = 1.0 - np.maximum(timing.latest - timing.earliest, 0.0) / (timing.makespan or 1.0)
    downstream = plan.descendants / max(plan.nodes - 1, 1)
    parents = np.repeat(np.arange(plan.nodes), np.diff(plan.starts))
    ready = np.bincount(plan.targets[~done[parents]], minlength=plan.nodes) == 0
    scores = np.exp(0.4 * critical + 0.3 * downstream + 0.2 * priorities + 0.1 * ready)
    return _share(np.where(done, 0.0, scores) if not done.all() else np.ones(plan.nodes))


def _share(scores: F64) -> F64:
    share: F64 = scores / scores.sum()
    return share
