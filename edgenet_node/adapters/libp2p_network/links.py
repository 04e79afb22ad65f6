"""Connected peers: who is, who may be, and telling the listener exactly once.

Several connections to one peer are one link upwards; two nodes that dial each other at the same moment end with two.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import trio
from libp2p.abc import INotifee
from libp2p.peer.id import ID
from libp2p.rcmgr import Direction

from ...ports.clock import Clock
from ...ports.network import Connection
from .admission import Admission
from .limits import NetworkSettings
from .report import Report

DROP_S: Final = 1.0
SWEEP_S: Final = 1.0


class Links:
    """`joined(peer, outbound)` and `left(peer)` are called once per peer; `kept(peer)` says whether a full house must
    make room for it."""

    def __init__(
        self,
        own: str,
        settings: NetworkSettings,
        admission: Admission,
        clock: Clock,
        report: Report,
        *,
        joined: Callable[[str, bool], None],
        left: Callable[[str], None],
        kept: Callable[[str], bool],
    ) -> None:
        self._own = own
        self._settings = settings
        self._admission = admission
        self._clock = clock
        self._report = report
        self._joined = joined
        self._left = left
        self._kept = kept
        self._swarm: Any = None
        self._since: dict[str, float] = {}

    def attach(self, swarm: Any) -> None:
        self._swarm = swarm
        swarm.register_notifee(_PeerWatch(self.reconcile))

    def detach(self) -> None:
        """The host is gone, and all its connections with it."""
        self._swarm = None
        for peer in list(self._since):
            self.reconcile(peer)

    def connected(self, peer: str) -> bool:
        return peer in self._since

    def count(self) -> int:
        return len(self._since)

    def banned(self, peer: str) -> bool:
        return self._admission.of(peer, trio.current_time()).state == "refused"

    def refuses(self, peer: str, inbound: bool) -> str:
        """The connection gate: a refused peer, one connection too many, or a full house."""
        decision = self._admission.of(peer, trio.current_time())
        if decision.state == "refused":
            return decision.reason or "refused"
        if peer == self._own:
            return "this node itself"
        if len(self._of(peer)) >= self._settings.connections_per_peer_max:
            return "too many connections of one peer"
        places = self._settings.peers_max - (self._settings.peers_max // 4 if inbound else 0)
        if peer not in self._since and not self._kept(peer) and len(self._since) >= places:
            return "too many peers"
        return ""

    def connections(self) -> tuple[Connection, ...]:
        """One per peer, however many connections there are; the round trip is that of the quickest."""
        now = trio.current_time()
        return tuple(
            self._describe(peer, since, links, now) for peer, since in self._since.items() if (links := self._of(peer))
        )

    def _describe(self, peer: str, since: float, links: list[Any], now: float) -> Connection:
        where = links[0].get_transport_addresses()
        return Connection(
            peer=peer,
            address=str(where[0]) if where else "",
            outbound=_outbound(links[0]),
            since_mono=since,
            admitted=self._admission.of(peer, now).state == "admitted",
            rtt_s=min((rtt for link in links if (rtt := link.muxed_conn.round_trip_s)), default=0.0),
            bytes_in=sum(link.muxed_conn.bytes_in for link in links),
            bytes_out=sum(link.muxed_conn.bytes_out for link in links),
        )

    def _of(self, peer: str) -> list[Any]:
        if self._swarm is None:
            return []
        return [link for link in self._swarm.get_connections(ID.from_string(peer)) if not link.is_closed]

    def reconcile(self, peer: str) -> None:
        """Look at the connections that there are, and tell what changed."""
        links = self._of(peer)
        try:
            if links and peer not in self._since:
                self._since[peer] = self._clock.now().mono
                self._report.count("peers_joined")
                self._joined(peer, _outbound(links[0]))
            elif not links and peer in self._since:
                del self._since[peer]
                self._report.count("peers_left")
                self._left(peer)
        except Exception as error:  # noqa: BLE001 - the listener is ours; its bug must not become the host's
            self._report.fault("on_connected", error)

    async def sweep(self) -> None:
        """The library's notices can be lost when a connection ends while it begins: look at the facts every second."""
        while True:
            await trio.sleep(SWEEP_S)
            for peer in {*self._since, *(key.to_base58() for key in self._swarm.connections)}:
                self.reconcile(peer)

    async def drop(self, peer: str) -> None:
        """Close all connections of a peer, after `refuse_linger_s` for the farewell to be read."""
        await trio.sleep(self._settings.refuse_linger_s)
        for link in self._of(peer):
            with trio.move_on_after(DROP_S) as scope:
                await link.close()
            if scope.cancelled_caught:
                await link.muxed_conn.abort()
        self.reconcile(peer)


class _PeerWatch(INotifee):  # type: ignore[misc]
    """Turns the library's notices about connections into "look at this peer again"."""

    def __init__(self, look: Callable[[str], None]) -> None:
        self._look = look

    async def connected(self, network: Any, conn: Any) -> None:
        self._look(conn.muxed_conn.peer)

    async def disconnected(self, network: Any, conn: Any) -> None:
        self._look(conn.muxed_conn.peer)

    async def opened_stream(self, network: Any, stream: Any) -> None:
        return None

    async def closed_stream(self, network: Any, stream: Any) -> None:
        return None

    async def listen(self, network: Any, multiaddr: Any) -> None:
        return None

    async def listen_close(self, network: Any, multiaddr: Any) -> None:
        return None


def _outbound(link: Any) -> bool:
    return bool(link.direction == Direction.OUTBOUND)
