"""Who may use the swarm-bound streams: a bounded table of undecided, admitted and refused peers.

The decision is made above (`hello`); this table only remembers it. An admission holds across reconnects, since a peer
id is a public key. A refusal holds for `refuse_for_s`; then the peer is undecided again.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Literal

import trio
from msgspec import Struct

from .limits import NetworkSettings

State = Literal["undecided", "admitted", "refused"]

PEERS_MAX = 8192
"""Decisions remembered; the oldest are forgotten first. Far above `peers_max`, small enough to hold always (1 MiB)."""


class Decision(Struct, frozen=True):
    """`until_s` is the monotonic time at which a refusal ends."""

    state: State
    reason: str = ""
    until_s: float = 0.0


UNDECIDED = Decision("undecided")


class Admission:
    def __init__(self, settings: NetworkSettings) -> None:
        self._settings = settings
        self._decisions: OrderedDict[str, Decision] = OrderedDict()
        self._waiting: dict[str, trio.Event] = {}

    def admit(self, peer: str) -> None:
        self._decide(peer, Decision("admitted"))

    def refuse(self, peer: str, reason: str, now_s: float) -> None:
        self._decide(peer, Decision("refused", reason, now_s + self._settings.refuse_for_s))

    def pardon(self, peer: str) -> None:
        if self._decisions.get(peer, UNDECIDED).state == "refused":
            del self._decisions[peer]

    @property
    def waiting(self) -> int:
        """Peers whose streams wait for a decision."""
        return len(self._waiting)

    def of(self, peer: str, now_s: float) -> Decision:
        decision = self._decisions.get(peer, UNDECIDED)
        if decision.state == "refused" and now_s >= decision.until_s:
            del self._decisions[peer]
            return UNDECIDED
        return decision

    def admitted(self, peer: str) -> bool:
        return self._decisions.get(peer, UNDECIDED).state == "admitted"

    async def wait(self, peer: str, now_s: float) -> Decision:
        """The decision on a connected peer; an undecided one is waited for at most `admission_wait_s`."""
        decision = self.of(peer, now_s)
        if decision.state == "undecided":
            event = self._waiting.setdefault(peer, trio.Event())
            with trio.move_on_after(self._settings.admission_wait_s):
                await event.wait()
            if self._waiting.get(peer) is event and not event.statistics().tasks_waiting:
                del self._waiting[peer]
        return self._decisions.get(peer, UNDECIDED)

    def _decide(self, peer: str, decision: Decision) -> None:
        self._decisions[peer] = decision
        self._decisions.move_to_end(peer)
        while len(self._decisions) > PEERS_MAX:
            self._decisions.popitem(last=False)
        event = self._waiting.pop(peer, None)
        if event is not None:
            event.set()
