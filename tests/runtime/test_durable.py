"""Durable first: nothing leaves before the saves of its own and all earlier steps."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from edgenet_node.effects import Delete, Early, Effect, Envelope, Event, Limits, Now, Put, Reply, Row, Save, Tell
from edgenet_node.errors import EdgenetError, StoreError, StoreFull
from edgenet_node.runtime import NodeFailed, Runtime
from edgenet_node.testing.determinism import seed_scheduler
from edgenet_node.testing.inline_executor import InlineExecutor
from edgenet_node.testing.store import MemoryStore
from edgenet_node.testing.world import Ports, World, until

from .toys import Add, Get, Happened, Memo, Note, Script, Services, ToyWire, part, running


class Sum:
    """Adds, saves the sum, and promises it in every way there is."""

    def __init__(self) -> None:
        self.total = 0

    def restore(self, rows: Sequence[Row], now: Now) -> list[Effect]:
        self.total = int(rows[0].value) if rows else 0
        return []

    def step(self, e: Envelope[Any], now: Now) -> list[Effect]:
        if not isinstance(e.body, Add):
            # No saves of its own, but its answer speaks of earlier ones.
            return [Reply(e.reply_to, self.total)]
        self.total += e.body.amount
        return [
            Tell(Memo(str(self.total))),
            Event(Happened(self.total)),
            Reply(e.reply_to, self.total),
            Put("sum", "total", str(self.total).encode()),
        ]

    def wake_at(self) -> float:
        return float("inf")


def _durable(store: MemoryStore) -> int:
    return int(store.rows().get("sum", {}).get(("sum", "total"), b"0"))


@pytest.mark.parametrize("seed", range(20))
async def test_a_crash_at_any_moment_loses_no_promise(seed: int, autojump_clock: MockClock) -> None:
    """Clients ask, the power fails at a random moment, three times; whoever heard a sum finds it after the restart."""
    seed_scheduler(seed)
    rng = random.Random(seed)
    promised: list[int] = [0]
    store_now: list[MemoryStore] = []

    def promise(total: int) -> None:
        assert _durable(store_now[-1]) >= total, "released before it was durable"
        promised.append(total)

    def build(ports: Ports) -> Runtime:
        store_now.append(ports.store)
        runtime = Runtime(
            [part(Sum, name="sum", accepts=(Add, Get), limits=Limits(batch_max=rng.choice([1, 4, 256])))],
            store=ports.store,
            network=ports.network,
            executor=InlineExecutor({}),
            clock=ports.clock,
            rng=ports.rng,
            wire=ToyWire(),
            services={Memo: lambda memo: promise(int(memo.text))},
        )
        runtime.bus.listen(Happened, lambda event: promise(event.number))
        return runtime

    async def client(runtime: Runtime) -> None:
        try:
            while True:
                query: Any = Add(rng.randint(1, 9)) if rng.random() < 0.7 else Get()
                promise(await runtime.bus.ask(query, 1.0))
        except EdgenetError:
            return

    world = World(seed, build, make_store=lambda disk: MemoryStore(delay_s=lambda: disk.uniform(0.0, 0.02)))
    async with trio.open_nursery() as nursery:
        await nursery.start(world.run)
        await world.start("node")
        for _ in range(3):
            async with trio.open_nursery() as clients:
                for _ in range(5):
                    clients.start_soon(client, world.runtime("node"))
                fails_at = trio.current_time() + rng.uniform(0.0, 0.3)
                await until(lambda at=fails_at: trio.current_time() >= at)  # type: ignore[misc]
                await world.crash("node")
            await world.restart("node")
            assert await world.runtime("node").bus.ask(Get(), 1.0) >= max(promised)
        assert len(promised) > 10
        nursery.cancel_scope.cancel()


async def test_release_order_is_program_order(autojump_clock: MockClock) -> None:
    """A step without saves waits behind one with saves; early effects do not wait."""
    told: list[str] = []

    def step(e: Envelope[Any], now: Now) -> list[Effect]:
        text = e.body.text
        effects: list[Effect] = [Tell(Memo(f"{text}-1")), Early(Tell(Memo(f"{text}-early"))), Tell(Memo(f"{text}-2"))]
        return [Put("t", text, b""), *effects] if text == "saved" else effects

    store = MemoryStore(delay_s=lambda: 1.0)
    services: Services = {Memo: lambda memo: told.append(memo.text)}
    async with running(part(Script(step), accepts=(Note,)), store=store, services=services) as node:
        for text in ("free", "saved", "behind"):
            node.runtime.bus.tell(Note(text))
        await until(lambda: len(told) == 9)
        assert told == [
            *("free-early", "free-1", "free-2"),
            *("saved-early", "behind-early"),
            *("saved-1", "saved-2", "behind-1", "behind-2"),
        ]


async def test_stepping_goes_on_while_a_commit_runs_and_the_next_takes_all(autojump_clock: MockClock) -> None:
    core = Script(lambda e, _now: [Put("t", e.body.text, b""), Delete("t", "0")])
    store = MemoryStore(delay_s=lambda: 1.0)
    async with running(part(core, limits=Limits(batch_max=1, outbox_max=50)), store=store) as node:
        for number in range(100):
            node.runtime.bus.tell(Note(str(number)))
        await until(lambda: len(core.seen) == 50)
        assert store.commits == 0
        assert node.runtime.bus.counters().parts["toy"].outbox == 50
        await until(lambda: len(store.rows().get("toy", {})) == 99, timeout_s=10.0)
        assert store.commits <= 4


async def test_a_waiting_tell_blocks_and_loses_nothing(autojump_clock: MockClock) -> None:
    slow = Script(lambda e, _now: [Put("t", e.body.text, b"")])
    fast = Script(lambda e, _now: [Tell(Memo(e.body.text), wait=True), Tell(Memo("may be shed"))])
    async with running(
        part(fast, name="fast", accepts=(Note,), tells=(Memo,)),
        part(slow, name="slow", accepts=(Memo,), limits=Limits(mailbox_max=2, batch_max=1, outbox_max=1)),
        store=MemoryStore(delay_s=lambda: 0.1),
    ) as node:
        for number in range(50):
            node.runtime.bus.tell(Note(str(number)))
        await until(lambda: Memo("49") in slow.seen)
        waited = [body.text for body in slow.seen if body.text != "may be shed"]
        assert waited == [str(number) for number in range(50)]
        assert node.runtime.bus.counters().parts["slow"].shed > 0


async def test_a_full_disk_refuses_the_work_and_the_core_forgets_it(autojump_clock: MockClock) -> None:
    store = MemoryStore(delay_s=lambda: 0.01)
    async with running(part(Sum, name="sum", accepts=(Add, Get)), store=store, services={Memo: print}) as node:
        bus = node.runtime.bus
        assert await bus.ask(Add(1), 5.0) == 1
        store.disk_full = True
        errors: list[StoreFull] = []

        async def add() -> None:
            with pytest.raises(StoreFull) as refused:
                await bus.ask(Add(10), 5.0)
            errors.append(refused.value)

        async with trio.open_nursery() as nursery:
            for _ in range(20):
                nursery.start_soon(add)
        assert len(errors) == 20
        assert all(error.retry_after_s > 0 for error in errors)
        # What needs no disk goes on, on the state that is durable.
        assert await bus.ask(Get(), 60.0) == 1
        store.disk_full = False
        assert await bus.ask(Add(5), 60.0) == 6
        counters = bus.counters().parts["sum"]
        assert counters.store_refusals >= 1
        assert counters.restarts == 0
        assert node.failure is None


async def test_a_refused_commit_takes_later_steps_with_it(autojump_clock: MockClock) -> None:
    """They were stepped on a state that never was; only what was still queued comes after."""

    class FullOnce(MemoryStore):
        refusals = 1

        async def commit(self, part: str, saves: Sequence[Save]) -> None:
            if self.refusals:
                self.refusals -= 1
                await until(lambda: len(stepped) == 2)
                raise StoreFull("no space left")
            await super().commit(part, saves)

    stepped: list[int] = []

    def step(e: Envelope[Any], now: Now) -> list[Effect]:
        stepped.append(e.body.amount)
        return [Put("t", str(e.body.amount), b""), Reply(e.reply_to, e.body.amount)]

    store = FullOnce()
    limits = Limits(batch_max=1, outbox_max=2)
    async with running(part(lambda: Script(step), accepts=(Add,), limits=limits), store=store) as node:
        answers: list[Any] = []
        for number in (1, 2, 3):
            node.runtime.bus.ask_soon(Add(number), 100.0, lambda value, error: answers.append(value or type(error)))
        await until(lambda: len(answers) == 3)
        assert answers == [StoreFull, StoreFull, 3]
        assert list(store.rows()["toy"]) == [("t", "3")]


@pytest.mark.parametrize("after", [0, 1, 3])
async def test_a_failed_fsync_ends_the_node_before_anything_is_released(after: int, autojump_clock: MockClock) -> None:
    store = MemoryStore(delay_s=lambda: 0.01)
    store.fsync_fails_after = after
    told: list[int] = []
    services: Services = {Memo: lambda memo: told.append(int(memo.text))}
    async with running(part(Sum, name="sum", accepts=(Add, Get)), store=store, services=services) as node:
        for _ in range(after):
            await node.runtime.bus.ask(Add(1), 5.0)
        with pytest.raises(EdgenetError):
            await node.runtime.bus.ask(Add(1), 5.0)
        await node.ended.wait()
        assert isinstance(node.failure, NodeFailed)
        assert node.failure.exit_code == 1
        assert isinstance(node.failure.__cause__, StoreError)
        assert told == list(range(1, after + 1))


async def test_rows_that_cannot_be_read_end_the_node(autojump_clock: MockClock) -> None:
    store = MemoryStore()
    await store.close()
    async with running(part(Sum, name="sum", accepts=(Add, Get)), store=store, services={Memo: print}) as node:
        await node.ended.wait()
        assert isinstance(node.failure, NodeFailed)
        assert "sum: its rows cannot be read" in str(node.failure)
