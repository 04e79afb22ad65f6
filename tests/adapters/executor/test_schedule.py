from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgenet_node.adapters.process_executor.schedule import Schedule, Taken

NEVER = 1e9


class Task:
    def __init__(self, name: int) -> None:
        self.name = name

    def __repr__(self) -> str:
        return f"t{self.name}"


operations = st.lists(
    st.tuples(st.sampled_from(["put", "take", "remove"]), st.integers(0, 3), st.integers(0, 50)), max_size=120
)


@given(operations, st.sampled_from([0.5, 3.0, NEVER]))
def test_every_task_leaves_exactly_once(steps: list[tuple[str, int, int]], starve_after_s: float) -> None:
    schedule: Schedule[Task] = Schedule(4, starve_after_s)
    entered: list[Task] = []
    left: Counter[Task] = Counter()
    for now, (what, worker, pick) in enumerate(steps):
        if what == "put":
            entered.append(Task(len(entered)))
            schedule.put(worker, entered[-1], now)
        elif what == "take":
            taken = schedule.take(worker, now)
            assert (taken is None) == (len(entered) == left.total())
            if taken is not None:
                left[taken.item] += 1
        elif entered:
            task = entered[pick % len(entered)]
            removed = schedule.remove(task)
            assert removed == (task not in left)
            left[task] += removed
        assert schedule.queued == len(entered) - left.total()
    left.update(schedule.drain())
    assert left == Counter(entered)
    assert schedule.queued == 0


def filled(starve_after_s: float) -> Schedule[str]:
    schedule: Schedule[str] = Schedule(3, starve_after_s)
    for now, (worker, item) in enumerate([(0, "a"), (1, "b"), (0, "c"), (0, "d")]):
        schedule.put(worker, item, float(now))
    return schedule


def test_own_work_comes_from_the_young_end() -> None:
    schedule = filled(NEVER)
    assert [schedule.take(0, 4.0) for _ in range(3)] == [Taken(x, stolen=False) for x in "dca"]


def test_a_thief_takes_the_oldest_of_the_longest_deque() -> None:
    schedule = filled(NEVER)
    assert [schedule.take(2, 4.0) for _ in range(4)] == [Taken(x, stolen=True) for x in "acbd"]
    assert schedule.take(2, 4.0) is None


def test_what_starves_goes_first_wherever_it_is() -> None:
    schedule = filled(3.0)
    assert schedule.take(0, 2.9) == Taken("d", stolen=False)
    assert schedule.take(1, 3.0) == Taken("a", stolen=True)
    assert schedule.take(0, 4.0) == Taken("b", stolen=True)


def test_under_steady_load_no_task_waits_much_longer_than_the_guard() -> None:
    """One worker, one new task per finished one, and a backlog: pure LIFO would leave the first for ever."""
    schedule: Schedule[int] = Schedule(1, 10.0)
    for n in range(5):
        schedule.put(0, n, 0.0)
    waits = []
    for now in range(1, 200):
        schedule.put(0, 1000 + now, float(now))
        taken = schedule.take(0, float(now))
        assert taken is not None
        waits.append(now - max(0, taken.item - 1000))
    assert max(waits) <= 10 + 6


def random_dag(rng: random.Random, size: int) -> list[list[int]]:
    """Children of each node; node 0 reaches all; every edge goes to a larger number."""
    children: list[list[int]] = [[] for _ in range(size)]
    for node in range(1, size):
        for parent in {rng.randrange(node) for _ in range(rng.choice([1, 1, 2]))}:
            children[parent].append(node)
    return children


@pytest.mark.parametrize("workers", [1, 2, 5])
@pytest.mark.parametrize("seed", range(20))
def test_makespan_of_a_dag_is_within_the_greedy_bound(workers: int, seed: int) -> None:
    """T_P <= T_1/P + T_inf for unit tasks whose children enter the deque of the worker that freed them."""
    children = random_dag(random.Random(seed), 120)
    missing = Counter(child for kids in children for child in kids)
    depth = [1] * len(children)
    for node, kids in enumerate(children):
        for child in kids:
            depth[child] = max(depth[child], depth[node] + 1)
    schedule: Schedule[int] = Schedule(workers, NEVER)
    schedule.put(0, 0, 0.0)
    ran: list[int] = []
    now = 0
    while len(ran) < len(children):
        batch = [(w, taken.item) for w in range(workers) if (taken := schedule.take(w, float(now)))]
        now += 1
        for worker, node in batch:
            ran.append(node)
            for child in children[node]:
                missing[child] -= 1
                if not missing[child]:
                    schedule.put(worker, child, float(now))
    assert sorted(ran) == list(range(len(children)))
    assert now <= len(children) / workers + max(depth)
