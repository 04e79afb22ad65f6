"""After the majority is lost for good: one member goes on alone, in a new epoch.

What it has is taken for committed, so entries that the lost majority never acknowledged may become history, and those
that only it had are gone. Nobody follows by itself: every other member must be added anew, and every node of the swarm
has to accept the new epoch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..effects import Effect, Put
from ..wire.codec import encode
from ..wire.raft import ChangeContext, Entry, EntryKind, RosterEntry
from .algorithm.confchange import ChangeKind, ConfChangeSingle, ConfChangeV2, encode_change
from .algorithm.storage import HardState
from .journal import Membership, seal

if TYPE_CHECKING:
    from .member import Member


def force_single(member: Member, own: str) -> tuple[list[Effect], Membership]:
    """Rows of a log whose configuration ends as this member alone; the membership of the new epoch."""
    journal, conf = member.journal, member.conf
    storage = journal.storage
    kept = member.applied.index
    for entry in storage.entries(kept + 1, journal.last + 1, 2**62) if journal.last > kept else ():
        if entry.kind is not EntryKind.NORMAL:
            break  # a change that nobody may have applied, and what came after it
        kept = entry.index
    changes: list[ConfChangeV2] = []
    if conf.voters_outgoing:
        changes.append(ConfChangeV2())
    if member.id not in conf.voters:
        context = encode(ChangeContext((RosterEntry(member.id, own),)))
        changes.append(ConfChangeV2(changes=(ConfChangeSingle(ChangeKind.ADD_NODE, member.id),), context=context))
    others = sorted({*conf.voters, *conf.learners, *conf.learners_next} - {member.id})
    changes += [ConfChangeV2(changes=(ConfChangeSingle(ChangeKind.REMOVE_NODE, one),)) for one in others]
    term = member.node.status().term + 1
    entries = [
        Entry(term, kept + 1 + place, EntryKind.CONF_CHANGE_V2, encode_change(change))
        for place, change in enumerate(changes)
    ]
    last = kept + len(entries)
    out: list[Effect] = list(journal.append(entries)) if entries else []
    out += journal.save_hard(HardState(term=term, vote=member.id, commit=last))
    membership = Membership(member.epoch + 1, member.id)
    journal.membership = membership
    return [*out, Put("state", "member", seal(membership))], membership
