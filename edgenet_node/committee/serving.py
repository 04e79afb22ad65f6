"""What this node tells others: chain, newest head, rows of a head; and whether it lets itself be made a member."""

from __future__ import annotations

from ..crypto.fingerprints import public_from_peer_id
from ..effects import Ask, Effect, Reply
from ..errors import EdgenetError, NotFound, Refused
from ..messages.raft import CommitteeView, PrepareMember
from ..wire import committee as wire
from ..wire.raft import RosterEntry
from .chain import Chain
from .heads import Marks
from .record import Record


def head_reply(record: Record, view: CommitteeView | None, number: int) -> wire.HeadReply:
    """What follows set `number`."""
    links = record.chain.links[number + 1 :]
    members = () if view is None else view.members
    return wire.HeadReply(
        tuple(links[: wire.LINKS_PER_REPLY_MAX]),
        len(links) > wire.LINKS_PER_REPLY_MAX,
        tuple(RosterEntry(one.member, one.peer) for one in members if one.peer),
        record.certified,
    )


def rows_reply(record: Record, marks: Marks, index: int, after: str) -> wire.Rows:
    """A page of the rows at a head that is kept here. `NotFound` when it is not."""
    marked = marks.find(index)
    rows = marked.rows if marked is not None else record.state.rows if record.cursor == index else None
    if rows is None:
        raise NotFound("that head is not kept here")
    keys = sorted(key for key in rows if key > after)
    page: list[wire.RegistryRow] = []
    size = 0
    for key in keys[: wire.ROWS_PER_REPLY_MAX]:
        size += len(key) + len(rows[key]) + 16
        if page and size > wire.ROWS_REPLY_BYTES_MAX:
            break
        page.append(wire.RegistryRow(key, rows[key]))
    return wire.Rows(tuple(page), len(page) < len(keys))


class Preparing:
    """Requests to join, on their way to the log and back."""

    def __init__(self) -> None:
        self._asked: dict[int, int] = {}
        self._count = 0

    def ask(self, query: wire.PrepareToJoin, sender: str, reply_to: int, record: Record) -> list[Effect]:
        """`Refused` unless a member of a committee that this node can verify asks."""
        chain = Chain(record.swarm, record.founder, record.chain.accepted)
        chain.links = list(record.chain.links)  # verified: only what is new here costs anything
        chain.extend(query.links)
        if chain.tip.epoch != query.epoch or len(chain.links) != len(query.links):
            raise Refused("its chain of committees is not one that this node accepts")
        if public_from_peer_id(sender) not in chain.tip.members:
            raise Refused("only a member of the committee can ask that")
        self._count += 1
        self._asked[self._count] = reply_to
        return [Ask(("prepared", self._count), PrepareMember(query.epoch, query.roster), 10.0)]

    def answered(self, count: int, value: int | None, error: Exception | None) -> list[Effect]:
        reply_to = self._asked.pop(count, 0)
        if value is None:
            reason = error.message if isinstance(error, EdgenetError) else "it could not prepare"
            return [Reply(reply_to, error=Refused(reason))]
        return [Reply(reply_to, wire.Prepared(value))]
