"""Whole jobs in a seeded world: the right result comes out, whatever happens to the executors and to this node."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import pytest

from edgenet_node.messages.tasks import GetTask, Submit, TaskOutcome
from edgenet_node.tasks.settings import JobsSettings

from .world import NODE, NoModel, Peer, World, numbered, unpacked


def honest(rng: Random, proven: bool) -> bool:
    return False


def liar(rng: Random, proven: bool) -> bool:
    return True


def sly(share: float) -> Callable[[Random, bool], bool]:
    """Honest until it is trusted, then wrong now and then."""
    return lambda rng, proven: proven and rng.random() < share


def some_peers(rng: Random, count: int) -> list[Peer]:
    peers = []
    for number in range(count):
        peer = Peer(f"p{number}", workers=rng.choice([1, 2, 4]), seconds_per_item=rng.choice([0.002, 0.01, 0.05]))
        peer.loss = rng.choice([0.0, 0.0, 0.02, 0.2])
        peer.lie = rng.choice([honest, honest, honest, liar, sly(0.05)])
        peer.mute = rng.random() < 0.05
        peers.append(peer)
    return peers


def trouble(world: World, rng: Random) -> None:
    """Crashes, returns, and perhaps the death of this node at a random moment."""
    for peer in world.peers.values():
        if rng.random() < 0.3:
            moment = rng.random() * 3
            world.at(moment, lambda name=peer.name: world.crash(name))  # type: ignore[misc]
            if rng.random() < 0.7:
                world.at(moment + rng.random() * 5, lambda name=peer.name: world.revive(name))  # type: ignore[misc]
    if rng.random() < 0.4:
        world.at(rng.random() * 3, world.restart)


def end_of(world: World, task: str, seconds_max: float = 2100.0) -> TaskOutcome:
    def ended() -> bool:
        asked = world.ask(GetTask(task))
        found: TaskOutcome = world.replies.pop(asked)
        return found.view.finished_wall > 0

    world.run(ended, seconds_max=seconds_max)
    outcome: TaskOutcome = world.replies[world.ask(GetTask(task))]
    return outcome


def submitted(world: World, query: Submit) -> str:
    outcome: TaskOutcome = world.replies[world.ask(query)]
    return outcome.view.task


@pytest.mark.parametrize("block", range(8))
def test_every_job_ends_right_where_this_node_can_check(block: int) -> None:
    """Lossy, slow, mute, crashing and lying peers; restarts. 25 seeds a block."""
    for seed in range(25 * block, 25 * block + 25):
        rng = Random(seed)
        world = World(seed, some_peers(rng, rng.randrange(1, 6)))
        items = numbered(rng.choice([1, 5, 50, 300, 1500]))
        task = submitted(world, Submit("echo", items=items, wait=False, timeout_s=2000.0))
        trouble(world, rng)
        outcome = end_of(world, task)
        view = outcome.view
        assert view.state == "done", (seed, view)
        merged = unpacked(outcome)
        assert len(merged) == len(items)
        wrong = sum(a != b for a, b in zip(merged, items, strict=True))
        assert wrong <= view.verified.error_bound * len(items), seed
        assert sum(view.executors.values()) == len(items) == view.done
        assert not any(peer.lie is liar and peer.name in view.executors for peer in world.peers.values()), seed
        assert not [key for key in world.rows if key[0] == "input"]


@pytest.mark.parametrize("block", range(4))
def test_without_the_model_replicas_decide(block: int) -> None:
    """A minority of liars among peers that the requester cannot check itself: caught by other opinions."""
    for seed in range(25 * block, 25 * block + 25):
        rng = Random(seed)
        peers = [Peer(f"p{number}", workers=2, seconds_per_item=0.005) for number in range(5)]
        for peer in rng.sample(peers, 2):
            peer.lie = rng.choice([liar, sly(0.2)])
        world = World(seed, peers, handler=NoModel())
        outcome = world.finish(world.ask(Submit("echo", items=numbered(400), timeout_s=2000.0)), seconds_max=2100.0)
        assert outcome.view.state == "done", (seed, outcome.view)
        wrong = sum(a != b for a, b in zip(unpacked(outcome), numbered(400), strict=True))
        assert wrong <= outcome.view.verified.error_bound * 400, seed
        assert NODE not in outcome.view.executors


def test_the_error_bound_holds_at_its_confidence() -> None:
    """A sly liar of every boldness, never more than 5 % of the jobs beyond their stated bound."""
    beyond = lied = 0
    for seed in range(300):
        share = (0.002, 0.004, 0.01, 0.03)[seed % 4]
        peers = [Peer("a", seconds_per_item=0.001, lie=sly(share)), Peer("b", seconds_per_item=0.01)]
        world = World(seed, peers, own_seconds_per_item=0.02)
        outcome = world.finish(world.ask(Submit("echo", items=numbered(400), durable=False)))
        wrong = sum(a != b for a, b in zip(unpacked(outcome), numbered(400), strict=True))
        lied += wrong > 0
        beyond += wrong > outcome.view.verified.error_bound * 400
    assert lied > 30, "the liar is too timid for this test to mean anything"
    assert beyond <= 0.05 * 300


def test_a_liar_is_caught_and_its_work_done_again() -> None:
    peers = [Peer("a"), Peer("b"), Peer("liar", lie=liar)]
    world = World(7, peers)
    asked = world.ask(Submit("echo", items=numbered(600)))
    outcome = world.finish(asked)
    assert unpacked(outcome) == list(numbered(600))
    assert "liar" not in outcome.view.executors
    assert outcome.view.verified.mismatches > 0
    told = [one for one in world.trust.outcomes if one.peer == "liar"]
    assert sum(one.wrong for one in told) == outcome.view.verified.mismatches


def test_a_restart_keeps_what_was_done() -> None:
    """At whatever step this node dies, chunks that were accepted are not computed again."""
    for seed in range(40):
        world = World(seed, [Peer("a"), Peer("b", seconds_per_item=0.03)])
        task = submitted(world, Submit("echo", items=numbered(400), wait=False))
        stop_at = Random(seed).randrange(1, 60)
        world.run(lambda at=stop_at, w=world: w.steps >= at)  # type: ignore[misc]
        kept = {key for key in world.rows if key[0] == "done"}
        before: TaskOutcome = world.replies[world.ask(GetTask(task))]
        world.restart()
        again: TaskOutcome = world.replies[world.ask(GetTask(task))]
        assert again.view.done == before.view.done
        outcome = end_of(world, task)
        assert unpacked(outcome) == list(numbered(400))
        assert kept <= {key for key in world.rows if key[0] == "done"}


def test_slow_peers_get_less_and_all_finish_together() -> None:
    world = World(3, [Peer("fast", seconds_per_item=0.004), Peer("slow", seconds_per_item=0.04)])
    for peer in world.peers:
        world.trust.clean[peer] = 10_000
    world.settings = JobsSettings(self_share=0.0)
    world.core = world._make()
    start = world.mono
    outcome = world.finish(world.ask(Submit("echo", items=numbered(4000), durable=False)))
    done = outcome.view.executors
    assert done["fast"] > 6 * done["slow"]
    ideal = 4000 / (2 / 0.004 + 2 / 0.04)
    assert world.mono - start < 1.15 * ideal + 0.2


def test_verification_costs_little_once_peers_are_proven() -> None:
    world = World(4, [Peer("a"), Peer("b")])
    for peer in world.peers:
        world.trust.clean[peer] = 10_000
    outcome = world.finish(world.ask(Submit("echo", items=numbered(2000), durable=False)))
    remote = sum(count for peer, count in outcome.view.executors.items() if peer != NODE)
    checked = outcome.view.verified.checked - outcome.view.executors[NODE]
    assert 0.02 * remote < checked < 0.09 * remote
