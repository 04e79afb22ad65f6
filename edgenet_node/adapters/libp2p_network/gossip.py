"""Gossip: a low-rate notice board over gossipsub v1.1, mesh degree 6 (4 to 12), heartbeat 1 s, strictly signed.

Sending is paced by a token bucket out of a bounded queue, because the library drops silently what comes too fast.
Receiving happens in the topic validator, before the library's own queue. What the upper layer answers becomes:

* `accept`: handed on to the mesh.
* `reject`: not handed on, not marked as seen, counted; the listener has blamed the author (the signature is already
  verified, so it is the author's message, whoever forwarded it).
* `ignore`: marked as seen, so that nobody offers it to us again, but not handed on and nobody blamed. The library knows
  only yes and no; this third answer is made by telling the validator "yes" and stopping in the router's `publish`.

Blamed on the forwarder: more than `gossip_bytes_max`, not exactly one topic, a bad signature or key, an undecodable
RPC, more messages a second than any honest mesh neighbour forwards. Messages of refused authors are dropped, silently.

Loses messages by design: whatever must arrive needs anti-entropy over calls.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Final

import trio
from libp2p.io.exceptions import IOException
from libp2p.peer.id import ID
from libp2p.pubsub.gossipsub import PROTOCOL_ID, PROTOCOL_ID_V11, GossipSub
from libp2p.pubsub.pubsub import Pubsub

from ...errors import Overloaded, TooLarge
from ...ports.network import NetworkListener
from .guards import GuardedTasks
from .limits import NetworkSettings, TokenBucket
from .report import Report

DEGREE: Final = (6, 4, 12)
RPC_BYTES_MAX: Final = 1 << 20
TOPICS_PER_PEER_MAX: Final = 100
PEER_ID_BYTES_MAX: Final = 64
FORWARDERS_MAX: Final = 4096
"""Rate buckets kept; above this many peers since the last time all start afresh, which forgives one burst."""


class Router(GossipSub):  # type: ignore[misc]
    """Gossipsub whose tasks cannot end the host, which forwards nothing that was ignored, and whose tables stay
    small."""

    def __init__(self, settings: NetworkSettings, report: Report) -> None:
        degree, low, high = DEGREE
        super().__init__(
            protocols=[PROTOCOL_ID_V11, PROTOCOL_ID],
            degree=degree,
            degree_low=low,
            degree_high=high,
            heartbeat_interval=settings.heartbeat_s,
            gossip_window=3,
            gossip_history=5,
            do_px=False,
            # Ours are done outside: per-node pacing, admission, signatures bound to authors.
            spam_protection_enabled=False,
            eclipse_protection_enabled=False,
            adaptive_gossip_enabled=False,
            max_pending_messages_per_peer=16,
        )
        self._report = report
        self.ignored: set[bytes] = set()

    @property
    def manager(self) -> Any:
        return GuardedTasks(self._manager, self._report)

    async def publish(self, msg_forwarder: Any, pubsub_msg: Any) -> None:
        message_id = pubsub_msg.from_id + pubsub_msg.seqno
        if message_id in self.ignored:
            self.ignored.discard(message_id)
            return
        await super().publish(msg_forwarder, pubsub_msg)
        # Kept for the adaptive mode, and pruned only by it.
        self.recent_message_deliveries.clear()

    async def _do_px(self, px_peers: Any) -> None:
        """Addresses come signed, through calls; a peer does not make us dial."""


class Board(Pubsub):  # type: ignore[misc]
    """Pubsub that survives every message, and tells who sent the bad ones."""

    def __init__(self, host: Any, router: Router, settings: NetworkSettings, report: Report, seqno: int) -> None:
        super().__init__(
            host,
            router,
            strict_signing=True,
            max_inbound_rpc_size=RPC_BYTES_MAX,
            max_subscriptions_per_rpc=TOPICS_PER_PEER_MAX,
            max_subscriptions_per_peer=TOPICS_PER_PEER_MAX,
        )
        # As shipped it starts at the clock in seconds: after a restart it repeats numbers that peers have seen.
        self.counter = seqno
        self._settings = settings
        self._report = report
        self._rates: dict[str, TokenBucket] = {}
        self._validations = 0

    @property
    def manager(self) -> Any:
        return GuardedTasks(self._manager, self._report)

    def close(self) -> None:
        """End the thread of the seen-cache, which the library leaves running."""
        self.seen_messages.stop()

    async def stream_handler(self, stream: Any) -> None:
        conn, peer = stream.muxed_conn, stream.muxed_conn.peer
        try:
            await self.continuously_read_stream(stream)
        except IOException:
            self._report.count("gossip_streams_broken")
        except Exception as error:  # noqa: BLE001 - as shipped, an undecodable RPC ends the host
            self._report.blame(peer, "gossip_undecodable", f"an undecodable gossip RPC: {type(error).__name__}")
        else:
            # The library resets a stream itself for one reason only, and says so nowhere but in its log.
            if stream.muxed_stream.send_closed and not conn.event_shutting_down.is_set():
                self._report.blame(peer, "gossip_oversized", f"a gossip RPC above {RPC_BYTES_MAX} bytes")
            return
        await stream.reset()
        self._handle_dead_peer(conn.peer_id)

    async def _handle_new_peer(self, peer_id: Any) -> None:
        await super()._handle_new_peer(peer_id)
        if queue := self.peer_queues.get(peer_id):
            queue._queue.max_size = self._settings.pubsub_queue_max

    async def validate_msg(self, msg_forwarder: Any, msg: Any) -> None:
        self._validations += 1
        await super().validate_msg(msg_forwarder, msg)

    async def push_msg(self, msg_forwarder: Any, msg: Any) -> None:
        if msg_forwarder == self.my_id:
            await super().push_msg(msg_forwarder, msg)
            return
        peer = msg_forwarder.to_base58()
        if not self._plausible(peer, msg):
            return
        known = self._is_msg_seen(msg)
        before = self._validations
        try:
            await super().push_msg(msg_forwarder, msg)
        except Exception as error:  # noqa: BLE001 - as shipped, a message with a bad key ends the host
            self._report.blame(peer, "gossip_malformed", f"a gossip message with a bad key: {type(error).__name__}")
            return
        if not known and self._validations == before:
            # The library returns without a word when the signature does not verify, before any validator runs.
            self._report.blame(peer, "gossip_unsigned", "a gossip message without a valid signature")

    def _plausible(self, peer: str, msg: Any) -> bool:
        self._report.count("gossip_received")
        now = trio.current_time()
        bucket = self._rates.get(peer)
        if bucket is None:
            if len(self._rates) >= FORWARDERS_MAX:
                self._rates.clear()
            bucket = TokenBucket(self._settings.gossip_in_rate_per_s, self._settings.gossip_in_burst, now)
            self._rates[peer] = bucket
        if not bucket.allow(now):
            self._report.blame(peer, "gossip_flooded", "more gossip a second than the limit")
        elif len(msg.data) > self._settings.gossip_bytes_max:
            self._report.blame(peer, "gossip_oversized", f"a gossip message of {len(msg.data)} bytes")
        elif len(msg.topicIDs) != 1 or len(msg.seqno) != 8 or not 0 < len(msg.from_id) <= PEER_ID_BYTES_MAX:
            self._report.blame(peer, "gossip_malformed", "a gossip message without one topic, author and number")
        elif self.seen_messages.length() >= self._settings.gossip_seen_max:
            self._report.count("gossip_seen_full")
        else:
            return True
        return False


class Gossip:
    """Topics and the paced queue. Survives the host: `attach` gives it a new board after a rebuild."""

    def __init__(
        self,
        settings: NetworkSettings,
        listener: NetworkListener,
        refused: Callable[[str], bool],
        report: Report,
        own: str,
    ) -> None:
        self._settings = settings
        self._listener = listener
        self._refused = refused
        self._report = report
        self._own = own
        self._topics: list[str] = []
        self._queue: deque[tuple[str, bytes]] = deque()
        self._changed = trio.Event()

    @property
    def queued(self) -> int:
        return len(self._queue)

    def subscribe(self, topic: str) -> None:
        if topic not in self._topics:
            self._topics.append(topic)
            self._changed.set()

    def publish(self, topic: str, data: bytes) -> None:
        if len(data) > self._settings.gossip_bytes_max:
            raise TooLarge(f"gossip of {len(data)} bytes, the limit is {self._settings.gossip_bytes_max}")
        if len(self._queue) >= self._settings.publish_queue_max:
            self._report.count("gossip_dropped_queue_full")
            wait_s = len(self._queue) / self._settings.publish_rate_per_s
            raise Overloaded("the gossip queue is full", retry_after_s=wait_s)
        self._queue.append((topic, data))
        self._changed.set()

    async def run(self, board: Board, router: Router) -> None:
        """Subscribe and publish through this host until cancelled."""
        joined: set[str] = set()
        bucket = TokenBucket(self._settings.publish_rate_per_s, self._settings.publish_burst, trio.current_time())
        async with trio.open_nursery() as nursery:
            while True:
                for topic in self._topics:
                    if topic not in joined:
                        joined.add(topic)
                        board.set_topic_validator(topic, self._validator(topic, router), is_async_validator=False)
                        nursery.start_soon(_drain, await board.subscribe(topic))
                if self._queue:
                    topic, data = self._queue[0]
                    if wait_s := bucket.take(1, trio.current_time()):
                        await trio.sleep(wait_s)
                    await self._send(board, topic, data)
                    self._queue.popleft()
                else:
                    self._changed = trio.Event()
                    await self._changed.wait()

    async def _send(self, board: Board, topic: str, data: bytes) -> None:
        try:
            await board.publish(topic, data)
            self._report.count("gossip_published")
        except Exception as error:  # noqa: BLE001 - gossip may lose a message, never the host
            self._report.fault("publish", error)

    def _validator(self, topic: str, router: Router) -> Any:
        def validate(_forwarder: Any, msg: Any) -> bool:
            author = ID(msg.from_id).to_base58()
            if author == self._own:
                return True
            if self._refused(author):
                self._report.count("gossip_from_refused")
                return False
            try:
                verdict = self._listener.on_gossip(topic, author, bytes(msg.data))
            except Exception as error:  # noqa: BLE001 - as shipped, a validator that raises ends the host
                self._report.fault("on_gossip", error)
                verdict = "ignore"
            if verdict == "reject":
                self._report.note(author, "gossip_rejected", f"gossip that was rejected on {topic}")
                return False
            if verdict == "ignore":
                self._report.count("gossip_ignored")
                router.ignored.add(msg.from_id + msg.seqno)
            else:
                self._report.count("gossip_accepted")
            return True

        return validate


async def _drain(subscription: Any) -> None:
    """The validator has delivered it already; the library keeps a second copy in a queue that warns when full."""
    while True:
        await subscription.get()
