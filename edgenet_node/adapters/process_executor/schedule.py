"""Work stealing over one deque per worker, all in the parent. Pure: the time is an argument."""

from __future__ import annotations

from collections import deque
from typing import Generic, NamedTuple, TypeVar

T = TypeVar("T")


class Taken(NamedTuple, Generic[T]):
    item: T
    stolen: bool


class Schedule(Generic[T]):
    """Decides which queued item a free worker runs next. Bounded by its caller, who reads `queued` before `put`."""

    def __init__(self, workers: int, starve_after_s: float) -> None:
        self._deques: list[deque[tuple[float, T]]] = [deque() for _ in range(workers)]
        self._starve_after_s = starve_after_s
        self.queued = 0

    def put(self, worker: int, item: T, now: float) -> None:
        """At the young end of that worker's deque."""
        self._deques[worker].append((now, item))
        self.queued += 1

    def take(self, worker: int, now: float) -> Taken[T] | None:
        """What `worker` runs next: the oldest item of all if it starves, else its own youngest, else the oldest of the
        longest other deque (among equals the one with the oldest item). None when nothing is queued."""
        if not self.queued:
            return None
        self.queued -= 1
        oldest = min((d[0][0], n) for n, d in enumerate(self._deques) if d)
        if now - oldest[0] >= self._starve_after_s:
            return Taken(self._deques[oldest[1]].popleft()[1], stolen=oldest[1] != worker)
        if self._deques[worker]:
            return Taken(self._deques[worker].pop()[1], stolen=False)
        victim = max((d for d in self._deques if d), key=lambda d: (len(d), -d[0][0]))
        return Taken(victim.popleft()[1], stolen=True)

    def remove(self, item: T) -> bool:
        """Withdraw an item; False if it is not queued. Linear in the queue, which is short."""
        for entries in self._deques:
            for entry in entries:
                if entry[1] is item:
                    entries.remove(entry)
                    self.queued -= 1
                    return True
        return False

    def length(self, worker: int) -> int:
        return len(self._deques[worker])

    def drain(self) -> list[T]:
        """Everything queued, in no particular order, removed."""
        items = [item for entries in self._deques for _, item in entries]
        for entries in self._deques:
            entries.clear()
        self.queued = 0
        return items
