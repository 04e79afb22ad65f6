"""What a parts list may not say, and what a core may not do."""

from __future__ import annotations

from typing import Any

import pytest
from trio.testing import MockClock

from edgenet_node.effects import Ask, Effect, Envelope, Now, Part, Publish, Reply, Tell
from edgenet_node.errors import InvariantError, LocalError
from edgenet_node.runtime.checks import check_parts
from edgenet_node.testing.world import until

from .toys import Add, Get, Happened, Memo, Note, Script, part, running


def _idle(e: Envelope[Any], now: Now) -> list[Effect]:
    return []


def _part(name: str, **fields: Any) -> Part:
    return part(Script(_idle), name=name, **fields)


def test_one_owner_for_each_type() -> None:
    with pytest.raises(InvariantError, match="Note has two owners: a and b"):
        check_parts([_part("a", accepts=(Note,)), _part("b", accepts=(Note,))], ())
    with pytest.raises(InvariantError, match="two owners: a service and a"):
        check_parts([_part("a", accepts=(Note,))], [Note])


def test_names_are_unique() -> None:
    with pytest.raises(InvariantError, match="same name"):
        check_parts([_part("a", accepts=(Note,)), _part("a", accepts=(Memo,))], ())


def test_what_is_remote_is_accepted() -> None:
    with pytest.raises(InvariantError, match="opens Memo to peers"):
        check_parts([_part("a", accepts=(Note,), remote=(Memo,))], ())


def test_a_waiting_tell_has_an_owner() -> None:
    with pytest.raises(InvariantError, match="tells Memo, which nobody accepts"):
        check_parts([_part("a", accepts=(Note,), tells=(Memo,))], ())
    check_parts([_part("a", accepts=(Note,), tells=(Memo,))], [Memo])


@pytest.mark.parametrize(
    ("tells", "cycle"),
    [
        ({"a": (Note,)}, "a -> a"),
        ({"a": (Memo,), "b": (Note,)}, "a -> b -> a"),
        ({"a": (Memo,), "b": (Happened,), "c": (Note,)}, "a -> b -> c -> a"),
    ],
)
def test_waiting_tells_form_no_cycle(tells: dict[str, tuple[type, ...]], cycle: str) -> None:
    owned: dict[str, tuple[type, ...]] = {"a": (Note,), "b": (Memo,), "c": (Happened,)}
    parts = [_part(name, accepts=accepts, tells=tells.get(name, ())) for name, accepts in owned.items()]
    with pytest.raises(InvariantError, match=cycle):
        check_parts(parts, ())


def test_a_diamond_of_waiting_tells_is_no_cycle() -> None:
    check_parts(
        [
            _part("a", accepts=(Add,), tells=(Note, Memo)),
            _part("b", accepts=(Note,), tells=(Happened,)),
            _part("c", accepts=(Memo,), tells=(Happened,)),
            _part("d", accepts=(Happened,)),
        ],
        (),
    )


async def test_unknown_types_and_late_services_are_named(autojump_clock: MockClock) -> None:
    async with running(_part("a", accepts=(Note,))) as node:
        with pytest.raises(InvariantError, match="accepts Get"):
            await node.runtime.bus.ask(Get(), 1.0)
        with pytest.raises(InvariantError, match="accepts Memo"):
            node.runtime.bus.tell(Memo("?"))
        with pytest.raises(InvariantError, match="before the node starts"):
            node.runtime.bus.serve(Memo, print)


@pytest.mark.parametrize(
    "effect",
    [
        Tell(Memo("nobody accepts it")),
        Tell(Note("undeclared"), wait=True),
        Ask("tag", Get(), 1.0),
        Ask("tag", Add(1), float("inf")),
        Ask("tag", Add(1), float("nan")),
        Ask(["unhashable"], Add(1), 1.0),
        Publish(Happened(1)),
        "not an effect",
    ],
)
async def test_an_impossible_effect_is_a_crash_of_its_core(effect: Any, autojump_clock: MockClock) -> None:
    def step(e: Envelope[Any], now: Now) -> list[Effect]:
        # The reply comes first, yet a step that is refused releases nothing of itself.
        return [Reply(e.reply_to, 1), effect]

    async with running(part(Script(step), accepts=(Add, Note))) as node:
        node.runtime.set_swarm("aa")
        with pytest.raises(LocalError, match="toy failed while this request waited"):
            await node.runtime.bus.ask(Add(1), 1.0)
        await until(lambda: node.runtime.bus.counters().parts["toy"].restarts == 1)


async def test_the_same_tag_twice_in_flight_is_a_crash(autojump_clock: MockClock) -> None:
    def step(e: Envelope[Any], now: Now) -> list[Effect]:
        return [Ask("same", Note, 1.0), Ask("same", Note, 1.0)] if isinstance(e.body, Add) else []

    async with running(part(Script(step), accepts=(Add, type(Note)))) as node:
        with pytest.raises(LocalError):
            await node.runtime.bus.ask(Add(1), 1.0)
