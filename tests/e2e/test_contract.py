"""What programs outside the project rely on: fields, exit codes, where a task runs."""

from __future__ import annotations

import hashlib
import urllib.request

import numpy as np
import pytest

from edgenet_node import __version__
from edgenet_node.kernels.encoder import Encoder

from .conftest import Swarm
from .support import Land, Node, until

pytestmark = pytest.mark.e2e

TEXT = "The quick brown fox jumps over the lazy dog."
TOLERANCE = 1e-5


def digests(items: list[str]) -> list[str]:
    return [hashlib.sha256(item.encode()).hexdigest() for item in items]


def held(node: Node, *options: str) -> tuple[str, str]:
    """A task that runs on this node and does not end by itself: its id, and its only item."""
    node.hold()
    item = "held " + " ".join(options)
    return str(node.submit("gate", {"items": [item]}, wait=False, local=True)["task"]), item


def test_the_ready_line_says_where_the_node_is(swarm: Swarm) -> None:
    for node in swarm:
        assert {"state", "peer_id", "addresses", "api"} <= node.ready.keys()
        assert node.ready["state"] == "ready"
        assert all(address.endswith(f"/p2p/{node.id}") for address in node.ready["addresses"])
        assert "/tcp/0/" not in node.address
        with urllib.request.urlopen(node.ready["api"] + "/readyz", timeout=30) as answer:  # noqa: S310 - our own
            assert answer.status == 200


def test_status(swarm: Swarm) -> None:
    a, b, c = swarm
    seen = a.cli("status", "--json").json
    wanted = "state peer_id pi_key addresses peers swarm version uptime_s tasks limits loop_lag_ms rss_bytes"
    assert set(wanted.split()) <= seen.keys()
    assert (seen["state"], seen["peer_id"], seen["version"]) == ("ready", a.id, __version__)
    assert seen["peers"] == 2
    assert len(bytes.fromhex(seen["pi_key"])) == 40
    assert len(bytes.fromhex(seen["swarm"])) == 21
    assert seen["swarm_origin"] == "founded"
    for other in (b, c):
        theirs = other.cli("status", "--json").json
        assert (theirs["swarm"], theirs["swarm_origin"]) == (seen["swarm"], "adopted")
    assert seen["uptime_s"] > 0
    assert seen["rss_bytes"] > 1 << 20
    assert seen["loop_lag_ms"] >= 0
    assert all(isinstance(seen[name], dict) for name in ("tasks", "limits"))


def test_peers(swarm: Swarm) -> None:
    a, b, c = swarm
    seen = a.cli("peers", "--json").json
    assert {peer["peer_id"] for peer in seen} == {b.id, c.id}
    assert all(peer["connected"] is True for peer in seen)
    assert {one["kind"] for one in seen[0]["capabilities"]} == {
        "attention",
        "echo",
        "embedding",
        "gate",
        "lora_inference",
        "matmul",
    }


def test_an_embedding_is_that_of_the_model_wherever_it_was_computed(swarm: Swarm, encoder: Encoder) -> None:
    a, b, c = swarm
    expected = encoder.encode_one(TEXT)
    for options, executor in (([], None), (["--only", b.id], b.id), (["--only", c.id], c.id), (["--local"], a.id)):
        ran = a.cli("submit", "embedding", "--text", TEXT, "--json", *options)
        assert ran.code == 0, ran.err
        seen = ran.json
        assert (seen["state"], seen["verified"]["total"]) == ("done", 1)
        assert seen["executors"] == {executor or next(iter(seen["executors"])): 1}
        vector = np.array(seen["result"]["embedding"])
        assert vector.shape == (384,)
        assert abs(np.linalg.norm(vector) - 1) < TOLERANCE
        assert np.abs(vector - expected).max() < TOLERANCE
        assert a.task(seen["task"])["result"] == seen["result"]


def test_many_texts_come_back_in_their_order(swarm: Swarm, encoder: Encoder) -> None:
    a, b, c = swarm
    texts = [f"passage {n}: " + "word " * (n % 7) for n in range(40)]
    seen = a.submit("embedding", {"texts": texts})
    assert (seen["state"], seen["done"], seen["verified"]["total"]) == ("done", 40, 40)
    assert sum(seen["executors"].values()) == 40
    assert seen["executors"].keys() <= {a.id, b.id, c.id}
    assert np.abs(np.array(seen["result"]["embeddings"]) - encoder.encode(texts).vectors).max() < TOLERANCE


def test_a_plugin_is_found_and_runs_on_the_peers(swarm: Swarm) -> None:
    a, b, c = swarm
    assert "gate" in {one["kind"] for one in a.cli("models", "--json").json}
    items = [f"item {n}" for n in range(24)]
    seen = a.submit("gate", {"items": items}, only=[b.id, c.id])
    assert seen["state"] == "done"
    assert seen["executors"].keys() <= {b.id, c.id}
    assert seen["result"]["digests"] == digests(items)


def test_tasks_are_listed_shown_and_followed(swarm: Swarm) -> None:
    _, b, _ = swarm
    first = b.submit("gate", {"items": ["one"]}, local=True)["task"]
    second = b.submit("gate", {"items": ["two"]}, local=True)["task"]
    listed = [one["task"] for one in b.cli("task", "list", "--json").json]
    assert listed.index(second) < listed.index(first)
    shown = b.cli("task", "show", first, "--json")
    assert (shown.code, shown.json["state"], shown.json["result"]["digests"]) == (0, "done", digests(["one"]))
    followed = b.cli("task", "follow", second, "--json")
    assert followed.code == 0
    names = [line.split('"name": "')[1].split('"')[0] for line in followed.out.splitlines()]
    assert (names[0], names[-1]) == ("queued", "done")


def test_a_task_can_be_cancelled(swarm: Swarm) -> None:
    _, b, _ = swarm
    task, item = held(b, "to be cancelled")
    until(lambda: b.waiting, "the item occupies a worker")
    assert b.cli("task", "cancel", task, "--json").json["state"] == "cancelled"
    assert b.cli("task", "follow", task).code == 1
    until(lambda: not b.get("status")["workers"]["busy"], "the worker is free again, though the gate is shut")
    b.release()
    assert b.task(task)["result"] is None
    assert item not in b.computed()


def test_an_event_stream_is_followed_while_the_task_runs(swarm: Swarm) -> None:
    _, _, c = swarm
    task, _ = held(c, "to be followed")
    names = []
    for event in c.door.events(task):
        names.append(event["name"])
        if event["name"] == "running":
            c.release()
    assert names[0] == "queued"
    assert names[-1] == "done"
    assert "running" in names


@pytest.mark.parametrize(
    ("code", "args", "said"),
    [
        (1, ["task", "show", "nothing"], "no task 'nothing'"),
        (
            2,
            ["submit", "nonsense", "--text", "x"],
            "known are: attention, echo, embedding, gate, lora_inference, matmul",
        ),
        (2, ["submit", "embedding", "--payload", '{"text": "x", "colour": 1}'], "unknown field colour"),
        (2, ["submit", "embedding"], "give --text, --file or --payload"),
        (1, ["search", "nowhere", "x"], "nowhere"),
    ],
)
def test_exit_codes_and_one_line(swarm: Swarm, code: int, args: list[str], said: str) -> None:
    assert said in swarm[0].cli(*args).refused(code)


def test_exit_code_of_a_failed_task(swarm: Swarm) -> None:
    ran = swarm[0].cli("submit", "gate", "--payload", '{"items": ["bad"]}', "--local", "--json")
    assert (ran.code, ran.json["state"]) == (1, "failed")
    assert "a bad item" in ran.json["reason"]


def test_exit_code_of_a_task_that_nobody_takes(swarm: Swarm) -> None:
    stranger = "12D3KooWA1bVWzXQcLzk9BNXaVSWZHbmEvWSPfyDDQYiDMGHvLZq"
    ran = swarm[0].cli("submit", "embedding", "--text", TEXT, "--only", stranger, "--timeout", "1", "--json")
    assert (ran.code, ran.json["state"]) == (5, "timed_out")
    assert "no executor" in ran.json["reason"]


def test_exit_codes_without_a_daemon(land: Land) -> None:
    nobody = land.node("nobody")
    assert "no daemon is running" in nobody.cli("status", "--json").refused(3)
    assert nobody.cli("status", "--colour").code == 2
    assert nobody.cli("--help").code == 0 or land.execute("--help").code == 0


def test_a_text_above_the_limit_is_named(swarm: Swarm) -> None:
    large = '{"text": "' + "x" * 100_000 + '"}'
    assert "100000 bytes, at most" in swarm[0].cli("submit", "embedding", "--payload", large).refused(2)
