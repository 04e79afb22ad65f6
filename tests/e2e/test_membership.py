"""Which swarm a node belongs to: founding, adopting, pinning, refusing; one bootstrap peer, which may die."""

from __future__ import annotations

import numpy as np
import pytest

from edgenet_node.kernels.encoder import Encoder

from .conftest import Swarm
from .support import Land, Node, until, wait_joined

pytestmark = pytest.mark.e2e

OTHER_GENESIS = "ab" * 21


def genesis(node: Node) -> str:
    return str(node.get("status")["swarm"])


def refusal(node: Node, other: Node) -> str:
    """Why `other` is refused here, once it is."""

    def reason() -> str:
        peer = node.peers().get(other.id, {"connected": True, "reason": ""})
        assert not (peer["connected"] and peer["reason"])
        return "" if peer["connected"] else str(peer["reason"])

    return str(until(reason, f"{node.folder.name} refuses {other.folder.name}"))


def test_adoption_is_said_once_and_final(land: Land, swarm: Swarm) -> None:
    a = swarm[0]
    node = land.node("adopter").start(bootstrap=[a.address])
    until(lambda: node.offers(a), "joined")
    assert node.log().count("adopted the swarm") == 1
    assert node.get("status")["swarm_origin"] == "adopted"
    assert node.terminate() == 0
    foreign = land.node("foreign").start()
    node.start(bootstrap=[foreign.address, a.address])
    until(lambda: node.offers(a), "joined again")
    assert "wrong swarm" in refusal(node, foreign)
    assert (genesis(node), node.log().count("adopted the swarm")) == (genesis(a), 1)


def test_another_genesis_is_refused_with_the_reason_on_both_sides(land: Land, swarm: Swarm) -> None:
    a = swarm[0]
    loner = land.node("loner").start()
    assert genesis(loner) != genesis(a)
    assert loner.terminate() == 0
    loner.start(bootstrap=[a.address])
    reason = refusal(loner, a)
    assert "wrong swarm" in reason
    assert genesis(a) in reason
    assert genesis(loner) in refusal(a, loner)
    assert loner.submit("gate", {"items": ["own work"]})["executors"] == {loner.id: 1}


def test_a_pinned_node_joins_only_its_swarm(land: Land, swarm: Swarm) -> None:
    a = swarm[0]
    right, wrong = land.node("right"), land.node("wrong")
    assert right.cli("init", "--swarm", genesis(a), "--json").json["swarm"] == genesis(a)
    assert wrong.cli("init", "--swarm", OTHER_GENESIS, "--json").code == 0
    for node in (right, wrong):
        node.launch(bootstrap=[a.address])
    until(lambda: right.wait_ready().offers(a), "the pinned node joined")
    assert right.get("status")["swarm_origin"] == "pinned"
    assert OTHER_GENESIS in refusal(wrong.wait_ready(), a)
    assert wrong.get("status")["state"] == "joining"
    assert "42 hexadecimal digits" in land.node("typo").cli("init", "--swarm", "ab").refused(2)
    assert "exists already" in right.cli("init").refused(1)


def test_one_bootstrap_peer_is_enough_and_may_die(land: Land, encoder: Encoder) -> None:
    a, b, c = land.swarm("xyz")
    a.kill()
    until(lambda: not b.peers()[a.id]["connected"] and not c.peers()[a.id]["connected"], "a is missed")
    for buyer, seller in ((b, c), (c, b)):
        assert buyer.offers(seller)
        seen = buyer.submit("embedding", {"text": "without a founder"}, only=[seller.id])
        assert seen["executors"] == {seller.id: 1}
        assert np.abs(np.array(seen["result"]["embedding"]) - encoder.encode_one("without a founder")).max() < 1e-5
    port = a.address.split("/tcp/")[1].split("/")[0]
    a.start(listen=f"/ip4/127.0.0.1/tcp/{port}")
    wait_joined(a, b, c)
    assert a.id in b.peers()
    assert genesis(a) == genesis(b) == genesis(c)
