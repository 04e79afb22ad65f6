"""Clients of the registry on every node, and what they may claim afterwards."""

from __future__ import annotations

import math
import random
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, Self

from edgenet_node.cli.door import Door
from edgenet_node.cli.exits import Answered, NoDaemon
from edgenet_node.crypto.hashing import sha256
from edgenet_node.errors import EdgenetError
from edgenet_node.identity.keys import Identity
from edgenet_node.testing.events.linearizability import Operation

from ..committee.register import verdict
from .support import Node

FIRST = 4096
"""`members_max` before anybody sets it."""

LOWEST, HIGHEST = 1000, 16_000
OPERATION_TIMEOUT_S = 3.0
PAUSE_S = 0.03


def parameter(seen: dict[str, Any], name: str) -> str:
    return next(str(one["value"]) for one in seen["parameters"] if one["name"] == name)


class Clients:
    """`count` threads: each asks a node at random to set `members_max` to a value never used before, to read it
    (linearizably), or to admit a peer that nobody has heard of."""

    def __init__(self, nodes: Callable[[], Sequence[Node]], count: int, seed: int) -> None:
        self._nodes = nodes
        self._ends = threading.Event()
        self._lock = threading.Lock()
        self._value = LOWEST
        self._seed = seed
        self.operations: list[Operation] = []
        self.admitted: list[str] = []
        self.indexes: list[tuple[float, float, int]] = []
        self._threads = [threading.Thread(target=self._run, args=(number,), daemon=True) for number in range(count)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ends.set()
        for thread in self._threads:
            thread.join()

    @property
    def acknowledged(self) -> int:
        return len(self.indexes)

    def _run(self, number: int) -> None:
        rng = random.Random(f"{self._seed} {number}")
        doors: dict[Node, tuple[int, Door]] = {}
        count = 0
        while not self._ends.wait(PAUSE_S):
            node = rng.choice(list(self._nodes()))
            count += 1
            try:
                if doors.get(node, (0, None))[0] != node.pid:
                    doors[node] = node.pid, node.door
                self._operate(rng, doors[node][1], f"{number}", count)
            except (NoDaemon, Answered, EdgenetError):
                doors.pop(node, None)

    def _operate(self, rng: random.Random, door: Door, client: str, count: int) -> None:
        what = rng.choice(("write", "write", "read", "read", "admit"))
        if what == "read":
            called = time.monotonic()
            seen = door.request("GET", "/api/registry?linearizable=1", timeout_s=OPERATION_TIMEOUT_S)
            self._heard(client, called, ("read", 0), int(parameter(seen, "members_max")))
        elif what == "write":
            with self._lock:
                self._value += 1
                value = self._value
            assert value <= HIGHEST
            called = time.monotonic()
            try:
                index = self._decide(door, {"kind": "set", "name": "members_max", "value": str(value)})
            except (NoDaemon, Answered):
                self._heard(client, called, ("write", value), None)
                raise
            self._heard(client, called, ("write", value), 0)
            self.indexes.append((called, time.monotonic(), index))
        else:
            peer = Identity(sha256(f"{self._seed} {client} {count}".encode())).peer_id
            called = time.monotonic()
            index = self._decide(door, {"kind": "admit", "peer": peer})
            self.indexes.append((called, time.monotonic(), index))
            self.admitted.append(peer)

    @staticmethod
    def _decide(door: Door, body: dict[str, str]) -> int:
        return int(door.request("POST", "/api/registry", body, timeout_s=OPERATION_TIMEOUT_S)["index"])

    def _heard(self, client: str, called: float, asked: tuple[str, int], answer: int | None) -> None:
        returned = math.inf if answer is None else time.monotonic()
        self.operations.append(Operation(client, called, returned, asked, answer))

    # ---- afterwards

    def judge(self, final: dict[str, Any], first: int = FIRST) -> None:
        """`final` is the registry as it is now. The history is linearizable, one entry is one decision, entries follow
        real time, and all that was admitted with an answer is there."""
        now = time.monotonic()
        end = Operation("judge", now, now, ("read", 0), int(parameter(final, "members_max")))
        assert verdict([*self.operations, end], first) == "linearizable"
        entries = [index for _, _, index in self.indexes]
        assert len(set(entries)) == len(entries)
        by_entry = sorted(self.indexes, key=lambda one: one[2])
        latest_call = -math.inf
        for called, returned, index in by_entry:
            assert returned >= latest_call, f"entry {index} was answered before an earlier one was asked"
            latest_call = max(latest_call, called)
        known = {one["peer"] for one in final["members"] if one["status"] == "admitted"}
        assert known >= set(self.admitted)
