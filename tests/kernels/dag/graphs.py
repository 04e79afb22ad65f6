"""Random acyclic graphs for the tests of this folder."""

from __future__ import annotations

from hypothesis import strategies as st

from edgenet_node.kernels.dag.query import QueryDag


@st.composite
def dags(draw: st.DrawFn, most: int = 8) -> QueryDag:
    """Up to `most` steps under shuffled names; costs may be zero, edges may repeat."""
    count = draw(st.integers(1, most))
    names = draw(st.permutations(range(count)))
    ends = st.tuples(st.integers(0, count - 1), st.integers(0, count - 1)).filter(lambda pair: pair[0] < pair[1])
    edges = draw(st.lists(ends, max_size=14)) if count > 1 else []
    costs = draw(st.lists(st.integers(0, 9).map(float), min_size=count, max_size=count))
    return QueryDag(
        ops=tuple(f"step {node}" for node in range(count)),
        costs=tuple(costs),
        edges=tuple((names[a], names[b]) for a, b in edges),
    )
