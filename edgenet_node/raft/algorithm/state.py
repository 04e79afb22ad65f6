"""One member's state and its transitions. What is decided upon which message is in the modules beside this one.

           election timeout                quorum of pre-votes           quorum of votes
FOLLOWER -------------------> PRE_CANDIDATE -----------------> CANDIDATE ----------------> LEADER
   ^  (without pre-vote, and when told to take over: straight to CANDIDATE)                  |
   |                                                                                         |
   +---- a higher term; a leader of this term; a lost vote; no quorum active; removed -------+
"""

from __future__ import annotations

from collections.abc import Sequence

from ...errors import CorruptData, InvariantError
from ...wire.raft import Entry, Message, MessageKind
from .config import Config, Rng
from .log import RaftLog
from .membership import Members
from .reads import Reads
from .ready import ReadState, Role, SoftState
from .storage import NO_LIMIT, HardState, Storage

NOBODY = 0


class Raft:
    """`outbox` holds messages that promise nothing; `outbox_after_append` those that promise something which may not be
    durable yet (votes, acknowledgements, and the same to itself): they are released once all that was unstable is.

    `election_elapsed` counts ticks since a leader was heard of, or since this one last checked its quorum.
    `pending_conf_index`: until it is applied, no other change of the configuration may be proposed.
    """

    __slots__ = (
        "config",
        "election_elapsed",
        "election_timeout",
        "heartbeat_elapsed",
        "id",
        "lead",
        "lead_transferee",
        "log",
        "max_size",
        "members",
        "outbox",
        "outbox_after_append",
        "pending_conf_index",
        "read_states",
        "reads",
        "rng",
        "role",
        "term",
        "uncommitted_size",
        "uncommitted_size_max",
        "vote",
    )

    def __init__(self, config: Config, storage: Storage, rng: Rng, applied: int) -> None:
        hard, conf_state = storage.initial_state()
        self.config = config
        self.id = config.id
        self.rng = rng
        self.log = RaftLog(storage, config.max_committed_size_per_ready or config.max_size_per_message or 1)
        self.max_size = config.max_size_per_message
        self.uncommitted_size_max = config.max_uncommitted_size or NO_LIMIT
        self.members = Members(config.id, config.max_inflight_messages, config.max_inflight_bytes)
        self.outbox: list[Message] = []
        self.outbox_after_append: list[Message] = []
        self.read_states: list[ReadState] = []
        self.reads = Reads()
        self.role = Role.FOLLOWER
        self.term = hard.term
        self.vote = hard.vote
        self.lead = NOBODY
        self.lead_transferee = NOBODY
        self.pending_conf_index = 0
        self.uncommitted_size = 0
        self.election_elapsed = 0
        self.heartbeat_elapsed = 0
        self.election_timeout = 0
        self.members.restore(conf_state, self.log.last_index)
        if hard != HardState():
            if not self.log.committed <= hard.commit <= self.log.last_index:
                raise CorruptData(
                    f"raft: entry {hard.commit} was committed, but the log is [{self.log.committed}, "
                    f"{self.log.last_index}]: wipe this member and add it anew"
                )
            self.log.committed = hard.commit
        if applied:
            self.log.applied_to(applied, 0)
        self.become_follower(self.term, NOBODY)

    # ---- transitions

    def become_follower(self, term: int, lead: int) -> None:
        self._reset(term)
        self.lead = lead
        self.role = Role.FOLLOWER

    def become_pre_candidate(self) -> None:
        """Neither term nor vote change: it only asks."""
        if self.role is Role.LEADER:
            raise InvariantError("a leader does not campaign")
        self.members.votes.clear()
        self.lead = NOBODY
        self.role = Role.PRE_CANDIDATE

    def become_candidate(self) -> None:
        if self.role is Role.LEADER:
            raise InvariantError("a leader does not campaign")
        self._reset(self.term + 1)
        self.vote = self.id
        self.role = Role.CANDIDATE

    def become_leader(self) -> None:
        """Begins its term with an empty entry: only with one of its own can it commit those of former terms."""
        if self.role is Role.FOLLOWER:
            raise InvariantError("a follower cannot become leader without an election")
        self._reset(self.term)
        self.lead = self.id
        self.role = Role.LEADER
        own = self.members.progress[self.id]
        own.become_replicate()
        own.recent_active = True
        # There may be a change of configuration in what is not applied: looking for it would cost more than waiting.
        self.pending_conf_index = self.log.last_index
        if not self.append([Entry(0, 0)]):
            raise InvariantError("the empty entry of a new leader was dropped")

    def _reset(self, term: int) -> None:
        if term != self.term:
            self.term = term
            self.vote = NOBODY
        self.lead = NOBODY
        self.lead_transferee = NOBODY
        self.election_elapsed = 0
        self.heartbeat_elapsed = 0
        self.election_timeout = self.config.election_tick + self.rng.randrange(self.config.election_tick)
        self.members.restart(self.log.last_index)
        self.pending_conf_index = 0
        self.uncommitted_size = 0
        self.reads = Reads()

    # ---- the leader's own log

    def append(self, drafts: Sequence[Entry]) -> bool:
        """Take entries (their kind and data) into the log, in this term. False when too much is uncommitted."""
        size = sum([len(draft.data) for draft in drafts])
        if not self._admit(size):
            return False
        term, index = self.term, self.log.last_index
        self.log.append([Entry(term, index + place, draft.kind, draft.data) for place, draft in enumerate(drafts, 1)])
        # The leader acknowledges its own entries as followers do, once they are durable.
        own = self.members.progress.get(self.id)
        self.promise(
            Message(
                MessageKind.APP_RESP,
                to=self.id,
                sender=self.id,
                term=term,
                index=self.log.last_index,
                session=0 if own is None else own.session,
            )
        )
        return True

    def _admit(self, size: int) -> bool:
        """Anything goes while nothing is uncommitted, and entries without data always do."""
        if self.uncommitted_size and size and self.uncommitted_size + size > self.uncommitted_size_max:
            return False
        self.uncommitted_size += size
        return True

    def release(self, size: int) -> None:
        """So many bytes of data are committed. The count starts anew with each term and may fall short."""
        self.uncommitted_size = max(0, self.uncommitted_size - size)

    # ---- sending

    def send(self, message: Message) -> None:
        """At once."""
        self.outbox.append(message)

    def promise(self, message: Message) -> None:
        """Once everything unstable is durable."""
        self.outbox_after_append.append(message)

    # ---- views

    def hard_state(self) -> HardState:
        return HardState(self.term, self.vote, self.log.committed)

    def soft_state(self) -> SoftState:
        return SoftState(self.lead, self.role)

    def promotable(self) -> bool:
        """May it campaign: it is a voter, and not about to install a snapshot?"""
        own = self.members.progress.get(self.id)
        return own is not None and not own.learner and self.log.snapshot is None

    def committed_in_term(self) -> bool:
        """Has this leader committed an entry of its own?"""
        return self.log.term(self.log.committed) == self.term
