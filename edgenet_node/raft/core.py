"""`RaftCore`: one member of the committee, or a node that is none and forwards its commands. The core of part `raft`.

Inputs of one batch (frames, proposals, completions) go to the algorithm at once and leave it dirty; the tick that
follows the batch takes one `Ready`, so that however many came share one append, one fsync and one message to each peer.

Order of effects. What the algorithm says may go out before its entries are durable goes `Early`; what promises
something durable is released with the step's saves; its answer to itself is `Saved`. A failed save ends the node.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from ..effects import Done, Effect, Envelope, Event, Now, Reply, Row, Tick
from ..errors import Conflict, EdgenetError, InvariantError, NotFound, Overloaded, Refused
from ..messages.network import PeerDisconnected
from ..messages.raft import (
    ChangeMembers,
    FoundCommittee,
    GetCommittee,
    GiveState,
    LeaderChanged,
    LearnRoster,
    LeaveJoint,
    LogAdvanced,
    LogPage,
    Overheard,
    PrepareMember,
    Propose,
    ReadBarrier,
    ReadLog,
    RecoverCommittee,
    RetireMember,
    TakeSnapshot,
    TransferLeadership,
)
from ..wire.raft import (
    SNAPSHOT_CHUNK_BYTES_MAX,
    FetchSnapshot,
    GetRoster,
    RaftFrame,
    RosterReply,
    SnapshotChunk,
    SubmitCommand,
)
from .algorithm.config import Rng
from .barriers import Barriers
from .changes import Changes
from .forwarding import Forwarding
from .journal import Journal, Membership
from .member import Member
from .meters import Meters
from .proposing import Proposals, Waiter
from .recovery import force_single
from .settings import RaftSettings
from .view import committee_view, founding_snapshot, nobody

REMOTE = (RaftFrame, FetchSnapshot, GetRoster, SubmitCommand)
ACCEPTS = (
    *REMOTE,
    ChangeMembers,
    FoundCommittee,
    GetCommittee,
    GiveState,
    LearnRoster,
    LeaveJoint,
    Overheard,
    PrepareMember,
    Propose,
    ReadBarrier,
    ReadLog,
    RecoverCommittee,
    RetireMember,
    TakeSnapshot,
    TransferLeadership,
)
HEARS = (PeerDisconnected,)


class RaftCore:
    """`own` is this node's PeerId; `entropy(n)` gives n random bytes, for member ids."""

    def __init__(self, own: str, settings: RaftSettings, rng: Rng, entropy: Callable[[int], bytes]) -> None:
        self._own = own
        self._settings = settings
        self._rng = rng
        self._entropy = entropy
        self._meters = Meters()
        self._journal = Journal()
        self._proposals = Proposals(settings)
        self._barriers = Barriers(settings.read_timeout_s)
        self._forwarding = Forwarding(settings)
        self._changes = Changes(settings)
        self._member: Member | None = None
        self._dirty_at = math.inf
        self._tick_at = math.inf
        self._retire_at = math.inf
        self._generation = 0

    @property
    def member(self) -> Member | None:
        """For the simulator's invariants."""
        return self._member

    # ---- life

    def restore(self, rows: Sequence[Row], now: Now) -> list[Effect]:
        self._journal.load(rows)
        if self._journal.membership is None:
            return []
        return self._begin(self._journal.membership, now)

    def _begin(self, membership: Membership, now: Now) -> list[Effect]:
        self._generation += 1
        self._member = Member(
            self._generation,
            self._own,
            self._settings,
            self._journal,
            membership,
            self._proposals,
            self._barriers,
            self._rng,
            self._meters,
        )
        self._tick_at = now.mono + self._settings.tick_s
        self._dirty_at = now.mono
        self._retire_at = math.inf
        return [Event(LogAdvanced(self._member.applied.index))]

    def wake_at(self) -> float:
        return min(
            self._dirty_at,
            self._tick_at,
            self._retire_at,
            self._proposals.wake_at,
            self._barriers.wake_at,
            self._changes.wake_at,
            math.inf if self._member is None else self._member.wake_at,
        )

    def step(self, e: Envelope[Any], now: Now) -> list[Effect]:
        body = e.body
        match body:
            case Tick():
                return self._tick(now)
            case RaftFrame():
                return self._frame(body, e.sender, now)
            case Done():
                return self._done(body, now)
            case Propose() | SubmitCommand():
                return self._propose(body, e, now)
            case ReadLog():
                return [Reply(e.reply_to, self._page(body))]
            case ReadBarrier():
                return self._barrier(e.reply_to, now)
            case FetchSnapshot() | GetRoster():
                return [self._serve(body, e, now)]
            case GiveState():
                return self._give(body, now)
            case PeerDisconnected(peer):
                return self._unreachable(peer, now)
            case Overheard(sender, command):
                return self._overheard(sender, command, now)
            case LearnRoster():
                self._forwarding.learn(body)
                if self._member is not None and body.epoch == self._member.epoch:
                    self._member.roster.learn(body.roster)
                return []
            case RetireMember(epoch, _):
                return self._retire(epoch, now)
            case GetCommittee():
                return [Reply(e.reply_to, self._view(now))]
            case _:
                return self._command(e, now)

    def _command(self, e: Envelope[Any], now: Now) -> list[Effect]:
        """What an operator or the registry asks for."""
        try:
            match e.body:
                case FoundCommittee():
                    return self._found(e.reply_to, now)
                case PrepareMember():
                    return self._prepare(e.body, e.reply_to, now)
                case ChangeMembers() | LeaveJoint():
                    out = self._changes.propose(e.body, e.reply_to, self._leading(), now)
                case TransferLeadership(peer):
                    out = self._transfer(peer, e.reply_to)
                case TakeSnapshot():
                    return self._snapshot(e.reply_to, now)
                case RecoverCommittee():
                    return self._recover(e.reply_to, now)
                case _:
                    raise InvariantError(f"raft does not take {type(e.body).__name__}")
        except InvariantError:
            raise
        except EdgenetError as error:
            return [Reply(e.reply_to, error=error)]
        self._touch(now)
        return out

    # ---- time

    def _touch(self, now: Now) -> None:
        """There is something to let out at the tick after this batch."""
        if self._member is not None:
            self._dirty_at = min(self._dirty_at, now.mono)

    def _tick(self, now: Now) -> list[Effect]:
        out = self._proposals.expire(now) + self._barriers.expire(now) + self._changes.expire(now)
        member = self._member
        if member is None:
            return out
        if now.mono >= self._retire_at:
            return out + self._forget(now)
        out += member.alarms(now)
        if now.mono >= self._tick_at:
            self._tick_at = now.mono + self._settings.tick_s
            out += member.tick(now)
        self._dirty_at = math.inf
        return out + self._flush(member, now)

    def _flush(self, member: Member, now: Now) -> list[Effect]:
        out = member.flush(now)
        out += self._changes.applied(member.applied.index)
        if member.removed and self._retire_at == math.inf:
            # Others may still need what it sends, and consumers what it applied.
            self._retire_at = now.mono + 4 * self._settings.election_ticks * self._settings.tick_s
        return out

    # ---- frames and completions

    def _frame(self, frame: RaftFrame, sender: str, now: Now) -> list[Effect]:
        if self._member is None:
            self._meters.frames_refused += 1
            return []
        self._touch(now)
        return self._member.frame(frame, sender, now)

    def _done(self, done: Done, now: Now) -> list[Effect]:
        member = self._member
        match done:
            case Done(("saved", generation, int() as tag), _, _):
                if member is not None and member.generation == generation:
                    member.saved(tag, now)
                    self._touch(now)
                return []
            case Done(("forward", int() as run), value, error):
                return self._forwarding.answered(run, value, error, now)
            case Done(("chunk", int() as run), value, error) if member is not None:
                self._touch(now)
                return member.chunk(run, b"" if error is not None else value.data, error, now)
            case Done(("roster", int()), RosterReply() as reply, None) if member is not None:
                member.learn(reply)
        return []

    def _unreachable(self, peer: str, now: Now) -> list[Effect]:
        if self._member is not None:
            other = self._member.roster.member(peer)
            if other and other != self._member.id:
                self._member.node.report_unreachable(other)
                self._touch(now)
        return []

    # ---- the service

    def _propose(self, query: Propose | SubmitCommand, e: Envelope[Any], now: Now) -> list[Effect]:
        remote = isinstance(query, SubmitCommand)
        if self._member is None:
            if isinstance(query, SubmitCommand):
                return [Reply(e.reply_to, error=Refused("this node is no member of the committee"))]
            return self._forwarding.forward(query, e.reply_to)
        if query.consumer not in self._settings.consumers:
            return [Reply(e.reply_to, error=NotFound(f"nobody here consumes commands for {query.consumer[:32]!r}"))]
        self._touch(now)
        return self._proposals.add(query, e.sender or self._own, Waiter(e.reply_to, remote), now)

    def _overheard(self, sender: str, command: SubmitCommand, now: Now) -> list[Effect]:
        if self._member is None or command.consumer not in self._settings.consumers:
            return []
        self._touch(now)
        return self._proposals.add(command, sender, Waiter(0, remote=True), now)

    def _page(self, query: ReadLog) -> LogPage:
        member = self._member
        if member is None:
            return LogPage((), query.after, query.after)
        bytes_max = min(query.bytes_max, self._settings.apply_bytes_max)
        return member.applied.page(self._journal, query.consumer, query.after, bytes_max)

    def _barrier(self, reply_to: int, now: Now) -> list[Effect]:
        if self._member is None:
            return [Reply(reply_to, error=Conflict("this node is no member of the committee: ask one, or read a head"))]
        self._touch(now)
        return self._barriers.add(reply_to, now)

    def _give(self, body: GiveState, now: Now) -> list[Effect]:
        if self._member is None:
            return []
        self._member.maker.give(body)
        return self._member.finish_snapshot()

    def _serve(self, query: FetchSnapshot | GetRoster, e: Envelope[Any], now: Now) -> Effect:
        """For members only."""
        member = self._member
        asker = 0 if member is None else member.roster.member(e.sender)
        if member is None or not asker:
            return Reply(e.reply_to, error=Refused("for members of the committee only"))
        if isinstance(query, GetRoster):
            return Reply(e.reply_to, RosterReply(member.epoch, member.roster.entries()))
        snapshot = self._journal.storage.newest()
        if snapshot.digest != query.digest or query.offset >= snapshot.size:
            return Reply(e.reply_to, error=NotFound("there is a newer snapshot"))
        member.fetched_by(asker, now)
        return Reply(e.reply_to, SnapshotChunk(snapshot.data[query.offset : query.offset + SNAPSHOT_CHUNK_BYTES_MAX]))

    def _view(self, now: Now) -> Any:
        member = self._member
        return nobody(self._meters) if member is None else committee_view(member, self._own, self._meters, now)

    # ---- membership

    def _new_id(self) -> int:
        return max(1, int.from_bytes(self._entropy(8), "big") >> 1)

    def _leading(self) -> Member:
        member = self._member
        if member is None:
            raise Refused("this node is no member of the committee")
        if member.leader != member.id:
            leader = member.roster.peer(member.leader) or "nobody at the moment"
            raise Refused(f"this node does not lead the committee; the leader is {leader}", retry_after_s=0.5)
        return member

    def _found(self, reply_to: int, now: Now) -> list[Effect]:
        if self._member is not None:
            raise Conflict("this node has a committee's log already")
        membership = Membership(0, self._new_id())
        out = self._journal.begin(membership, founding_snapshot(membership.member, self._own))
        return [*out, *self._begin(membership, now), Reply(reply_to, membership.member)]

    def _prepare(self, query: PrepareMember, reply_to: int, now: Now) -> list[Effect]:
        out: list[Effect] = []
        if self._member is not None:
            if self._journal.last > 0 and not self._member.removed:
                raise Conflict("this node is a member already")
            out = self._forget(now)
        membership = Membership(query.epoch, self._new_id(), query.roster)
        out += self._journal.begin(membership, None)
        out += self._begin(membership, now)
        return [*out, Reply(reply_to, membership.member)]

    def _transfer(self, peer: str, reply_to: int) -> list[Effect]:
        member = self._leading()
        target = member.roster.member(peer)
        if target not in member.conf.voters:
            raise NotFound(f"{peer} is no voter of the committee")
        if target != member.node.status().lead:  # this node may have stopped leading since its last flush
            member.node.transfer_leader(target)
        return [Reply(reply_to, None)]

    def _snapshot(self, reply_to: int, now: Now) -> list[Effect]:
        member = self._member
        if member is None:
            raise Conflict("this node is no member of the committee")
        if not member.maker.may_begin(now):
            raise Overloaded("a snapshot is being made", retry_after_s=1.0)
        if member.applied.index <= member.applied.snapshot_index:
            return [Reply(reply_to, member.applied.snapshot_index)]
        return [Reply(reply_to, member.applied.index), *member.begin_snapshot(now)]

    def _recover(self, reply_to: int, now: Now) -> list[Effect]:
        member = self._member
        if member is None:
            raise Conflict("this node is no member of the committee: run it on one that is")
        out, membership = force_single(member, self._own)
        return [*out, *self._begin(membership, now), Reply(reply_to, membership.epoch)]

    def _retire(self, epoch: int, now: Now) -> list[Effect]:
        if self._member is None or self._member.epoch > epoch or self._retire_at < math.inf:
            return []
        self._retire_at = now.mono + self._settings.tick_s
        return []

    def _forget(self, now: Now) -> list[Effect]:
        """This node is a member no longer."""
        error = Overloaded("this node left the committee", retry_after_s=0.5)
        out = self._proposals.drop_all(error) + self._barriers.drop_all(error) + self._changes.drop_all(error)
        self._member = None
        self._dirty_at = self._tick_at = self._retire_at = math.inf
        return [*out, *self._journal.forget(), Event(LeaderChanged(0, "", leading=False))]
