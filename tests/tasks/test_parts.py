"""The small parts, each by its law: alarms, ranges, sizes, samples and their bound, the event log."""

from __future__ import annotations

import math
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from edgenet_node.tasks.alarms import Alarms
from edgenet_node.tasks.chunks import Lateness, Ranges, chunk_size, gaps
from edgenet_node.tasks.escrow import Account
from edgenet_node.tasks.events import EVENTS_MAX, PASSING, EventLog
from edgenet_node.tasks.executors import Executors
from edgenet_node.tasks.settings import JobsSettings
from edgenet_node.tasks.verification import Sampled, assess, draw, undetected_max
from edgenet_node.tasks.work import Attempt
from edgenet_node.wire.task import INPUT_BYTES_MAX

SETTINGS = JobsSettings()


@given(st.lists(st.tuples(st.integers(0, 5), st.none() | st.floats(0, 100)), max_size=60))
def test_alarms_ring_once_in_order_and_always_advance(changes: list[tuple[int, float | None]]) -> None:
    alarms, now = Alarms(), 0.0
    expected: dict[int, float] = {}
    for key, at in changes:
        expected.pop(key, None)
        if at is None:
            alarms.drop(key)
        else:
            alarms.set(key, at, now)
            expected[key] = max(at, now + 0.001)
    assert alarms.next() == min(expected.values(), default=math.inf)
    assert alarms.due(50.0) == sorted((k for k in expected if expected[k] <= 50.0), key=lambda k: expected[k])
    assert alarms.next() > 50.0


def test_alarms_that_are_replaced_for_ever_stay_bounded() -> None:
    alarms = Alarms()
    for number in range(10_000):
        alarms.set("deadline", float(number), 0.0)
    assert len(alarms._heap) < 1000
    assert alarms.next() == 9999.0


@given(st.integers(1, 300), st.lists(st.tuples(st.integers(1, 60), st.booleans()), max_size=80))
def test_ranges_lose_and_repeat_nothing(count: int, carvings: list[tuple[int, bool]]) -> None:
    ranges, items = Ranges(count), [b"x" * 10] * count
    out: list[int] = []
    for size, back in carvings:
        if not ranges:
            break
        part = ranges.carve(size, items)
        assert 1 <= part.stop - part.start <= size
        if back:
            ranges.give_back(part.start, part.stop, part.tries + 1)
        else:
            out += range(part.start, part.stop)
    assert ranges.items == count - len(out)
    while ranges:
        part = ranges.carve(7, items)
        out += range(part.start, part.stop)
    assert sorted(out) == list(range(count))


def test_a_chunk_fits_its_frame() -> None:
    items = [bytes(64 * 1024)] * 20
    part = Ranges(20).carve(20, items)
    size = sum(len(item) + 5 for item in items[part.start : part.stop])
    assert 0 < size <= INPUT_BYTES_MAX
    alone = Ranges(2).carve(2, [bytes(INPUT_BYTES_MAX - 100)] * 2)
    assert alone.stop == 1


@given(st.integers(1, 50), st.data())
def test_gaps_are_what_is_not_done(count: int, data: st.DataObject) -> None:
    done, at = [], 0
    while at < count:
        size = data.draw(st.integers(1, 10))
        if data.draw(st.booleans()):
            done.append((at, min(count, at + size)))
        at += size
    covered = {item for start, stop in done for item in range(start, stop)}
    missing = {item for start, stop in gaps(done, count) for item in range(start, stop)}
    assert covered | missing == set(range(count))
    assert not covered & missing


@given(
    st.integers(1, 20_000),
    st.just(0.0) | st.floats(1e-6, 10.0),
    st.integers(0, 512),
    st.floats(0.001, 1.0),
    st.integers(1, 512),
)
def test_a_chunk_size_is_always_possible(left: int, speed: float, last: int, share: float, most: int) -> None:
    assert 1 <= chunk_size(left, speed, last, share, SETTINGS, most) <= min(left, most)


def test_chunks_start_small_aim_at_their_time_and_shrink_at_the_end() -> None:
    assert chunk_size(10_000, 0.0, 0, 1.0, SETTINGS, 512) == 8
    assert chunk_size(10_000, 0.01, 8, 0.25, SETTINGS, 512) == 32
    assert chunk_size(10_000, 0.01, 64, 0.25, SETTINGS, 512) == 70
    assert chunk_size(100, 0.01, 64, 0.25, SETTINGS, 512) == 12
    assert chunk_size(10, 0.01, 64, 0.25, SETTINGS, 512) == 5


def test_late_is_beyond_the_spread_of_what_was_seen() -> None:
    late = Lateness()
    assert late.limit_s(10, SETTINGS) == SETTINGS.chunk_timeout_s_min / 2
    for seconds in (0.9, 1.0, 1.1, 1.0, 1.0):
        late.add(seconds, 1)
    assert late.limit_s(1, SETTINGS) == 1.0
    late.add(1.2, 1)
    assert math.isclose(late.limit_s(10, SETTINGS), 10 * (1.0 + 5 * 0.05))


def test_a_sample_is_fresh_and_as_large_as_its_rate() -> None:
    assert draw(range(5), 1.0, Random(1)) == (0, 1, 2, 3, 4)
    assert draw(range(5), 0.0, Random(1)) == ()
    drawn = [draw(range(100), 0.2, Random(seed)) for seed in range(200)]
    assert 18 < sum(map(len, drawn)) / 200 < 22
    assert len(set(drawn)) > 190


@settings(max_examples=60)
@given(st.lists(st.tuples(st.integers(1, 6), st.sampled_from([0.0, 0.1, 0.3, 0.5, 0.9, 1.0])), min_size=1, max_size=5))
def test_the_bound_is_the_worst_case(chunks: list[tuple[int, float]]) -> None:
    """Against brute force over every way to spread the wrong items."""
    samples = [Sampled("p", items, items if rate == 1.0 else 0, rate) for items, rate in chunks]
    worst = {0: 1.0}
    for items, rate in chunks:
        for wrong in sorted(worst, reverse=True):
            for more in range(1, items + 1):
                chance = worst[wrong] * (1.0 - rate) ** more
                worst[wrong + more] = max(worst.get(wrong + more, 0.0), chance)
    best = max(wrong for wrong, chance in worst.items() if chance >= 0.05 - 1e-9)
    assert undetected_max(samples, 0.05) == best


def test_a_pooled_sample_would_promise_too_much() -> None:
    """The liar waits until it is trusted: 100 items checked in full, then 1,000 at 5 %."""
    verified = assess([Sampled("p", 100, 100, 1.0), Sampled("p", 1000, 50, 0.05)], 1, 0, 1100)
    assert verified.checked == 150
    pooled = 20 / 1100  # ln(0.05) / ln(1 - 150/1100), what one hypergeometric over all 1,100 items would state
    assert verified.error_bound == 58 / 1100 > pooled


def test_own_work_leaves_nothing_open() -> None:
    assert assess([Sampled("node", 500, 500, 1.0)], 0, 3, 500).error_bound == 0.0
    assert assess([Sampled("p", 10, 0, 0.0)], 1, 0, 10).error_bound == 1.0


def test_events_are_bounded_and_milestones_outlive_progress() -> None:
    log = EventLog()
    log.add("queued", 0.0, {})
    for number in range(3 * EVENTS_MAX):
        log.add("running", float(number), {})
        log.add("progress", float(number), {"done": number})
    log.add("mismatch", 9e9, {})
    log.add("done", 9e9, {})
    kept = log.after(0)
    assert len(kept) == EVENTS_MAX
    assert kept[0].name == "queued"
    assert [event.name for event in kept[-2:]] == ["mismatch", "done"]
    assert [event.seq for event in kept] == sorted({event.seq for event in kept})
    assert log.finished
    assert not PASSING & {event.name for event in kept if event.seq in log.saved()}


def test_progress_in_quick_succession_is_one_event() -> None:
    log = EventLog()
    for number in range(10):
        log.add("progress", 100.0 + 0.01 * number, {"done": number})
    assert [event.data["done"] for event in log.after(0)] == [9]
    assert log.seq == 10


def test_speed_is_that_of_one_worker_not_of_the_queue() -> None:
    executors = Executors("node", workers=1)
    flying = [Attempt(n, "t", "echo", "node", "run", range(10), 10, b"", 0, 0.0, 0.0, 0) for n in range(3)]
    for attempt in flying:
        executors.depart(attempt, 0.0)
    for number, attempt in enumerate(flying):
        assert executors.land(attempt, float(number + 1), measured=True) == 1.0
    assert math.isclose(executors.speed("echo", "node"), 0.1)
    assert executors.flying("node") == {}


def test_an_account_pays_the_honest_only() -> None:
    account = Account()
    account.charge("a", 3, 10)
    account.charge("liar", 5, 10)
    account.charge("a", 3, 5)
    account.void("liar")
    settlement = account.settle()
    assert settlement.owed == {"a": 45}
    assert settlement.total == 45
    assert account.reserved == 0


def test_a_cold_first_chunk_does_not_keep_an_executor_slow() -> None:
    executors = Executors("node", workers=1)
    for number, seconds in enumerate((4.0, 0.1, 0.1)):
        attempt = Attempt(number, "t", "embedding", "P", "run", range(8), 8, b"", 0, 0.0, 0.0, 0)
        executors.depart(attempt, 0.0)
        executors.land(attempt, seconds, measured=True)
    assert executors.speed("embedding", "P") < 0.04
