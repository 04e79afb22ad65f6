"""A node that returns wrong results: caught, its work done again elsewhere, avoided afterwards."""

from __future__ import annotations

import numpy as np
import pytest

from edgenet_node.kernels.encoder import Encoder

from .conftest import Swarm
from .support import Land

pytestmark = pytest.mark.e2e

TEXTS = [f"statement {n}: {'water is wet ' * (n % 4)}" for n in range(32)]


@pytest.fixture(scope="module")
def trio(land: Land) -> Swarm:
    a, b, liar = land.swarm("abl", {"l": ["--lie"]})
    return a, b, liar


def test_a_liar_is_caught_redone_and_avoided(trio: Swarm, encoder: Encoder) -> None:
    a, b, liar = trio
    seen = a.submit("embedding", {"texts": TEXTS}, only=[b.id, liar.id])
    expected = encoder.encode(TEXTS).vectors
    assert seen["state"] == "done"
    assert np.abs(np.array(seen["result"]["embeddings"]) - expected).max() < 1e-5
    assert seen["executors"] == {b.id: len(TEXTS)}
    verified = seen["verified"]
    assert verified["mismatches"] > 0
    assert 0 < verified["checked"] <= verified["total"] == len(TEXTS)
    assert 0 <= verified["error_bound"] <= 1
    events = a.events(seen["task"])
    caught = [event["data"] for event in events if event["name"] == "mismatch"]
    assert {one["peer"] for one in caught} == {liar.id}
    assert verified["mismatches"] == sum(one["wrong"] for one in caught)
    assert any(event["name"] == "redone" and event["data"]["peer"] == liar.id for event in events)
    # From now on it gets nothing, though it still offers.
    assert a.offers(liar)
    again = a.submit("embedding", {"texts": TEXTS})
    assert again["state"] == "done"
    assert liar.id not in again["executors"]
    assert not any(liar.id == event["data"].get("peer") for event in a.events(again["task"]))
    assert again["verified"]["mismatches"] == 0
    assert np.abs(np.array(again["result"]["embeddings"]) - expected).max() < 1e-5


def test_asking_only_the_liar_ends_with_the_reason(trio: Swarm) -> None:
    a, _, liar = trio
    ran = a.cli("submit", "gate", "--payload", '{"items": ["x"]}', "--only", liar.id, "--timeout", "30", "--json")
    assert (ran.code, ran.json["state"]) == (1, "failed")
    assert "wrong" in ran.json["reason"]
    assert ran.json["result"] is None


def test_what_it_lies_about_it_still_knows_for_itself(trio: Swarm, encoder: Encoder) -> None:
    """A node's own work is not falsified: `--lie` is about what it sells."""
    _, _, liar = trio
    seen = liar.submit("embedding", {"text": "to myself"}, local=True)
    assert np.abs(np.array(seen["result"]["embedding"]) - encoder.encode_one("to myself")).max() < 1e-5
