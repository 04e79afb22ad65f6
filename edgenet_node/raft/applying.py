"""The member's own state machine: sessions, roster, and what consumers may read of the log.

Entries are applied here in order, at once; consumers pull them afterwards, each at its own pace and by its own cursor.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Annotated

from msgspec import Meta

from ..errors import InvariantError
from ..messages.raft import CommittedEntry, LogPage
from ..wire.codec import Wire, decode, encode
from ..wire.raft import (
    ENTRY_BYTES_MAX,
    SNAPSHOT_BYTES_MAX,
    ChangeContext,
    Command,
    ConfState,
    Entry,
    EntryKind,
    RosterEntry,
    Snapshot,
)
from .journal import Journal
from .sessions import SavedSession, Sessions
from .settings import RaftSettings


class ConsumerState(Wire, frozen=True):
    """A consumer's state after `index`."""

    index: int
    state: bytes


class Contents(Wire, frozen=True):
    """What a snapshot holds, besides the configuration."""

    sessions: list[SavedSession]
    roster: list[RosterEntry]
    consumers: Annotated[dict[str, ConsumerState], Meta(max_length=32)]


class Change(Wire, frozen=True):
    """An applied change of configuration, for consumers."""

    conf_state: ConfState
    context: bytes


class Applied:
    """`index` is the last applied entry. Duplicates and changes are remembered from the beginning of the log."""

    def __init__(self, settings: RaftSettings) -> None:
        self._settings = settings
        self.index = 0
        self.sessions = Sessions(settings.sessions_max, settings.window_max)
        self.consumers: dict[str, ConsumerState] = {}
        self.snapshot_index = 0
        self._floor = 0  # nothing is remembered of the entries up to here, though the log may still hold some
        self._duplicates: set[int] = set()
        self._changes: dict[int, Change] = {}

    def install(self, snapshot: Snapshot) -> list[RosterEntry]:
        """Begin at a snapshot; whose ids are whose."""
        contents = decode(snapshot.data, Contents, bytes_max=SNAPSHOT_BYTES_MAX)
        self.index = self.snapshot_index = self._floor = snapshot.index
        self.sessions.load(contents.sessions)
        self.consumers = contents.consumers
        self._duplicates.clear()
        self._changes.clear()
        return contents.roster

    def command(self, entry: Entry) -> tuple[Command, bool] | None:
        """Apply a normal entry: its command, and whether it is new. None for a leader's empty one."""
        self._advance(entry)
        if not entry.data:
            return None
        command = decode(entry.data, Command, bytes_max=ENTRY_BYTES_MAX)
        fresh = self.sessions.apply(command.session, command.sequence, command.low, entry.index)
        if not fresh:
            self._duplicates.add(entry.index)
        return command, fresh

    def change(self, entry: Entry, conf_state: ConfState, context: ChangeContext) -> None:
        self._advance(entry)
        self._changes[entry.index] = Change(conf_state, context.body)

    def _advance(self, entry: Entry) -> None:
        if entry.index != self.index + 1:
            raise InvariantError(f"entry {entry.index} was to be applied after {self.index}")
        self.index = entry.index

    def prune(self, first: int) -> None:
        """The log begins at `first` now."""
        self._duplicates = {index for index in self._duplicates if index >= first}
        self._changes = {index: change for index, change in self._changes.items() if index >= first}

    def contents(self, roster: tuple[RosterEntry, ...]) -> Contents:
        """The member's own part of a snapshot, as of now; consumers add theirs."""
        return Contents(self.sessions.save(), list(roster), {})

    def page(self, journal: Journal, consumer: str, after: int, bytes_max: int) -> LogPage:
        """What this consumer reads next."""
        first = max(journal.first, self._floor + 1)
        if after < first - 1:
            saved = self.consumers.get(consumer)
            if saved is not None and saved.index > after:
                return LogPage((), saved.index, self.index, saved.state)
            # A consumer that joined the node after the snapshot: everything before it was not its own.
            after = max(after, first - 1)
        found: list[CommittedEntry] = []
        upto = after
        if after < self.index:
            for entry in journal.storage.entries(after + 1, self.index + 1, bytes_max):
                upto = entry.index
                one = self._view(consumer, entry)
                if one is not None:
                    found.append(one)
        return LogPage(tuple(found), upto, self.index)

    def _view(self, consumer: str, entry: Entry) -> CommittedEntry | None:
        if entry.kind is not EntryKind.NORMAL:
            change = self._changes.get(entry.index)
            if change is None:
                return None
            return CommittedEntry(entry.index, entry.term, entry.kind, b"", change.conf_state, change.context)
        if not entry.data or entry.index in self._duplicates:
            return None
        command = decode(entry.data, Command, bytes_max=ENTRY_BYTES_MAX)
        if command.consumer != consumer:
            return None
        return CommittedEntry(entry.index, entry.term, entry.kind, command.command)


def pack(contents: Contents, consumers: Mapping[str, ConsumerState]) -> tuple[bytes, str]:
    """The data of a snapshot and its SHA-256."""
    data = encode(Contents(contents.sessions, contents.roster, dict(consumers)))
    return data, hashlib.sha256(data).hexdigest()
