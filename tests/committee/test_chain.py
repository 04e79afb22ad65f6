"""Certificates and the chain of sets."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from edgenet_node.committee.chain import (
    HEAD_DOMAIN,
    SET_DOMAIN,
    Chain,
    certify,
    digest,
    faults,
    genesis_set,
    proves,
    quorum,
    sign_subject,
)
from edgenet_node.crypto.hashing import sha256
from edgenet_node.errors import Conflict, Malformed
from edgenet_node.identity.keys import Identity
from edgenet_node.wire.codec import decode, encode
from edgenet_node.wire.committee import Certificate, CommitteeSet, Head, Link

SWARM = "ab" * 21
KEYS = sorted((Identity(sha256(bytes([number]))) for number in range(8)), key=lambda one: one.public)


def set_of(identities: list[Identity], number: int, previous: CommitteeSet, epoch: int = 0) -> CommitteeSet:
    return CommitteeSet(epoch, number, tuple(sorted(one.public for one in identities)), digest(previous))


def signed(subject: CommitteeSet, signing: CommitteeSet, by: list[Identity]) -> Certificate | None:
    return certify(signing, [sign_subject(one, signing, SET_DOMAIN, digest(subject)) for one in by])


def link(identities: list[Identity], before: CommitteeSet, by: list[Identity]) -> Link:
    following = set_of(identities, before.number + 1, before)
    certificate = signed(following, before, by)
    assert certificate is not None
    return Link(following, certificate)


@pytest.mark.parametrize(("members", "needed"), [(1, 1), (2, 2), (3, 2), (4, 3), (5, 4), (7, 5)])
def test_quorums_are_those_of_the_table(members: int, needed: int) -> None:
    assert quorum(members) == needed


@given(st.integers(1, 40))
def test_two_quorums_share_an_honest_member_and_the_honest_alone_are_one(members: int) -> None:
    assert 2 * quorum(members) - members > faults(members)
    assert members - faults(members) >= quorum(members)


def test_a_certificate_proves_what_a_quorum_signed_and_nothing_else() -> None:
    founder, *others = KEYS[:4]
    first = genesis_set(SWARM, founder.public)
    tip = set_of([founder, *others], 1, first)
    head = Head(SWARM, 0, 1, 7, b"r" * 32, b"h" * 32)
    signatures = [sign_subject(one, tip, HEAD_DOMAIN, digest(head)) for one in [founder, *others]]
    for count in range(5):
        certificate = certify(tip, signatures[:count])
        assert (certificate is not None) == (count >= 3)
    whole = certify(tip, signatures[:3])
    assert whole is not None
    assert proves(whole, tip, HEAD_DOMAIN, digest(head))
    assert not proves(whole, tip, SET_DOMAIN, digest(head)), "another domain"
    assert not proves(whole, tip, HEAD_DOMAIN, digest(structs.replace(head, index=8)))
    assert not proves(whole, first, HEAD_DOMAIN, digest(head)), "another set"
    few = structs.replace(whole, signatures=whole.signatures[:2])
    assert not proves(few, tip, HEAD_DOMAIN, digest(head))


def test_a_signature_does_not_count_twice() -> None:
    founder = KEYS[0]
    tip = set_of(KEYS[:3], 1, genesis_set(SWARM, founder.public))
    one = sign_subject(founder, tip, HEAD_DOMAIN, b"d" * 32)
    assert certify(tip, [one, one, one]) is None
    with pytest.raises(ValueError, match="each once"):
        Certificate(0, 1, (one, one))
    doubled = {"epoch": 0, "number": 1, "signatures": [{"place": 0, "signature": one.signature}] * 2}
    with pytest.raises(Malformed):
        decode(encode(doubled), Certificate, bytes_max=10_000)


def test_only_members_sign() -> None:
    with pytest.raises(Conflict):
        sign_subject(KEYS[5], genesis_set(SWARM, KEYS[0].public), SET_DOMAIN, b"d" * 32)


def test_the_chain_grows_from_the_genesis() -> None:
    founder = KEYS[0]
    chain = Chain(SWARM, founder.public)
    three = link(KEYS[:3], chain.tip, [founder])
    five = link(KEYS[:5], three.set, KEYS[1:3])
    assert chain.extend([three, five]) == 2
    assert chain.tip.members == tuple(one.public for one in KEYS[:5])
    assert chain.extend([three, five]) == 0, "again"
    assert chain.find(0, 1) == three.set
    assert chain.find(1, 1) is None


def test_a_link_without_its_predecessors_quorum_is_malformed() -> None:
    founder = KEYS[0]
    chain = Chain(SWARM, founder.public)
    three = link(KEYS[:3], chain.tip, [founder])
    chain.extend([three])
    following = set_of(KEYS[3:6], 2, three.set)
    lonely = [sign_subject(KEYS[0], three.set, SET_DOMAIN, digest(following))]
    forged = Link(following, Certificate(0, 1, tuple(lonely)))
    for bad in (forged, Link(following), Link(structs.replace(following, number=3), forged.certificate)):
        with pytest.raises(Malformed):
            chain.extend([bad])
    assert chain.tip == three.set
    stranger = Identity(sha256(b"stranger"))
    usurper = Chain(SWARM, stranger.public)
    with pytest.raises(Malformed):
        chain.extend([link([stranger], usurper.tip, [stranger]), link(KEYS[4:7], usurper.tip, [stranger])])


def test_two_certified_sets_of_one_number_are_reported() -> None:
    founder = KEYS[0]
    chain = Chain(SWARM, founder.public)
    chain.extend([link(KEYS[:3], chain.tip, [founder])])
    other = Chain(SWARM, founder.public)
    with pytest.raises(Conflict, match="two committees of one genesis"):
        chain.extend([link(KEYS[:4], other.tip, [founder])])


def test_a_new_epoch_waits_for_its_operator() -> None:
    founder = KEYS[0]
    chain = Chain(SWARM, founder.public)
    three = link(KEYS[:3], chain.tip, [founder])
    alone = Link(CommitteeSet(1, 2, (KEYS[1].public,), digest(three.set)))
    assert chain.extend([three, alone]) == 1
    assert chain.offered == alone.set
    chain.accept(digest(alone.set).hex())
    assert chain.extend([alone]) == 1
    assert chain.tip == alone.set
    skipping = Link(CommitteeSet(3, 3, (KEYS[1].public,), digest(alone.set)))
    with pytest.raises(Malformed, match="skips"):
        chain.extend([skipping])


@given(st.sets(st.integers(0, 6), min_size=1))
def test_any_quorum_and_only_a_quorum_certifies_seven(who: set[int]) -> None:
    tip = set_of(KEYS[:7], 1, genesis_set(SWARM, KEYS[0].public))
    found = certify(tip, [sign_subject(KEYS[place], tip, SET_DOMAIN, b"d" * 32) for place in who])
    assert (found is not None) == (len(who) >= 5)
    if found is not None:
        assert proves(found, tip, SET_DOMAIN, b"d" * 32)


def test_members_of_a_set_are_in_order() -> None:
    keys = [one.public for one in KEYS[:3]]
    for order in itertools.permutations(keys):
        if list(order) == keys:
            continue
        with pytest.raises(ValueError, match="ascending"):
            CommitteeSet(0, 0, order, b"p" * 32)
