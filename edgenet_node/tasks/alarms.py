"""Deadlines by name: the one source of `wake_at`."""

from __future__ import annotations

import heapq
import math
from collections.abc import Hashable

STALE_MAX = 256
"""Replaced entries that may stay in the heap beyond its live ones: it is rebuilt when there are more."""

STEP_S = 0.001
"""What is set for a moment already past rings this much later, so that every tick advances `wake_at`."""


class Alarms:
    """At most one alarm for each key. A heap with lazy removal: set and drop cost O(log n)."""

    def __init__(self) -> None:
        self._at: dict[Hashable, tuple[float, int]] = {}
        self._heap: list[tuple[float, int, Hashable]] = []
        self._serial = 0

    def set(self, key: Hashable, at: float, now: float) -> None:
        """Ring at `at` (monotonic seconds), and not before `now` has passed. Replaces an earlier alarm of this key."""
        self._serial += 1
        at = max(at, now + STEP_S)
        self._at[key] = (at, self._serial)
        heapq.heappush(self._heap, (at, self._serial, key))
        if len(self._heap) > 2 * len(self._at) + STALE_MAX:
            self._heap = [(when, serial, name) for name, (when, serial) in self._at.items()]
            heapq.heapify(self._heap)

    def drop(self, key: Hashable) -> None:
        self._at.pop(key, None)

    def __contains__(self, key: Hashable) -> bool:
        return key in self._at

    def next(self) -> float:
        """When the next one rings, `math.inf` for none."""
        while self._heap:
            at, serial, key = self._heap[0]
            if self._at.get(key) == (at, serial):
                return at
            heapq.heappop(self._heap)
        return math.inf

    def due(self, now: float) -> list[Hashable]:
        """The keys that ring until `now`, earliest first; they are gone."""
        ringing = []
        while self.next() <= now:
            _, _, key = heapq.heappop(self._heap)
            del self._at[key]
            ringing.append(key)
        return ringing
