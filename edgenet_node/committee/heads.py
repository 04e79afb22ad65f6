"""Heads: the state at a mark, certified by a quorum, and what each member compares it with."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping

from msgspec import Struct

from ..errors import InvariantError
from ..wire.committee import Certificate, CommitteeSet, Head, MemberSignature
from .chain import certify, digest, verify_signature


class Marked(Struct, frozen=True):
    """What this node computed at a mark, with the rows as they were."""

    head: Head
    digest: bytes
    rows: Mapping[str, bytes]


class Marks:
    """The last `marks_max` of this node's own heads, and certified ones that it has not come to yet.

    A member whose own head differs from a certified one has lost its way (a flipped bit, a bug, another version): it
    stops rather than answer with a state that the others do not have.
    """

    def __init__(self, marks_max: int) -> None:
        self._marks_max = marks_max
        self._own: OrderedDict[int, Marked] = OrderedDict()
        self._certified: OrderedDict[int, Head] = OrderedDict()

    @property
    def newest(self) -> Marked | None:
        return next(reversed(self._own.values())) if self._own else None

    def find(self, index: int) -> Marked | None:
        return self._own.get(index)

    def add(self, head: Head, rows: Mapping[str, bytes]) -> Marked:
        marked = Marked(head, digest(head), dict(rows))
        expected = self._certified.get(head.index)
        if expected is not None:
            _compare(head, expected)
        self._own[head.index] = marked
        while len(self._own) > self._marks_max:
            self._own.popitem(last=False)
        return marked

    def certified(self, head: Head) -> None:
        """A head with a valid certificate of the set in office, seen by a member."""
        own = self._own.get(head.index)
        if own is not None:
            _compare(own.head, head)
        self._certified[head.index] = head
        while len(self._certified) > self._marks_max:
            self._certified.popitem(last=False)


def _compare(own: Head, certified: Head) -> None:
    """What another set than the one in office at that entry has signed says nothing about us."""
    if (own.epoch, own.number) == (certified.epoch, certified.number) and own != certified:
        raise InvariantError(
            f"the registry of this member differs from what the committee certified after entry {own.index} "
            f"({digest(own).hex()[:16]} here, {digest(certified).hex()[:16]} there): remove this member, wipe it and "
            "add it anew"
        )


class Collecting:
    """Signatures of `signing` under one digest, as they come in. `refused`: places that have another state."""

    def __init__(self, signing: CommitteeSet, domain: bytes, subject: bytes) -> None:
        self.signing = signing
        self.domain = domain
        self.subject = subject
        self.signatures: dict[int, MemberSignature] = {}
        self.refused: set[int] = set()

    def add(self, one: MemberSignature, place: int) -> bool:
        """False for a signature that is not this member's on this digest."""
        if one.place != place or not verify_signature(self.signing, self.domain, self.subject, one):
            return False
        self.signatures[place] = one
        return True

    def certificate(self) -> Certificate | None:
        return certify(self.signing, self.signatures.values())

    def missing(self) -> list[int]:
        return [place for place in range(len(self.signing.members)) if place not in self.signatures]
