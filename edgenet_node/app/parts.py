"""The parts list: everything in a node that decides."""

from __future__ import annotations

from ..committee import core as committee_core
from ..effects import Limits, Part
from ..identity.membership import MembershipCore
from ..market.core import MarketCore
from ..memory import holder, owner
from ..messages import committee as committee_messages
from ..messages import market as market_messages
from ..messages import network as network_messages
from ..messages import tasks as task_messages
from ..messages import trust as trust_messages
from ..raft import core as raft_core
from ..tasks.jobs import JobsCore
from ..tasks.serving import OwnLoad, ServingCore
from ..trust.core import TrustCore
from ..wire import auction as auction_wire
from ..wire import hello as hello_wire
from ..wire import peers as peers_wire
from ..wire import task as task_wire
from .limits import (
    Injected,
    committee_settings,
    embedder,
    index_settings,
    jobs_settings,
    market_settings,
    membership_settings,
    raft_settings,
    serving_settings,
    trust_settings,
)


def parts(node: Injected) -> tuple[Part, ...]:
    """Everything in this node that decides."""
    own = node.identity.peer_id
    return (
        Part(
            "membership",
            lambda: MembershipCore(
                node.identity,
                membership_settings(node),
                node.rng,
                founds=node.founds,
                pinned=node.config.network.swarm,
            ),
            accepts=(
                hello_wire.Hello,
                peers_wire.ListMembers,
                peers_wire.Presence,
                network_messages.GetSwarm,
                network_messages.GetPeers,
            ),
            remote=(hello_wire.Hello, peers_wire.ListMembers, peers_wire.Presence),
            hears=(
                network_messages.PeerConnected,
                network_messages.PeerDisconnected,
                network_messages.Blame,
                network_messages.LoadChanged,
                committee_messages.AdmissionChanged,
            ),
        ),
        Part(
            "raft",
            lambda: raft_core.RaftCore(own, raft_settings(node.config), node.rng, node.entropy),
            accepts=raft_core.ACCEPTS,
            remote=raft_core.REMOTE,
            hears=raft_core.HEARS,
            limits=Limits(mailbox_max=4096, batch_max=512),  # a leader under load has 256 clients and their frames
            fail_stop=True,
        ),
        Part(
            "committee",
            lambda: committee_core.CommitteeCore(
                node.identity,
                committee_settings(node.config),
                node.rng,
                node.entropy,
                [one.kind for one in node.capabilities],
            ),
            accepts=committee_core.ACCEPTS,
            remote=committee_core.REMOTE,
            hears=committee_core.HEARS,
            fail_stop=True,
        ),
        Part(
            "trust",
            lambda: TrustCore(trust_settings(node.config)),
            accepts=(trust_messages.Outcome, trust_messages.GetStandings),
            hears=(network_messages.Blame,),
        ),
        Part(
            "market",
            lambda: MarketCore(market_settings(node.config), own, node.capabilities, node.workers, node.entropy),
            accepts=(
                market_messages.Acquire,
                market_messages.UseLease,
                market_messages.DropLease,
                auction_wire.Announce,
                auction_wire.Offer,
                auction_wire.Release,
            ),
            remote=(auction_wire.Announce, auction_wire.Offer, auction_wire.Release),
            hears=(
                network_messages.PeerUp,
                network_messages.PeerDown,
                network_messages.PeerOffers,
                network_messages.LoadChanged,
                trust_messages.StandingChanged,
            ),
        ),
        Part(
            "jobs",
            lambda: JobsCore(jobs_settings(node), node.registry, own, node.rng, node.entropy),
            accepts=(
                task_messages.Submit,
                task_messages.GetTask,
                task_messages.ListTasks,
                task_messages.CancelTask,
                task_messages.GetTaskEvents,
                task_messages.GetTaskStats,
            ),
            hears=(network_messages.PeerUp, network_messages.PeerDown, trust_messages.StandingChanged),
        ),
        Part(
            "serving",
            lambda: ServingCore(serving_settings(node), node.registry, node.rng),
            accepts=(
                task_wire.Run,
                task_wire.Stop,
                market_messages.LeaseGranted,
                market_messages.LeaseEnded,
                task_messages.GetServingStats,
                OwnLoad,
            ),
            remote=(task_wire.Run, task_wire.Stop),
            hears=(network_messages.PeerDown,),
        ),
        Part(
            "indexes",
            lambda: owner.IndexesCore(
                index_settings(node.config), node.identity, embedder(node.registry), node.entropy, node.rng
            ),
            accepts=owner.ACCEPTS,
            remote=owner.REMOTE,
            hears=owner.HEARS,
        ),
        Part(
            "holder",
            lambda: holder.HolderCore(index_settings(node.config), node.identity),
            accepts=holder.ACCEPTS,
            remote=holder.REMOTE,
            hears=holder.HEARS,
        ),
    )
