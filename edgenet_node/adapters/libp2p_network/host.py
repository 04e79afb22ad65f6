"""Builds one incarnation of the libp2p host and runs it: Noise over TCP, Yamux, identify, ping, gossipsub.

The pubsub services start before the host listens: as shipped, a peer that comes in between crashes it. Stopping closes
every connection, listener and helper thread within `CLOSE_S`.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

import psutil
import structlog
import trio
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.crypto.x25519 import create_new_key_pair as create_noise_key_pair
from libp2p.network.config import ConnectionConfig, RetryConfig
from libp2p.peer.id import ID
from libp2p.peer.peerstore import PeerStore
from libp2p.security.noise.transport import PROTOCOL_ID as NOISE
from libp2p.security.noise.transport import Transport as Noise
from libp2p.tools.anyio_service import background_trio_service
from libp2p.transport.tcp.tcp import TCP
from multiaddr import Multiaddr

from ...errors import ConfigError
from .gossip import Board, Router
from .guards import Gate, GuardedHost, GuardedSwarm, GuardedUpgrader
from .limits import NetworkSettings
from .report import Report

CLOSE_S: Final = 3.0

log = structlog.get_logger("network")


def key_pair(seed: bytes) -> Any:
    """The Ed25519 key pair of a 32-byte seed."""
    if len(seed) != 32:
        raise ConfigError(f"an Ed25519 seed has 32 bytes, this one {len(seed)}")
    return create_new_key_pair(seed)


def peer_id(seed: bytes) -> str:
    """Base58 of `00 24 08 01 12 20 | public key`: the identity multihash of the key's protobuf."""
    text: str = ID.from_pubkey(key_pair(seed).public_key).to_base58()
    return text


class Advertised:
    """The addresses that identify and gossip carry: the announced ones, else those listened on, with a wildcard
    replaced by the addresses of the machine's interfaces. Worked out once per set of candidates: the library asks per
    message."""

    def __init__(self, announce: Sequence[str]) -> None:
        self._announce = [Multiaddr(text) for text in announce]
        self._of: dict[tuple[Multiaddr, ...], list[Multiaddr]] = {}

    def __call__(self, candidates: list[Multiaddr]) -> list[Multiaddr]:
        if self._announce:
            return self._announce
        key = tuple(candidates)
        if key not in self._of:
            self._of = {key: [a for candidate in candidates for a in _expand(candidate)]}
        return self._of[key]


def _expand(address: Multiaddr) -> list[Multiaddr]:
    name = address.protocols()[0].name
    host = ipaddress.ip_address(address.value_for_protocol(name))
    if not host.is_unspecified:
        return [address]
    port = address.value_for_protocol("tcp")
    family = socket.AF_INET6 if name == "ip6" else socket.AF_INET
    found = [
        ipaddress.ip_address(entry.address.partition("%")[0])
        for entries in psutil.net_if_addrs().values()
        for entry in entries
        if entry.family == family
    ]
    usable = [ip for ip in found if not ip.is_loopback and not ip.is_link_local] or [
        ip for ip in found if ip.is_loopback
    ]
    return [Multiaddr(f"/{name}/{ip}/tcp/{port}") for ip in usable]


class Live:
    """One running host."""

    def __init__(self, host: GuardedHost, board: Board, router: Router, advertised: Advertised) -> None:
        self.advertised = advertised
        self.host = host
        self.swarm: GuardedSwarm = host.get_network()
        self.board = board
        self.router = router
        self.ready = trio.Event()
        self.stop = trio.Event()

    def listening(self) -> tuple[Multiaddr, ...]:
        """What is really listened on: port 0 replaced by the port."""
        return tuple(self.host.get_transport_addrs())

    def addresses(self) -> tuple[str, ...]:
        return tuple(str(address) for address in self.host.get_addrs())


def build(seed: bytes, settings: NetworkSettings, gate: Gate, report: Report, seqno: int) -> Live:
    keys = key_pair(seed)
    own = ID.from_pubkey(keys.public_key)
    peerstore = PeerStore()
    peerstore.add_key_pair(own, keys)
    # The only security transport: with the library's default set a plaintext-only peer is accepted.
    noise = Noise(keys, noise_privkey=create_noise_key_pair().private_key)
    connections = settings.peers_max * settings.connections_per_peer_max
    swarm = GuardedSwarm(
        own,
        peerstore,
        GuardedUpgrader({NOISE: noise}, settings, report),
        transports=[TCP()],
        retry_config=RetryConfig(max_retries=0),
        connection_config=ConnectionConfig(
            # Ours are enforced when the peer is known; this one also counts handshakes.
            max_connections=connections + settings.handshakes_max,
            min_connections=0,
            low_watermark=0,
            high_watermark=connections + settings.handshakes_max,
            max_connections_per_peer=settings.connections_per_peer_max,
            inbound_upgrade_timeout=settings.handshake_timeout_s,
            outbound_upgrade_timeout=settings.handshake_timeout_s,
        ),
        gate=gate,
        settings=settings,
        report=report,
    )
    advertised = Advertised(settings.announce)
    host = GuardedHost(swarm, settings, report, addrs_factory=advertised, disable_identify_address_discovery=True)
    router = Router(settings, report)
    return Live(host, Board(host, router, settings, report, seqno), router, advertised)


async def serve(live: Live, listen: Sequence[Multiaddr]) -> None:
    """Listen, set `live.ready`, and run until `live.stop` is set. `ConfigError` when an address cannot be listened on.

    Once it listens it is shielded: a cancellation would hit all tasks of the library at once and leave sockets open, so
    that peers take us for alive. Whoever starts this must set `stop`.
    """
    for address in listen:
        probe(address)
    with trio.CancelScope() as scope:
        try:
            async with (
                background_trio_service(live.router),
                background_trio_service(live.board),
                live.host.run(listen_addrs=[]),
            ):
                await live.board.wait_until_ready()
                for address in listen:
                    if not await live.swarm.listen(address):
                        raise ConfigError(f"network.listen {address}: cannot listen there")
                scope.shield = True
                live.ready.set()
                await live.stop.wait()
                scope.deadline = trio.current_time() + CLOSE_S
                await _close_links(live)
                await live.host.close()
        finally:
            await _release(live)


async def _close_links(live: Live) -> None:
    """All at once: closing one takes the library 0.2 s, and by itself it closes one after the other."""
    async with trio.open_nursery() as nursery:
        for links in list(live.swarm.connections.values()):
            for link in list(links):
                nursery.start_soon(_quietly, link.close)


async def _release(live: Live) -> None:
    """Sockets, listeners (their tasks are outside the host's) and the seen-cache's thread, also after a crash."""
    with trio.CancelScope(shield=True, deadline=trio.current_time() + CLOSE_S):
        async with trio.open_nursery() as nursery:
            for links in live.swarm.connections.values():
                for link in links:
                    nursery.start_soon(_quietly, link.muxed_conn.abort)
            for listener in live.swarm.listeners.values():
                nursery.start_soon(_quietly, listener.close)
    live.board.close()


async def _quietly(close: Callable[[], Awaitable[None]]) -> None:
    try:
        await close()
    except Exception as error:  # noqa: BLE001 - closing what may be broken already
        log.debug("closing failed", error=str(error))


def probe(address: Multiaddr) -> None:
    """Whether the address is free. The library listens with SO_REUSEPORT: two nodes on one port would both start, and
    each get some of the connections."""
    try:
        names = [p.name for p in address.protocols()]
        family = socket.AF_INET6 if names[0] == "ip6" else socket.AF_INET
        host = address.value_for_protocol(names[0])
        port = int(address.value_for_protocol("tcp"))
    except Exception as error:
        raise ConfigError(f"network.listen {address}: not an /ip4 or /ip6 multiaddr with a TCP port") from error
    if names != [names[0], "tcp"] or names[0] not in ("ip4", "ip6"):
        raise ConfigError(f"network.listen {address}: only /ip4/<address>/tcp/<port> and /ip6/<address>/tcp/<port>")
    if port == 0:
        return
    with socket.socket(family, socket.SOCK_STREAM) as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind((host, port))
        except OSError as error:
            raise ConfigError(
                f"network.listen {address}: {error.strerror}. Is another node running on this port? Choose another "
                "port, or 0 for any"
            ) from error
