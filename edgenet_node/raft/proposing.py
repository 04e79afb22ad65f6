"""Commands on their way into the log: what waits, for whom, until when."""

from __future__ import annotations

import math
from collections.abc import Iterator

from msgspec import Struct

from ..effects import Effect, Now, Reply
from ..errors import EdgenetError, Overloaded, TimedOut
from ..messages.raft import Propose, Proposed
from ..wire.codec import encode
from ..wire.raft import Command, CommandResult, SubmitCommand
from .sessions import session_key
from .settings import RaftSettings

Key = tuple[bytes, int]


class Waiter(Struct, frozen=True):
    """An asker: `remote` ones get a wire answer."""

    reply_to: int
    remote: bool


class Pending:
    """One command until it is applied here. `data` is the entry's."""

    __slots__ = ("data", "deadline", "proposed_at", "waiters")

    def __init__(self, data: bytes, deadline: float, proposed_at: float) -> None:
        self.data = data
        self.deadline = deadline
        self.proposed_at = proposed_at
        self.waiters: list[Waiter] = []


class Proposals:
    """Bounded by `pending_max`. A command whose leader went away is proposed again by itself; sessions make it safe."""

    def __init__(self, settings: RaftSettings) -> None:
        self._settings = settings
        self._pending: dict[Key, Pending] = {}
        self._queue: list[Key] = []
        self._deadline = math.inf  # no later than the earliest

    def __len__(self) -> int:
        return len(self._pending)

    @property
    def wake_at(self) -> float:
        return self._deadline

    @property
    def queued(self) -> bool:
        return bool(self._queue)

    def add(self, query: Propose | SubmitCommand, sender: str, waiter: Waiter, now: Now) -> list[Effect]:
        """The answer is a refusal, or none yet."""
        key = (session_key(sender, query.client), query.sequence)
        known = self._pending.get(key)
        if known is None:
            if len(self._pending) >= self._settings.pending_max:
                error = Overloaded("too many commands wait for their commit", retry_after_s=0.2)
                return [Reply(waiter.reply_to, error=error)]
            data = encode(Command(query.consumer, key[0], query.sequence, query.low, query.command))
            known = self._pending[key] = Pending(data, now.mono + self._settings.propose_timeout_s, now.mono)
            self._deadline = min(self._deadline, known.deadline)
            self._queue.append(key)
        known.waiters.append(waiter)
        if len(known.waiters) > 4:  # the same asker, again and again: only its last tries can still listen
            known.waiters.pop(0)
        return []

    def take(self, bytes_max: int) -> Iterator[tuple[list[Key], list[bytes]]]:
        """Batches of queued commands."""
        keys: list[Key] = []
        batch: list[bytes] = []
        size = 0
        queue, self._queue = self._queue, []
        for key in queue:
            pending = self._pending.get(key)
            if pending is None:
                continue
            if batch and size + len(pending.data) > bytes_max:
                yield keys, batch
                keys, batch, size = [], [], 0
            keys.append(key)
            batch.append(pending.data)
            size += len(pending.data)
        if batch:
            yield keys, batch

    def requeue(self) -> None:
        """There is a new leader: what waits may have been lost with the old one."""
        self._queue = list(self._pending)

    def done(self, key: Key, index: int, term: int, *, duplicate: bool) -> tuple[list[Reply], float | None]:
        """It was applied; and when it was proposed here."""
        pending = self._pending.pop(key, None)
        if pending is None:
            return [], None
        out = [
            Reply(
                one.reply_to,
                CommandResult(index, term, duplicate) if one.remote else Proposed(index, term, duplicate),
            )
            for one in pending.waiters
        ]
        return out, pending.proposed_at

    def refuse(self, keys: list[Key], error: EdgenetError) -> list[Effect]:
        gone = [self._pending.pop(key) for key in keys if key in self._pending]
        return [Reply(waiter.reply_to, error=error) for one in gone for waiter in one.waiters]

    def expire(self, now: Now) -> list[Effect]:
        if now.mono < self._deadline:
            return []
        late = [key for key, one in self._pending.items() if one.deadline <= now.mono]
        out = self.refuse(
            late, TimedOut("the committee did not commit it in time; it may still do so", retry_after_s=0.2)
        )
        self._deadline = min((one.deadline for one in self._pending.values()), default=math.inf)
        return out

    def drop_all(self, error: EdgenetError) -> list[Effect]:
        self._queue.clear()
        return self.refuse(list(self._pending), error)
