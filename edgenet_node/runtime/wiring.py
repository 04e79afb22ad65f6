"""Between the bus and the network: calls, one-way messages, gossip, connections, blame.

An inbound call is an ask with a sender, an inbound message a tell with a sender, and only of a type that some part
opened to peers (`Part.remote`). Everything a peer sends is hostile: what does not decode is refused and blamed, and
nothing here raises into the transport.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol

import structlog
from msgspec import Struct

from ..effects import Part
from ..errors import (
    EdgenetError,
    InvariantError,
    LocalError,
    Malformed,
    Overloaded,
    Refused,
    RemoteError,
)
from ..messages.network import Blame, PeerConnected, PeerDisconnected
from ..ports.network import Channel, Network, Verdict
from .bus import RETRY_AFTER_S, Bus
from .counters import WiringCounters

log = structlog.get_logger("edgenet_node.runtime")


class WireTable(Protocol):
    """Typed messages to bytes and back; `edgenet_node.wire.registry.WireTable`."""

    def channel(self, query: Any) -> Channel: ...

    def encode_call(self, query: Any) -> bytes: ...

    def decode_call(self, channel: Channel, data: bytes) -> Any:
        """`Malformed`, `TooLarge`."""
        ...

    def encode_reply(self, query_type: type, value: Any) -> bytes: ...

    def decode_reply(self, query: Any, data: bytes) -> Any:
        """The value, or raises the error that the reply carries."""
        ...

    def encode_error(self, error: Exception) -> bytes:
        """Code and short message; of our own failures no more than the code."""
        ...

    def encode_message(self, body: Any) -> tuple[str, bytes]:
        """The stream that this type travels on, and its frame. `InvariantError` for a type that has none, `TooLarge`
        for one of ours beyond its limit."""
        ...

    def decode_message(self, stream: str, data: bytes) -> Any:
        """`Malformed`, `TooLarge`."""
        ...

    def encode_gossip(self, body: Any, swarm: str) -> tuple[str, bytes]: ...

    def decode_gossip(self, topic_id: str, data: bytes) -> Any:
        """`Malformed`, `TooLarge`."""
        ...


class InboundLimits(Struct, frozen=True):
    """`calls_per_peer_max` inbound calls of one peer wait for their answer at once: one peer must not fill a mailbox.
    `timeout_s` bounds how long an inbound call may wait; the caller's own deadline is usually shorter."""

    calls_per_peer_max: int = 128
    timeout_s: float = 900.0


class Notice(Struct, frozen=True):
    """A `Publish`, encoded."""

    topic: str
    data: bytes


class Parcel(Struct, frozen=True):
    """A `Send`, encoded; to ourselves with its `body`."""

    stream: str
    peer: str
    data: bytes
    body: Any = None


class Wiring:
    """A `NetworkListener` for the transport, and the remote operations of the cores."""

    def __init__(
        self, parts: Iterable[Part], bus: Bus, network: Network, wire: WireTable, limits: InboundLimits
    ) -> None:
        self._remote = frozenset(message for part in parts for message in part.remote)
        self._bus = bus
        self._network = network
        self._wire = wire
        self._limits = limits
        self._waiting: dict[str, int] = {}
        self._swarm = ""
        self._calls_in = self._calls_refused = self._calls_out = 0
        self._gossip_in = self._gossip_rejected = self._gossip_ignored = 0
        self._messages_in = self._messages_refused = self._messages_ignored = self._messages_shed = 0
        self._sent = self._send_dropped = 0
        self._published = self._publish_dropped = self._blamed = 0

    @property
    def swarm(self) -> str:
        """Hex genesis; empty until `set_swarm`."""
        return self._swarm

    def set_swarm(self, swarm: str) -> None:
        """Join topics and protocols of this swarm; what is published before is dropped and counted. Once."""
        if self._swarm not in ("", swarm):
            raise InvariantError("a node has one swarm for life")
        self._network.set_swarm(swarm)
        self._swarm = swarm

    def counters(self) -> WiringCounters:
        return WiringCounters(
            calls_in=self._calls_in,
            calls_refused=self._calls_refused,
            calls_out=self._calls_out,
            gossip_in=self._gossip_in,
            gossip_rejected=self._gossip_rejected,
            gossip_ignored=self._gossip_ignored,
            published=self._published,
            publish_dropped=self._publish_dropped,
            messages_in=self._messages_in,
            messages_refused=self._messages_refused,
            messages_ignored=self._messages_ignored,
            messages_shed=self._messages_shed,
            sent=self._sent,
            send_dropped=self._send_dropped,
            blamed=self._blamed,
        )

    # ---- outwards

    def encode(self, body: Any) -> Notice | None:
        """At the step, so that a wrong type is the core's crash (`InvariantError`). None, counted: there is no swarm
        yet or it is too large."""
        if not self._swarm:
            self._publish_dropped += 1
            return None
        try:
            topic, data = self._wire.encode_gossip(body, self._swarm)
        except RemoteError as error:
            self._publish_dropped += 1
            log.warning("a notice was not published", type=type(body).__name__, error=str(error))
            return None
        return Notice(topic, data)

    def publish(self, notice: Notice) -> None:
        """At the release: at most once, never blocks, never raises for the network's sake."""
        try:
            self._network.publish(notice.topic, notice.data)
        except EdgenetError as error:
            self._publish_dropped += 1
            log.info("a notice was not published", topic=notice.topic, error=str(error))
            return
        self._published += 1

    def address(self, peer: str, body: Any) -> Parcel | None:
        """A `Send`, at the step, so that a wrong type is the core's crash (`InvariantError`). None, counted: there is
        no swarm yet or it is too large."""
        own = peer == self._network.peer_id
        try:
            stream, data = self._wire.encode_message(body)
        except RemoteError as error:
            self._send_dropped += 1
            log.warning("a message was not sent", type=type(body).__name__, error=str(error))
            return None
        if not own and not self._swarm:
            self._send_dropped += 1
            return None
        return Parcel(stream, peer, data, body if own else None)

    def send(self, parcel: Parcel) -> None:
        """At the release: at most once, never blocks, never raises for the network's sake. To ourselves it is a
        message from us, held to the same door."""
        if parcel.body is not None:
            self._sent += 1
            self._receive(parcel.body, parcel.peer)
            return
        try:
            self._network.send(parcel.stream, parcel.peer, parcel.data)
        except EdgenetError as error:
            # Silence is how a member that is away looks: its sender repeats itself, so no line for each loss.
            self._send_dropped += 1
            log.debug("a message was not sent", stream=parcel.stream, peer=parcel.peer, error=str(error))
            return
        self._sent += 1

    async def call(self, peer: str, query: Any, timeout_s: float) -> Any:
        """A query to a peer; to ourselves it is an ask, held to the same door."""
        if peer == self._network.peer_id:
            if type(query) not in self._remote:
                raise Refused(f"{type(query).__name__} is not open to peers", peer=peer)
            return await self._bus.ask_inside(query, timeout_s, sender=peer)
        request = self._wire.encode_call(query)
        self._calls_out += 1
        answer = await self._network.call(self._wire.channel(query), peer, request, timeout_s=timeout_s)
        try:
            return self._wire.decode_reply(query, answer)
        except RemoteError as error:
            error.peer = error.peer or peer
            # A carried `Malformed` is the peer's verdict on our request. The codec chains the decoder's complaint when
            # it is the answer itself that does not decode, and only that is blamed.
            if isinstance(error, Malformed) and error.__cause__ is not None:
                self._blame(peer, f"answer to {type(query).__name__}: {error.message}")
            raise

    async def fetch(self, peer: str, digest: str, size_max: int, timeout_s: float) -> int:
        return await self._network.fetch(peer, digest, size_max=size_max, timeout_s=timeout_s)

    # ---- inwards (`ports.network.NetworkListener`)

    def on_connected(self, peer: str, outbound: bool) -> None:
        self._bus.event(PeerConnected(peer, outbound))

    def on_disconnected(self, peer: str) -> None:
        self._bus.event(PeerDisconnected(peer))

    def on_blame(self, peer: str, reason: str) -> None:
        self._blame(peer, reason)

    def on_gossip(self, topic: str, author: str, data: bytes) -> Verdict:
        if self._bus.draining:
            return "ignore"
        self._gossip_in += 1
        try:
            body = self._wire.decode_gossip(topic, data)
        except RemoteError as error:
            self._gossip_rejected += 1
            self._blame(author, f"gossip: {error.message}")
            return "reject"
        except Exception:
            log.exception("gossip could not be decoded", topic=topic)
            return "ignore"
        if type(body) not in self._remote:
            self._gossip_ignored += 1
            return "ignore"
        self._bus.tell(body, sender=author)
        return "accept"

    def on_message(self, stream: str, peer: str, data: bytes) -> None:
        if self._bus.draining:
            return
        self._messages_in += 1
        try:
            body = self._wire.decode_message(stream, data)
        except RemoteError as error:
            self._messages_refused += 1
            self._blame(peer, f"{stream}: {error.message}")
        except Exception:
            self._messages_refused += 1
            log.exception("a message could not be decoded", stream=stream)
        else:
            self._receive(body, peer)

    def _receive(self, body: Any, sender: str) -> None:
        if type(body) not in self._remote:
            self._messages_ignored += 1
        elif not self._bus.tell(body, sender=sender):
            self._messages_shed += 1

    async def on_call(self, channel: Channel, peer: str, request: bytes) -> bytes:
        self._calls_in += 1
        waiting = self._waiting.get(peer, 0)
        if waiting >= self._limits.calls_per_peer_max:
            self._calls_refused += 1
            return self._wire.encode_error(Overloaded("too many calls at once", retry_after_s=RETRY_AFTER_S))
        self._waiting[peer] = waiting + 1
        try:
            return await self._answer(channel, peer, request)
        finally:
            left = self._waiting[peer] - 1
            if left:
                self._waiting[peer] = left
            else:
                del self._waiting[peer]

    async def _answer(self, channel: Channel, peer: str, request: bytes) -> bytes:
        try:
            query = self._wire.decode_call(channel, request)
        except RemoteError as error:
            self._calls_refused += 1
            self._blame(peer, f"call: {error.message}")
            return self._wire.encode_error(error)
        except Exception as error:
            log.exception("a call could not be decoded", channel=channel)
            return self._wire.encode_error(error)
        if type(query) not in self._remote:
            self._calls_refused += 1
            return self._wire.encode_error(Refused(f"{type(query).__name__} is not open to peers"))
        try:
            value = await self._bus.ask(query, self._limits.timeout_s, sender=peer)
            return self._wire.encode_reply(type(query), value)
        except EdgenetError as error:
            if isinstance(error, LocalError):
                log.info("a call failed here", type=type(query).__name__, peer=peer, error=str(error))
            return self._wire.encode_error(error)
        except Exception as error:
            log.exception("an answer could not be encoded", type=type(query).__name__)
            return self._wire.encode_error(error)

    def _blame(self, peer: str, reason: str) -> None:
        self._blamed += 1
        self._bus.event(Blame(peer, reason))
