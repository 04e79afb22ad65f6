"""Connections, membership, blame."""

from __future__ import annotations

from msgspec import Struct

from ..effects import Query
from ..wire.peers import Capability


class PeerConnected(Struct, frozen=True):
    """Event: the transport has an authenticated connection; nothing is known of the peer's swarm yet."""

    peer: str
    outbound: bool


class PeerDisconnected(Struct, frozen=True):
    """Event: the last connection to the peer is gone."""

    peer: str


class PeerUp(Struct, frozen=True):
    """Event: a connected peer was admitted."""

    peer: str


class PeerDown(Struct, frozen=True):
    """Event: an admitted peer is gone (disconnected or refused)."""

    peer: str


class PeerOffers(Struct, frozen=True):
    """Event: a member announced what it executes."""

    peer: str
    capabilities: tuple[Capability, ...]
    workers: int
    load: int


class Blame(Struct, frozen=True):
    """Event: a peer sent something that no honest implementation sends."""

    peer: str
    reason: str


class Admit(Struct, frozen=True):
    """Command to the transport."""

    peer: str


class RefusePeer(Struct, frozen=True):
    """Command to the transport: drop it and say why."""

    peer: str
    reason: str


class PardonPeer(Struct, frozen=True):
    """Command to the transport: its refusal is taken back, and it may come and say who it is."""

    peer: str


class SetSwarm(Struct, frozen=True):
    """Command to the transport: join the topics and protocols of this swarm (genesis in hex)."""

    swarm: str


class LearnAddresses(Struct, frozen=True):
    """Command to the transport: where to dial a peer. `keep`: never give up on it."""

    peer: str
    addresses: tuple[str, ...]
    keep: bool = False


class GetAddresses(Query[tuple[str, ...]], frozen=True):
    """Own dialable multiaddrs, from the transport."""


class ConnectionInfo(Struct, frozen=True):
    """A connected peer; `admitted` by this node before, when its membership was rebuilt after a crash."""

    peer: str
    outbound: bool
    admitted: bool


class GetConnections(Query[tuple[ConnectionInfo, ...]], frozen=True):
    """Who is connected, from the transport: what a rebuilt membership has missed."""


class GetLatencies(Query[dict[str, float]], frozen=True):
    """Measured round trips to connected peers in seconds, from the transport; unmeasured ones are left out."""


class SwarmInfo(Struct, frozen=True):
    """`swarm` is empty until a fresh node that was given bootstrap peers has reached one. `origin` says how it came to
    this swarm: founded, adopted or pinned. `founder` is a short id for people, `founder_key` the public key."""

    swarm: str
    origin: str
    founder: str
    founder_key: bytes = b""


class GetSwarm(Query[SwarmInfo], frozen=True):
    pass


class PeerView(Struct, frozen=True):
    """One peer as this node knows it. `state`: member, undecided, refused, known (not connected)."""

    peer: str
    short_id: str
    state: str
    version: str
    addresses: tuple[str, ...]
    capabilities: tuple[Capability, ...]
    workers: int
    load: int
    seen_wall: float
    reason: str = ""


class GetPeers(Query[tuple[PeerView, ...]], frozen=True):
    pass


class LoadChanged(Struct, frozen=True):
    """Event: chunks queued and running on this node's workers for others and for itself."""

    load: int


class SwarmAdopted(Struct, frozen=True):
    """Event, once in a node's life: a fresh node took the genesis of the first peer that it reached."""

    swarm: str
    peer: str
