"""Placement and sharing out: bounds, stability, fairness, for any swarm."""

from __future__ import annotations

import math
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgenet_node.memory.spread import Placing, assign, pick, place

peers = st.lists(st.text("abcdefgh", min_size=1, max_size=3), max_size=9, unique=True)
sizes = st.lists(st.integers(1, 4096), max_size=25)


def placings(rows: list[int], holders: list[tuple[str, ...]] | None = None) -> list[Placing]:
    return [Placing(f"digest {at}", size, holders[at] if holders else ()) for at, size in enumerate(rows)]


@given(sizes, peers, st.integers(1, 4))
def test_every_segment_has_as_many_distinct_holders_as_there_can_be(
    rows: list[int], candidates: list[str], replicas: int
) -> None:
    placed = place(placings(rows), candidates, replicas, 1.25)
    assert len(placed) == len(rows)
    for holders in placed:
        assert len(set(holders)) == len(holders) == min(replicas, len(candidates))
        assert set(holders) <= set(candidates)


@given(sizes, peers, st.integers(1, 4), st.randoms())
def test_placing_again_moves_nothing_and_order_does_not_matter(
    rows: list[int], candidates: list[str], replicas: int, rng: object
) -> None:
    placed = place(placings(rows), candidates, replicas, 1.25)
    again = place(placings(rows, placed), list(reversed(candidates)), replicas, 1.25)
    assert [set(holders) for holders in again] == [set(holders) for holders in placed]


@given(st.integers(1, 60), st.integers(2, 9))
def test_no_holder_has_much_more_than_its_share(count: int, nodes: int) -> None:
    placed = place(placings([100] * count), [f"peer {n}" for n in range(nodes)], 2, 1.25)
    load = Counter(peer for holders in placed for peer in holders)
    average = 2 * count / nodes
    # One above the cap is possible where the last segment finds every other peer full or taken.
    assert max(load.values()) <= max(math.ceil(1.25 * average), 1) + 1


@given(st.integers(5, 40))
def test_one_that_leaves_moves_only_what_it_had(count: int) -> None:
    candidates = [f"peer {n}" for n in range(8)]
    before = place(placings([100] * count), candidates, 2, 1.5)
    gone = before[0][0]
    kept = [tuple(peer for peer in holders if peer != gone) for holders in before]
    after = place(placings([100] * count, kept), [peer for peer in candidates if peer != gone], 2, 1.5)
    for was, now in zip(before, after, strict=True):
        assert set(was) - {gone} <= set(now)


def test_two_indexes_prefer_different_peers() -> None:
    swarm = [f"peer {n}" for n in range(200)]
    first, second = pick("one", swarm, 32), pick("two", swarm, 32)
    assert len(first) == len(set(first)) == 32
    assert first == pick("one", list(reversed(swarm)), 32)
    assert len(set(first) & set(second)) < 20


def cost(node: str) -> tuple[float, int]:
    return 0.0, 0


@given(st.dictionaries(st.text("xyz", min_size=1, max_size=4), st.tuples(st.integers(0, 4096), peers), max_size=20))
def test_every_segment_is_searched_once_by_a_node_that_has_it(segments: dict[str, tuple[int, list[str]]]) -> None:
    rows = {name: size for name, (size, _) in segments.items()}
    able = {name: nodes for name, (_, nodes) in segments.items()}
    shares = assign(rows, able, cost)
    assert Counter(name for names in shares.values() for name in names) == Counter(name for name in able if able[name])
    assert all(node in able[name] for node, names in shares.items() for name in names)
    # No worse than putting each on its first candidate.
    naive = Counter[str]()
    for name, nodes in able.items():
        if nodes:
            naive[nodes[0]] += rows[name]
    greatest = max((sum(rows[name] for name in names) for names in shares.values()), default=0)
    assert greatest <= 2 * max(naive.values(), default=0)


@pytest.mark.parametrize("seed", range(30))
def test_five_nodes_take_one_equal_segment_each(seed: int) -> None:
    digests = [f"{seed}/{at}" for at in range(5)]
    others = [f"peer {n}" for n in range(4)]
    placed = place([Placing(digest, 100, ()) for digest in digests], others, 2, 1.25)
    able = {digest: [*holders, ""] for digest, holders in zip(digests, placed, strict=True)}
    assert sorted(len(names) for names in assign(dict.fromkeys(digests, 100), able, cost).values()) == [1] * 5


def test_among_equals_the_cheapest_node_is_asked() -> None:
    seconds = {"near": 0.001, "far": 0.2, "busy": 0.001}
    load = {"busy": 7}
    shares = assign({"one": 10}, {"one": ["far", "busy", "near"]}, lambda node: (seconds[node], load.get(node, 0)))
    assert shares == {"near": ["one"]}
