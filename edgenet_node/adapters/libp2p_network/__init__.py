"""The network over py-libp2p 0.8.1: used, but never bare.

What it decides: nothing about the protocol. It authenticates peers (Noise, an Ed25519 seed is the peer id), moves bytes
and bounds them. Who is let in is decided above and told with `admit` and `refuse`; what a message means is the cores'.

Rooms:

* `network`: the port, and the supervisor that rebuilds the host after a crash without losing the object. `links`: who
  is connected.
* `host`: builds and runs one incarnation. `guards`, `muxer`: the library's parts, subclassed so that no byte from a
  peer ends the host, tears a frame, or makes us hold more than a bound; a frozen peer is noticed in seconds.
* `calls`, `framed`, `frames`, `pipe`: many requests over one persistent stream per peer. `messages`: one-way messages,
  over one persistent stream per peer and direction. `blobs`: artifacts, on streams of their own.
* `turns`: what a small message costs under the muxer, lowered.
* `gossip`: paced publishing, validated receiving. `keeper`: addresses and redialling. `admission`: who may.
* `report`: every refusal is counted, every offence blamed. `limits`: every bound with its reason.

States of a peer: known (an address) -> connected (Noise and Yamux agreed; identify, ping, gossip and
`/edgenet/hello/1` are open to it, so that any libp2p implementation can join) -> admitted (`/edgenet/<swarm>/rpc/1`,
`raft/1` and `blob/1` as well), or refused (told why, dropped, not dialled nor accepted for `refuse_for_s`). Several
connections to one peer count as one.

States of the host: running -> crashed (calls raise `Unreachable`, gossip waits in its queue, the listener hears
`on_disconnected` for every peer) -> rebuilt on the same ports after a jittered backoff -> running.

What is left of the library's open ends: a stream's window updates wake nobody, so a writer that waits for its window
looks again every 2 ms; its mDNS, relay, QUIC, AutoNAT and discovery are not used.

Sources: libp2p specifications (connections, noise, yamux, identify, ping, gossipsub v1.1), py-libp2p 0.8.1.
"""

from .limits import NetworkSettings
from .network import Libp2pNetwork

__all__ = ["Libp2pNetwork", "NetworkSettings"]
