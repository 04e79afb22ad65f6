#!/usr/bin/env python3
"""Calls over one persistent stream, and artifact transfer against a bare py-libp2p stream in the same run.

    python scripts/bench_network.py [--mib N] [--rounds N] [--quick] [--json]

Two processes on loopback. Figures of calls: round trip of one call after the other (p50, p99), and calls a second
with 64 in flight. Messages: a small frame of the stream `raft/1` each way, one after the other, and one way as many a
second as its queue takes. Bulk: `fetch` of an artifact (both stores in memory, the SHA-256 of the whole verified) and a
bare py-libp2p 0.8.1 stream, Noise and Yamux as well, take turns; medians, and the median of the rounds' ratios.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final

import structlog
import trio

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from libp2p import new_host
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.crypto.x25519 import create_new_key_pair as create_noise_key_pair
from libp2p.custom_types import TProtocol
from libp2p.peer.peerinfo import info_from_p2p_addr
from libp2p.security.noise.transport import PROTOCOL_ID as NOISE
from libp2p.security.noise.transport import Transport as Noise
from multiaddr import Multiaddr

from edgenet_node.adapters.libp2p_network import Libp2pNetwork, NetworkSettings, host
from edgenet_node.effects import Now
from edgenet_node.errors import Malformed, NotFound, Overloaded
from edgenet_node.ports.network import Channel, Verdict
from edgenet_node.wire.codec import encode
from edgenet_node.wire.raft import Message, MessageKind, RaftFrame

CHUNK: Final = 256 << 10
SWARM: Final = "be" * 32
BARE: Final = TProtocol("/bare/1")
LOOPBACK: Final = "/ip4/127.0.0.1/tcp/0"
CALL_BYTES: Final = 200
STREAM: Final = "raft/1"
HEARTBEAT: Final = encode(
    RaftFrame(1, (Message(MessageKind.HEARTBEAT, to=2, sender=1, term=7, commit=1000, session=3),))
)
SILENT: Final = HEARTBEAT[:-1] + b"\0"
"""Of the same size, and not answered."""
IN_FLIGHT: Final = 64
TIMEOUT_S: Final = 120.0
OUR_SEED: Final = 1
BULK_RATIO_MIN: Final = 0.8


class _Clock:
    def now(self) -> Now:
        return Now(mono=time.monotonic(), wall=time.time())


class _Writer:
    def __init__(self, store: _Store, digest: str) -> None:
        self._store = store
        self._digest = digest
        self._hash = hashlib.sha256()
        self.received = 0

    async def write(self, chunk: bytes) -> None:
        self._hash.update(chunk)
        self.received += len(chunk)

    async def finish(self) -> None:
        if self._hash.hexdigest() != self._digest:
            raise Malformed("digest mismatch")

    async def abandon(self) -> None:
        self.received = 0


class _Store:
    """Serves what it holds and forgets what it receives, so that every fetch copies."""

    def __init__(self) -> None:
        self.blobs: dict[str, bytes] = {}

    async def put(self, data: bytes, *, pin: bool = False) -> str:
        digest = hashlib.sha256(data).hexdigest()
        self.blobs[digest] = data
        return digest

    async def get(self, digest: str) -> bytes:
        return self.blobs[digest]

    async def read_chunk(self, digest: str, index: int) -> bytes:
        return self.blobs[digest][index * CHUNK : (index + 1) * CHUNK]

    def size(self, digest: str) -> int:
        return len(self.blobs.get(digest, b"")) or -1

    def path(self, digest: str) -> Path:
        raise NotFound(digest)

    def pin(self, digest: str, pinned: bool) -> None:
        return None

    async def begin(self, digest: str, size: int) -> _Writer:
        return _Writer(self, digest)


class _Listener:
    def __init__(self) -> None:
        self.met = trio.Event()
        self.network: Libp2pNetwork | None = None
        self.echo = False
        self.messages = 0
        self.heard = trio.Event()

    def on_connected(self, peer: str, outbound: bool) -> None:
        self.met.set()

    def on_disconnected(self, peer: str) -> None:
        return None

    def on_gossip(self, topic: str, author: str, data: bytes) -> Verdict:
        return "accept"

    async def on_call(self, channel: Channel, peer: str, request: bytes) -> bytes:
        return request

    def on_message(self, stream: str, peer: str, data: bytes) -> None:
        self.messages += 1
        self.heard.set()
        if self.echo and data == HEARTBEAT and self.network is not None:
            self.network.send(stream, peer, data)

    def on_blame(self, peer: str, reason: str) -> None:
        return None


class _Side:
    """One process: a node, and a bare host beside it."""

    def __init__(self, number: int) -> None:
        self.store = _Store()
        self.listener = _Listener()
        seed = bytes([number]) * 32
        network_settings = NetworkSettings(listen=(LOOPBACK,))
        self.network = Libp2pNetwork(seed, network_settings, self.listener, self.store, _Clock(), random.Random(number))
        self.network.set_swarm(SWARM)
        self.listener.network = self.network
        keys = create_new_key_pair(bytes([number + 1]) * 32)
        noise = Noise(keys, noise_privkey=create_noise_key_pair().private_key)
        self.bare = new_host(key_pair=keys, sec_opt={NOISE: noise})

    @staticmethod
    def peer_id(number: int) -> str:
        return host.peer_id(bytes([number]) * 32)

    async def start(self, stack: AsyncExitStack) -> None:
        nursery = await stack.enter_async_context(trio.open_nursery())
        await nursery.start(self.network.run)
        await stack.enter_async_context(self.bare.run([Multiaddr(LOOPBACK)]))


async def _serve(mib: int, peer: str) -> None:
    """The other process: says where it is, and serves until its input ends."""
    side = _Side(3)
    side.listener.echo = True
    digest = await side.store.put(random.Random(1).randbytes(mib << 20))
    data = side.store.blobs[digest]

    async def bare(stream: Any) -> None:
        await stream.read(1)
        for at in range(0, len(data), CHUNK):
            await stream.write(data[at : at + CHUNK])
        await stream.close()

    side.bare.set_stream_handler(BARE, bare)
    async with AsyncExitStack() as stack:
        await side.start(stack)
        side.network.admit(peer)
        where = {
            "peer": side.network.peer_id,
            "addresses": list(side.network.addresses()),
            "bare": str(side.bare.get_addrs()[0]),
            "digest": digest,
        }
        print(json.dumps(where), flush=True)
        await trio.to_thread.run_sync(sys.stdin.read)
        await side.network.close()


async def _calls(network: Libp2pNetwork, peer: str, samples: int) -> dict[str, float]:
    request = bytes(CALL_BYTES)
    times = []
    for _ in range(samples):
        began = time.perf_counter()
        await network.call("rpc", peer, request, timeout_s=TIMEOUT_S)
        times.append((time.perf_counter() - began) * 1e3)

    async def worker() -> None:
        for _ in range(4 * samples // IN_FLIGHT):
            await network.call("rpc", peer, request, timeout_s=TIMEOUT_S)

    began = time.perf_counter()
    async with trio.open_nursery() as nursery:
        for _ in range(IN_FLIGHT):
            nursery.start_soon(worker)
    seconds = time.perf_counter() - began
    times.sort()
    return {
        "call_p50_ms": round(times[len(times) // 2], 3),
        "call_p99_ms": round(times[len(times) * 99 // 100], 3),
        "calls_per_s_sequential": round(1e3 * samples / sum(times)),
        "calls_per_s_pipelined": round(4 * samples // IN_FLIGHT * IN_FLIGHT / seconds),
    }


async def _messages(side: _Side, peer: str, samples: int) -> dict[str, float]:
    network, listener = side.network, side.listener
    network.admit(peer)
    times = []
    for _ in range(samples):
        listener.heard = trio.Event()
        began = time.perf_counter()
        network.send(STREAM, peer, HEARTBEAT)
        await listener.heard.wait()
        times.append((time.perf_counter() - began) * 1e3)
    began = time.perf_counter()
    for _ in range(8 * samples):
        while True:
            try:
                network.send(STREAM, peer, SILENT)
                break
            except Overloaded:
                await trio.lowlevel.checkpoint()
    listener.heard = trio.Event()
    while True:
        try:
            network.send(STREAM, peer, HEARTBEAT)
            break
        except Overloaded:
            await trio.lowlevel.checkpoint()
    await listener.heard.wait()
    seconds = time.perf_counter() - began
    times.sort()
    return {
        "message_p50_ms": round(times[len(times) // 2], 3),
        "message_p99_ms": round(times[len(times) * 99 // 100], 3),
        "messages_per_s": round((8 * samples + 1) / seconds),
    }


async def _bare_bulk(bare: Any, peer: Any, size: int) -> float:
    stream = await bare.new_stream(peer, [BARE])
    began = time.perf_counter()
    await stream.write(b"x")
    left = size
    while left:
        left -= len(await stream.read(min(left, CHUNK)))
    seconds = time.perf_counter() - began
    await stream.close()
    return size / seconds / 1e6


async def _our_bulk(network: Libp2pNetwork, peer: str, digest: str) -> float:
    began = time.perf_counter()
    size = await network.fetch(peer, digest, size_max=1 << 40, timeout_s=TIMEOUT_S)
    return size / (time.perf_counter() - began) / 1e6


async def _measure(seed: int, where: dict[str, Any], mib: int, rounds: int, samples: int) -> dict[str, Any]:
    side = _Side(seed)
    async with AsyncExitStack() as stack:
        await side.start(stack)
        side.network.learn(where["peer"], where["addresses"], keep=True)
        await side.listener.met.wait()
        info = info_from_p2p_addr(Multiaddr(where["bare"]))
        await side.bare.connect(info)
        figures: dict[str, Any] = await _calls(side.network, where["peer"], samples)
        figures |= await _messages(side, where["peer"], samples)
        ours, bare = [], []
        for turn in range(rounds):
            for our_turn in (turn % 2, 1 - turn % 2):
                if our_turn:
                    ours.append(await _our_bulk(side.network, where["peer"], where["digest"]))
                else:
                    bare.append(await _bare_bulk(side.bare, info.peer_id, mib << 20))
        await side.network.close()
    ratio = statistics.median(a / b for a, b in zip(ours, bare, strict=True))
    return figures | {
        "bulk_mib": mib,
        "bulk_fetch_mb_per_s": round(statistics.median(ours), 1),
        "bulk_bare_stream_mb_per_s": round(statistics.median(bare), 1),
        "bulk_ratio": round(ratio, 3),
        "ok": ratio >= BULK_RATIO_MIN,
    }


def main(argv: Sequence[str]) -> dict[str, Any]:
    """Measure and return the figures; `ok` says whether the bulk ratio reaches its target."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mib", type=int, default=64, help="size of the artifact")
    parser.add_argument("--rounds", type=int, default=7, help="transfers of each kind")
    parser.add_argument("--quick", action="store_true", help="fewer samples")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    parser.add_argument("--serve", metavar="PEER", default="", help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    structlog.configure(
        processors=[structlog.processors.JSONRenderer()], logger_factory=structlog.ReturnLoggerFactory()
    )
    if options.serve:
        trio.run(_serve, options.mib, options.serve)
        return {}
    rounds, samples = (3, 500) if options.quick else (options.rounds, 4000)
    command = [sys.executable, __file__, "--serve", _Side.peer_id(OUR_SEED), "--mib", str(options.mib)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        if other.stdin is None or other.stdout is None:
            raise RuntimeError("no pipes to the other process")
        try:
            where = json.loads(other.stdout.readline())
            figures: dict[str, Any] = trio.run(_measure, OUR_SEED, where, options.mib, rounds, samples)
        finally:
            other.stdin.close()
    return figures


if __name__ == "__main__":
    result = main(sys.argv[1:])
    if result:
        if "--json" in sys.argv:
            print(json.dumps(result))
        else:
            for name, value in result.items():
                print(f"{name:28} {value}")
        sys.exit(0 if result["ok"] else 1)
