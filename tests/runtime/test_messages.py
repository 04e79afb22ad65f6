"""`Send` and `Saved`: one-way messages between nodes, and the word that a step is durable."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from edgenet_node.effects import (
    Call,
    Cancel,
    Compute,
    Done,
    Early,
    Effect,
    Envelope,
    Limits,
    Now,
    Part,
    Put,
    Reply,
    Row,
    Save,
    Saved,
    Send,
    Tell,
)
from edgenet_node.errors import InvariantError, StoreFull
from edgenet_node.messages.network import Blame, PeerConnected, PeerDisconnected
from edgenet_node.runtime import Runtime
from edgenet_node.testing.determinism import seed_scheduler
from edgenet_node.testing.inline_executor import InlineExecutor
from edgenet_node.testing.network import Link
from edgenet_node.testing.store import MemoryStore
from edgenet_node.testing.world import Ports, World, until

from .toys import MESSAGE_CHARS_MAX, Add, Get, Memo, Note, Script, Services, ToyWire, part, running

SWARM = "aa"


class Order(Note, frozen=True):
    """Send `text` to every peer named in `peers`, or to `peer` alone."""

    peer: str = ""
    early: bool = False
    save: bool = False


class Member:
    """Sends what it is told to and keeps what it hears."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, str]] = []
        self.blames: list[Blame] = []

    def restore(self, rows: Sequence[Row], now: Now) -> list[Effect]:
        return []

    def wake_at(self) -> float:
        return float("inf")

    def step(self, e: Envelope[Any], now: Now) -> list[Effect]:
        match e.body:
            case Order(text=text, peer=peer, early=early, save=save):
                send = Send(peer, Note(text))
                saves: list[Effect] = [Put("t", text, b"")] if save else []
                return [*saves, Early(send) if early else send]
            case Note(text=text):
                self.heard.append((e.sender, text))
            case Blame():
                self.blames.append(e.body)
            case _:
                pass
        return []


class Committee:
    """A world of `Member`s that admit one another."""

    def __init__(self, seed: int = 0, link: Link | None = None, *, mailbox_max: int = 1024, delay_s: float = 0) -> None:
        seed_scheduler(seed)
        self.members: dict[str, Member] = {}
        self._limits = Limits(mailbox_max=mailbox_max)
        self.world = World(seed, self._build, link=link, make_store=lambda _rng: MemoryStore(delay_s=lambda: delay_s))

    async def start(self, nursery: trio.Nursery, *names: str, swarm: str = SWARM) -> None:
        await nursery.start(self.world.run)
        await self.world.start(*names)
        self.world.network.mesh()
        for name in names:
            if swarm:
                self.world.runtime(name).set_swarm(swarm)
            for other in names:
                if other != name:
                    self.world.nodes[name].ports.network.admit(other)

    def order(self, name: str, text: str, peer: str, *, early: bool = False, save: bool = False) -> None:
        assert self.world.runtime(name).bus.tell(Order(text, peer, early, save))

    def counters(self, name: str) -> Any:
        return self.world.runtime(name).bus.counters().wiring

    def _build(self, ports: Ports) -> Runtime:
        member = self.members[ports.peer] = Member()
        accepts = (Note, Memo, Order)
        hears = (PeerConnected, PeerDisconnected, Blame)
        return Runtime(
            [Part("member", lambda: member, accepts=accepts, remote=(Note,), hears=hears, limits=self._limits)],
            store=ports.store,
            network=ports.network,
            executor=InlineExecutor({}),
            clock=ports.clock,
            rng=ports.rng,
            wire=ToyWire(),
        )


async def test_messages_arrive_in_order_with_their_sender(autojump_clock: MockClock) -> None:
    committee = Committee(link=Link(delay_min_s=0.0, delay_max_s=0.1))
    async with trio.open_nursery() as nursery:
        await committee.start(nursery, "a", "b")
        for number in range(100):
            committee.order("a", str(number), "b")
        b = committee.members["b"]
        await until(lambda: len(b.heard) == 100)
        assert b.heard == [("a", str(number)) for number in range(100)]
        assert committee.counters("a").sent == 100
        assert committee.counters("b").messages_in == 100
        nursery.cancel_scope.cancel()


async def test_a_message_waits_for_its_step_and_an_early_one_does_not(autojump_clock: MockClock) -> None:
    committee = Committee(link=Link(delay_min_s=0.0, delay_max_s=0.0), delay_s=1.0)
    async with trio.open_nursery() as nursery:
        await committee.start(nursery, "a", "b")
        start = trio.current_time()
        committee.order("a", "durable", "b", save=True)
        committee.order("a", "behind", "b")
        committee.order("a", "early", "b", early=True, save=True)
        b = committee.members["b"]
        await until(lambda: len(b.heard) == 1)
        assert trio.current_time() - start < 1.0
        await until(lambda: len(b.heard) == 3)
        assert trio.current_time() - start >= 1.0
        assert [text for _, text in b.heard] == ["early", "durable", "behind"]
        nursery.cancel_scope.cancel()


async def test_a_message_to_oneself_takes_the_same_door(autojump_clock: MockClock) -> None:
    committee = Committee()
    async with trio.open_nursery() as nursery:
        await committee.start(nursery, "a")
        committee.order("a", "mine", "a")
        a = committee.members["a"]
        await until(lambda: len(a.heard) == 1)
        assert a.heard == [("a", "mine")]
        nursery.cancel_scope.cancel()


async def test_what_no_part_opened_to_peers_is_not_delivered_even_from_oneself(autojump_clock: MockClock) -> None:
    core = Script(lambda e, _now: [Send("self", Memo("closed"))] if isinstance(e.body, Note) else [])
    async with running(part(core, accepts=(Note, Memo))) as node:
        node.runtime.bus.tell(Note("go"))
        await until(lambda: node.runtime.bus.counters().wiring.messages_ignored == 1)
        assert core.seen == [Note("go")]


async def test_losses_are_counted_and_never_raise(autojump_clock: MockClock) -> None:
    """No swarm yet, nobody there, too large: the sender goes on."""
    committee = Committee()
    async with trio.open_nursery() as nursery:
        await committee.start(nursery, "a", "b", swarm="")
        committee.order("a", "no swarm", "b")
        await until(lambda: committee.counters("a").send_dropped == 1)
        for name in ("a", "b"):
            committee.world.runtime(name).set_swarm(SWARM)
        committee.order("a", "nobody", "elsewhere")
        committee.order("a", "x" * (MESSAGE_CHARS_MAX + 1), "b")
        committee.order("a", "arrives", "b")
        b = committee.members["b"]
        await until(lambda: len(b.heard) == 1)
        assert b.heard == [("a", "arrives")]
        assert committee.counters("a").send_dropped == 3
        assert committee.counters("a").sent == 1
        nursery.cancel_scope.cancel()


async def test_messages_beyond_the_mailbox_are_shed_and_counted(autojump_clock: MockClock) -> None:
    committee = Committee(link=Link(delay_min_s=0.0, delay_max_s=0.0), mailbox_max=8)
    async with trio.open_nursery() as nursery:
        await committee.start(nursery, "a", "b")
        port = committee.world.nodes["b"].ports.network
        listener = port.listener
        assert listener is not None
        data = ToyWire().encode_message(Note("x"))[1]
        await until(lambda: committee.world.runtime("b").bus.counters().parts["member"].mailbox == 0)
        for _ in range(20):
            listener.on_message("Note/1", "a", data)
        assert committee.counters("b").messages_shed == 14
        await until(lambda: len(committee.members["b"].heard) == 6)
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(("stream", "data"), [("Note/1", b"\xc1"), ("Note/1", b""), ("nothing/1", b"\x80"), ("", b"")])
async def test_what_does_not_decode_is_refused_and_blamed(stream: str, data: bytes, autojump_clock: MockClock) -> None:
    committee = Committee()
    async with trio.open_nursery() as nursery:
        await committee.start(nursery, "a", "b")
        committee.world.nodes["a"].ports.network.send(stream, "b", data)
        b = committee.members["b"]
        await until(lambda: len(b.blames) == 1)
        assert b.blames[0].peer == "a"
        assert committee.counters("b").messages_refused == 1
        assert b.heard == []
        nursery.cancel_scope.cancel()


async def test_a_type_without_a_stream_is_the_crash_of_its_core(autojump_clock: MockClock) -> None:
    """Nothing of the step is saved or released."""
    core = Script(lambda e, _now: [Put("t", "k", b""), Tell(Memo("x")), Send("b", Get())])
    store = MemoryStore()
    told: list[Any] = []
    services: Services = {Memo: told.append}
    async with running(part(core, accepts=(Note,), fail_stop=True), store=store, services=services) as node:
        node.runtime.bus.tell(Note("go"))
        await node.ended.wait()
        assert isinstance(node.failure, InvariantError)
        assert told == []
        assert store.rows().get("toy", {}) == {}


# ---- Saved


async def test_saved_comes_after_its_saves_and_in_order_with_the_rest(autojump_clock: MockClock) -> None:
    """Each `Done` finds its step and all earlier ones in the store; tells to itself keep their place among them."""
    seen: list[Any] = []

    def step(e: Envelope[Any], now: Now) -> list[Effect]:
        match e.body:
            case Note(text=text):
                return [Saved(f"before {text}"), Tell(Memo(text)), Put("t", text, b""), Saved(f"after {text}")]
            case Done(tag=tag, value=None, error=None):
                assert ("t", tag.split()[1]) in store.rows()["toy"]
                seen.append(tag)
            case Memo(text=text):
                seen.append(text)
        return []

    store = MemoryStore(delay_s=lambda: 0.01)
    async with running(part(Script(step), accepts=(Note, Memo)), store=store) as node:
        for number in range(50):
            node.runtime.bus.tell(Note(str(number)))
        await until(lambda: len(seen) == 150)
        assert seen == [what for n in range(50) for what in (f"before {n}", str(n), f"after {n}")]


async def test_saved_waits_for_earlier_steps_and_not_at_all_when_there_are_none(autojump_clock: MockClock) -> None:
    times: dict[Any, float] = {}

    def step(e: Envelope[Any], now: Now) -> list[Effect]:
        match e.body:
            case Note(text="saves"):
                return [Put("t", "k", b"")]
            case Note(text=text):
                return [Saved(text)]
            case Done(tag=tag):
                times[tag] = now.mono
        return []

    async with running(part(Script(step), accepts=(Note,)), store=MemoryStore(delay_s=lambda: 1.0)) as node:
        bus = node.runtime.bus
        start = trio.current_time()
        for text in ("free", "saves", "behind"):
            bus.tell(Note(text))
        await until(lambda: len(times) == 2)
        assert times["free"] - start < 0.5
        assert times["behind"] - start >= 1.0


async def test_saved_takes_no_slot_and_is_never_shed(autojump_clock: MockClock) -> None:
    """With every slot and the whole mailbox taken, and tags that operations use too."""
    done: list[Any] = []

    def step(e: Envelope[Any], now: Now) -> list[Effect]:
        match e.body:
            case Note():
                operations: list[Effect] = [Call(tag, "nobody", Add(1), 60.0) for tag in ("a", "b")]
                return [*operations, *(Saved(tag) for tag in ("a", "b", *range(1000))), Cancel(5)]
            case Done(tag=tag, error=None):
                done.append(tag)
        return []

    limits = Limits(mailbox_max=1, operations_max=1, operations_queued_max=1, batch_max=1)
    async with running(part(Script(step), accepts=(Note,), limits=limits)) as node:
        node.runtime.bus.tell(Note("go"))
        await until(lambda: len(done) == 1002)
        assert done == ["a", "b", *range(1000)]


async def test_saved_dies_with_its_incarnation(autojump_clock: MockClock) -> None:
    """Its step is committed after the crash, yet the next life never hears of it."""
    lives: list[Script] = []

    def step(e: Envelope[Any], now: Now) -> list[Effect]:
        if e.body == Note("crash"):
            raise RuntimeError("as told")
        return [Put("t", e.body.text, b""), Saved(e.body.text)] if isinstance(e.body, Note) else []

    def make() -> Script:
        lives.append(Script(step))
        return lives[-1]

    store = MemoryStore(delay_s=lambda: 0.1)
    async with running(part(make, accepts=(Note,)), store=store) as node:
        for text in ("one", "crash"):
            node.runtime.bus.tell(Note(text))
        await until(lambda: len(lives) == 2)
        assert ("t", "one") in store.rows()["toy"]
        node.runtime.bus.tell(Note("two"))
        await until(lambda: Done("two") in lives[1].seen)
        assert lives[1].seen == [Note("two"), Done("two")]
        assert Done("one") not in lives[0].seen


async def test_a_full_disk_takes_saved_back_with_its_step(autojump_clock: MockClock) -> None:
    class FullOnce(MemoryStore):
        refusals = 1

        async def commit(self, part: str, saves: Sequence[Save]) -> None:
            if self.refusals:
                self.refusals -= 1
                raise StoreFull("no space left")
            await super().commit(part, saves)

    done: list[Any] = []

    def step(e: Envelope[Any], now: Now) -> list[Effect]:
        match e.body:
            case Note(text=text):
                return [Put("t", text, b""), Saved(text)]
            case Done(tag=tag):
                done.append(tag)
        return []

    async with running(part(lambda: Script(step), accepts=(Note,)), store=FullOnce()) as node:
        node.runtime.bus.tell(Note("lost"))
        await until(lambda: node.runtime.bus.counters().parts["toy"].store_refusals == 1)
        node.runtime.bus.tell(Note("kept"))
        await until(lambda: bool(done))
        assert done == ["kept"]


async def test_saved_in_restore_comes_when_its_rows_are_written(autojump_clock: MockClock) -> None:
    core = Script(lambda e, _now: [], restore=lambda _rows: [Put("t", "k", b""), Saved("restored")])
    store = MemoryStore(delay_s=lambda: 0.1)
    async with running(part(core), store=store):
        await until(lambda: core.seen == [Done("restored")])
        assert ("t", "k") in store.rows()["toy"]


@pytest.mark.parametrize("effect", [Saved("x"), Put("t", "k", b"")])
async def test_what_cannot_be_early(effect: Any, autojump_clock: MockClock) -> None:
    core = Script(lambda e, _now: [Early(effect)])
    async with running(part(core, accepts=(Note,), fail_stop=True)) as node:
        node.runtime.bus.tell(Note("go"))
        await node.ended.wait()
        assert isinstance(node.failure, InvariantError)


@pytest.mark.parametrize("seed", range(10))
async def test_exactly_one_saved_whatever_else_happens(seed: int, autojump_clock: MockClock) -> None:
    """Random saves, batches, disks and operations; every `Saved` of a life that goes on is answered once, in order."""
    seed_scheduler(seed)
    rng = random.Random(seed)
    asked: list[int] = []
    answered: list[int] = []
    results: list[Any] = []

    def step(e: Envelope[Any], now: Now) -> list[Effect]:
        match e.body:
            case Note(text=text):
                effects: list[Effect] = []
                for _ in range(rng.randrange(4)):
                    match rng.randrange(4):
                        case 0:
                            effects.append(Put("t", text, b""))
                        case 1:
                            effects.append(Compute(("c", rng.random()), "inline", "f", (), 1.0))
                        case _:
                            asked.append(len(asked))
                            effects.append(Saved(asked[-1]))
                return effects
            case Done(tag=int(tag)):
                answered.append(tag)
            case Done():
                results.append(e.body)
            case Get():
                return [Reply(e.reply_to, 1)]
        return []

    limits = Limits(batch_max=rng.choice([1, 7, 256]), outbox_max=rng.choice([1, 5, 1024]))
    store = MemoryStore(delay_s=lambda: rng.uniform(0.0, 0.02))
    executor = InlineExecutor({"f": lambda: 1})
    async with running(part(Script(step), accepts=(Note, Get), limits=limits), store=store, executor=executor) as node:
        for number in range(200):
            node.runtime.bus.tell(Note(str(number)))
            if rng.random() < 0.1:
                await trio.sleep(rng.uniform(0.0, 0.05))
        await until(lambda: node.runtime.bus.counters().parts["toy"].mailbox == 0)
        await until(lambda: len(answered) == len(asked))
        assert answered == asked
        assert len(asked) > 100
