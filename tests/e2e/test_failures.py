"""Nodes that die or freeze in the middle of work. The gate holds the work, so that the middle is where we say it is."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import numpy as np
import pytest

from edgenet_node.kernels.encoder import Encoder

from .conftest import Swarm
from .support import Land, Node, until, wait_joined

pytestmark = pytest.mark.e2e

FREE, HELD = 24, 6
ITEMS = [f"free {n}" for n in range(FREE)] + [f"held {n}" for n in range(HELD)]


@pytest.fixture(scope="module")
def trio(land: Land) -> Swarm:
    a, b, c = land.swarm("abc")
    return a, b, c


@pytest.fixture(autouse=True)
def whole(trio: Swarm) -> Iterator[None]:
    """Every test begins with three nodes that see one another, and with all gates open."""
    a, b, c = trio
    for node in trio:
        node.release()
        if not node.alive:
            node.start(bootstrap=[other.address for other in (a, b, c) if other.alive and other is not node])
    wait_joined(*trio)
    yield
    for node in trio:
        node.release()


def right(seen: dict[str, object], items: list[str]) -> bool:
    return seen["result"] == {"digests": [hashlib.sha256(item.encode()).hexdigest() for item in items]}


def held_at(a: Node, executors: list[Node], items: list[str], **options: object) -> str:
    """A task that comes to a stand at what is held by these executors. They take the newest first, so that some of what
    is free may stand behind it."""
    for node in executors:
        node.hold()
    return str(a.submit("gate", {"items": items}, wait=False, **options)["task"])


def test_the_submitter_is_killed_in_the_middle_of_a_durable_task(trio: Swarm) -> None:
    a, b, c = trio
    task = held_at(a, [b, c], ITEMS, only=[b.id, c.id])
    done = until(lambda: b.waiting and c.waiting and a.task(task)["done"], "both are in the middle")
    a.kill()
    before = {node.id: len(node.computed()) for node in trio}
    for node in (b, c):
        node.release()
    a.start(bootstrap=[b.address])
    seen = a.wait_task(task)
    assert (seen["state"], seen["done"]) == ("done", len(ITEMS))
    assert right(seen, ITEMS)
    resumed = [event for event in a.events(task) if event["name"] == "resumed"]
    assert [event["data"]["done"] >= done for event in resumed] == [True]
    again = {item for node in trio for item in node.computed()[before[node.id] :] if item.startswith("free")}
    assert len(again) <= FREE - done


def test_an_executor_is_killed_in_the_middle(trio: Swarm) -> None:
    a, b, c = trio
    task = held_at(a, [b, c], ITEMS, only=[b.id, c.id])
    until(lambda: b.waiting and a.task(task)["done"], "b is in the middle")
    b.kill()
    c.release()
    seen = a.wait_task(task)
    assert seen["state"] == "done"
    assert right(seen, ITEMS)
    assert seen["executors"][c.id] >= HELD
    assert b.id in {event["data"]["peer"] for event in a.events(task) if event["name"] == "lost"} or any(
        event["name"] == "duplicated" and event["data"]["from"] == b.id for event in a.events(task)
    )


def test_an_executor_freezes_in_the_middle(trio: Swarm) -> None:
    a, b, c = trio
    task = held_at(a, [b, c], ITEMS, only=[b.id, c.id])
    until(lambda: b.waiting and a.task(task)["done"], "b is in the middle")
    b.freeze()
    c.release()
    try:
        seen = a.wait_task(task)
        until(lambda: not a.peers()[b.id]["connected"], "its silence is noticed")
    finally:
        b.thaw()
    assert seen["state"] == "done"
    assert right(seen, ITEMS)
    assert seen["executors"][c.id] >= HELD
    b.release()
    wait_joined(*trio)
    again = a.submit("gate", {"items": ["after the frost"]}, only=[b.id])
    assert (again["state"], again["executors"]) == ("done", {b.id: 1})


def test_the_owner_is_killed_in_the_middle_of_an_index_add(trio: Swarm, encoder: Encoder) -> None:
    a, b, _ = trio
    texts = {f"d{n}": f"note {n} about {'rivers and lakes ' * (n % 5)}{n * 7919 % 1000}" for n in range(120)}
    a.post("indexes", body={"name": "notes", "readers": []})
    documents = [{"id": name, "text": text} for name, text in texts.items()]
    batch = a.post("indexes", "notes", "documents", body={"documents": documents, "wait": False})
    assert batch["added"] == len(texts)
    until(lambda: any(one["done"] for one in a.get("tasks")[:1]), "some are embedded")
    a.kill()
    a.start(bootstrap=[b.address])
    view = until(lambda: (seen := a.get("indexes", "notes"))["pending"] == 0 and seen, "the index is complete")
    assert view["documents"] == len(texts)
    vectors = encoder.encode(list(texts.values())).vectors
    for query in ("a note about lakes", "number 42"):
        found = a.post("indexes", "notes", "search", body={"text": query, "k": 10})
        scores = vectors @ encoder.encode_one(query)
        assert found["complete"]
        assert np.allclose([hit["score"] for hit in found["hits"]], np.sort(scores)[::-1][:10], atol=1e-4)
        own = dict(zip(texts, scores.tolist(), strict=True))
        assert all(abs(own[hit["id"]] - hit["score"]) < 1e-4 for hit in found["hits"])
        assert all(texts[hit["id"]] == hit["text"] for hit in found["hits"])
