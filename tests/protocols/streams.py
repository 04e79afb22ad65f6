"""A stream with a script: what the other side sends is there from the start, what this side sends is kept."""

from __future__ import annotations

import trio

from edgenet_node.adapters.libp2p_network.limits import Counters
from edgenet_node.adapters.libp2p_network.muxer import StreamEnded
from edgenet_node.adapters.libp2p_network.report import Report
from edgenet_node.ports.network import Channel, Verdict

PEER = "12D3KooWHHzSeKaY8xuZVzkLbKFfvNgPPeKhFBGrMbNzbm5akpqu"


class ScriptedPipe:
    """Gives out `script` a few bytes at a time, then the end of the stream. `ended` is close, reset, or nothing yet."""

    peer = PEER
    alive = True
    connection_alive = True

    def __init__(self, script: bytes, *, at_once_max: int = 7) -> None:
        self._left = script
        # Few bytes a time show that nothing depends on how a stream is cut; large scripts come in large pieces.
        self._at_once_max = max(at_once_max, len(script) // 64)
        self.sent = b""
        self.ended = ""

    async def send(self, data: bytes | memoryview) -> None:
        await trio.lowlevel.checkpoint()
        self.sent += bytes(data)

    async def receive(self, size_max: int) -> bytes:
        await trio.lowlevel.checkpoint()
        if not self._left:
            raise StreamEnded
        size = min(size_max, self._at_once_max)
        data, self._left = self._left[:size], self._left[size:]
        return data

    async def close(self) -> None:
        await trio.lowlevel.checkpoint()
        self.ended = self.ended or "close"

    async def reset(self) -> None:
        await trio.lowlevel.checkpoint()
        self.ended = self.ended or "reset"


class Blames:
    """A `NetworkListener` that keeps blames, and a `Report` to it."""

    def __init__(self) -> None:
        self.reasons: list[str] = []
        self.report = Report(self, Counters())

    def on_connected(self, peer: str, outbound: bool) -> None:
        raise AssertionError("no connections here")

    def on_disconnected(self, peer: str) -> None:
        raise AssertionError("no connections here")

    def on_gossip(self, topic: str, author: str, data: bytes) -> Verdict:
        raise AssertionError("no gossip here")

    async def on_call(self, channel: Channel, peer: str, request: bytes) -> bytes:
        raise AssertionError("calls go to the handler of the test")

    def on_message(self, stream: str, peer: str, data: bytes) -> None:
        raise AssertionError("no messages here")

    def on_blame(self, peer: str, reason: str) -> None:
        assert peer == PEER
        self.reasons.append(reason)
