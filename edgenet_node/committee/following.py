"""Following the committee from outside: heads by gossip or by asking, rows from anybody, all of it checked."""

from __future__ import annotations

import math

from msgspec import Struct

from ..effects import Call, Effect, Event, Now
from ..errors import Conflict, Malformed
from ..messages.network import Blame
from ..wire.committee import ROWS_MAX, CertifiedHead, GetHead, GetRows, HeadReply, Rows
from .chain import Chain
from .settings import CommitteeSettings, Rng
from .state import RegistryState

HINT_PAUSE_S = 1.0
"""Between two questions because of what gossip says that nothing proves: else one liar has the whole swarm asking."""

BYTES_MAX = 64 * 1024 * 1024
"""Of the rows of one registry."""


class Adopted(Struct, frozen=True):
    """A registry that a certified head proves."""

    certified: CertifiedHead
    rows: dict[str, bytes]


class Following:
    """One fetch at a time. A peer that answers with what does not verify is blamed; another is asked."""

    def __init__(self, settings: CommitteeSettings, rng: Rng) -> None:
        self._settings = settings
        self._rng = rng
        self._peers: dict[str, None] = {}
        self._run = 0
        self._wanted: CertifiedHead | None = None
        self._rows: dict[str, bytes] = {}
        self._source = ""
        self._size = 0
        self._pull_at = 0.0
        self._hinted_at = -math.inf
        self._asking = False
        self.conflict = ""

    @property
    def wake_at(self) -> float:
        return math.inf if self._asking or not self._peers else self._pull_at

    @property
    def peers(self) -> list[str]:
        return list(self._peers)

    def connected(self, peer: str, now: Now) -> None:
        self._peers[peer] = None
        if not self._asking:
            self._pull_at = min(self._pull_at, now.mono + 0.1)

    def disconnected(self, peer: str) -> None:
        self._peers.pop(peer, None)

    def pull(self, chain: Chain, now: Now, peer: str = "") -> list[Effect]:
        """Ask somebody what is new. `peer`: who told that something is."""
        if self._asking or not (peer or self._peers):
            return []
        self._asking = True
        self._run += 1
        self._pull_at = now.mono + self._settings.pull_interval_s
        chosen = peer or self._rng.choice(list(self._peers))
        return [Call(("head", self._run, chosen), chosen, GetHead(chain.tip.number), self._settings.call_timeout_s)]

    def hinted(self, chain: Chain, author: str, now: Now) -> list[Effect]:
        """Somebody names a set that is not known here."""
        if now.mono < self._hinted_at + HINT_PAUSE_S:
            return []
        self._hinted_at = now.mono
        return self.pull(chain, now, author if author in self._peers else "")

    def told(
        self, certified: CertifiedHead, chain: Chain, place: tuple[int, int, int], author: str, now: Now
    ) -> list[Effect]:
        """A head by gossip; fetched when it is newer than `place`. Unknown sets are asked for first."""
        head = certified.head
        if (head.epoch, head.number) > chain.office:
            return self.hinted(chain, author, now)
        if (head.epoch, head.number) < chain.office or not self.trusts(chain):
            return []
        if (head.epoch, head.number, head.index) <= place:
            return []
        if not self._believable(certified, chain):
            return [Event(Blame(author, "raft: a head that its certificate does not prove"))]
        return self._fetch(certified, author if author in self._peers else "")

    def _believable(self, certified: CertifiedHead, chain: Chain) -> bool:
        return chain.head_proven(certified.head, certified.certificate)

    def answered(
        self, run: int, peer: str, value: HeadReply | None, chain: Chain, place: tuple[int, int, int] | None, now: Now
    ) -> tuple[list[Effect], int]:
        """What somebody knows; how many links were new. `place` is None for who wants no head."""
        if run != self._run:
            return [], 0
        self._asking = False
        if value is None:
            self._pull_at = now.mono + min(5.0, self._settings.pull_interval_s)
            return [], 0
        try:
            taken = chain.extend(value.links)
        except Malformed as error:
            return [Event(Blame(peer, f"committee: {error.message}"))], 0
        except Conflict as error:
            self.conflict = error.message
            return [], 0
        if value.more and taken:
            return self.pull(chain, now, peer), taken
        certified = value.head
        if certified is None or place is None or not self.trusts(chain):
            return [], taken
        head = certified.head
        if (head.epoch, head.number) != chain.office or (head.epoch, head.number, head.index) <= place:
            return [], taken
        if not self._believable(certified, chain):
            return [Event(Blame(peer, "committee: a head that its certificate does not prove"))], taken
        return self._fetch(certified, peer), taken

    def trusts(self, chain: Chain) -> bool:
        """Whether this node takes heads of so small a committee."""
        return len(chain.tip.members) >= self._settings.certified_by_min

    def _fetch(self, certified: CertifiedHead, peer: str) -> list[Effect]:
        if self._asking:
            return []
        self._asking = True
        self._run += 1
        self._wanted, self._rows, self._size = certified, {}, 0
        self._source = peer or self._rng.choice(list(self._peers) or [""])
        if not self._source:
            self._asking = False
            return []
        return self._next_rows("")

    def _next_rows(self, after: str) -> list[Effect]:
        wanted = self._wanted
        if wanted is None:
            return []
        query = GetRows(wanted.head.index, after)
        return [Call(("rows", self._run, self._source), self._source, query, self._settings.call_timeout_s)]

    def rows(self, run: int, peer: str, value: Rows | None, now: Now) -> tuple[list[Effect], Adopted | None]:
        """A page of rows; the whole registry when it is complete and proven."""
        wanted = self._wanted
        if run != self._run or wanted is None:
            return [], None
        if value is None:
            self._stop(now.mono + 1.0)
            return [], None
        keys = [row.key for row in value.rows]
        last = next(reversed(self._rows), "")
        if keys != sorted(set(keys)) or (keys and keys[0] <= last) or len(self._rows) + len(keys) > ROWS_MAX:
            self._stop(now.mono + 1.0)
            return [Event(Blame(peer, "committee: rows out of order"))], None
        self._size += sum(len(row.key) + len(row.value) for row in value.rows)
        if self._size > BYTES_MAX:
            self._stop(now.mono + 1.0)
            return [Event(Blame(peer, "committee: rows without end"))], None
        self._rows.update((row.key, row.value) for row in value.rows)
        if value.more and keys:
            return self._next_rows(keys[-1]), None
        state = RegistryState()
        state.load(self._rows, wanted.head.index, wanted.head.history)
        rows = self._rows
        self._stop(now.mono + self._settings.pull_interval_s)
        if state.root() != wanted.head.root:
            self._pull_at = now.mono + 1.0
            return [Event(Blame(peer, "committee: rows that the head does not prove"))], None
        return [], Adopted(wanted, rows)

    def _stop(self, again_at: float) -> None:
        self._asking = False
        self._wanted, self._rows = None, {}
        self._pull_at = again_at
