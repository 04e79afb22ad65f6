"""What a member does: the algorithm, its log, its state machine, its messages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..effects import Call, Early, Effect, Event, Now, Saved, Send
from ..errors import EdgenetError, InvariantError, Malformed
from ..messages.network import Blame
from ..messages.raft import LeaderChanged, LogAdvanced
from ..wire.codec import decode
from ..wire.raft import (
    ENTRY_BYTES_MAX,
    SNAPSHOT_BYTES_MAX,
    ChangeContext,
    Command,
    ConfState,
    Entry,
    EntryKind,
    GetRoster,
    Message,
    MessageKind,
    RaftFrame,
    RosterReply,
)
from .algorithm.confchange import decode_change
from .algorithm.config import Rng
from .algorithm.errors import ProposalDropped
from .algorithm.rawnode import LOCAL_APPEND_THREAD, LOCAL_APPLY_THREAD, RawNode, Ready
from .applying import Applied, Contents, pack
from .barriers import Barriers
from .frames import frames
from .journal import Journal, Membership
from .meters import Meters
from .proposing import Proposals
from .roster import Roster
from .settings import RaftSettings
from .snapshots import Fetching, Maker
from .view import algorithm_config

_ROSTER_ASK_S = 1.0
"""Between two questions for the roster: an unknown member sends with each heartbeat."""

_BATCH_BYTES_MAX = 256 * 1024


class Member:
    """Made when this node has a log; `flush` after each batch of inputs."""

    def __init__(
        self,
        generation: int,
        own: str,
        settings: RaftSettings,
        journal: Journal,
        membership: Membership,
        proposals: Proposals,
        barriers: Barriers,
        rng: Rng,
        meters: Meters,
    ) -> None:
        self.generation = generation
        self.id = membership.member
        self.epoch = membership.epoch
        self.journal = journal
        self.applied = Applied(settings)
        self.roster = Roster()
        self.maker = Maker(settings)
        self.fetching = Fetching(settings)
        self.heard: dict[int, float] = {}
        self.leader = 0
        self.removed = False
        self._own = own
        self._settings = settings
        self._proposals = proposals
        self._barriers = barriers
        self._meters = meters
        self._saving: dict[int, tuple[list[Message], float]] = {}
        self._saves = 0
        self._ticks = 0
        self._roster_asked = -_ROSTER_ASK_S
        self._roster_run = 0
        self._stalled = False
        self._offered: dict[int, float] = {}
        self.conf = ConfState()
        self.roster.learn(membership.roster)
        snapshot = journal.storage.newest()
        if snapshot.index:
            self._install(snapshot)
        self.node = RawNode(algorithm_config(self.id, settings), journal.storage, rng, applied=self.applied.index)

    # ---- inputs

    def frame(self, frame: RaftFrame, peer: str, now: Now) -> list[Effect]:
        """Messages of one peer. Those to an earlier membership of this node, or from somebody who is no member, are
        refused and counted; a forged sender is blamed."""
        if frame.epoch != self.epoch:
            self._meters.frames_refused += 1
            return []
        out: list[Effect] = []
        for message in frame.messages:
            if message.to != self.id:
                self._meters.frames_refused += 1
                continue
            known = self.roster.peer(message.sender)
            if not known:
                self._meters.frames_refused += 1
                out += self._ask_roster(now)
                continue
            if known != peer:
                self._meters.frames_refused += 1
                out.append(Event(Blame(peer, "raft: a message in another member's name")))
                continue
            if self.roster.former(message.sender):
                self._meters.frames_refused += 1
                continue
            self.heard[message.sender] = now.mono
            out += self._message(message, peer)
        return out

    def _message(self, message: Message, peer: str) -> list[Effect]:
        snapshot = message.snapshot
        offered = message.kind is MessageKind.SNAP and snapshot is not None and snapshot.size and not snapshot.data
        if offered and snapshot is not None and snapshot.index > self.node.status().commit:
            return self.fetching.offer(message, peer)
        return self._step(message, peer)

    def _step(self, message: Message, peer: str) -> list[Effect]:
        try:
            check_contents(message)
            self.node.step(message)
        except ProposalDropped:
            self._meters.proposals_dropped += 1  # a follower's; it proposes them again
        except Malformed as error:
            self._meters.frames_refused += 1
            return [Event(Blame(peer, f"raft: {error.message}"))]
        return []

    def _ask_roster(self, now: Now) -> list[Effect]:
        """Our log lags behind a change: somebody we know can say whose id that is."""
        others = [peer for peer in self.roster.peers() if peer != self._own]
        if not others or now.mono < self._roster_asked + _ROSTER_ASK_S:
            return []
        self._roster_asked = now.mono
        self._roster_run += 1
        peer = others[self._roster_run % len(others)]
        return [Call(("roster", self._roster_run), peer, GetRoster(), self._settings.call_timeout_s)]

    def learn(self, reply: RosterReply) -> None:
        if reply.epoch == self.epoch:
            self.roster.learn(reply.roster)

    def chunk(self, run: int, data: bytes, error: Exception | None, now: Now) -> list[Effect]:
        out, message = self.fetching.chunk(run, data, error, now)
        return out if message is None else [*out, *self._step(message, self.roster.peer(message.sender))]

    def saved(self, tag: int, now: Now) -> None:
        """Our saves are durable: the answers to ourselves may be taken."""
        responses, since = self._saving.pop(tag)
        self._meters.fsync_s.append(now.mono - since)
        for message in responses:
            self.node.step(message)

    def tick(self, now: Now) -> list[Effect]:
        """One tick of the algorithm's clock."""
        self.node.tick()
        if self._stalled:
            self._stalled = False
            self._proposals.requeue()
        self._follow_snapshots(now)
        self._ticks += 1
        saved = self.journal.save_commit() if self._ticks % self._settings.election_ticks == 0 else []
        return [*saved, *self._compact(now)]

    @property
    def wake_at(self) -> float:
        return min(self.maker.wake_at, self.fetching.wake_at)

    def alarms(self, now: Now) -> list[Effect]:
        """What is due besides the clock's tick."""
        self.maker.expire(now)
        return self.fetching.tick(now)

    def _follow_snapshots(self, now: Now) -> None:
        """Give up on followers that do not fetch what they were offered: they are probed and offered anew."""
        if not self._offered:
            return
        progress = self.node.status().progress
        for member, since in list(self._offered.items()):
            if member not in progress or progress[member].state != "snapshot":
                del self._offered[member]
            elif now.mono > since + self._settings.snapshot_timeout_s:
                del self._offered[member]
                self.node.report_snapshot(member, ok=False)

    def fetched_by(self, member: int, now: Now) -> None:
        if member in self._offered:
            self._offered[member] = now.mono

    # ---- output

    def flush(self, now: Now) -> list[Effect]:
        """Propose what waits, then let out all that the algorithm has to say."""
        self._propose()
        out: list[Effect] = []
        outgoing: dict[int, list[Message]] = {}
        while self.node.has_ready():
            out += self._ready(self.node.ready(), outgoing, now)
        for member, messages in outgoing.items():
            out += [Early(send) for send in self._sends(member, messages)]
        return out

    def _propose(self) -> None:
        if self._barriers.queued and self.leader:
            self.node.read_index(self._barriers.take(self.id))
        if not self._proposals.queued or not self.leader:
            return
        for keys, batch in self._proposals.take(_BATCH_BYTES_MAX):
            try:
                self.node.propose_many(batch)
            except ProposalDropped:  # too much is uncommitted, or leadership is being handed over
                self._meters.proposals_dropped += len(keys)
                self._stalled = True
            else:
                self._meters.proposals += len(keys)
                self._meters.batch.append(len(keys))

    def _ready(self, ready: Ready, outgoing: dict[int, list[Message]], now: Now) -> list[Effect]:
        out: list[Effect] = []
        if ready.soft_state is not None and ready.soft_state.lead != self.leader:
            out += self._led_by(ready.soft_state.lead)
        for state in ready.read_states:
            out += [Early(reply) for reply in self._barriers.confirmed(state.context, state.index)]
        for message in ready.messages:
            if message.to == LOCAL_APPEND_THREAD:
                out += self._append(message, now)
            elif message.to == LOCAL_APPLY_THREAD:
                out += self._apply(message, now)
            else:
                if message.kind is MessageKind.SNAP:
                    self._offered[message.to] = now.mono
                outgoing.setdefault(message.to, []).append(message)
        return out

    def _led_by(self, leader: int) -> list[Effect]:
        self.leader = leader
        self._meters.leader_changes += bool(leader)
        if leader:
            self._proposals.requeue()
            self._barriers.requeue()
        return [Event(LeaderChanged(self.node.status().term, self.roster.peer(leader), leader == self.id))]

    def _sends(self, member: int, messages: list[Message]) -> list[Send]:
        peer = self.roster.peer(member)
        if not peer or peer == self._own:
            return []
        # What another member sent is not passed on: it would stand under our name. That member asks again by itself.
        own = [message for message in messages if message.sender == self.id]
        return [Send(peer, frame) for frame in frames(self.epoch, own)]

    def _append(self, request: Any, now: Now) -> list[Effect]:
        """Saves, then what promises them: to others when they are durable, to ourselves by `Saved`."""
        out: list[Effect] = []
        if request.snapshot is not None:
            out += self.journal.install(request.snapshot)
            self._install(request.snapshot)
            self._meters.snapshots_installed += 1
            out.append(Event(LogAdvanced(self.applied.index)))
        if request.entries:
            out += self.journal.append(request.entries)
            self._learn_early(request.entries)
        if request.hard_state is not None:
            out += self.journal.note_commit(request.hard_state)
        if request.entries or request.snapshot is not None:
            out += self.journal.save_commit()
        after: dict[int, list[Message]] = {}
        own: list[Message] = []
        for response in request.responses:
            if response.to == self.id:
                own.append(response)
            else:
                after.setdefault(response.to, []).append(response)
        for member, messages in after.items():
            out += self._sends(member, messages)
        if own:
            self._saves += 1
            self._saving[self._saves] = (own, now.mono)
            out.append(Saved(("saved", self.generation, self._saves)))
        return out

    def _learn_early(self, entries: Sequence[Entry]) -> None:
        """Whose ids are whose counts from when we have it: the new member may speak before we apply its change."""
        for entry in entries:
            if entry.kind is not EntryKind.NORMAL and entry.data:
                self.roster.learn(context_of(entry).roster)

    def _apply(self, request: Any, now: Now) -> list[Effect]:
        out: list[Effect] = []
        for entry in request.entries:
            if entry.kind is EntryKind.NORMAL:
                out += self._apply_command(entry, now)
            else:
                self._apply_change(entry)
                out += self.journal.save_commit()  # a recovery by hand keeps the changes that this member knows of
        self._meters.entries_applied += len(request.entries)
        out.append(Event(LogAdvanced(self.applied.index)))
        for response in request.responses:
            self.node.step(response)
        return out

    def _apply_command(self, entry: Entry, now: Now) -> list[Effect]:
        try:
            found = self.applied.command(entry)
        except EdgenetError as error:
            raise InvariantError(f"the committed entry {entry.index} cannot be read: {error.message}") from error
        if found is None:
            return []
        command, fresh = found
        index = entry.index if fresh else (self.applied.sessions.find(command.session, command.sequence) or 0)
        key = (command.session, command.sequence)
        out, since = self._proposals.done(key, index, entry.term, duplicate=not fresh)
        if since is not None:
            self._meters.commit_s.append(now.mono - since)
        return [Early(reply) for reply in out]  # a majority has it: what is being saved here meanwhile is later

    def _apply_change(self, entry: Entry) -> None:
        change = decode_change(entry)
        context = context_of(entry)
        self.conf = self.node.apply_conf_change(change)
        self.roster.learn(context.roster)
        self._configured()
        self.applied.change(entry, self.conf, context)

    def _configured(self) -> None:
        self.roster.configure(self.conf)
        self.journal.storage.members = self.roster.members
        self.removed = self.id not in self.roster.members

    def _install(self, snapshot: Any) -> None:
        roster = self.applied.install(snapshot)
        self.conf = snapshot.conf_state
        self.roster.replace(roster)
        self._configured()

    # ---- snapshots

    def _compact(self, now: Now) -> list[Effect]:
        """Sweep what an earlier compaction left; begin a snapshot when one is due."""
        settings = self._settings
        out = self.journal.sweep(settings.delete_max) if self.journal.doomed else []
        due = (
            self.journal.storage.wanted
            or self.applied.index - self.applied.snapshot_index >= settings.snapshot_entries
            or self.journal.log_bytes >= settings.snapshot_log_bytes
        )
        if due and self.applied.index > self.applied.snapshot_index and self.maker.may_begin(now):
            out += self.begin_snapshot(now)
        return out

    def begin_snapshot(self, now: Now) -> list[Effect]:
        self.journal.storage.wanted = False
        contents = self.applied.contents(self.roster.entries())
        return [*self.maker.begin(self.applied.index, self.conf, contents, now), *self.finish_snapshot()]

    def finish_snapshot(self) -> list[Effect]:
        """Keep it if all consumers have given their state, and compact behind it."""
        done = self.maker.finished()
        if done is None:
            return []
        making, given = done
        if making.index <= self.applied.snapshot_index:  # the leader's came meanwhile
            return []
        data, digest = pack(making.contents, given)
        out = self.journal.keep_snapshot(making.index, making.conf_state, data, len(data), digest)
        self.applied.consumers, self.applied.snapshot_index = given, making.index
        self._meters.snapshots_made += 1
        self._meters.snapshot_bytes = len(data)
        keep = self._settings.keep_entries
        if self.journal.log_bytes >= self._settings.snapshot_log_bytes:
            keep = min(keep, len(range(self.journal.first, making.index)) // 2)
        out += self.journal.compact(making.index - keep)
        self.applied.prune(self.journal.first)
        return out


def check_contents(message: Message) -> None:
    """`Malformed` for entries or a snapshot that no member could apply: once they were committed, none would survive
    them."""
    for entry in message.entries:
        if message.kind in (MessageKind.READ_INDEX, MessageKind.READ_INDEX_RESP):
            continue  # its data is the context of the read
        if entry.kind is not EntryKind.NORMAL:
            context_of(entry)
        elif entry.data:
            decode(entry.data, Command, bytes_max=ENTRY_BYTES_MAX)
    if message.snapshot is not None and message.snapshot.data:
        decode(message.snapshot.data, Contents, bytes_max=SNAPSHOT_BYTES_MAX)


def context_of(entry: Entry) -> ChangeContext:
    """Of a change of configuration."""
    data = decode_change(entry).context
    return decode(data, ChangeContext, bytes_max=len(data)) if data else ChangeContext()
