"""This node's own commands: signed, proposed one at a time, answered when applied."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable

from msgspec import Struct, structs

from ..crypto.signing import Signer
from ..effects import Ask, Effect, Now, Reply
from ..errors import EdgenetError, Overloaded, Refused, TimedOut
from ..messages.committee import Decided
from ..messages.raft import Propose, Proposed
from ..wire.codec import encode
from ..wire.committee import RegistryCommand, SignedCommand
from .settings import CommitteeSettings
from .state import COMMAND_DOMAIN, Applied

CONSUMER = "registry"
QUEUE_MAX = 64
"""Commands of one operator that wait; each takes a few milliseconds."""


class Wanted(Struct, frozen=True):
    command: RegistryCommand
    reply_to: int
    deadline: float


class Submitting:
    """`sequence` is Unix milliseconds, or one more than the last. A try that is not answered is repeated with the same
    numbers, which the log takes once."""

    def __init__(self, signer: Signer, settings: CommitteeSettings, entropy: Callable[[int], bytes]) -> None:
        self._signer = signer
        self._settings = settings
        self._client = entropy(16)
        self._queue: deque[Wanted] = deque()
        self._current: Wanted | None = None
        self._propose: Propose | None = None
        self._last = 0
        self._count = 0
        self._again_at = math.inf
        self._index = 0

    @property
    def wake_at(self) -> float:
        current = math.inf if self._current is None else self._current.deadline
        return min(current, self._again_at)

    @property
    def busy(self) -> bool:
        return self._current is not None

    def waits_for(self, kind: str) -> bool:
        current = self._current
        return (current is not None and current.command.kind == kind) or any(
            one.command.kind == kind for one in self._queue
        )

    def seen(self, sequence: int) -> None:
        """Of an earlier command of this node: a clock that was set back since does not make the next one older."""
        if self._current is None:
            self._last = max(self._last, sequence)

    def add(self, command: RegistryCommand, reply_to: int, now: Now) -> list[Effect]:
        if len(self._queue) >= QUEUE_MAX:
            return [Reply(reply_to, error=Overloaded("too many decisions wait", retry_after_s=1.0))]
        self._queue.append(Wanted(command, reply_to, now.mono + self._settings.command_timeout_s))
        return self._next(now)

    def _next(self, now: Now) -> list[Effect]:
        if self._current is not None or not self._queue:
            return []
        self._current = self._queue.popleft()
        self._last = max(self._last + 1, int(now.wall * 1000))
        self._count += 1
        self._index = 0
        command = structs.replace(self._current.command, sequence=self._last)
        body = encode(command)
        signed = SignedCommand(self._signer.public, body, self._signer.sign(COMMAND_DOMAIN, body))
        self._propose = Propose(CONSUMER, self._client, self._count, self._count, encode(signed))
        return self._try(now)

    def _try(self, now: Now) -> list[Effect]:
        self._again_at = math.inf
        if self._propose is None:
            return []
        return [Ask(("proposed", self._count), self._propose, self._settings.command_timeout_s)]

    def proposed(
        self, count: int, value: Proposed | None, error: Exception | None, *, member: bool, now: Now
    ) -> list[Effect]:
        """It is in the log. A member goes on when it has applied it and knows what became of it."""
        current = self._current
        if current is None or count != self._count:
            return []
        if value is None:
            if isinstance(error, Overloaded | TimedOut):
                self._again_at = now.mono + max(0.1, error.retry_after_s)
                return []
            failure = error if isinstance(error, EdgenetError) else Refused("the committee did not take it")
            return self._end(Reply(current.reply_to, error=failure), now)
        if member and not value.duplicate:
            self._index = value.index
            return []
        return self._end(Reply(current.reply_to, Decided(value.index)), now)

    def applied(self, index: int, applied: Applied, now: Now) -> list[Effect]:
        """A command was applied here: perhaps ours."""
        current = self._current
        command = applied.command
        if current is None or command is None or applied.author != self._signer.public:
            return []
        if command.sequence != self._last:
            return []
        if applied.refused:
            return self._end(Reply(current.reply_to, error=Refused(applied.refused)), now)
        return self._end(Reply(current.reply_to, Decided(index)), now)

    def tick(self, now: Now) -> list[Effect]:
        current = self._current
        if current is not None and now.mono >= current.deadline:
            late = TimedOut("the committee did not decide in time; it may still do so", retry_after_s=1.0)
            return self._end(Reply(current.reply_to, error=late), now)
        return self._try(now) if now.mono >= self._again_at else []

    def _end(self, reply: Reply, now: Now) -> list[Effect]:
        self._current = self._propose = None
        self._again_at = math.inf
        self._count += 1  # a late answer is not the next one's
        return [reply, *self._next(now)]
