"""The holder of the secret keeps it."""

from __future__ import annotations

import copy
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgenet_node.crypto import fingerprints, signing
from edgenet_node.errors import InvariantError, UsageError
from edgenet_node.identity.keys import Identity
from edgenet_node.wire.codec import encode

SEED = bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")


@given(st.binary(min_size=32, max_size=32), st.binary(max_size=50))
def test_all_names_follow_from_the_seed(seed: bytes, message: bytes) -> None:
    one = Identity(seed)
    assert one.public == signing.public_key(seed)
    assert one.pi_key == fingerprints.pi_key(one.public)
    assert one.short_id == "π:" + one.pi_key.hex()[:16]
    assert fingerprints.public_from_peer_id(one.peer_id) == one.public
    assert one.reveal_seed() == seed
    assert one.sign(b"test", message) == signing.sign(seed, b"test", message)
    assert signing.verify(one.public, b"test", message, one.sign(b"test", message))


def test_the_secret_is_not_shown() -> None:
    one = Identity(SEED)
    for text in (repr(one), str(one), f"{one}", repr([one]), repr({"key": one})):
        assert one.peer_id in text
        assert SEED.hex() not in text
        assert repr(SEED)[2:20] not in text


def test_the_secret_does_not_leave_the_process_by_accident() -> None:
    one = Identity(SEED)
    for leave in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="not pickled"):
            leave(one)
    with pytest.raises(UsageError, match="cannot encode Identity"):
        encode(one)


def test_identities_are_compared_by_key() -> None:
    assert Identity(SEED) == Identity(SEED)
    assert len({Identity(SEED), Identity(SEED), Identity(bytes(32))}) == 2
    assert Identity(SEED) != SEED


@pytest.mark.parametrize("seed", [b"", bytes(31), bytes(33), bytes(64)])
def test_a_seed_has_32_bytes(seed: bytes) -> None:
    with pytest.raises(InvariantError, match="32 bytes"):
        Identity(seed)
