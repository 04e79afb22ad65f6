"""Whole committees in simulated time: real cores of log and registry, a stand-in for membership."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from msgspec import structs

from edgenet_node.committee import core as committee_core
from edgenet_node.committee.settings import CommitteeSettings
from edgenet_node.crypto.fingerprints import found_swarm
from edgenet_node.crypto.hashing import sha256
from edgenet_node.effects import Effect, Envelope, Now, Part, Reply, Row
from edgenet_node.identity.keys import Identity
from edgenet_node.messages import committee as committee_messages
from edgenet_node.messages import network as network_messages
from edgenet_node.raft import core as raft_core
from edgenet_node.raft.settings import RaftSettings
from edgenet_node.testing.events.host import Host, HostPlan
from edgenet_node.testing.events.world import World

SETTINGS = CommitteeSettings(pull_interval_s=2.0, register_interval_s=5.0)
RAFT = RaftSettings(tick_s=0.03, consumers=("registry",))


class Roof:
    """What membership says: one swarm, everybody connected."""

    def __init__(self, info: network_messages.SwarmInfo, others: Callable[[], Sequence[str]], own: str) -> None:
        self._info = info
        self._others = others
        self._own = own

    def restore(self, rows: Sequence[Row], now: Now) -> list[Effect]:
        return []

    def wake_at(self) -> float:
        return math.inf

    def step(self, e: Envelope[Any], now: Now) -> list[Effect]:
        match e.body:
            case network_messages.GetSwarm():
                return [Reply(e.reply_to, self._info)]
            case network_messages.GetConnections():
                found = [network_messages.ConnectionInfo(peer, True, True) for peer in self._others()]
                return [Reply(e.reply_to, tuple(found))]
            case network_messages.GetAddresses():
                return [Reply(e.reply_to, (f"/ip4/10.0.0.1/tcp/4001/p2p/{self._own}",))]
        return []


class Swarm:
    """`nodes` nodes of one swarm; the first founded it."""

    def __init__(
        self,
        nodes: int,
        seed: int = 1,
        settings: CommitteeSettings = SETTINGS,
        raft: RaftSettings = RAFT,
        own_settings: dict[int, CommitteeSettings] | None = None,
    ) -> None:
        self.world = World(seed)
        self.identities = [Identity(sha256(f"node {number}".encode())) for number in range(nodes)]
        self.peers = [identity.peer_id for identity in self.identities]
        genesis = found_swarm(self.identities[0], epoch=0, created_ms=1_700_000_000_000)
        self.info = network_messages.SwarmInfo(genesis.name, "founded", "", self.identities[0].public)
        self._settings, self._raft = settings, raft
        self._own_settings = own_settings or {}
        self._wiped: set[int] = set()
        self.hosts: list[Host] = []
        for number in range(nodes):
            self._add(number)

    def _add(self, number: int) -> None:
        world = self.world
        plan = HostPlan(f"n{number}", partial(self._parts, number))
        host = Host(world, plan, number + 1, self.peers[number], world.rng.getrandbits(64))
        world.hosts[plan.name] = host
        world.names[host.peer] = plan.name
        world.network.attach(host)
        self.hosts.append(host)
        host.start()

    def _parts(self, number: int, host: Host) -> list[Part]:
        identity, settings = self.identities[number], self._own_settings.get(number, self._settings)
        rng = random.Random(host.rng.getrandbits(64))
        others = [peer for peer in self.peers if peer != host.peer]
        return [
            Part(
                "roof",
                lambda: Roof(structs.replace(self.info, origin=self.origin(number)), lambda: others, host.peer),
                accepts=(network_messages.GetSwarm, network_messages.GetConnections, network_messages.GetAddresses),
            ),
            Part(
                "raft",
                lambda: raft_core.RaftCore(host.peer, self._raft, rng, rng.randbytes),
                accepts=raft_core.ACCEPTS,
                remote=raft_core.REMOTE,
                hears=raft_core.HEARS,
                fail_stop=True,
            ),
            Part(
                "committee",
                lambda: committee_core.CommitteeCore(identity, settings, rng, rng.randbytes, ("echo",)),
                accepts=committee_core.ACCEPTS,
                remote=committee_core.REMOTE,
                hears=committee_core.HEARS,
                fail_stop=True,
            ),
        ]

    def origin(self, number: int) -> str:
        """How that node came to its swarm, as its own disk says."""
        return "founded" if number == 0 and number not in self._wiped else "adopted"

    def wipe(self, number: int) -> None:
        """Everything but the key is gone; the node starts again."""
        host = self.hosts[number]
        if host.running:
            host.crash()
        for disk in host.disks:
            disk.wipe()
        self._wiped.add(number)
        host.start()

    def run(self, seconds: float) -> None:
        self.world.loop.run(self.world.loop.now + seconds)

    def ask(self, number: int, query: Any, timeout_s: float = 10.0) -> Any:
        """The answer; raises its error."""
        found: list[tuple[Any, Exception | None]] = []
        self.hosts[number].outside(query, timeout_s, lambda value, error: found.append((value, error)))
        self.world.loop.run(self.world.loop.now + timeout_s + 1.0, lambda: bool(found))
        assert found, f"no answer to {query}"
        value, error = found[0]
        if error is not None:
            raise error
        return value

    def view(self, number: int) -> committee_messages.RegistryView:
        view: committee_messages.RegistryView = self.ask(number, committee_messages.GetRegistry())
        return view

    def until(self, condition: Callable[[], bool], within_s: float = 30.0) -> None:
        """Simulated seconds until it holds."""
        end = self.world.loop.now + within_s
        while not condition():
            assert self.world.loop.now < end, self.story()
            self.run(0.1)

    def story(self) -> str:
        return "\n".join(self.world.journal.lines()[-60:])

    @property
    def violations(self) -> list[Any]:
        return list(self.world.journal.violations)
