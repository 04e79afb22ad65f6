"""What the rooms of this package call one another: the question of the holder's side to the owner's side, the saved
rows, and the names of the functions that run in workers (`search_worker`, which only workers import)."""

from __future__ import annotations

from typing import Final, Protocol, TypeVar

from ..effects import Query
from ..wire.index import Hits, SearchSegments

T = TypeVar("T")

SEARCH: Final = "memory.search"
SCORE: Final = "memory.score"
BUILD: Final = "memory.build"
MERGE: Final = "memory.merge"
INSPECT: Final = "memory.inspect"

FUNCTIONS: Final = {
    name: f"edgenet_node.memory.search_worker:{function}"
    for name, function in (
        (SEARCH, "search"),
        (SCORE, "score"),
        (BUILD, "build_segment"),
        (MERGE, "merge_segments"),
        (INSPECT, "inspect"),
    )
}
"""For the executor: what `Compute.fn` names."""


class SearchOwn(Query[Hits], frozen=True):
    """`HolderCore` to `IndexesCore`: a peer searches an index of this node's own."""

    reader: str
    query: SearchSegments


class Rng(Protocol):
    """What the cores need of `random.Random`, which is injected, seeded."""

    def random(self) -> float: ...
