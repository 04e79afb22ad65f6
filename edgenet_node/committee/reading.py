"""Linearizable reads of the registry.

Ongaro's thesis, section 6.4: the log confirms with a quorum an index that holds everything committed before the
question; the answer waits until this node has applied so far. It then holds every write that was answered before the
question, on whichever member.
"""

from __future__ import annotations

import math

from ..effects import Ask, Effect, Now, Reply
from ..errors import Overloaded, TimedOut
from ..messages.raft import ReadBarrier

WAITING_MAX = 1024
"""Readers at once; each costs a hundred bytes and an answer of the whole registry."""


class _Read:
    __slots__ = ("deadline", "index", "reply_to")

    def __init__(self, reply_to: int, deadline: float) -> None:
        self.reply_to = reply_to
        self.deadline = deadline
        self.index: int | None = None


class Reading:
    """`timeout_s` from question to answer."""

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._waiting: dict[int, _Read] = {}
        self._count = 0

    @property
    def wake_at(self) -> float:
        """The first deadline: reads come in the order of theirs."""
        return next((one.deadline for one in self._waiting.values()), math.inf)

    def begin(self, reply_to: int, now: Now) -> list[Effect]:
        if len(self._waiting) >= WAITING_MAX:
            return [Reply(reply_to, error=Overloaded("too many reads wait", retry_after_s=0.2))]
        self._count += 1
        self._waiting[self._count] = _Read(reply_to, now.mono + self._timeout_s)
        return [Ask(("barrier", self._count), ReadBarrier(), self._timeout_s)]

    def confirmed(self, count: int, index: int | None, error: Exception | None) -> list[Effect]:
        """The log's word: an index, or why there is none."""
        if index is None:
            read = self._waiting.pop(count, None)
            return [] if read is None else [Reply(read.reply_to, error=error)]
        if count in self._waiting:
            self._waiting[count].index = index
        return []

    def take(self, cursor: int) -> list[int]:
        """Whom to answer, now that the state holds everything up to `cursor`."""
        ready = [count for count, one in self._waiting.items() if one.index is not None and one.index <= cursor]
        return [self._waiting.pop(count).reply_to for count in ready]

    def expire(self, now: Now) -> list[Effect]:
        late = [count for count, one in self._waiting.items() if one.deadline <= now.mono]
        error = TimedOut("this node did not come to the entry that the read needs in time", retry_after_s=0.5)
        return [Reply(self._waiting.pop(count).reply_to, error=error) for count in late]
