"""Requests become asks, answers become JSON, errors become one line."""

from __future__ import annotations

import struct
import threading
from typing import Any

import pytest
from msgspec import structs

from edgenet_node.errors import (
    Cancelled,
    Conflict,
    EdgenetError,
    NotFound,
    Overloaded,
    Refused,
    StoreFull,
    TimedOut,
    UsageError,
    WorkerDied,
)
from edgenet_node.messages import committee, memory, network, tasks
from edgenet_node.wire.index import Hit
from edgenet_node.wire.peers import Capability

from .fixtures import FACTS, REGISTRY, door, outcome

SWARM = network.SwarmInfo("ab" * 21, "founded", "")
VIEW = memory.IndexView("notes", "12D3KooWown", "m", 384, 2, 0, (), (), 0)
STATS = tasks.TaskStats({"done": 3}, 1, 2, 4, 5, 6)
SUBMIT = {"kind": "echo", "payload": {"text": "x"}}


def peer(name: str, state: str) -> network.PeerView:
    return network.PeerView(name, "s", state, "1", ("/ip4/127.0.0.1/tcp/1",), (Capability("echo", "", 1),), 2, 1, 5.0)


async def test_status_has_the_fields_of_the_contract() -> None:
    answers: dict[type, Any] = {
        network.GetSwarm: SWARM,
        network.GetPeers: (peer("12D3KooWa", "member"), peer("12D3KooWb", "known")),
        network.GetAddresses: ("/ip4/127.0.0.1/tcp/4001/p2p/12D3KooWown",),
        tasks.GetTaskStats: STATS,
        tasks.GetServingStats: STATS,
        committee.GetRegistry: REGISTRY,
    }
    async with door(answers) as made:
        seen = (await made.call("GET", "/api/status")).json
        assert {
            "state": "ready",
            "peer_id": "12D3KooWown",
            "pi_key": "ab" * 40,
            "addresses": ["/ip4/127.0.0.1/tcp/4001/p2p/12D3KooWown"],
            "peers": 1,
            "swarm": "ab" * 21,
            "version": "9.9.9",
            "uptime_s": 12.5,
            "limits": {"workers": 2},
            "loop_lag_ms": 0.25,
            "rss_bytes": 1 << 27,
        }.items() <= seen.items()
        assert seen["tasks"]["done"] == 3
        assert (seen["committee"]["trust"], seen["committee"]["members"]) == ("trusted", 3)
        peers = (await made.call("GET", "/api/peers")).json
        assert [(one["peer_id"], one["connected"]) for one in peers] == [("12D3KooWa", True), ("12D3KooWb", False)]
        assert peers[0]["capabilities"] == [{"kind": "echo", "model": "", "price": 1}]


async def test_a_node_without_a_swarm_is_joining_and_not_ready() -> None:
    answers: dict[type, Any] = {
        network.GetSwarm: network.SwarmInfo("", "", ""),
        network.GetPeers: (),
        network.GetAddresses: (),
        tasks.GetTaskStats: STATS,
        tasks.GetServingStats: STATS,
        committee.GetRegistry: REGISTRY,
    }
    async with door(answers) as made:
        assert (await made.call("GET", "/api/status")).json["state"] == "joining"
        reply = await made.call("GET", "/readyz")
        assert (reply.status, reply.json["reason"]) == (503, "no swarm reached yet")


async def test_a_stalled_or_draining_node_is_live_but_not_ready() -> None:
    async with door({network.GetSwarm: TimedOut("no answer within 1 s")}) as made:
        reply = await made.call("GET", "/readyz")
        assert (reply.status, reply.json["reason"]) == (503, "no answer within 1 s")
        assert (await made.call("GET", "/livez")).status == 200
        assert made.bus.timeouts == [1.0]
    async with door({network.GetSwarm: SWARM}, facts=structs.replace(FACTS, state="draining")) as made:
        assert (await made.call("GET", "/readyz")).json == {"state": "not ready", "reason": "draining"}
        assert (await made.call("GET", "/livez")).status == 200


async def test_stop_and_models() -> None:
    async with door() as made:
        assert (await made.call("POST", "/api/stop")).status == 202
        assert made.stopped == 1
        assert [one["available"] for one in (await made.call("GET", "/api/models")).json] == [True, False]


async def test_submit_and_wait() -> None:
    async with door({tasks.Submit: outcome(output=b"abc")}) as made:
        reply = await made.call("POST", "/api/tasks", {**SUBMIT, "wait": True, "only": ["12D3KooWother"], "key": "k"})
        assert reply.status == 200
        assert {
            "state": "done",
            "task": "t_1",
            "executors": {"12D3KooWother": 1},
            "verified": {"checked": 1, "total": 1, "mismatches": 0, "error_bound": 0.0},
            "result": {"kind": "echo", "size": 3},
        }.items() <= reply.json.items()
        (query,) = made.bus.asked
        assert query == tasks.Submit("echo", {"text": "x"}, only=("12D3KooWother",), wait=True, key="k")
        assert made.bus.timeouts[0] > query.timeout_s


async def test_submit_without_waiting() -> None:
    async with door({tasks.Submit: outcome("queued")}) as made:
        reply = await made.call("POST", "/api/tasks", SUBMIT)
        assert (reply.status, reply.json["state"], reply.json["result"]) == (202, "queued", None)
        assert made.bus.asked[0].wait is False


async def test_a_large_result_is_sent_in_pieces_and_does_not_block_the_loop() -> None:
    rows = [[n / 7, *([0.25] * 383)] for n in range(600)]
    threads: list[threading.Thread] = []

    def present(kind: str, output: bytes) -> dict[str, Any]:
        threads.append(threading.current_thread())
        return {"embeddings": rows, "model": kind}

    async with door({tasks.GetTask: outcome(output=b"x" * 600 * 384 * 4)}, present=present) as made:
        reply = await made.call("GET", "/api/tasks/t_1")
        assert "content-length" not in reply.headers
        assert reply.json["result"] == {"embeddings": rows, "model": "echo"}
        assert threads != [threading.main_thread()]


async def test_tasks_are_listed_and_cancelled() -> None:
    view = outcome("cancelled").view
    async with door({tasks.ListTasks: (view,), tasks.CancelTask: view}) as made:
        assert [one["task"] for one in (await made.call("GET", "/api/tasks?limit=7")).json] == ["t_1"]
        assert (await made.call("POST", "/api/tasks/t_1/cancel")).json["state"] == "cancelled"
        assert made.bus.asked == [tasks.ListTasks(7), tasks.CancelTask("t_1")]
        for limit in ("0", "1001", "x", "%D9%A3", "-1"):
            reply = await made.call("GET", f"/api/tasks?limit={limit}")
            assert reply.error == (400, "usage")


@pytest.mark.parametrize(
    ("body", "named"),
    [
        (b"", "request body"),
        (b"{", "request body"),
        (b"[]", "object"),
        (b"\xff\xfe", "request body"),
        (b"[" * 100_000, "request body"),
        ({**SUBMIT, "pirority": 1}, "pirority"),
        ({"payload": {}}, "kind"),
        ({"kind": 1, "payload": {}}, "kind"),
        ({**SUBMIT, "timeout_s": 0}, "timeout_s"),
        ({**SUBMIT, "timeout_s": 1e9}, "timeout_s"),
        ({**SUBMIT, "price_max": -1}, "price_max"),
        ({**SUBMIT, "only": [""]}, "only"),
        ({**SUBMIT, "only": ["p"], "local": True}, "local"),
    ],
)
async def test_a_malformed_body_is_refused_in_one_line_that_names_the_field(body: Any, named: str) -> None:
    async with door({tasks.Submit: outcome()}) as made:
        reply = await made.call("POST", "/api/tasks", body)
        assert reply.error == (400, "usage")
        message = reply.json["error"]["message"]
        assert named in message
        assert "\n" not in message
        assert made.bus.asked == []


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (UsageError("unknown kind 'x'"), 400, "usage"),
        (NotFound("no task"), 404, "not_found"),
        (Conflict("exists"), 409, "conflict"),
        (Refused("no"), 403, "refused"),
        (Overloaded("full"), 503, "overloaded"),
        (Cancelled("stopping"), 503, "cancelled"),
        (TimedOut("late"), 504, "timeout"),
        (StoreFull("disk full"), 507, "disk_full"),
        (WorkerDied("killed"), 500, "worker_died"),
    ],
)
async def test_errors_of_the_node_reach_the_caller(error: EdgenetError, status: int, code: str) -> None:
    async with door({tasks.Submit: error}) as made:
        reply = await made.call("POST", "/api/tasks", SUBMIT)
        assert reply.error == (status, code)
        assert reply.json["error"]["message"] == error.message
        assert reply.headers["content-type"] == "application/json"


async def test_a_bug_is_answered_and_told_to_nobody_else(capfd: pytest.CaptureFixture[str]) -> None:
    async with door({tasks.Submit: ZeroDivisionError("secret detail")}) as made:
        reply = await made.call("POST", "/api/tasks", SUBMIT)
        assert reply.error == (500, "error")
        assert b"secret" not in reply.body
        assert (await made.call("GET", "/livez")).status == 200
    assert "ZeroDivisionError" in "".join(capfd.readouterr())


@pytest.mark.parametrize("path", ["/", "/api", "/api/", "/api/tasks/", "/api/nothing", "/api/tasks/a/b", "/livez/x"])
async def test_unknown_paths(path: str) -> None:
    async with door() as made:
        reply = await made.call("GET", path)
        assert reply.error == (404, "not_found")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("DELETE", "/api/tasks", "GET, POST"),
        ("POST", "/livez", "GET"),
        ("PATCH", "/api/indexes/notes", "GET, DELETE"),
        ("GET", "/api/stop", "POST"),
        ("OPTIONS", "/api/tasks", "GET, POST"),
    ],
)
async def test_wrong_methods(method: str, path: str, allowed: str) -> None:
    async with door() as made:
        reply = await made.call(method, path)
        assert reply.error == (405, "usage")
        assert set(reply.headers["allow"].split(", ")) == set(allowed.split(", "))


async def test_indexes() -> None:
    answers: dict[type, Any] = {
        memory.CreateIndex: VIEW,
        memory.ListIndexes: (VIEW,),
        memory.GetIndex: VIEW,
        memory.ShareIndex: VIEW,
        memory.DeleteIndex: None,
        memory.AddDocuments: memory.AddResult(1, 0, "b", "t_1"),
        memory.RemoveDocuments: 2,
        memory.SearchIndex: memory.SearchResult((Hit("a#1", 0.5, "text", {}),), 2, {"p": 2}, True, 0.01),
    }
    async with door(answers) as made:
        bus = made.bus
        assert (await made.call("POST", "/api/indexes", {"name": "notes", "readers": ["*"]})).status == 201
        assert (await made.call("GET", "/api/indexes")).json[0]["name"] == "notes"
        assert (await made.call("GET", "/api/indexes/notes")).json["dimension"] == 384
        assert (await made.call("PUT", "/api/indexes/notes/readers", {"readers": []})).status == 200
        document = {"id": "a#1", "text": "text", "metadata": {"path": "a"}}
        reply = await made.call("POST", "/api/indexes/notes/documents", {"documents": [document]})
        assert reply.json == {"added": 1, "skipped": 0, "batch": "b", "task": "t_1"}
        assert bus.asked[-1] == memory.AddDocuments("notes", (memory.Document("a#1", "text", {"path": "a"}),))
        assert (await made.call("POST", "/api/indexes/notes/remove", {"ids": ["a#1"]})).json == {"removed": 2}
        seen = (await made.call("POST", "/api/indexes/notes/search", {"text": "t", "where": {"path": "a"}})).json
        assert seen["hits"] == [{"id": "a#1", "score": 0.5, "text": "text", "metadata": {}}]
        assert bus.asked[-1] == memory.SearchIndex("notes", "t", b"", 10, {"path": "a"})
        await made.call("POST", "/api/indexes/notes/search", {"vector": [1.0, -0.5], "k": 3})
        assert bus.asked[-1] == memory.SearchIndex("notes", "", struct.pack("<2f", 1.0, -0.5), 3)
        assert (await made.call("DELETE", "/api/indexes/notes")).json == {"deleted": "notes"}


@pytest.mark.parametrize(
    ("path", "body", "named"),
    [
        ("search", {}, "text"),
        ("search", {"text": "x", "vector": [1.0]}, "vector"),
        ("search", {"text": "x", "k": 0}, "k"),
        ("search", {"text": "x", "k": 257}, "k"),
        ("search", {"vector": [1e39]}, "vector"),
        ("search", b'{"vector": [1e999]}', "vector"),
        ("search", {"vector": ["1"]}, "vector"),
        ("search", {"text": "x", "where": {"path": 1}}, "where"),
        ("documents", {"documents": []}, "documents"),
        ("documents", {"documents": [{"id": "", "text": "x"}]}, "id"),
        ("documents", {"documents": [{"id": "a", "text": "x" * 8193}]}, "text"),
        ("documents", {"documents": [{"id": "a", "text": "x", "metdata": {}}]}, "metdata"),
        ("remove", {"ids": []}, "ids"),
    ],
)
async def test_arguments_of_indexes_are_checked(path: str, body: Any, named: str) -> None:
    async with door() as made:
        reply = await made.call("POST", f"/api/indexes/notes/{path}", body)
        assert reply.error == (400, "usage")
        assert named in reply.json["error"]["message"]
        assert made.bus.asked == []


async def test_a_taken_port_is_a_clear_error_and_a_free_one_is_given_back() -> None:
    from edgenet_node.errors import ConfigError
    from edgenet_node.gateway.server import Gateway
    from edgenet_node.gateway.settings import GatewaySettings

    first = Gateway(GatewaySettings(port=0), "t")
    port = int(first.bind().rpartition(":")[2])
    with pytest.raises(ConfigError, match=f"127.0.0.1:{port}.*--api"):
        Gateway(GatewaySettings(port=port), "t").bind()
    first.close()
    again = Gateway(GatewaySettings(port=port), "t")
    assert again.bind() == f"http://127.0.0.1:{port}"
    again.close()
    with pytest.raises(ConfigError, match="--api"):
        Gateway(GatewaySettings(host="no.such.host.invalid"), "t").bind()
