"""The members as this one sees them: the configuration, the progress of each, and the votes of an election."""

from __future__ import annotations

from ...errors import InvariantError
from ...wire.raft import ConfState
from .confchange import Change, Changed, Configuration, apply_change, restore
from .errors import ConfChangeRefused
from .progress import Inflights, Progress
from .quorum import VoteResult, majority_index


class Members:
    """`progress` is in ascending order of ids. Sessions are never used twice in the life of this object."""

    __slots__ = (
        "_inflight_bytes_max",
        "_inflight_count_max",
        "_others",
        "_own",
        "_sessions",
        "configuration",
        "progress",
        "votes",
    )

    def __init__(self, own: int, inflight_count_max: int, inflight_bytes_max: int) -> None:
        self._own = own
        self._inflight_count_max = inflight_count_max
        self._inflight_bytes_max = inflight_bytes_max
        self._sessions = 0
        self._others: tuple[tuple[int, Progress], ...] = ()
        self.configuration = Configuration()
        self.progress: dict[int, Progress] = {}
        self.votes: dict[int, bool] = {}

    # ---- configuration

    def preview(self, change: Change) -> Changed:
        """What it would do. `ConfChangeRefused` when it does not fit."""
        return apply_change(self.configuration, change)

    def adopt(self, changed: Changed, last_index: int) -> None:
        """Switch to a configuration. New members are probed at the end of our log, `last_index`."""
        before, configuration = self.progress, changed.configuration
        progress: dict[int, Progress] = {}
        for member in sorted(configuration.members()):
            one = None if member in changed.renewed else before.get(member)
            if one is None:
                inflights = Inflights(self._inflight_count_max, self._inflight_bytes_max)
                one = Progress(max(last_index, 1), inflights, self._next_session())
            one.learner = member in configuration.learners
            progress[member] = one
        self.configuration = configuration
        self.progress = progress
        self._others = tuple((member, one) for member, one in progress.items() if member != self._own)

    def restore(self, state: ConfState, last_index: int) -> None:
        """From a snapshot: everybody is new. `InvariantError` for a state that cannot be."""
        try:
            configuration = restore(state)
        except ConfChangeRefused as error:
            raise InvariantError(f"the configuration of a snapshot is impossible: {error.message}") from error
        self.adopt(Changed(configuration, configuration.members()), last_index)

    def restart(self, last_index: int) -> None:
        """A new term: nothing is known of the others' logs, and nobody has voted."""
        self.votes.clear()
        for member, one in self.progress.items():
            one.restart(last_index + 1, last_index if member == self._own else 0, self._next_session())

    def _next_session(self) -> int:
        self._sessions += 1
        return self._sessions

    @property
    def others(self) -> tuple[tuple[int, Progress], ...]:
        """All but this member, in order."""
        return self._others

    def alone(self) -> bool:
        """Is this member the only voter?"""
        voters = self.configuration.voters
        return voters.incoming == {self._own} and not voters.outgoing

    # ---- counting

    def committed(self) -> int:
        """The last index that is stable with a majority, of both halves."""
        progress, voters = self.progress, self.configuration.voters
        index = majority_index([progress[voter].match for voter in voters.incoming])
        if voters.outgoing:
            index = min(index, majority_index([progress[voter].match for voter in voters.outgoing]))
        return index

    def quorum_active(self) -> bool:
        """Has a majority been heard of lately?"""
        active = {member: one.recent_active for member, one in self.progress.items() if not one.learner}
        return self.configuration.voters.vote_result(active) is VoteResult.WON

    def record_vote(self, member: int, *, granted: bool) -> VoteResult:
        """The first answer of each member counts."""
        self.votes.setdefault(member, granted)
        return self.configuration.voters.vote_result(self.votes)
