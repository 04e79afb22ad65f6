"""Message types that adapters own: what cores ask of the transport and of the artifact store."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ..adapters.artifact_desk import ArtifactDesk
from ..messages import artifacts as artifact_messages
from ..messages import network as network_messages
from ..ports.network import Network


def services(
    network: Network, desk: ArtifactDesk, join: Callable[[network_messages.SetSwarm], None]
) -> Mapping[type, Callable[[Any], Any]]:
    """For `Runtime(services=...)`. `join` makes runtime and transport one swarm's."""

    async def addresses(_: network_messages.GetAddresses) -> tuple[str, ...]:
        return tuple(network.addresses())

    async def latencies(_: network_messages.GetLatencies) -> dict[str, float]:
        return {one.peer: one.rtt_s for one in network.connections() if one.rtt_s > 0}

    async def connections(_: network_messages.GetConnections) -> tuple[network_messages.ConnectionInfo, ...]:
        return tuple(
            network_messages.ConnectionInfo(one.peer, one.outbound, one.admitted) for one in network.connections()
        )

    return {
        network_messages.GetConnections: connections,
        network_messages.Admit: lambda body: network.admit(body.peer),
        network_messages.RefusePeer: lambda body: network.refuse(body.peer, body.reason),
        network_messages.PardonPeer: lambda body: network.pardon(body.peer),
        network_messages.LearnAddresses: lambda body: network.learn(body.peer, body.addresses, keep=body.keep),
        network_messages.SetSwarm: join,
        network_messages.GetAddresses: addresses,
        network_messages.GetLatencies: latencies,
        artifact_messages.PutArtifact: desk.put,
        artifact_messages.PinArtifact: desk.pin,
        artifact_messages.ReleaseArtifact: desk.release,
    }
