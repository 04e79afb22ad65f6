"""The world of events: what it promises to cores, as the runtime does, and what its faults take away."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from edgenet_node.effects import (
    Ask,
    Call,
    Cancel,
    Delete,
    Done,
    Early,
    Effect,
    Envelope,
    Event,
    Limits,
    Now,
    Part,
    Put,
    Query,
    Reply,
    Row,
    Saved,
    Send,
    Tell,
    Tick,
)
from edgenet_node.errors import EdgenetError, Overloaded, StoreError, StoreFull, TimedOut, Unreachable
from edgenet_node.testing.events.clock import ClockPlan, NodeClock
from edgenet_node.testing.events.disk import Disk, DiskPlan
from edgenet_node.testing.events.host import Host, HostPlan
from edgenet_node.testing.events.loop import EVENTS_PER_SECOND_MAX, Loop
from edgenet_node.testing.events.network import LinkPlan
from edgenet_node.testing.events.world import World


class Say(Query[str], frozen=True):
    text: str


class Note(Query[None], frozen=True):
    text: str


class Frame(Query[None], frozen=True):
    text: str


class Heard(Query[None], frozen=True):
    text: str


Act = Callable[["Echo", Envelope[Any], Now], list[Effect]]


class Echo:
    """Does what it is told with each message, and remembers what it took."""

    def __init__(self, act: Act) -> None:
        self.act = act
        self.took: list[Any] = []
        self.rows: list[Row] = []
        self.due = math.inf

    def restore(self, rows: Sequence[Row], now: Now) -> list[Effect]:
        self.rows = list(rows)
        return []

    def step(self, e: Envelope[Any], now: Now) -> list[Effect]:
        self.took.append(e.body)
        return self.act(self, e, now)

    def wake_at(self) -> float:
        return self.due


KINDS = (Say, Note, Frame)


LIMITS, LINK, DISK = Limits(), LinkPlan(), DiskPlan(0.01, 0.01)


def build(*acts: Act, limits: Limits = LIMITS, link: LinkPlan = LINK, seed: int = 1) -> tuple[World, list[Host]]:
    world = World(seed)
    world.network.default = link
    for number, act in enumerate(acts):

        def parts(_host: Host, act: Act = act) -> Sequence[Part]:
            return (Part("echo", lambda: Echo(act), accepts=KINDS, remote=(Say, Frame), hears=(Heard,), limits=limits),)

        world.add(HostPlan(f"h{number}", parts, disk=DISK)).start()
    return world, list(world.hosts.values())


def echo_of(host: Host) -> Echo:
    core = host.drivers["echo"].core
    assert isinstance(core, Echo)
    return core


def nothing(_core: Echo, _e: Envelope[Any], _now: Now) -> list[Effect]:
    return []


def asked(world: World, host: Host, query: Any, timeout_s: float = 5.0) -> list[tuple[float, Any]]:
    """Fills with when and what the answer was."""
    found: list[tuple[float, Any]] = []
    host.outside(query, timeout_s, lambda value, error: found.append((world.loop.now, error or value)))
    return found


# ---- the loop and clocks


def test_equal_moments_run_in_the_order_of_asking_and_dropped_ones_never() -> None:
    loop = Loop()
    ran: list[str] = []
    loop.at(2.0, ran.append, "c")
    for name in "ab":
        loop.at(1.0, ran.append, name)
    dropped = loop.at(1.5, ran.append, "x")
    loop.drop(dropped)
    loop.at(-1.0, ran.append, "now")
    assert not loop.run(1.7)
    assert ran == ["now", "a", "b"]
    loop.run(3.0)
    assert ran[-1] == "c"
    assert loop.now == 3.0


def test_a_world_that_spins_ends() -> None:
    loop = Loop()

    def again(_: Any) -> None:
        loop.after(0.0, again)

    loop.after(0.0, again)
    with pytest.raises(EdgenetError, match="spins"):
        loop.run(1.0)
    assert loop.events == EVENTS_PER_SECOND_MAX


@pytest.mark.parametrize("drift", [-0.5, -1e-4, 0.0, 1e-4, 0.3])
def test_a_timer_never_rings_before_its_clock_shows_the_time(drift: float) -> None:
    rng = random.Random(3)
    for _ in range(300):
        clock = NodeClock(ClockPlan(skew_s=5.0, drift=drift), rng.uniform(0, 100), rng.uniform(0, 1e5))
        wanted = clock.show(100.0).mono + rng.uniform(0, 50)
        rings = clock.true(wanted)
        assert clock.show(rings).mono >= wanted
        assert clock.show(rings - 1e-6).mono < wanted
    assert clock.show(110.0).wall - clock.show(100.0).wall == pytest.approx(10 * (1 + drift))


# ---- batches, saves, release


def test_effects_leave_in_the_order_of_steps_once_their_saves_are_durable() -> None:
    def act(_core: Echo, e: Envelope[Any], _now: Now) -> list[Effect]:
        if isinstance(e.body, Say) and e.body.text == "save":
            return [Put("t", "k", b"v"), Reply(e.reply_to, "saved")]
        return [Reply(e.reply_to, "free")]

    world, (host,) = build(act)
    first, second = asked(world, host, Say("save")), asked(world, host, Say("free"))
    world.loop.run(1.0)
    assert [first[0][1], second[0][1]] == ["saved", "free"]
    assert first[0][0] == second[0][0] >= 0.01  # the second step saved nothing, and still waits for the first
    assert [row.value for row in host.disk_of("echo").rows("echo")] == [b"v"]


def test_early_is_early_and_saved_comes_when_all_before_is_durable() -> None:
    def act(_core: Echo, e: Envelope[Any], _now: Now) -> list[Effect]:
        if isinstance(e.body, Say):
            return [Put("t", "k", b"v"), Early(Reply(e.reply_to, "early")), Saved("durable")]
        return []

    world, (host,) = build(act)
    found = asked(world, host, Say("x"))
    world.loop.run(0.005)
    assert found[0][1] == "early"
    assert echo_of(host).took == [Say("x")]
    assert host.disk_of("echo").rows("echo") == []
    world.loop.run(1.0)
    assert echo_of(host).took[1:] == [Done("durable")]


def test_steps_during_a_commit_share_the_next_one() -> None:
    def act(_core: Echo, e: Envelope[Any], _now: Now) -> list[Effect]:
        return [Put("t", e.body.text, b"v"), Reply(e.reply_to, "saved")]

    world, (host,) = build(act)
    first = asked(world, host, Say("0"))
    world.loop.run(0.005)
    others = [asked(world, host, Say(str(number))) for number in range(1, 20)]
    world.loop.run(1.0)
    assert {one[0][0] for one in others} == {others[0][0][0]}
    assert others[0][0][0] > first[0][0]
    assert host.disk_of("echo").groups == 2


def test_due_ticks_come_before_messages_and_must_advance() -> None:
    def act(core: Echo, e: Envelope[Any], now: Now) -> list[Effect]:
        if isinstance(e.body, Note):
            core.due = now.mono + (0.5 if e.body.text == "ahead" else 0.0)
        elif isinstance(e.body, Tick) and core.took[0] == Note("ahead"):
            core.due = math.inf
        return []

    world, (host,) = build(act)
    host.tell(Note("ahead"))
    world.loop.run(0.4)
    assert echo_of(host).took == [Note("ahead")]
    world.loop.run(1.0)
    assert echo_of(host).took == [Note("ahead"), Tick()]
    world, (host,) = build(act)
    host.tell(Note("stuck"))
    world.loop.run(1.0)
    assert not host.running
    assert "did not advance" in world.journal.violations[0].text


# ---- asks, calls, limits


def test_a_call_is_an_ask_with_a_sender_for_what_peers_may_ask() -> None:
    def answer(_core: Echo, e: Envelope[Any], _now: Now) -> list[Effect]:
        return [Reply(e.reply_to, f"{e.body.text} for {e.sender}")]

    def caller(_core: Echo, e: Envelope[Any], _now: Now) -> list[Effect]:
        if isinstance(e.body, Note):
            return [Call("open", other.peer, Say("x"), 1.0), Call("closed", other.peer, Note("x"), 1.0)]
        return []

    world, (host, other) = build(caller, answer)
    host.tell(Note("go"))
    world.loop.run(2.0)
    done = {one.tag: one for one in echo_of(host).took[1:]}
    assert done["open"] == Done("open", f"x for {host.peer}")
    assert done["closed"].error is not None
    assert echo_of(other).took == [Say("x")]


def test_operations_end_once_by_silence_crash_or_not_at_all_when_cancelled() -> None:
    def caller(_core: Echo, e: Envelope[Any], _now: Now) -> list[Effect]:
        match e.body:
            case Note("call"):
                return [Call("silent", other.peer, Say("x"), 0.5), Call("cancelled", other.peer, Say("y"), 0.5)]
            case Note("cancel"):
                return [Cancel("cancelled")]
            case Note("dead"):
                return [Call("dead", other.peer, Say("z"), 0.5)]
        return []

    world, (host, other) = build(caller, nothing)
    host.tell(Note("call"))
    world.loop.run(0.1)
    host.tell(Note("cancel"))
    world.loop.run(1.0)
    [done] = [one for one in echo_of(host).took if isinstance(one, Done)]
    assert done.tag == "silent"
    assert isinstance(done.error, TimedOut)
    other.crash()
    host.tell(Note("dead"))
    world.loop.run(2.0)
    assert isinstance(echo_of(host).took[-1].error, Unreachable)


def test_a_tag_in_flight_is_not_used_again() -> None:
    def caller(_core: Echo, e: Envelope[Any], _now: Now) -> list[Effect]:
        return [Ask("tag", Say("x"), 1.0)] if isinstance(e.body, Note) else []

    world, (host,) = build(caller)
    host.tell(Note(""))
    host.tell(Note(""))
    world.loop.run(0.1)
    assert "already in flight" in world.journal.violations[0].text


def test_a_full_mailbox_refuses_and_keeps_room_for_its_own_node() -> None:
    world, (host,) = build(nothing, limits=Limits(mailbox_max=8))
    driver = host.drivers["echo"]
    assert [driver.offer(Envelope(Say(""), 0, "peer")) for _ in range(8)] == [True] * 6 + [False] * 2
    assert [driver.offer(Envelope(Say(""))) for _ in range(3)] == [True, True, False]
    assert isinstance(asked(world, host, Say(""))[0][1], Overloaded)


def test_events_and_tells_reach_their_parts() -> None:
    def act(_core: Echo, e: Envelope[Any], _now: Now) -> list[Effect]:
        return [Event(Heard("a")), Tell(Note("b"))] if isinstance(e.body, Say) else []

    world, (host,) = build(act)
    asked(world, host, Say(""))
    world.loop.run(0.1)
    assert echo_of(host).took == [Say(""), Heard("a"), Note("b")]


# ---- crashes and disks


def saver(_core: Echo, e: Envelope[Any], _now: Now) -> list[Effect]:
    if isinstance(e.body, Say):
        return [Put("t", e.body.text, b"v"), Reply(e.reply_to, "saved")]
    return []


def test_a_crash_keeps_what_was_answered_and_a_prefix_of_the_rest() -> None:
    kept = set()
    for seed in range(40):
        world, (host,) = build(saver, seed=seed)
        answers = []
        for number in range(6):
            answers.append(asked(world, host, Say(str(number))))
            world.loop.run(world.loop.now + 0.004)
        host.crash()
        host.start()
        rows = [row.key for row in echo_of(host).rows]
        assert rows == [str(number) for number in range(len(rows))]
        assert all(str(number) in rows for number, one in enumerate(answers) if one and one[0][1] == "saved")
        kept.add(len(rows))
    assert len(kept) > 1


def test_nothing_is_released_after_a_crash_or_by_an_earlier_life() -> None:
    world, (host,) = build(saver)
    found = asked(world, host, Say("x"))
    world.loop.run(0.005)
    host.crash()
    host.start()
    world.loop.run(1.0)
    assert isinstance(found[0][1], Unreachable)
    assert len(found) == 1
    assert echo_of(host).took == []


def test_the_first_failed_fsync_ends_the_node_without_an_answer() -> None:
    world, (host,) = build(saver)
    host.disk_of("echo").sync_fails_after = 1
    first = asked(world, host, Say("0"))
    world.loop.run(0.5)
    second = asked(world, host, Say("1"))
    world.loop.run(1.0)
    assert first[0][1] == "saved"
    assert isinstance(second[0][1], Unreachable)
    assert not host.running
    assert "fsync" in host.failure
    assert host.start()
    assert "0" in [row.key for row in echo_of(host).rows]


def test_a_full_disk_takes_the_steps_back_and_the_core_is_built_again() -> None:
    world, (host,) = build(saver)
    before = echo_of(host)
    host.disk_of("echo").full = True
    found = asked(world, host, Say("0"))
    world.loop.run(0.2)
    assert isinstance(found[0][1], StoreFull)
    host.disk_of("echo").full = False
    world.loop.run(2.0)
    assert echo_of(host) is not before
    assert echo_of(host).rows == []
    assert asked(world, host, Say("1")) == []
    world.loop.run(3.0)
    assert [row.key for row in host.disk_of("echo").rows("echo")] == ["1"]


def test_a_flipped_bit_changes_one_bit_of_one_row() -> None:
    loop = Loop()
    errors: list[StoreError | None] = []
    disk = Disk(loop, random.Random(0), DiskPlan(), lambda _part, _saves: None)
    disk.commit("p", [Put("t", str(number), bytes(20)) for number in range(5)], errors.append)
    disk.commit("p", [Delete("t", "4")], errors.append)
    loop.run(1.0)
    assert errors == [None, None]
    where = disk.flip("p", random.Random(0))
    changed = [row for row in disk.rows("p") if any(row.value)]
    assert [f"{row.table}/{row.key}" for row in changed] == [where]
    assert int.from_bytes(changed[0].value, "big").bit_count() == 1
    disk.wipe()
    assert disk.rows("p") == []


def test_a_disk_that_failed_stays_failed_until_the_next_start() -> None:
    loop = Loop()
    found: list[StoreError | None] = []
    disk = Disk(loop, random.Random(0), DiskPlan(), lambda _part, _saves: None)
    disk.sync_fails_after = 0
    disk.commit("p", [Put("t", "k", b"v")], found.append)
    loop.run(1.0)
    disk.commit("p", [Put("t", "l", b"v")], found.append)
    loop.run(2.0)
    assert len(found) == 1
    assert isinstance(found[0], StoreError)
    assert disk.rows("p") == []


# ---- the network


def sender(count: int) -> Act:
    def act(core: Echo, e: Envelope[Any], _now: Now) -> list[Effect]:
        if isinstance(e.body, Note):
            return [Send(e.body.text, Frame(str(number))) for number in range(count)]
        return []

    return act


def heard(host: Host) -> list[int]:
    return [int(one.text) for one in echo_of(host).took if isinstance(one, Frame)]


def sent_over(link: LinkPlan, count: int = 200) -> list[int]:
    world, (host, other) = build(sender(count), nothing, link=link)
    host.tell(Note(other.peer))
    world.loop.run(20.0)
    return heard(other)


def test_a_stream_keeps_order_and_loses_nothing() -> None:
    assert sent_over(LinkPlan(delay_max_s=0.5)) == list(range(200))


def test_loss_doubling_and_reordering_do_what_they_say() -> None:
    lossy = sent_over(LinkPlan(loss=0.3))
    assert lossy == sorted(set(lossy))
    assert 100 < len(lossy) < 180
    doubled = sent_over(LinkPlan(duplicate=0.3))
    assert set(doubled) == set(range(200))
    assert 230 < len(doubled) < 290
    reordered = sent_over(LinkPlan(delay_max_s=0.1, reorder=0.3))
    assert sorted(reordered) == list(range(200))
    assert reordered != sorted(reordered)


def test_a_cut_is_one_way_and_takes_what_is_on_its_way() -> None:
    world, (host, other) = build(sender(3), sender(3), link=LinkPlan(delay_min_s=0.1, delay_max_s=0.2))
    host.tell(Note(other.peer))
    other.tell(Note(host.peer))
    world.loop.run(0.05)
    world.network.cut(host.peer, other.peer)
    world.loop.run(1.0)
    assert heard(other) == []
    assert heard(host) == [0, 1, 2]
    world.network.mend(host.peer, other.peer)
    host.tell(Note(other.peer))
    world.loop.run(2.0)
    assert heard(other) == [0, 1, 2]


def test_a_lost_connection_takes_what_is_on_its_way_and_fails_calls() -> None:
    def caller(_core: Echo, e: Envelope[Any], _now: Now) -> list[Effect]:
        if isinstance(e.body, Note):
            return [Send(other.peer, Frame("0")), Call("call", other.peer, Say("x"), 5.0)]
        return []

    world, (host, other) = build(caller, nothing, link=LinkPlan(delay_min_s=0.1, delay_max_s=0.2))
    host.tell(Note(""))
    world.loop.run(0.05)
    world.network.disconnect(host.peer, other.peer)
    world.loop.run(1.0)
    assert echo_of(other).took == []
    assert isinstance(echo_of(host).took[-1].error, Unreachable)


def test_what_was_sent_to_an_earlier_life_is_lost() -> None:
    world, (host, other) = build(sender(1), nothing, link=LinkPlan(delay_min_s=0.1, delay_max_s=0.2))
    host.tell(Note(other.peer))
    world.loop.run(0.05)
    other.crash()
    other.start()
    world.loop.run(1.0)
    assert heard(other) == []


def test_a_frozen_node_does_nothing_and_then_everything() -> None:
    world, (host, other) = build(sender(3), nothing)
    other.freeze(1.0)
    host.tell(Note(other.peer))
    world.loop.run(0.9)
    assert heard(other) == []
    world.loop.run(1.5)
    assert heard(other) == [0, 1, 2]
