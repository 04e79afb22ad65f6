"""The chain of committee sets from the genesis on, and what a certificate proves.

With n members and f = floor((n - 1) / 3), a certificate needs floor((n + f) / 2) + 1 signatures: any two of them share
an honest member (Castro and Liskov, OSDI 1999). Below four members f is 0: such a committee is trusted.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ..crypto.hashing import sha256
from ..crypto.signing import Signer, verify
from ..errors import Conflict, Malformed
from ..wire.codec import Wire, encode
from ..wire.committee import SET_SIZES, Certificate, CommitteeSet, Head, Link, MemberSignature

SET_DOMAIN = b"committee-set"
HEAD_DOMAIN = b"registry-head"


def faults(members: int) -> int:
    """How many lying members of so many can do no harm."""
    return (members - 1) // 3


def quorum(members: int) -> int:
    """Signatures that a certificate of so many members needs: 1 of 1, 2 of 3, 3 of 4, 4 of 5, 5 of 7."""
    return (members + faults(members)) // 2 + 1


def digest(subject: Wire) -> bytes:
    """SHA-256 of its canonical encoding."""
    return sha256(encode(subject))


def genesis_set(swarm: str, founder: bytes) -> CommitteeSet:
    """Number 0: the founder alone."""
    return CommitteeSet(0, 0, (founder,), sha256(swarm.encode()))


def sign_subject(signer: Signer, signing: CommitteeSet, domain: bytes, subject_digest: bytes) -> MemberSignature:
    """This node's signature as a member of `signing`. `Conflict` when it is none."""
    if signer.public not in signing.members:
        raise Conflict(f"this node is not in committee set {signing.number}")
    return MemberSignature(signing.members.index(signer.public), signer.sign(domain, subject_digest))


def verify_signature(signing: CommitteeSet, domain: bytes, subject_digest: bytes, one: MemberSignature) -> bool:
    return one.place < len(signing.members) and verify(
        signing.members[one.place], domain, subject_digest, one.signature
    )


def certify(signing: CommitteeSet, signatures: Iterable[MemberSignature]) -> Certificate | None:
    """None until there are enough. Signatures were verified."""
    by_place = {one.place: one for one in signatures}
    if len(by_place) < quorum(len(signing.members)):
        return None
    return Certificate(signing.epoch, signing.number, tuple(by_place[place] for place in sorted(by_place)))


def proves(certificate: Certificate, signing: CommitteeSet, domain: bytes, subject_digest: bytes) -> bool:
    """Whether a quorum of `signing` has signed."""
    if (certificate.epoch, certificate.number) != (signing.epoch, signing.number):
        return False
    if len(certificate.signatures) < quorum(len(signing.members)):
        return False
    return all(verify_signature(signing, domain, subject_digest, one) for one in certificate.signatures)


class Chain:
    """Verified sets, oldest first. Verified means: from the genesis, each certified by its predecessor, or begun by an
    epoch that this node's operator has accepted (`accepted`: digests in hex)."""

    def __init__(self, swarm: str, founder: bytes, accepted: Iterable[str] = ()) -> None:
        self.links: list[Link] = [Link(genesis_set(swarm, founder))]
        self.offered: CommitteeSet | None = None
        self.accepted = frozenset(accepted)

    @property
    def tip(self) -> CommitteeSet:
        return self.links[-1].set

    def find(self, epoch: int, number: int) -> CommitteeSet | None:
        found = self.links[number].set if number < len(self.links) else None
        return found if found is not None and found.epoch == epoch else None

    def extend(self, links: Sequence[Link]) -> int:
        """Take what follows the tip; how many were new. `Malformed` for a link that proves nothing, `Conflict` for one
        that is certified and differs from what we have: two committees of one genesis. A new epoch that nobody has
        accepted here is kept as `offered` and ends the walk."""
        taken = 0
        for link in links:
            number = link.set.number
            known = self.links[number].set if number < len(self.links) else None
            if known == link.set:
                continue
            before = self.links[number - 1].set if 0 < number <= len(self.links) else None
            if before is None or link.set.previous != digest(before):
                raise Malformed(f"committee set {number} does not follow what is known here")
            if known is not None and link.set.epoch <= known.epoch:
                self._differs(known, before, link)
            if not self._follows(before, link):
                break
            del self.links[number:]  # of an epoch that ended before it
            self.links.append(link)
            taken += 1
        return taken

    def _differs(self, known: CommitteeSet, before: CommitteeSet, link: Link) -> None:
        if link.certificate is not None and proves(link.certificate, before, SET_DOMAIN, digest(link.set)):
            raise Conflict(
                f"two committees of one genesis: set {link.set.number} is {digest(known).hex()[:16]} here and "
                f"{digest(link.set).hex()[:16]} there, both certified"
            )
        raise Malformed(f"committee set {link.set.number} is another one, and not certified")

    def _follows(self, before: CommitteeSet, link: Link) -> bool:
        following = link.set
        if len(following.members) not in SET_SIZES:
            raise Malformed(f"a committee of {len(following.members)}")
        if following.epoch == before.epoch:
            if link.certificate is None or not proves(link.certificate, before, SET_DOMAIN, digest(following)):
                raise Malformed(f"committee set {following.number} is not certified by set {before.number}")
            return True
        if following.epoch != before.epoch + 1 or len(following.members) != 1 or link.certificate is not None:
            raise Malformed(f"committee set {following.number} skips an epoch, or begins one with several members")
        if digest(following).hex() in self.accepted:
            return True
        self.offered = following
        return False

    def accept(self, digest_hex: str) -> None:
        """The operator's word for a new epoch."""
        self.accepted |= {digest_hex}
        self.offered = None

    @property
    def office(self) -> tuple[int, int]:
        """Epoch and number of the set in office."""
        return self.tip.epoch, self.tip.number

    def head_proven(self, head: Head, certificate: Certificate) -> bool:
        """By the set in office: one that left it certifies nothing any more, or the founder could for ever."""
        return (head.epoch, head.number) == self.office and proves(certificate, self.tip, HEAD_DOMAIN, digest(head))
