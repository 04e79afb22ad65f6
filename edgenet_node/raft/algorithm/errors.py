"""What can go wrong inside the algorithm. A message that no correct member could have sent is `Malformed`."""

from __future__ import annotations

from ...errors import Conflict, LocalError, NotFound, Overloaded


class ProposalDropped(Overloaded):
    """Not taken: there is no leader, leadership is being handed over, or too much is uncommitted. Try again."""


class Compacted(NotFound):
    """The entry is no longer in the log: a snapshot has replaced it."""


class Unavailable(NotFound):
    """The entry is not in the log yet."""


class SnapshotOutOfDate(Conflict):
    """There is a newer snapshot already."""


class SnapshotTemporarilyUnavailable(LocalError):
    """A storage may say so while it makes one: the algorithm asks again later."""


class ConfChangeRefused(Conflict):
    """The change does not fit the configuration that it would apply to."""
