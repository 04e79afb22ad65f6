"""Who holds which segment, and who searches which: two pure functions.

Placement is rendezvous hashing (Thaler and Ravishankar, 1998) with bounded loads (Mirrokni, Thorup, Zadimoghaddam,
arXiv:1608.01350): each segment ranks the peers by hash, and a peer that already has its share is skipped. So every
node computes with no table, a change of membership moves little, and no holder gets much more than the average.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence

from msgspec import Struct

_MASK = 2**64 - 1

MOVES_MAX = 16
"""Improvements of one assignment: enough for a few segments a node, and a bound on the time of a step."""


class Placing(Struct, frozen=True):
    """A segment to place. `holders` have it now and may keep it."""

    digest: str
    rows: int
    holders: tuple[str, ...]


def place(segments: Sequence[Placing], candidates: Sequence[str], replicas: int, slack: float) -> list[tuple[str, ...]]:
    """For each segment the peers that should hold it: `replicas` of them, fewer when there are not enough.

    Holders keep what they have while their rows stay below `slack` times the average; `candidates` take the rest.
    """
    peers = sorted({*candidates, *(holder for segment in segments for holder in segment.holders)})
    if not peers:
        return [() for _ in segments]
    wanted = min(replicas, len(peers))
    rows = sum(segment.rows for segment in segments)
    largest = max((segment.rows for segment in segments), default=0)
    cap = max(math.ceil(slack * rows * wanted / len(peers)), largest)
    seeds = {peer: _seed(peer) for peer in peers}
    load = dict.fromkeys(peers, 0)
    chosen: list[list[str]] = []
    ranks: list[list[str]] = []
    for segment in segments:
        seed = _seed(segment.digest)
        ranks.append(sorted(peers, key=lambda peer: -_mix(seed ^ seeds[peer])))
        kept = [p for p in ranks[-1] if p in segment.holders and load[p] + segment.rows <= cap][:wanted]
        chosen.append(kept)
        for peer in kept:
            load[peer] += segment.rows
    able = set(candidates)
    for segment, rank, holders in zip(segments, ranks, chosen, strict=True):
        while len(holders) < wanted:
            open_ = [p for p in rank if p not in holders and (p in able or p in segment.holders)]
            if not open_:
                break
            fitting = next((p for p in open_ if load[p] + segment.rows <= cap), None)
            peer = fitting or min(open_, key=lambda p: load[p])
            holders.append(peer)
            load[peer] += segment.rows
    return [tuple(holders) for holders in chosen]


def assign(
    rows: Mapping[str, int], candidates: Mapping[str, Sequence[str]], cost: Callable[[str], tuple[float, int]]
) -> dict[str, list[str]]:
    """Share out a search: `rows` by segment, nodes able to search each, to segments by node.

    Largest segments first, each to the able node with the fewest rows so far (longest processing time first, Graham
    1969), the cheaper one among equals; then up to `MOVES_MAX` chains of moves away from the node with the most rows.
    Segments that nobody can search are left out.
    """
    taken: dict[str, str] = {}
    load: dict[str, int] = {node: 0 for able in candidates.values() for node in able}
    for digest in sorted(rows, key=lambda one: (-rows[one], len(candidates.get(one, ())), one)):
        able = candidates.get(digest, ())
        if able:
            node = min(able, key=lambda one: (load[one], *cost(one), one))
            taken[digest] = node
            load[node] += rows[digest]
    for _ in range(MOVES_MAX):
        if not _relieve(rows, candidates, taken, load):
            break
    shares: dict[str, list[str]] = {}
    for digest, node in taken.items():
        shares.setdefault(node, []).append(digest)
    return shares


def _relieve(
    rows: Mapping[str, int], candidates: Mapping[str, Sequence[str]], taken: dict[str, str], load: dict[str, int]
) -> bool:
    """Hand one segment from the fullest node to another, which may hand one on in turn, until a node is reached that
    stays below the fullest. Breadth first over the nodes, so the chain is the shortest."""
    if not load:
        return False
    fullest = max(load, key=lambda node: (load[node], node))
    by_node: dict[str, list[str]] = {}
    for digest, node in taken.items():
        by_node.setdefault(node, []).append(digest)
    came: dict[str, tuple[str, str]] = {}
    queue = [fullest]
    for node in queue:
        gained = rows[came[node][1]] if node in came else 0
        for digest in by_node.get(node, ()):
            if node != fullest and load[node] + gained - rows[digest] >= load[fullest]:
                continue
            for able in candidates[digest]:
                if able in came or able == fullest:
                    continue
                came[able] = node, digest
                if load[able] + rows[digest] < load[fullest]:
                    _move(able, came, fullest, rows, taken, load)
                    return True
                queue.append(able)
    return False


def _move(
    node: str,
    came: Mapping[str, tuple[str, str]],
    fullest: str,
    rows: Mapping[str, int],
    taken: dict[str, str],
    load: dict[str, int],
) -> None:
    while node != fullest:
        before, digest = came[node]
        taken[digest] = node
        load[node] += rows[digest]
        load[before] -= rows[digest]
        node = before


def pick(index: str, peers: Sequence[str], peers_max: int) -> list[str]:
    """The `peers_max` peers that rank first for an index: a large swarm is not searched through for each segment."""
    if len(peers) <= peers_max:
        return list(peers)
    seed = _seed(index)
    return sorted(peers, key=lambda peer: -_mix(seed ^ _seed(peer)))[:peers_max]


def _seed(name: str) -> int:
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "little")


def _mix(x: int) -> int:
    """The finaliser of splitmix64 (Steele, Lea, Flood 2014)."""
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9 & _MASK
    x = (x ^ x >> 27) * 0x94D049BB133111EB & _MASK
    return x ^ x >> 31
