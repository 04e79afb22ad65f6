"""The registry as a state machine."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgenet_node.committee.chain import genesis_set
from edgenet_node.committee.parameters import PARAMETERS
from edgenet_node.committee.state import COMMAND_DOMAIN, Applied, RegistryState
from edgenet_node.crypto.hashing import sha256
from edgenet_node.errors import UsageError
from edgenet_node.identity.keys import Identity
from edgenet_node.wire.codec import encode
from edgenet_node.wire.committee import MemberRow, RegistryCommand, SignedCommand

SWARM = "ab" * 21
FOUNDER, ANNA, BEN = (Identity(sha256(name)) for name in (b"founder", b"anna", b"ben"))
COMMITTEE = genesis_set(SWARM, FOUNDER.public)


class Book:
    """A registry and the next index."""

    def __init__(self) -> None:
        self.state = RegistryState()
        self.index = 1
        self.sequence = 0

    def take(self, data: bytes) -> Applied:
        self.index += 1
        return self.state.apply(self.index, data, COMMITTEE, SWARM)

    def do(self, author: Identity, kind: Any, swarm: str = SWARM, sequence: int = 0, **fields: Any) -> Applied:
        self.sequence += 1
        return self.take(command(author, kind, swarm, sequence or self.sequence, **fields))

    def member(self, who: Identity) -> MemberRow | None:
        return self.state.get(f"member/{who.peer_id}", MemberRow)


def command(author: Identity, kind: Any, swarm: str, sequence: int, **fields: Any) -> bytes:
    body = encode(RegistryCommand(kind, swarm, sequence, **fields))
    return encode(SignedCommand(author.public, body, author.sign(COMMAND_DOMAIN, body)))


def test_a_node_registers_itself_and_nobody_else() -> None:
    book = Book()
    assert not book.do(ANNA, "register", addresses=("/ip4/10.0.0.1/tcp/1",), capabilities=("echo",)).refused
    row = book.member(ANNA)
    assert row is not None
    assert (row.status, row.addresses, row.public_key) == ("open", ("/ip4/10.0.0.1/tcp/1",), ANNA.public)
    assert book.state.members == 1
    assert "committee" in book.do(ANNA, "admit", peer=BEN.peer_id).refused
    assert "committee" in book.do(ANNA, "set", name="members_max", value=5).refused
    assert book.member(BEN) is None


def test_an_older_command_is_refused() -> None:
    book = Book()
    ban = command(FOUNDER, "ban", SWARM, 10, peer=ANNA.peer_id, reason="wrong results")
    assert not book.take(ban).refused
    assert not book.do(FOUNDER, "admit", sequence=11, peer=ANNA.peer_id).refused
    before = dict(book.state.rows)
    assert "newer" in book.take(ban).refused, "played again"
    assert book.state.rows == before
    register = command(BEN, "register", SWARM, 7)
    assert not book.take(register).refused
    assert "newer" in book.take(register).refused


def test_the_banned_stay_banned_until_they_are_admitted() -> None:
    book = Book()
    book.do(ANNA, "register")
    book.do(FOUNDER, "ban", peer=ANNA.peer_id, reason="wrong results")
    assert "wrong results" in book.do(ANNA, "register").refused
    row = book.member(ANNA)
    assert row is not None
    assert row.status == "banned"
    book.do(FOUNDER, "admit", peer=ANNA.peer_id)
    assert not book.do(ANNA, "register").refused


def test_the_committee_cannot_ban_itself() -> None:
    assert "remove it" in Book().do(FOUNDER, "ban", peer=FOUNDER.peer_id).refused


def test_a_listed_swarm_takes_nobody_new() -> None:
    book = Book()
    book.do(FOUNDER, "set", name="admission", value=1)
    assert "lists" in book.do(ANNA, "register").refused
    book.do(FOUNDER, "admit", peer=ANNA.peer_id)
    assert not book.do(ANNA, "register").refused


def test_the_registry_has_an_end() -> None:
    book = Book()
    book.do(FOUNDER, "set", name="members_max", value=1)
    assert not book.do(ANNA, "register").refused
    assert "full" in book.do(BEN, "register").refused
    assert "full" in book.do(FOUNDER, "ban", peer=BEN.peer_id).refused
    assert not book.do(ANNA, "register").refused


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameters_keep_their_bounds(name: str) -> None:
    known, book = PARAMETERS[name], Book()
    assert known.least <= known.default <= known.most
    for value in (known.least, known.most):
        assert not book.do(FOUNDER, "set", name=name, value=value).refused
        assert book.state.parameter(name) == value
        assert known.parse(known.show(value)) == value
    for value in (known.least - 1, known.most + 1):
        assert book.do(FOUNDER, "set", name=name, value=value).refused
    with pytest.raises(UsageError):
        known.parse("nonsense")


def test_unknown_parameters_and_other_swarms_are_refused() -> None:
    book = Book()
    assert book.do(FOUNDER, "set", name="nonsense", value=1).refused
    assert book.do(FOUNDER, "ban", swarm="cd" * 21, peer=ANNA.peer_id).refused
    forged = SignedCommand(FOUNDER.public, encode(RegistryCommand("mark", SWARM, 99)), b"s" * 64)
    assert book.take(encode(forged)).refused


@given(st.binary(max_size=300))
def test_any_bytes_are_refused_and_change_nothing(data: bytes) -> None:
    book = Book()
    history = book.state.history
    assert book.take(data).refused
    assert (book.state.rows, book.state.history) == ({}, history)


@given(
    st.lists(st.tuples(st.sampled_from(["register", "ban", "admit", "set", "mark"]), st.integers(0, 2)), max_size=30)
)
def test_equal_logs_make_equal_states_and_roots(acts: list[tuple[str, int]]) -> None:
    """And a state that was loaded goes on as the one that was not."""
    who = (FOUNDER, ANNA, BEN)
    log = [
        command(who[at] if kind == "register" else FOUNDER, kind, SWARM, place + 1, peer=who[at].peer_id)
        for place, (kind, at) in enumerate(acts)
    ]
    one, other = Book(), Book()
    for place, data in enumerate(log):
        one.take(data)
        if place == len(log) // 2:
            loaded = RegistryState()
            loaded.load(other.state.rows, other.state.index, other.state.history)
            other.state = loaded
        other.take(data)
        assert (one.state.history, one.state.rows) == (other.state.history, other.state.rows)
    assert one.state.root() == other.state.root()
    assert one.state.members == other.state.members == len(one.state.member_rows())
