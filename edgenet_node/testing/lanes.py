"""One-way messages of the network in memory: in order, at most once, and silence where the link loses them."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

import trio

from ..errors import Overloaded, TooLarge, Unreachable

if TYPE_CHECKING:
    from .network import FakeNetwork, FakeNode

MESSAGE_BYTES_MAX = 1024 * 1024
QUEUE_FRAMES_MAX = 1024
QUEUE_BYTES_MAX = 8 * 1024 * 1024
"""As the adapter's, but of what is under way: this network has no buffers of an operating system."""

QUEUE_RETRY_AFTER_S = 0.1


class _Frame:
    __slots__ = ("data", "due", "lost")

    def __init__(self, data: bytes, due: float, *, lost: bool) -> None:
        self.data = data
        self.due = due
        self.lost = lost


class _Lane:
    """One stream from one node to another, for the life of a connection."""

    __slots__ = ("closed", "frames", "free_at", "queued_bytes")

    def __init__(self) -> None:
        self.frames: deque[_Frame] = deque()
        self.queued_bytes = 0
        self.free_at = 0.0
        self.closed = False


class Lanes:
    """All one-way streams of one node to others."""

    def __init__(self, fabric: FakeNetwork, node: FakeNode) -> None:
        self._fabric = fabric
        self._node = node
        self._lanes: dict[tuple[str, str], _Lane] = {}

    def send(self, stream: str, peer: str, data: bytes) -> None:
        """As `ports.network.Network.send`."""
        node, fabric = self._node, self._fabric
        if len(data) > MESSAGE_BYTES_MAX:
            raise TooLarge(f"{len(data)} bytes in a message, at most {MESSAGE_BYTES_MAX}")
        if not node.swarm:
            raise Unreachable("this node has not joined a swarm yet")
        if peer not in node.links or peer not in node.admitted:
            raise Unreachable(f"not connected to {peer}")
        lane = self._lanes.setdefault((stream, peer), _Lane())
        if len(lane.frames) >= QUEUE_FRAMES_MAX or lane.queued_bytes + len(data) > QUEUE_BYTES_MAX:
            raise Overloaded(f"too many messages wait for {peer}", retry_after_s=QUEUE_RETRY_AFTER_S)
        link = fabric.link(node.peer_id, peer)
        lost = fabric.rng.random() < link.loss or fabric.is_cut(node.peer_id, peer)
        ready = trio.current_time() + fabric.rng.uniform(link.delay_min_s, link.delay_max_s)
        # A later one never overtakes: it waits for the line, as bytes of one connection do.
        lane.free_at = max(lane.free_at, ready) + len(data) / link.bytes_per_s
        lane.frames.append(_Frame(data, lane.free_at, lost=lost))
        lane.queued_bytes += len(data)
        if len(lane.frames) == 1:
            fabric.spawn(self._run, stream, peer, lane)

    def broke(self, peer: str) -> None:
        """The connection ended: what is under way is lost, and the next message opens new streams."""
        for key in [key for key in self._lanes if key[1] == peer]:
            self._lanes.pop(key).closed = True

    async def _run(self, stream: str, peer: str, lane: _Lane) -> None:
        """While anything is under way."""
        while lane.frames and not lane.closed:
            frame = lane.frames[0]
            await trio.sleep_until(frame.due)
            lost = frame.lost or self._fabric.is_cut(self._node.peer_id, peer)
            target = self._fabric.nodes[peer]
            if not lost and not await self._let_in(target):
                # The stream is refused, and what was queued for it is lost.
                lane.frames.clear()
                lane.queued_bytes = 0
                return
            lane.frames.popleft()
            lane.queued_bytes -= len(frame.data)
            if lost:
                self._fabric.frames_lost += 1
            elif not lane.closed:
                target.hear(stream, self._node.peer_id, frame.data)

    async def _let_in(self, target: FakeNode) -> bool:
        """The stream waits at the other end until that node has decided about ours."""
        return target.swarm == self._node.swarm and await target.decided(self._node.peer_id)
