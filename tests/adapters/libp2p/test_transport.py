"""Who can connect, under which name, on which port."""

from __future__ import annotations

import hashlib
import random
import socket

import pytest
import trio
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.custom_types import TProtocol
from libp2p.host.ping import PingService
from libp2p.network.exceptions import SwarmException
from libp2p.peer.id import ID
from libp2p.security.insecure.transport import PLAINTEXT_PROTOCOL_ID, InsecureTransport

from edgenet_node.adapters.libp2p_network import Libp2pNetwork, NetworkSettings
from edgenet_node.adapters.libp2p_network.host import peer_id
from edgenet_node.errors import ConfigError, Conflict, UsageError

from .fakes import Listener, MemoryStore, Node, SystemClock, reach, running, settings, stranger, until

# RFC 8032, section 7.1, test 1.
SEED = bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
KEY = bytes.fromhex("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a")


def test_the_seed_is_the_peer_id() -> None:
    assert ID.from_base58(peer_id(SEED)).to_bytes() == bytes.fromhex("002408011220") + KEY
    assert peer_id(SEED).startswith("12D3KooW")


def test_a_seed_has_32_bytes() -> None:
    with pytest.raises(ConfigError, match="32 bytes"):
        peer_id(b"short")


async def test_any_libp2p_host_can_connect_ping_and_identify() -> None:
    node = Node(1, settings())
    async with running(node), stranger(2) as host:
        peer = await reach(host, node)
        await until(lambda: len(node.network.connections()) == 1)
        assert all(rtt >= 0 for rtt in await PingService(host).ping(peer, ping_amt=2))
        await until(lambda: TProtocol("/edgenet/hello/1") in host.get_peerstore().get_protocols(peer))
        protocols = host.get_peerstore().get_protocols(peer)
        assert {"/ipfs/ping/1.0.0", "/ipfs/id/1.0.0", "/meshsub/1.1.0"} <= set(protocols)
        assert node.listener.connected == [(host.get_id().to_base58(), False)]


async def test_a_peer_without_encryption_is_refused() -> None:
    node = Node(1, settings())
    keys = create_new_key_pair(b"\x05" * 32)
    plain = {TProtocol(PLAINTEXT_PROTOCOL_ID): InsecureTransport(keys)}
    async with running(node), stranger(5, sec_opt=plain) as host:
        with pytest.raises(SwarmException):
            await reach(host, node)
        assert not node.network.connections()


async def test_another_peer_at_the_address_is_not_the_peer() -> None:
    a, b, c = Node(1, settings()), Node(2, settings()), Node(3, settings())
    async with running(a, b):
        a.network.learn(c.id, [address.partition("/p2p/")[0] for address in b.network.addresses()], keep=True)
        await until(lambda: a.count("dials_failed") > 0)
        assert not a.network.connections()


async def test_port_0_reports_the_real_port() -> None:
    node = Node(1, settings())
    assert node.network.addresses() == ()
    async with running(node):
        (address,) = node.network.addresses()
        host, port, peer = address.split("/")[2], int(address.split("/")[4]), address.split("/")[6]
        assert (host, peer) == ("127.0.0.1", node.id)
        assert port > 0


async def test_a_wildcard_is_advertised_as_the_interfaces() -> None:
    node = Node(1, settings(listen=("/ip4/0.0.0.0/tcp/0",)))
    async with running(node):
        addresses = node.network.addresses()
        assert addresses
        assert not any("0.0.0.0" in address for address in addresses)  # noqa: S104


async def test_announced_addresses_replace_the_others() -> None:
    node = Node(1, settings(announce=("/dns4/node.example/tcp/4001",)))
    async with running(node):
        assert node.network.addresses() == (f"/dns4/node.example/tcp/4001/p2p/{node.id}",)


async def test_two_nodes_do_not_share_a_port() -> None:
    first = Node(1, settings())
    async with running(first):
        taken = first.network.addresses()[0].partition("/p2p/")[0]
        second = Node(2, settings(listen=(taken,)))
        with pytest.raises(ConfigError, match="Is another node running"):
            await second.network.run()


async def test_a_foreign_listener_on_the_port_is_noticed() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        node = Node(1, settings(listen=(f"/ip4/127.0.0.1/tcp/{server.getsockname()[1]}",)))
        with pytest.raises(ConfigError, match="Address already in use"):
            await node.network.run()


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"listen": ()}, "network.listen is empty"),
        ({"listen": ("nonsense",)}, "network.listen 'nonsense'"),
        ({"announce": ("/ip4/1.2.3.4/tcp/x",)}, "network.announce"),
        ({"bootstrap": ("/ip4/1.2.3.4/tcp/1",)}, "with a peer id"),
        ({"bootstrap": (f"/ip4/1.2.3.4/udp/1/quic-v1/p2p/{peer_id(SEED)}",)}, "only TCP"),
        ({"peers_max": 0}, "network.peers_max = 0: must be between 1 and 1024"),
        ({"publish_rate_per_s": 1000.0}, "network.publish_rate_per_s"),
    ],
)
def test_bad_configuration_names_the_field(changes: dict[str, object], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        Libp2pNetwork(
            SEED,
            NetworkSettings(**changes),  # type: ignore[arg-type]
            Listener(),
            MemoryStore(),
            SystemClock(),
            random.Random(1),
        )


async def test_addresses_that_cannot_be_listened_on_are_refused() -> None:
    for text in ("/ip4/127.0.0.1/udp/0/quic-v1", "/dns4/localhost/tcp/0", "/ip4/192.0.2.1/tcp/9"):
        with pytest.raises(ConfigError, match=r"network\.listen"):
            await Node(1, settings(listen=(text,))).network.run()


async def test_a_node_belongs_to_one_swarm() -> None:
    node = Node(1, settings())
    first, other = hashlib.sha256(b"1").hexdigest(), hashlib.sha256(b"2").hexdigest()
    node.network.set_swarm(first)
    node.network.set_swarm(first)
    with pytest.raises(Conflict):
        node.network.set_swarm(other)
    with pytest.raises(UsageError):
        node.network.set_swarm("../rpc")


async def test_stops_when_cancelled_and_when_closed() -> None:
    for stop in ("cancel", "close"):
        node = Node(1, settings())
        with trio.fail_after(10):
            async with trio.open_nursery() as nursery:
                await nursery.start(node.network.run)
                if stop == "cancel":
                    nursery.cancel_scope.cancel()
                else:
                    await node.network.close()
        assert node.network.addresses() == ()
