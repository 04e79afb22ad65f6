"""A small query of each registered call, and a message of each one-way stream."""

from __future__ import annotations

from typing import Any, Final

from edgenet_node.wire.auction import Offer, Release
from edgenet_node.wire.committee import (
    CommitteeSet,
    GetHead,
    GetRows,
    GetSignature,
    Link,
    PrepareToJoin,
    RequestChange,
)
from edgenet_node.wire.hello import Hello
from edgenet_node.wire.index import Drop, GetManifest, Hold, SearchSegments, SignedGrant
from edgenet_node.wire.peers import ListMembers
from edgenet_node.wire.raft import FetchSnapshot, GetRoster, Message, MessageKind, RaftFrame, SubmitCommand
from edgenet_node.wire.task import Run, Stop

_GRANT: Final = SignedGrant(b"", bytes(64))

SAMPLES: Final[dict[str, Any]] = {
    "hello/1": Hello("", ""),
    "peers.list/1": ListMembers(),
    "auction.offer/1": Offer(bytes(16), bytes(16), price=0, units=0, expires_s=0.0, workers=0, load=0),
    "auction.release/1": Release(bytes(16)),
    "task.run/1": Run(bytes(16), "t", 0, "k", spec=b"", input=b"", items=1, units=0, timeout_s=1.0),
    "task.stop/1": Stop("t", 0),
    "index.hold/1": Hold(_GRANT, "0" * 64, size=0, rows=0, version=0, deleted=[], source="1" * 46),
    "index.drop/1": Drop(_GRANT, []),
    "index.search/1": SearchSegments(bytes(32), "n", [], bytes(4), 1, {}),
    "index.manifest/1": GetManifest("n"),
    "raft.snapshot/1": FetchSnapshot("0" * 64, 0),
    "raft.roster/1": GetRoster(),
    "raft.submit/1": SubmitCommand("c", bytes(16), sequence=0, low=0, command=b""),
    "committee.head/1": GetHead(-1),
    "committee.rows/1": GetRows(0),
    "committee.sign/1": GetSignature("set", 0, bytes(32)),
    "committee.prepare/1": PrepareToJoin(0, (Link(CommitteeSet(0, 0, (bytes(32),), bytes(32))),), ()),
    "committee.change/1": RequestChange(),
}

MESSAGES: Final[dict[str, Any]] = {
    "raft/1": RaftFrame(0, (Message(MessageKind.HEARTBEAT, to=2, sender=1, term=1),)),
}
