"""The network port: authenticated peers, one gossip plane, framed calls and one-way messages over persistent streams,
artifact transfer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol

from msgspec import Struct

Verdict = Literal["accept", "ignore", "reject"]
"""`ignore`: stale but honest, not handed on and nobody blamed. `reject`: the author is to blame, which is
the listener's business: it knows the reason and is not told again by `on_blame`."""

Channel = Literal["hello", "rpc"]
"""`hello` is open to every connected peer, whatever its swarm; `rpc` needs admission and carries the swarm's name."""


class Connection(Struct, frozen=True):
    """One connected peer as the transport sees it. `rtt_s` is 0 until measured."""

    peer: str
    address: str
    outbound: bool
    since_mono: float
    admitted: bool
    rtt_s: float = 0.0
    bytes_in: int = 0
    bytes_out: int = 0


class NetworkListener(Protocol):
    """What the transport hands upwards. No method may raise; all but `on_call` return at once."""

    def on_connected(self, peer: str, outbound: bool) -> None: ...

    def on_disconnected(self, peer: str) -> None: ...

    def on_gossip(self, topic: str, author: str, data: bytes) -> Verdict: ...

    async def on_call(self, channel: Channel, peer: str, request: bytes) -> bytes: ...

    def on_message(self, stream: str, peer: str, data: bytes) -> None:
        """A one-way message of an admitted peer, in the order it sent them."""
        ...

    def on_blame(self, peer: str, reason: str) -> None:
        """The peer sent something that the transport itself could refuse: oversized, truncated, flooding."""
        ...


class Network(Protocol):
    """Sends. `LocalError`, `Unreachable`, `TimedOut`, `Overloaded` and `RemoteError` are all that it raises."""

    @property
    def peer_id(self) -> str: ...

    def addresses(self) -> Sequence[str]:
        """Multiaddrs that others can dial, with `/p2p/<peer id>`: announced ones if any, else those listened on."""
        ...

    def connections(self) -> Sequence[Connection]: ...

    def publish(self, topic: str, data: bytes) -> None:
        """Queue for paced gossip. Raises `Overloaded` when the queue is full, `TooLarge` above the gossip limit."""
        ...

    async def call(self, channel: Channel, peer: str, request: bytes, *, timeout_s: float) -> bytes:
        """One request frame, one response frame. Many calls share the peer's stream at once."""
        ...

    def send(self, stream: str, peer: str, data: bytes) -> None:
        """Queue one message for the peer's one-way stream `<name>/<version>` (`raft/1`), which opens on demand and
        again after a failure. At most once, in order while the connection lasts. Raises `Unreachable` unless the peer
        is connected and admitted, `Overloaded` when its queue is full (this one is shed, not an older one),
        `TooLarge`."""
        ...

    async def fetch(self, peer: str, digest: str, *, size_max: int, timeout_s: float) -> int:
        """Copy an artifact from the peer into the artifact store, verified by its digest; resumes. Returns its size."""
        ...

    def set_swarm(self, swarm: str) -> None:
        """Join topics and stream protocols of this swarm (hex genesis). Once; a second, different one is an error."""
        ...

    def admit(self, peer: str) -> None:
        """Let the peer's swarm-bound streams and gossip in; undecided peers wait at most `admission_wait_s`."""
        ...

    def refuse(self, peer: str, reason: str) -> None:
        """Tell the peer why, drop the connection, and do not dial or accept it again for a while."""
        ...

    def pardon(self, peer: str) -> None:
        """Take a refusal back: the peer is undecided, and may be dialled and accepted again."""
        ...

    def learn(self, peer: str, addresses: Sequence[str], *, keep: bool) -> None:
        """Addresses to dial for this peer. `keep`: never give up on it (bootstrap and static peers)."""
        ...
