"""A task graph and the state of its swarm's cut, as they travel."""

from __future__ import annotations

import math

from msgspec import Struct

from ...errors import UsageError

NODES_MAX = 4096  # the square bit matrix of `Plan.reach` is then 16 MiB of bytes
EDGES_MAX = 65_536
Q15_ONE = 32_767  # 1.0 as a fixed-point number with 15 fractional bits

GATE_CLOSED = 1  # flags: nothing crosses the boundary
GATE_OPEN = 2  # flags: the cut is not consulted; `GATE_CLOSED` wins over it


class QueryDag(Struct, frozen=True):
    """`ops[i]` names step i and `costs[i]` is its duration (any one unit, at least 0); an edge (i, j) says that j needs
    the output of i, and `volumes` (one for each edge, 1 if empty) how much that is. Acyclic: `plan.Plan` checks it."""

    ops: tuple[str, ...]
    costs: tuple[float, ...]
    edges: tuple[tuple[int, int], ...]
    volumes: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        count = len(self.ops)
        if not 0 < count <= NODES_MAX or len(self.edges) > EDGES_MAX:
            raise UsageError(f"a task graph has 1 to {NODES_MAX} steps and at most {EDGES_MAX} edges")
        if len(self.costs) != count or len(self.volumes) not in (0, len(self.edges)):
            raise UsageError("a task graph needs one cost for each step, and one volume for each edge or none")
        if not all(math.isfinite(amount) and amount >= 0.0 for amount in (*self.costs, *self.volumes)):
            raise UsageError("costs and volumes are finite and at least 0")
        if any(not 0 <= end < count for edge in self.edges for end in edge):
            raise UsageError(f"an edge leaves the {count} steps of its graph")


class GatePacket(Struct, frozen=True):
    """What the minimum cut of the swarm says to a consumer of attention.

    `cut` and `cut_before`: its weight now and at the last packet; `boundary_edges` of `edges` cross it;
    `concentration_q15`: the share of the boundary's weight on its heaviest edge, in Q15; `partitions`: connected parts
    (1 while whole); `flags`: `GATE_CLOSED`, `GATE_OPEN`.
    """

    cut: float
    cut_before: float
    boundary_edges: int
    edges: int
    concentration_q15: int
    partitions: int = 1
    flags: int = 0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.cut) and math.isfinite(self.cut_before)) or min(self.cut, self.cut_before) < 0.0:
            raise UsageError("the weight of a cut is finite and at least 0")
        if not 0 <= self.boundary_edges <= self.edges:
            raise UsageError("the boundary is a part of the edges")
        if not 0 <= self.concentration_q15 <= Q15_ONE or self.partitions < 1 or not 0 <= self.flags <= 3:
            raise UsageError(f"concentration is 0 to {Q15_ONE}, partitions at least 1, flags at most 3")


def drop(packet: GatePacket) -> float:
    """`(cut_before - cut) / cut_before`, in [0, 1]; 0 when the cut has grown or there was none."""
    if packet.cut_before <= 0.0:
        return 0.0
    return max(0.0, (packet.cut_before - packet.cut) / packet.cut_before)


def openness(packet: GatePacket) -> float:
    """What remains of attention across the boundary: `(1 - drop)^(1 + concentration)`, in [0, 1].

    1 without a drop. The same drop closes more when one edge carries the boundary, since its loss splits the swarm.
    Several partitions close it, an empty boundary leaves nothing to close, flags overrule. (The exponent is ours.)
    """
    if packet.flags & GATE_CLOSED:
        return 0.0
    if packet.flags & GATE_OPEN or packet.boundary_edges == 0:
        return 1.0
    if packet.partitions > 1:
        return 0.0
    remaining = 1.0 - drop(packet)
    return float(remaining ** (1.0 + packet.concentration_q15 / Q15_ONE))
