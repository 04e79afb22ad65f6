"""The submitting side, step by step, and its limits."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from edgenet_node.effects import Ask, Call, Cancel, Compute, Done, Envelope, Event, Put, Reply, Row, Tell
from edgenet_node.errors import (
    ComputeFailed,
    Conflict,
    CorruptData,
    InvariantError,
    NotFound,
    Overloaded,
    Refused,
    UsageError,
)
from edgenet_node.messages.market import Acquire, DropLease, UseLease
from edgenet_node.messages.network import Blame
from edgenet_node.messages.tasks import (
    CancelTask,
    GetTask,
    GetTaskEvents,
    GetTaskStats,
    ListTasks,
    Submit,
    TaskOutcome,
)
from edgenet_node.messages.trust import Outcome, Standing, StandingChanged
from edgenet_node.tasks.desk import RunTag, StopTag
from edgenet_node.tasks.handlers import pack_items
from edgenet_node.tasks.handlers.echo import EchoHandler
from edgenet_node.tasks.jobs import JobsCore
from edgenet_node.tasks.registry import Registry
from edgenet_node.tasks.serving import OwnLoad
from edgenet_node.tasks.settings import JobsSettings
from edgenet_node.wire.codec import encode
from edgenet_node.wire.task import Run, RunResult, Stop

from .world import NODE, NoModel, Peer, World, numbered, unpacked


def names(world: World, task: str) -> list[str]:
    return [event.name for event in world.replies[world.ask(GetTaskEvents(task))]]


def proven(seed: int = 1, *peers: Peer, **settings: Any) -> World:
    """A world whose peers are trusted and hold leases already."""
    world = World(seed, peers or [Peer("a")], settings=JobsSettings(**settings), rate_min=0.0)
    for name in world.peers:
        world.trust.clean[name] = 10**9
        world.finish(world.ask(Submit("echo", {"data": "warm"}, only=(name,), durable=False)))
    world.effects.clear()
    return world


def test_a_small_task_under_a_held_lease_costs_one_call_and_one_reply() -> None:
    world = proven()
    world.ask(Submit("echo", {"data": "hi"}, only=("a",), durable=False))
    call, use = world.effects
    assert isinstance(call, Call)
    assert isinstance(call.query, Run)
    assert call.peer == "a"
    assert call.query.input == pack_items([b"hi"])
    assert (call.query.items, call.query.units, call.query.kind) == (1, 1, "echo")
    assert use == Tell(UseLease(call.query.lease, 1))
    world.effects.clear()
    sent = world.mono
    world.mono += 0.001
    world.step(Envelope(Done(call.tag, RunResult(call.query.input, 1))))
    outcome, reply = world.effects
    assert isinstance(outcome, Tell)
    assert outcome.body == Outcome("a", "echo", 1, 0, 0, failed=False, seconds=world.mono - sent)
    assert isinstance(reply, Reply)
    assert reply.value.view.state == "done"
    assert reply.value.view.executors == {"a": 1}
    assert reply.value.view.price == 3
    assert reply.value.view.verified.error_bound == 1.0, "one unchecked item: nothing is promised"
    assert reply.value.output == pack_items([b"hi"])


def test_a_small_task_runs_here_without_asking_anybody() -> None:
    world = World(1, [Peer("a")])
    outcome = world.finish(world.ask(Submit("echo", {"data": "hi"}, durable=False)))
    assert outcome.view.executors == {NODE: 1}
    assert outcome.view.verified.checked == 1
    assert not any(isinstance(effect, Ask) for effect in world.effects)
    load = [effect.body for effect in world.effects if isinstance(effect, Tell)]
    assert load == [OwnLoad(1), OwnLoad(0)]


def test_a_measured_quicker_peer_gets_the_small_task() -> None:
    world = proven(1, Peer("a", seconds_per_item=0.001))
    world.own_seconds_per_item = 0.5
    world.finish(world.ask(Submit("echo", {"data": "slow here"}, local=True, durable=False)))
    outcome = world.finish(world.ask(Submit("echo", {"data": "quicker there"}, durable=False)))
    assert outcome.view.executors == {"a": 1}


def test_local_asks_no_market_and_only_leaves_this_node_out() -> None:
    world = World(1, [Peer("a"), Peer("b")])
    here = world.finish(world.ask(Submit("echo", items=numbered(200), local=True, durable=False)))
    assert here.view.executors == {NODE: 200}
    assert not any(isinstance(effect, Ask) for effect in world.effects)
    there = world.finish(world.ask(Submit("echo", items=numbered(200), only=("b",), durable=False)))
    assert there.view.executors == {"b": 200}
    asks = [effect.query for effect in world.effects if isinstance(effect, Ask) and isinstance(effect.query, Acquire)]
    assert {ask.only for ask in asks} == {("b",)}
    both = world.finish(world.ask(Submit("echo", items=numbered(200), only=("b", NODE), durable=False)))
    assert set(both.view.executors) == {"b", NODE}


@pytest.mark.parametrize(
    ("query", "text"),
    [
        (Submit("embeding", {"text": "x"}), "unknown task kind 'embeding'; known are: echo"),
        (Submit("echo", {"dta": "x"}), "unknown field dta; known are data"),
        (Submit("echo"), "either a payload or items"),
        (Submit("echo", {"data": "x"}, items=(b"x",)), "either a payload or items"),
        (Submit("echo", items=(b"x",), spec=b"?"), "takes no spec"),
        (Submit("echo", items=(b"x",) * 101), "101 items with 101 bytes, at most 100 items"),
        (Submit("echo", items=(b"x" * 60_000,) * 3), "at most 100 items and 100000 bytes"),
        (Submit("echo", {"data": "x"}, timeout_s=0.0), "timeout_s"),
        (Submit("echo", {"data": "x"}, timeout_s=float("nan")), "timeout_s"),
        (Submit("echo", {"data": "x"}, timeout_s=1e9), "timeout_s"),
        (Submit("echo", {"data": "x"}, only=("p",) * 65), "at most 64 peers"),
        (Submit("echo", {"data": "x"}, key="k" * 201), "200 characters of key"),
        (Submit("echo", {"data": "x"}, price_max=-1), "negative price"),
        (Submit("echo", {"data": "x"}, local=True, only=("a",)), "exclude each other"),
    ],
)
def test_bad_submissions_are_one_line_and_leave_nothing(query: Submit, text: str) -> None:
    world = World(1, settings=JobsSettings(items_max=100, input_bytes_max=100_000))
    error = world.replies[world.ask(query)]
    assert isinstance(error, UsageError)
    assert text in error.message
    assert "\n" not in error.message
    assert not world.rows
    assert world.replies[world.ask(ListTasks())] == ()


def test_local_without_the_model_says_so() -> None:
    world = World(1, handler=NoModel())
    error = world.replies[world.ask(Submit("echo", {"data": "x"}, local=True))]
    assert isinstance(error, UsageError)
    assert "cannot run here: the model is not installed" in error.message


def test_too_many_unfinished_tasks_are_refused() -> None:
    world = World(1, handler=NoModel(), settings=JobsSettings(live_max=2))
    for _ in range(2):
        world.ask(Submit("echo", {"data": "x"}))
    error = world.replies[world.ask(Submit("echo", {"data": "x"}))]
    assert isinstance(error, Overloaded)
    assert error.retry_after_s > 0
    world = World(1, handler=NoModel(), settings=JobsSettings(live_bytes_max=10))
    assert isinstance(world.replies[world.ask(Submit("echo", {"data": "x" * 11}))], Overloaded)


def test_a_key_makes_submitting_idempotent() -> None:
    world = World(1, [Peer("a")])
    query = Submit("echo", items=numbered(300), key="k")
    first, second = world.ask(query), world.ask(query)
    assert isinstance(world.replies[world.ask(Submit("echo", items=numbered(3), key="k"))], Conflict)
    early = world.replies[world.ask(Submit("echo", items=numbered(300), key="k", wait=False))]
    outcome = world.finish(first)
    assert world.replies[second] == outcome
    assert early.view.task == outcome.view.task
    assert world.replies[world.ask(query)] == outcome
    world.restart()
    assert world.replies[world.ask(query)].output == outcome.output


def test_waiting_tells_why_and_goes_on_when_somebody_comes() -> None:
    world = World(1, [Peer("a", up=False)], handler=NoModel())
    asked = world.ask(Submit("echo", items=numbered(20)))
    world.run(lambda: world.mono > 130.0)
    (view,) = world.replies[world.ask(ListTasks())]
    assert view.state == "queued"
    assert "a not connected" in view.reason
    assert "the model is not installed" in view.reason
    assert names(world, view.task) == ["queued", "waiting"], "said once"
    searches = sum(isinstance(effect, Ask) for effect in world.effects)
    assert 3 <= searches <= 10, "with growing pauses"
    world.revive("a")
    assert world.finish(asked).view.state == "done"


def test_a_deadline_ends_a_task_with_its_reason() -> None:
    world = World(1, handler=NoModel())
    outcome = world.finish(world.ask(Submit("echo", items=numbered(20), timeout_s=50.0)))
    assert outcome.view.state == "timed_out"
    assert "0 of 20 items" in outcome.view.reason
    assert "the model is not installed" in outcome.view.reason
    assert outcome.output == b""
    assert 149.9 < world.mono < 150.1
    assert world.core.wake_at() == float("inf"), "nothing is left behind"


def test_cancel_stops_everybody() -> None:
    world = proven()
    task = world.replies[world.ask(Submit("echo", items=numbered(500), wait=False))].view.task
    running = {effect.tag for effect in world.effects if isinstance(effect, (Call, Compute))}
    world.effects.clear()
    view = world.replies[world.ask(CancelTask(task))]
    assert view.state == "cancelled"
    assert {effect.tag for effect in world.effects if isinstance(effect, Cancel)} == running
    assert any(isinstance(effect, Call) and isinstance(effect.query, Stop) for effect in world.effects)
    assert {key[0] for key in world.rows} == {"job", "event"}
    assert world.replies[world.ask(CancelTask(task))] == view
    assert names(world, task)[-1] == "cancelled"
    assert world.replies[world.ask(GetTaskStats())].states == {"done": 1, "cancelled": 1}


@pytest.mark.parametrize("query", [GetTask("t_no"), CancelTask("t_no"), GetTaskEvents("t_no", wait_s=1.0)])
def test_unknown_tasks_are_not_found(query: Any) -> None:
    world = World(1)
    assert isinstance(world.replies[world.ask(query)], NotFound)


def test_events_are_polled() -> None:
    world = World(1, handler=NoModel(), settings=JobsSettings(waits_max=1))
    task = world.replies[world.ask(Submit("echo", items=numbered(20), wait=False, timeout_s=60.0))].view.task
    world.run(lambda: world.mono > 101.0)
    seen = world.replies[world.ask(GetTaskEvents(task))]
    assert [(event.seq, event.name) for event in seen] == [(1, "queued"), (2, "waiting")]
    start = world.mono
    nothing = world.ask(GetTaskEvents(task, after=2, wait_s=5.0))
    assert isinstance(world.replies[world.ask(GetTaskEvents(task, after=2, wait_s=5.0))], Overloaded)
    world.run(lambda: nothing in world.replies)
    assert world.replies[nothing] == ()
    assert world.mono == start + 5.0
    last = world.ask(GetTaskEvents(task, after=2, wait_s=1e9))
    world.run(lambda: last in world.replies)
    assert [event.name for event in world.replies[last]] == ["timed_out"]
    assert world.replies[world.ask(GetTaskEvents(task, after=3, wait_s=5.0))] == (), "finished"


def test_a_chunk_that_is_late_is_given_to_somebody_else_too() -> None:
    peers = [Peer("a", seconds_per_item=0.002), Peer("b", seconds_per_item=0.002)]
    world = proven(1, *peers, self_share=0.0)
    world.peers["b"].mute = True
    asked = world.ask(Submit("echo", items=numbered(600), only=("a", "b")))
    outcome = world.finish(asked)
    assert outcome.view.state == "done"
    assert outcome.view.executors == {"a": 600}
    assert "duplicated" in names(world, outcome.view.task)
    assert world.mono < 115.0, "long before the timeout of a chunk"
    assert any(isinstance(effect, Call) and isinstance(effect.tag, StopTag) for effect in world.effects)


def test_a_dead_peer_loses_its_chunks_and_its_lease() -> None:
    world = proven(1, Peer("a"), Peer("b"))
    asked = world.ask(Submit("echo", items=numbered(900)))
    world.run(lambda: world.mono > 101.0)
    world.effects.clear()
    world.crash("a")
    assert any(isinstance(effect, Cancel) for effect in world.effects)
    assert any(isinstance(effect, Tell) and isinstance(effect.body, DropLease) for effect in world.effects)
    outcome = world.finish(asked)
    assert unpacked(outcome) == list(numbered(900))
    assert {"lost", "redone"} <= set(names(world, outcome.view.task))


def answer(world: World, error: Exception | None = None, value: Any = None) -> Call:
    """Complete the one call to an executor that is in flight, in this step."""
    (call,) = (effect for effect in world.effects if isinstance(effect, Call) and isinstance(effect.query, Run))
    world._in_flight.pop(call.tag)
    world.effects.clear()
    world.step(Envelope(Done(call.tag, value, error)))
    return call


def test_a_refused_lease_is_dropped_and_another_one_sought() -> None:
    world = proven()
    asked = world.ask(Submit("echo", {"data": "x"}, only=("a",), durable=False))
    call = answer(world, Refused("the lease has expired"))
    assert isinstance(call.query, Run)
    told = [effect.body for effect in world.effects if isinstance(effect, Tell)]
    assert UseLease(call.query.lease, -1) in told
    assert DropLease(call.query.lease, "the lease has expired") in told
    assert not any(isinstance(body, Outcome) for body in told), "no evidence against anybody"
    assert world.finish(asked).view.state == "done"
    assert world.mono < 103.0


@pytest.mark.parametrize(
    "value",
    [
        RunResult(b"\xc1", 1),
        RunResult(pack_items([b"x", b"y"]), 1),
        RunResult(pack_items([b"x"]), 2),
        RunResult(pack_items([b"x"]), -1),
        b"\xc1",
        None,
        "text",
    ],
)
def test_a_result_that_no_honest_peer_sends_is_blamed(value: Any) -> None:
    world = proven()
    world.ask(Submit("echo", {"data": "x"}, only=("a",), durable=False))
    answer(world, value=value)
    blamed = [effect.body for effect in world.effects if isinstance(effect, Event)]
    assert len(blamed) == 1
    assert isinstance(blamed[0], Blame)
    assert blamed[0].peer == "a"
    reply = next(effect for effect in world.effects if isinstance(effect, Reply))
    assert reply.value.view.state == "failed"
    assert "none of the chosen peers is left" in reply.value.view.reason


def test_what_cannot_be_computed_fails_with_its_reason() -> None:
    world = World(1)
    asked = world.ask(Submit("echo", {"data": "x"}, local=True))
    for _ in range(3):
        compute = [effect for effect in world.effects if isinstance(effect, Compute)][-1]
        world._in_flight.pop(compute.tag)
        world.step(Envelope(Done(compute.tag, None, ComputeFailed("echo.run: ValueError: poison"))))
        count = sum(isinstance(effect, Compute) for effect in world.effects)
        world.run(
            lambda n=count: asked in world.replies or sum(isinstance(e, Compute) for e in world.effects) > n  # type: ignore[misc]
        )
    assert world.replies[asked].view.state == "failed"
    assert "failed 3 times" in world.replies[asked].view.reason
    assert "poison" in world.replies[asked].view.reason


def test_a_peer_that_becomes_avoided_gets_nothing_more() -> None:
    world = proven(1, Peer("a"), Peer("b"))
    asked = world.ask(Submit("echo", items=numbered(900), only=("a", "b")))
    world.run(lambda: world.mono > 101.0)
    world.trust.avoided.add("a")
    world.step(Envelope(StandingChanged(Standing("a", "echo", 1.0, True, True, 0.0, reason="lied to another job"))))
    world.effects.clear()
    outcome = world.finish(asked)
    assert outcome.view.state == "done"
    assert not [e for e in world.effects if isinstance(e, Call) and e.peer == "a" and isinstance(e.query, Run)]


def test_history_is_bounded_and_its_rows_with_it() -> None:
    world = World(1, settings=JobsSettings(history_max=3))
    durable = [world.finish(world.ask(Submit("echo", {"data": f"{n}"}))).view.task for n in range(6)]
    passing = [world.finish(world.ask(Submit("echo", {"data": "x"}, durable=False))).view.task for n in range(6)]
    kept = {view.task for view in world.replies[world.ask(ListTasks(100))]}
    assert kept == {*durable[-3:], *passing[-3:]}
    assert {key.partition("/")[0] for _, key in world.rows} == set(durable[-3:])
    assert isinstance(world.replies[world.ask(GetTask(durable[0]))], NotFound)
    assert [view.task for view in world.replies[world.ask(ListTasks(2))]] == [passing[-1], passing[-2]]


def test_old_outputs_go_before_the_disk_does() -> None:
    world = World(1, settings=JobsSettings(history_bytes_max=100_000))
    tasks = [world.finish(world.ask(Submit("echo", {"data": "x" * 40_000}))).view.task for _ in range(4)]
    outcomes: list[TaskOutcome] = [world.replies[world.ask(GetTask(task))] for task in tasks]
    assert [len(outcome.output) > 0 for outcome in outcomes] == [False, False, True, True]
    assert "room" in outcomes[0].view.reason
    assert sum(len(value) for value in world.rows.values()) < 110_000


def test_what_is_saved_is_all_that_is_needed() -> None:
    world = World(1, [Peer("a")])
    world.finish(world.ask(Submit("echo", items=numbered(300))))
    before: TaskOutcome = world.replies[world.ask(GetTask(world.replies[world.ask(ListTasks())][0].task))]
    world.restart()
    after: TaskOutcome = world.replies[world.ask(GetTask(before.view.task))]
    assert after == before
    assert [e.name for e in world.replies[world.ask(GetTaskEvents(before.view.task))]][-1] == "done"


def test_large_input_is_split_over_rows() -> None:
    world = World(1, handler=NoModel())
    items = tuple(bytes([number]) * 60_000 for number in range(40))
    world.ask(Submit("echo", items=items, wait=False))
    inputs = [effect for effect in world.effects if isinstance(effect, Put) and effect.table == "input"]
    assert len(inputs) == 3
    assert all(len(effect.value) <= 1024 * 1024 for effect in inputs)
    world.restart()
    (view,) = world.replies[world.ask(ListTasks())]
    assert (view.items, view.state) == (40, "queued")
    assert "resumed" in names(world, view.task)


def test_a_task_whose_handler_is_gone_is_rejected() -> None:
    world = World(1, handler=NoModel())
    task = world.replies[world.ask(Submit("echo", {"data": "x"}, wait=False))].view.task

    class Other(EchoHandler):
        kind = "other"

    world.registry = Registry([Other()])
    world.restart()
    view = world.replies[world.ask(GetTask(task))].view
    assert view.state == "rejected"
    assert "no handler for echo" in view.reason


@pytest.mark.parametrize(
    "row",
    [
        Row("job", "t_1", b"\xc1"),
        Row("job", "t_1", encode({"kind": "echo"})),
        Row("secrets", "t_1/1", b""),
        Row("done", "no-number", b""),
    ],
)
def test_corrupt_rows_are_named(row: Row) -> None:
    core = JobsCore(JobsSettings(), Registry([EchoHandler()]), NODE, Random(1), Random(1).randbytes)
    with pytest.raises(CorruptData, match=f"{row.table}/{row.key}"):
        core.restore([row], World(1).now())


def test_a_late_completion_is_ignored_and_an_unknown_body_is_not() -> None:
    world = World(1)
    assert world.step(Envelope(Done(RunTag(12345), b"late"))) == []
    with pytest.raises(InvariantError):
        world.core.step(Envelope(object()), world.now())
