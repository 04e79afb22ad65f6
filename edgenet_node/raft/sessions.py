"""Exactly once: which commands were applied, by session and sequence.

A session is a client of one peer. Each command names its sequence and `low`: everything below `low` was answered, so
its result may be forgotten (RIFL, Lee et al., SOSP 2015). The table is part of the replicated state: it changes only
with applied entries, and every member forgets the same things at the same index.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict

from ..wire.codec import Wire


class SavedSession(Wire, frozen=True):
    session: bytes
    low: int
    seen: list[tuple[int, int]]


class _Session:
    __slots__ = ("low", "seen")

    def __init__(self) -> None:
        self.low = 0
        self.seen: dict[int, int] = {}


class Sessions:
    """At most `sessions_max`, the one idle for longest (by index) dropped first; of each at most `window_max` results.

    A client that falls out of either bound loses the protection for commands it has not heard of: it must not retry
    one after `sessions_max` other clients, or `window_max` later commands of its own, were applied.
    """

    def __init__(self, sessions_max: int, window_max: int) -> None:
        self._sessions_max = sessions_max
        self._window_max = window_max
        self._table: OrderedDict[bytes, _Session] = OrderedDict()

    def find(self, session: bytes, sequence: int) -> int | None:
        """Index of the applied command, 0 when it was applied or given up and is forgotten, None when it is new."""
        known = self._table.get(session)
        if known is None:
            return None
        if sequence < known.low:
            return 0
        return known.seen.get(sequence)

    def apply(self, session: bytes, sequence: int, low: int, index: int) -> bool:
        """Take an entry at `index`: True when its command is to be executed, False when it is a duplicate."""
        table = self._table
        known = table.get(session)
        if known is None:
            known = table[session] = _Session()
            if len(table) > self._sessions_max:
                table.popitem(last=False)
        else:
            table.move_to_end(session)
        seen = known.seen
        if sequence < known.low or sequence in seen:
            return False
        seen[sequence] = index
        if low > known.low:
            before, known.low = known.low, min(low, sequence)
            gone = range(before, known.low) if known.low - before <= len(seen) else [s for s in seen if s < known.low]
            for old in gone:
                seen.pop(old, None)
        while len(seen) > self._window_max:
            oldest = min(seen)
            del seen[oldest]
            known.low = oldest + 1
        return True

    def save(self) -> list[SavedSession]:
        return [SavedSession(key, one.low, sorted(one.seen.items())) for key, one in self._table.items()]

    def load(self, saved: list[SavedSession]) -> None:
        self._table.clear()
        for one in saved:
            session = self._table[one.session] = _Session()
            session.low = one.low
            session.seen = dict(one.seen)


def session_key(peer: str, client: bytes) -> bytes:
    """Bound to the peer that submits, so that nobody uses up another one's sequences."""
    return hashlib.sha256(peer.encode() + b"\0" + client).digest()[:16]
