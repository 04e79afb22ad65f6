"""The peers that a node knows, at most so many."""

from __future__ import annotations

from msgspec import Struct

from ..messages.network import PeerView
from ..wire.peers import Capability
from .records import short_id_of


class Peer(Struct):
    """Mutable: what is known of one peer, and what it said last."""

    state: str = "known"
    connected: bool = False
    outbound: bool = False
    version: str = ""
    capabilities: tuple[Capability, ...] = ()
    workers: int = 0
    load: int = 0
    seen_wall: float = 0.0
    reason: str = ""
    hellos: int = 0
    blames: int = 0
    blames_since: float = 0.0

    def view(self, peer: str, addresses: tuple[str, ...]) -> PeerView:
        return PeerView(
            peer,
            short_id_of(peer),
            self.state,
            self.version,
            addresses,
            self.capabilities,
            self.workers,
            self.load,
            self.seen_wall,
            self.reason,
        )


class PeerTable(dict[str, Peer]):
    """A newcomer to a full table takes the place of whoever is not connected and was seen longest ago."""

    def __init__(self, peers_max: int) -> None:
        super().__init__()
        self._max = peers_max

    def of(self, peer: str) -> Peer:
        found = self.get(peer)
        if found is None:
            if len(self) >= self._max:
                self._forget_one()
            found = self[peer] = Peer()
        return found

    def _forget_one(self) -> None:
        idle = [peer for peer, known in self.items() if not known.connected]
        if idle:
            del self[min(idle, key=lambda peer: self[peer].seen_wall)]
