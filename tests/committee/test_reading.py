"""Linearizable reads of the registry: what was decided anywhere before the question is in the answer."""

from __future__ import annotations

import math
from collections.abc import Generator
from typing import Any

import pytest

from edgenet_node.committee.reading import WAITING_MAX, Reading
from edgenet_node.effects import Ask, Now, Reply
from edgenet_node.errors import EdgenetError, Overloaded, Refused, TimedOut
from edgenet_node.messages.committee import Decide, GetRegistry, RegistryView
from edgenet_node.messages.raft import ReadBarrier
from edgenet_node.testing.events.linearizability import Operation

from .register import verdict
from .test_swarm import formed, leader_of
from .world import Swarm

FIRST = 4096
"""`members_max` before anybody sets it."""


def value_of(view: RegistryView) -> int:
    return int(next(one.value for one in view.parameters if one.name == "members_max"))


def read(swarm: Swarm, number: int, timeout_s: float = 20.0) -> int:
    return value_of(swarm.ask(number, GetRegistry(linearizable=True), timeout_s))


def cut_off(swarm: Swarm, number: int) -> None:
    for other in range(len(swarm.peers)):
        if other != number:
            swarm.world.network.cut(swarm.peers[number], swarm.peers[other])
            swarm.world.network.cut(swarm.peers[other], swarm.peers[number])


def test_every_member_answers_with_what_another_has_decided() -> None:
    swarm = formed(4, 3)
    for value in range(100, 112):
        swarm.ask(value % 3, Decide("set", name="members_max", text=str(value)))
        assert [read(swarm, number) for number in range(3)] == [value] * 3
    assert not swarm.violations


def test_a_follower_of_the_committee_refuses() -> None:
    swarm = formed(4, 3)
    with pytest.raises(Refused, match="ask on one"):
        read(swarm, 3)
    assert value_of(swarm.view(3)) == FIRST


def test_a_leader_that_was_cut_off_gives_no_old_answer() -> None:
    swarm = formed(4, 3)
    old = leader_of(swarm, range(3))
    cut_off(swarm, old)
    others = [number for number in range(3) if number != old]
    swarm.run(2)
    swarm.ask(others[0], Decide("set", name="members_max", text="77"), timeout_s=20)
    assert read(swarm, others[1]) == 77
    assert value_of(swarm.view(old)) == FIRST, "it does not know"
    with pytest.raises((Overloaded, TimedOut)):
        read(swarm, old)
    swarm.world.network.mend_all()
    swarm.run(2)
    assert read(swarm, old) == 77
    assert not swarm.violations


class Histories:
    """Clients of one register, on all members; what they asked and heard, in simulated time."""

    def __init__(self, swarm: Swarm, *, safe: bool) -> None:
        self.swarm = swarm
        self.query = GetRegistry(linearizable=safe)
        self.operations: list[Operation] = []
        self.written = 1000

    def client(self, name: str, count: int) -> Generator[float, None, None]:
        swarm, rng = self.swarm, self.swarm.world.rng
        for _ in range(count):
            yield rng.random() * 0.3
            host = swarm.hosts[rng.randrange(3)]
            query: Decide | GetRegistry = self.query
            asked = ("read", 0)
            if rng.random() < 0.5:
                self.written += 1
                asked, query = ("write", self.written), Decide("set", name="members_max", text=str(self.written))
            if not host.running:
                continue
            yield from self._operate(name, host, asked, query)

    def _operate(self, name: str, host: Any, asked: tuple[str, int], query: Any) -> Generator[float, None, None]:
        loop = self.swarm.world.loop
        found: list[tuple[Any, Exception | None]] = []
        called = loop.now
        host.outside(query, 1.5, lambda value, error: found.append((value, error)))
        while not found and loop.now < called + 2.0:
            yield 0.02
        value, error = found[0] if found else (None, TimedOut("nobody answered"))
        assert error is None or isinstance(error, EdgenetError)
        if value is not None:
            answer = value_of(value) if asked[0] == "read" else 0
            self.operations.append(Operation(name, called, loop.now, asked, answer))
        elif asked[0] == "write":
            self.operations.append(Operation(name, called, math.inf, asked))


def history(seed: int, *, safe: bool) -> list[Operation]:
    """Members crash and are cut off while clients of all of them read and write."""
    swarm = formed(4, 3, seed=seed)
    histories, loop, rng = Histories(swarm, safe=safe), swarm.world.loop, swarm.world.rng
    for number in range(9):
        loop.spawn(histories.client(f"c{number}", 25))

    def strike() -> Generator[float, None, None]:
        for _ in range(8):
            yield 0.5 + rng.random()
            victim = rng.randrange(3)
            if rng.random() < 0.5:
                swarm.hosts[victim].crash()
                yield 0.5 + rng.random()
                swarm.hosts[victim].start()
            else:
                cut_off(swarm, victim)
                yield 0.5 + rng.random()
                swarm.world.network.mend_all()

    loop.spawn(strike())
    swarm.run(40)
    assert not swarm.violations
    return histories.operations


@pytest.mark.parametrize("seed", range(6))
def test_histories_under_faults_are_linearizable(seed: int) -> None:
    found = history(seed, safe=True)
    answered = [one for one in found if one.returned < math.inf]
    assert len(answered) > 100
    assert {one.asked[0] for one in answered} == {"read", "write"}
    assert verdict(found, FIRST) == "linearizable"


def test_reads_of_what_a_member_happens_to_have_are_not() -> None:
    """So the check above can fail."""
    assert "not linearizable" in {verdict(history(seed, safe=False), FIRST) for seed in range(3)}


def test_reads_wait_for_their_index_and_no_longer_than_their_time() -> None:
    reading = Reading(5.0)
    assert reading.wake_at == math.inf
    for place in range(3):
        (asked,) = reading.begin(100 + place, Now(float(place), float(place)))
        assert isinstance(asked, Ask)
        assert (asked.tag, asked.query) == (("barrier", place + 1), ReadBarrier())
    assert reading.wake_at == 5.0
    assert reading.confirmed(2, 9, None) == []
    assert reading.take(8) == []
    assert reading.take(9) == [101]
    refused = reading.confirmed(3, None, Overloaded("no leader"))
    assert [(one.to, type(one.error)) for one in refused if isinstance(one, Reply)] == [(102, Overloaded)]
    assert reading.expire(Now(4.9, 4.9)) == []
    late = reading.expire(Now(5.0, 5.0))
    assert [(one.to, type(one.error)) for one in late if isinstance(one, Reply)] == [(100, TimedOut)]
    assert reading.confirmed(1, 3, None) == [], "nobody waits for it any more"
    assert (reading.take(10), reading.wake_at) == ([], math.inf)


def test_readers_are_bounded() -> None:
    reading = Reading(5.0)
    now = Now(0.0, 0.0)
    for place in range(WAITING_MAX):
        assert isinstance(reading.begin(place, now)[0], Ask)
    (refused,) = reading.begin(9999, now)
    assert isinstance(refused, Reply)
    assert isinstance(refused.error, Overloaded)
