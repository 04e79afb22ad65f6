"""`CommitteeCore`: the registry of the swarm, as a member that applies the log or a node that follows heads.

The core of the part `committee`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from msgspec import structs

from ..crypto.fingerprints import peer_id
from ..crypto.signing import Signer
from ..effects import Ask, Done, Effect, Envelope, Event, Now, Put, Reply, Row, Tell, Tick
from ..errors import EdgenetError, InvariantError, NotFound, Overloaded, Refused
from ..messages import committee as messages
from ..messages import network, raft
from ..wire import committee as wire
from .chain import Chain, digest
from .following import Following
from .office import Office
from .operating import Operating
from .reading import Reading
from .record import Record
from .serving import Preparing, head_reply, rows_reply
from .settings import CommitteeSettings, Rng
from .submitting import CONSUMER, Submitting
from .view import admission, nothing, registry_view

_STATUS_INTERVAL_S = 1.0
"""How old this core's picture of the log may be."""

_ASK_TIMEOUT_S = 10.0
"""Of another part of this node: it answers in microseconds, or the node is in trouble."""

REMOTE = (
    wire.Notice,
    wire.GetHead,
    wire.GetRows,
    wire.GetSignature,
    wire.PrepareToJoin,
    wire.RequestChange,
)
ACCEPTS = (
    *REMOTE,
    messages.AcceptEpoch,
    messages.ChangeCommittee,
    messages.Decide,
    messages.GetAdmission,
    messages.GetRegistry,
    messages.HandOver,
    messages.RecoverAlone,
)
HEARS = (
    network.PeerDown,
    network.PeerUp,
    network.SwarmAdopted,
    raft.LeaderChanged,
    raft.LogAdvanced,
    raft.TakeState,
)


class CommitteeCore:
    """`capabilities` are the task kinds that this node registers. `signer` is the node's key."""

    def __init__(
        self,
        signer: Signer,
        settings: CommitteeSettings,
        rng: Rng,
        entropy: Callable[[int], bytes],
        capabilities: Sequence[str] = (),
    ) -> None:
        self._signer = signer
        self._own = peer_id(signer.public)
        self._settings = settings
        self._accepted = list(settings.accepted_epochs)
        self._rows: Sequence[Row] = ()
        self._record: Record | None = None
        self._outer: Chain | None = None
        self._office = Office(signer, settings, rng)
        self._following = Following(settings, rng)
        self._submitting = Submitting(signer, settings, entropy)
        self._operating = Operating(signer, self._office, self._submitting, capabilities)
        self._reading = Reading(settings.command_timeout_s)
        self._raft: raft.CommitteeView | None = None
        self._admission: messages.Admission | None = None
        self._asked: set[str] = set()  # local questions in flight
        self._status_again = False
        self._advanced = 0
        self._wanted_upto = 0
        self._founded = False
        self._status_at = math.inf
        self._swarm_at = math.inf
        self._register_at = math.inf
        self._preparing = Preparing()

    # ---- life

    def restore(self, rows: Sequence[Row], now: Now) -> list[Effect]:
        self._rows = rows
        self._accepted += [row.key for row in rows if row.table == "accepted"]
        self._founded = any(row.table == "meta" and row.key == "founded" for row in rows)
        connections = Ask(("connections",), network.GetConnections(), _ASK_TIMEOUT_S)
        return [*self._once("swarm", network.GetSwarm()), connections]

    def _once(self, tag: str, query: Any) -> list[Effect]:
        """Unless the same question is in flight."""
        if tag in self._asked:
            return []
        self._asked.add(tag)
        return [Ask((tag,), query, _ASK_TIMEOUT_S)]

    def wake_at(self) -> float:
        return min(
            self._status_at,
            self._swarm_at,
            self._register_at,
            self._submitting.wake_at,
            self._reading.wake_at,
            self._office.wake_at,
            self._following.wake_at if self._record is not None and self._listens else math.inf,
        )

    @property
    def _is_member(self) -> bool:
        return self._raft is not None and self._raft.member != 0

    @property
    def _listens(self) -> bool:
        """Nobody sends it the log: no member, or one that was prepared and waits to be added."""
        return self._raft is None or not self._raft.member or self._raft.role == "none"

    def step(self, e: Envelope[Any], now: Now) -> list[Effect]:
        body = e.body
        match body:
            case Tick():
                return self._tick(now)
            case Done():
                return self._done(body, now)
            case raft.LogAdvanced(commit):
                self._advanced = max(self._advanced, commit)
                return self._read()
            case raft.LeaderChanged(_, _, leading):
                return self._led(leading, now)
            case raft.TakeState(upto):
                self._wanted_upto = upto
                return self._give()
            case network.PeerUp(peer):
                self._following.connected(peer, now)
                return []
            case network.PeerDown(peer):
                self._following.disconnected(peer)
                return []
            case network.SwarmAdopted():
                return self._once("swarm", network.GetSwarm())
            case wire.Notice():
                return self._notice(body, e.sender, now)
            case _:
                return self._ask(e, now)

    def _ask(self, e: Envelope[Any], now: Now) -> list[Effect]:
        """Questions of peers and of the owner."""
        try:
            match e.body:
                case messages.GetRegistry(linearizable):
                    if linearizable:
                        return self._read_safely(e.reply_to, now)
                    return [Reply(e.reply_to, self._view())]
                case messages.GetAdmission():
                    return [Reply(e.reply_to, admission(self._known()))]
                case wire.GetHead(number):
                    return [Reply(e.reply_to, head_reply(self._known(), self._raft, number))]
                case wire.GetRows(index, after):
                    return [Reply(e.reply_to, rows_reply(self._known(), self._office.marks, index, after))]
                case wire.GetSignature():
                    self._members_only(e.sender)
                    return [Reply(e.reply_to, self._office.sign(e.body, self._known(), self._raft))]
                case wire.PrepareToJoin():
                    return self._prepare(e.body, e.sender, e.reply_to)
                case wire.RequestChange():
                    self._members_only(e.sender)
                    return self._change(e.body, e.reply_to, now, remote=True)
                case messages.ChangeCommittee(add, remove):
                    return self._change(wire.RequestChange(add, remove), e.reply_to, now, remote=False)
                case messages.HandOver(peer):
                    return self._change(wire.RequestChange(transfer=peer), e.reply_to, now, remote=False)
                case messages.Decide():
                    return self._operating.decide(e.body, e.reply_to, self._known(), now)
                case messages.RecoverAlone():
                    return self._operating.recover(e.reply_to, self._raft)
                case messages.AcceptEpoch(found):
                    return self._accept(found, e.reply_to, now)
                case _:
                    raise InvariantError(f"committee does not take {type(e.body).__name__}")
        except InvariantError:
            raise
        except EdgenetError as error:
            return [Reply(e.reply_to, error=error)]

    def _known(self) -> Record:
        if self._record is None:
            raise Overloaded("this node has not found its swarm yet", retry_after_s=1.0)
        return self._record

    def _members_only(self, sender: str) -> None:
        record = self._known()
        keys = {*record.chain.tip.members, *(record.pending.members if record.pending is not None else ())}
        if sender in {peer_id(key) for key in keys}:
            return
        if self._raft is not None and sender in {one.peer for one in self._raft.members}:
            raise Overloaded("that member is not known here yet", retry_after_s=0.1)
        raise Refused("for members of the committee only")

    # ---- time

    def _tick(self, now: Now) -> list[Effect]:
        out: list[Effect] = []
        if now.mono >= self._swarm_at:
            self._swarm_at = math.inf
            out += self._once("swarm", network.GetSwarm())
        if now.mono >= self._status_at:
            self._status_at = math.inf
            out += self._status_now()
        if now.mono >= self._register_at:
            self._register_at = math.inf
            out += self._once("addresses", network.GetAddresses())
        if now.mono >= self._submitting.wake_at:
            out += self._submitting.tick(now)
        out += self._reading.expire(now)
        record = self._record
        if record is None:
            return out
        if self._office.mark_due(record, now) and not self._submitting.waits_for("mark"):
            out += self._submitting.add(self._operating.command(self._known(), "mark"), 0, now)
        out += self._office.tick(record, self._raft, now)
        out += self._office.certify_set(record, now)
        if self._listens and now.mono >= self._following.wake_at:
            out += self._following.pull(record.chain, now)
        return out

    # ---- completions

    def _done(self, done: Done, now: Now) -> list[Effect]:
        value, error = done.value, done.error
        if len(done.tag) == 1:
            self._asked.discard(done.tag[0])
        match done.tag:
            case ("swarm",):
                return self._swarm(value, now)
            case ("connections",):
                for one in value or ():
                    if one.admitted:
                        self._following.connected(one.peer, now)
                return []
            case ("status",):
                return self._status(value, now)
            case ("addresses",):
                self._register_at = now.mono + self._settings.register_interval_s
                return self._operating.register(value, self._known(), now)
            case ("founded",):
                return self._status_now()
            case ("log",):
                return self._page(value, now)
            case ("barrier", int() as count):
                return [*self._reading.confirmed(count, value, error), *self._answer_reads()]
            case ("proposed", int() as count):
                return self._submitting.proposed(count, value, error, member=self._is_member, now=now)
            case ("prepared", int() as count):
                return [*self._preparing.answered(count, value, error), *self._status_now()]
            case ("moved", int() as count):
                return self._operating.moved(count, error)
            case ("recovered", int() as reply_to):
                return self._recovered(reply_to, value, error, now)
            case ("head" | "set" as kind, int() as run, int() as place):
                return self._signed(kind, run, place, value, error, now)
            case ("head", int() as run, str() as peer):
                return self._answered(run, peer, value, now)
            case ("rows", int() as run, str() as peer):
                return self._fetched(run, peer, value, now)
            case ("leave",):
                self._office.left(error)
                return []
            case _:
                return self._reshaped(done, now)

    def _reshaped(self, done: Done, now: Now) -> list[Effect]:
        reshaping, value, error = self._office.reshaping, done.value, done.error
        match done.tag:
            case ("prepare", int() as run, str() as peer):
                return reshaping.prepared(run, peer, value, error, now)
            case ("progress", int() as run):
                return reshaping.progressed(run, value, now)
            case ("voters", int() as run):
                return reshaping.joint(run, value, self._known().chain.tip)
            case ("learner" | "joint" as step, int() as run):
                return reshaping.changed(run, step, error, now)
        return []

    # ---- beginning

    def _swarm(self, info: network.SwarmInfo | None, now: Now) -> list[Effect]:
        """Once it is known, for good. The founder begins the log; it does so once in its life: a second log of the
        same genesis would be a second truth."""
        if self._record is not None:
            return []
        if info is None or not info.swarm or not info.founder_key:
            self._swarm_at = now.mono + 1.0
            return []
        record = self._record = Record(info.swarm, info.founder_key, self._accepted)
        out = record.load(self._rows)
        self._submitting.seen(record.state.sequence_of(self._signer.public))
        self._rows = ()
        self._outer = Chain(info.swarm, info.founder_key, self._accepted)
        self._register_at = now.mono + 1.0
        out += self._admit()
        # A founder that lost its disk has adopted its swarm from the others: they have the log.
        if info.origin == "founded" and info.founder_key == self._signer.public and not self._founded:
            self._founded = True
            out += [Put("meta", "founded", b"\x01"), Ask(("founded",), raft.FoundCommittee(), 30.0)]
        return [*out, *self._status_now()]

    def _status_now(self) -> list[Effect]:
        """Ask where the log is; once more when the answer in flight may be older than the reason to ask."""
        self._status_at = math.inf
        self._status_again = "status" in self._asked
        return self._once("status", raft.GetCommittee())

    def _status(self, view: raft.CommitteeView | None, now: Now) -> list[Effect]:
        self._status_at = now.mono + (0.0 if self._status_again else _STATUS_INTERVAL_S)
        self._status_again = False
        if view is None:
            return []
        self._raft = view
        record = self._record
        if record is None:
            return []
        self._office.lead(view.role == "leader", record, now)
        self._advanced = max(self._advanced, view.applied)
        out = self._read()
        if not view.member and record.chain.tip.members == (self._signer.public,) and self._founded:
            record.alarm("the log of the committee is gone from this node, and it was the only member")
        return out

    def _led(self, leading: bool, now: Now) -> list[Effect]:
        if self._record is not None and not leading:
            self._office.lead(False, self._record, now)
        return self._status_now()

    # ---- the log

    def _read(self) -> list[Effect]:
        record = self._record
        if record is None or not self._is_member or self._advanced <= record.cursor:
            return []
        return self._once("log", raft.ReadLog(CONSUMER, record.cursor, self._settings.page_bytes))

    def _page(self, page: raft.LogPage | None, now: Now) -> list[Effect]:
        record = self._record
        if record is None or page is None:
            self._status_at = min(self._status_at, now.mono + 0.1)
            return []
        out: list[Effect] = []
        if page.snapshot is not None:
            out += record.install(page.snapshot)
        changed = page.snapshot is not None
        for entry in page.entries:
            taken = record.take(entry, 0 if self._raft is None else self._raft.epoch)
            out += taken.effects
            changed = changed or taken.changed or bool(taken.applied is not None and taken.applied.writes)
            out += self._took(record, entry.index, taken.applied, taken.changed, now)
        if page.upto > record.cursor or page.entries:
            out += record.finish(page.upto)
        if changed:
            out += self._admit()
        out += self._office.certify_set(record, now)
        self._advanced = max(self._advanced, page.commit)
        return [*out, *self._give(), *self._answer_reads(), *self._read()]

    def _took(self, record: Record, index: int, applied: Any, changed: bool, now: Now) -> list[Effect]:
        out: list[Effect] = []
        if applied is not None:
            mark = applied.command is not None and applied.command.kind == "mark" and not applied.refused
            if mark or applied.writes:
                out += self._office.wrote(record, mark=mark, now=now)
                out += self._office.certified(record, self._raft, now)
            out += self._submitting.applied(index, applied, now)
        elif changed:
            out += self._office.wrote(record, mark=False, now=now)
            out += self._status_now()
        return out

    def _read_safely(self, reply_to: int, now: Now) -> list[Effect]:
        self._known()
        if not self._is_member:
            raise Refused("only members of the committee answer a linearizable read: ask on one that is")
        return self._reading.begin(reply_to, now)

    def _answer_reads(self) -> list[Effect]:
        ready = self._reading.take(self._known().cursor)
        if not ready:
            return []
        view = self._view()
        return [Reply(reply_to, view) for reply_to in ready]

    def _give(self) -> list[Effect]:
        """The state for a snapshot, once it is asked for and this node has come so far."""
        record, upto = self._record, self._wanted_upto
        if record is None or not upto or record.cursor < upto:
            return []
        self._wanted_upto = 0
        return [Tell(raft.GiveState(CONSUMER, record.cursor, record.whole()))]

    def _admit(self) -> list[Effect]:
        """Say who may connect, if that changed."""
        found = admission(self._known())
        if found == self._admission:
            return []
        self._admission = found
        return [Event(messages.AdmissionChanged(found))]

    # ---- heads

    def _signed(self, kind: str, run: int, place: int, value: Any, error: Exception | None, now: Now) -> list[Effect]:
        record = self._known()
        self._office.signed(kind, run, place, value, error)
        return [*self._office.certified(record, self._raft, now), *self._office.certify_set(record, now)]

    def _notice(self, notice: wire.Notice, sender: str, now: Now) -> list[Effect]:
        record = self._record
        out: list[Effect] = []
        if notice.proposal is not None and self._is_member:
            out.append(Tell(raft.Overheard(sender, notice.proposal)))
        certified = notice.head
        if record is None or certified is None or sender == self._own:
            return out
        if certified.head.swarm != record.swarm:
            return [*out, Event(network.Blame(sender, "raft: a head of another swarm"))]
        if self._is_member:
            return [*out, *self._compare(record, certified, sender, now)]
        return [*out, *self._following.told(certified, record.chain, record.place, sender, now)]

    def _compare(self, record: Record, certified: wire.CertifiedHead, sender: str, now: Now) -> list[Effect]:
        """A member holds its own state against what was certified; and learns that it is a member no longer."""
        head = certified.head
        if (head.epoch, head.number) > record.chain.office:
            return self._following.hinted(record.chain, sender, now)
        if (head.epoch, head.number) < record.chain.office:
            return []
        if not record.chain.head_proven(head, certified.certificate):
            return [Event(network.Blame(sender, "raft: a head that its certificate does not prove"))]
        self._office.marks.certified(head)
        known = None if record.certified is None else record.certified.head
        if known is None or (known.epoch, known.number, known.index) < (head.epoch, head.number, head.index):
            return record.certify(certified)
        return []

    def _answered(self, run: int, peer: str, value: wire.HeadReply | None, now: Now) -> list[Effect]:
        record, outer = self._known(), self._outer
        if outer is None:
            raise InvariantError("a record without its outer chain")
        if self._is_member:  # the log is what counts; others may know that we are out of it
            outer.links = list(record.chain.links)
            out, taken = self._following.answered(run, peer, value, outer, None, now)
            self._report()
            seated = self._signer.public in record.chain.tip.members
            if taken and seated and self._signer.public not in outer.tip.members and record.pending is None:
                return [*out, Tell(raft.RetireMember(outer.tip.epoch, outer.tip.number))]
            return [*out, *self._tell_roster(value, outer)]
        out, _ = self._following.answered(run, peer, value, record.chain, record.place, now)
        self._report()
        return [*out, *self._tell_roster(value, record.chain)]

    def _tell_roster(self, value: wire.HeadReply | None, chain: Chain) -> list[Effect]:
        """Whose member ids are whose, as far as the set in office vouches for the peers."""
        peers = {peer_id(key) for key in chain.tip.members}
        roster = tuple(one for one in value.roster if one.peer in peers) if value else ()
        return [Tell(raft.LearnRoster(chain.tip.epoch, roster))] if roster else []

    def _report(self) -> None:
        if self._following.conflict:
            self._known().alarm(self._following.conflict)

    def _fetched(self, run: int, peer: str, value: wire.Rows | None, now: Now) -> list[Effect]:
        record = self._known()
        out, adopted = self._following.rows(run, peer, value, now)
        if adopted is None or self._is_member:
            return out
        head = adopted.certified.head
        if (head.epoch, head.number) != record.chain.office or (head.epoch, head.number, head.index) <= record.place:
            return out
        out += record.adopt(adopted)
        self._submitting.seen(record.state.sequence_of(self._signer.public))
        return [*out, *self._admit()]

    def _prepare(self, query: wire.PrepareToJoin, sender: str, reply_to: int) -> list[Effect]:
        if not self._settings.serves:
            raise Refused("this node does not serve in a committee (committee.serve)")
        return self._preparing.ask(query, sender, reply_to, self._known())

    def _change(self, query: wire.RequestChange, reply_to: int, now: Now, *, remote: bool) -> list[Effect]:
        return self._operating.change(query, reply_to, self._known(), self._raft, now, remote=remote)

    def _recovered(self, reply_to: int, epoch: int | None, error: Exception | None, now: Now) -> list[Effect]:
        if epoch is None:
            return [Reply(reply_to, error=error)]
        if self._raft is not None:  # before the log is read on: its next entries are of the new epoch
            self._raft = structs.replace(self._raft, epoch=epoch)
        return [*self._operating.recovered(reply_to, epoch, self._known(), now), *self._status_now()]

    def _accept(self, found: str, reply_to: int, now: Now) -> list[Effect]:
        record = self._known()
        offered = record.chain.offered
        if offered is None or digest(offered).hex() != found:
            raise NotFound("no such epoch was offered to this node")
        self._accepted.append(found)
        record.chain.accept(found)
        out = self._following.pull(record.chain, now)
        return [Put("accepted", found, b"\x01"), *out, Reply(reply_to, None)]

    def _view(self) -> messages.RegistryView:
        if self._record is None:
            return nothing(self._raft)
        reshaping = self._office.reshaping
        text = reshaping.state or (f"failed: {reshaping.failed}" if reshaping.failed else "")
        if self._record.pending is not None:
            text = "leaving the joint configuration, once the set in office has signed"
        gone = (
            self._raft is not None and not self._raft.member and self._signer.public in self._record.chain.tip.members
        )
        lost = ("this node is in the committee and has no log: remove it from the committee and add it anew",)
        return registry_view(self._record, self._raft, text, lost if gone else ())
