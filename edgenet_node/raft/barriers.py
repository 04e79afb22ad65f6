"""Linearizable reads: questions that share one round of heartbeats."""

from __future__ import annotations

import math

from ..effects import Effect, Now, Reply
from ..errors import EdgenetError, Overloaded


class Barriers:
    """`waiting_max` askers. All that wait at one flush share one read context; it is asked anew of a new leader."""

    def __init__(self, timeout_s: float, waiting_max: int = 4096) -> None:
        self._timeout_s = timeout_s
        self._waiting_max = waiting_max
        self._queue: list[tuple[int, float]] = []
        self._asked: dict[bytes, list[tuple[int, float]]] = {}
        self._count = 0

    @property
    def queued(self) -> bool:
        return bool(self._queue)

    @property
    def wake_at(self) -> float:
        if not self._queue and not self._asked:
            return math.inf
        first = [self._queue[0][1]] if self._queue else []
        return min([*first, *(asked[0][1] for asked in self._asked.values())], default=math.inf)

    def add(self, reply_to: int, now: Now) -> list[Effect]:
        if len(self._queue) + sum(map(len, self._asked.values())) >= self._waiting_max:
            return [Reply(reply_to, error=Overloaded("too many reads wait", retry_after_s=0.2))]
        self._queue.append((reply_to, now.mono + self._timeout_s))
        return []

    def take(self, member: int) -> bytes:
        """The context of the next round, unique among members and rounds of this life; a leader keys rounds by it."""
        self._count += 1
        context = member.to_bytes(8, "big") + self._count.to_bytes(8, "big")
        self._asked[context], self._queue = self._queue, []
        return context

    def confirmed(self, context: bytes, index: int) -> list[Reply]:
        return [Reply(reply_to, index) for reply_to, _ in self._asked.pop(context, [])]

    def requeue(self) -> None:
        """There is a new leader."""
        self._queue = sorted([one for asked in self._asked.values() for one in asked] + self._queue, key=_deadline)
        self._asked.clear()

    def expire(self, now: Now) -> list[Effect]:
        if now.mono < self.wake_at:
            return []
        late = [one for one in self._queue if one[1] <= now.mono]
        self._queue = self._queue[len(late) :]
        for context, asked in list(self._asked.items()):
            late += [one for one in asked if one[1] <= now.mono]
            self._asked[context] = [one for one in asked if one[1] > now.mono]
            if not self._asked[context]:
                del self._asked[context]
        return _refuse(late, Overloaded("no leader confirmed the read in time", retry_after_s=0.5))

    def drop_all(self, error: EdgenetError) -> list[Effect]:
        late = [*self._queue, *(one for asked in self._asked.values() for one in asked)]
        self._queue.clear()
        self._asked.clear()
        return _refuse(late, error)


def _deadline(one: tuple[int, float]) -> float:
    return one[1]


def _refuse(late: list[tuple[int, float]], error: EdgenetError) -> list[Effect]:
    return [Reply(reply_to, error=error) for reply_to, _ in late]
