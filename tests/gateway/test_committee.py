"""The committee's routes."""

from __future__ import annotations

from typing import Any

import pytest

from edgenet_node.errors import Overloaded, Refused
from edgenet_node.messages import committee, raft

from .fixtures import RAFT, REGISTRY, door

CONTRACT = {"term", "leader", "members", "commit", "applied", "state_hash", "trust"}


async def test_status_has_the_fields_of_the_contract() -> None:
    async with door({committee.GetRegistry: REGISTRY}) as made:
        seen = (await made.call("GET", "/api/committee")).json
        assert seen.keys() >= CONTRACT
        assert (seen["term"], seen["commit"], seen["applied"], seen["state_hash"]) == (7, 42, 41, "cd" * 32)
        assert seen["members"][1] == {
            "peer": "12D3KooWother",
            "role": "follower",
            "match": 41,
            "last_contact_s": 0.25,
            "member": 2,
        }
        assert (seen["head"]["signatures"], seen["head"]["members"]) == (2, 3)


async def test_nothing_is_applied_that_is_not_committed() -> None:
    """Status shows the registry as it is and the log as it was a moment ago."""
    from msgspec import structs

    async with door({committee.GetRegistry: structs.replace(REGISTRY, index=44)}) as made:
        seen = (await made.call("GET", "/api/committee")).json
        assert (seen["commit"], seen["applied"]) == (44, 44)


async def test_a_follower_shows_whom_it_follows() -> None:
    from msgspec import structs

    async with door({committee.GetRegistry: structs.replace(REGISTRY, raft=None)}) as made:
        seen = (await made.call("GET", "/api/committee")).json
        assert (seen["member"], seen["role"], seen["members"]) == (False, "none", [])
        assert len(seen["committee"]) == 3


async def test_the_registry() -> None:
    async with door({committee.GetRegistry: REGISTRY}) as made:
        seen = (await made.call("GET", "/api/registry")).json
        assert seen["members"][0]["peer"] == "12D3KooWother"
        assert seen["members"][0]["status"] == "banned"
        assert seen["members"][0]["public_key"] == b"k".hex() * 32
        assert seen["parameters"][0]["name"] == "admission"


async def test_a_read_may_ask_for_everything_decided_before() -> None:
    async with door({committee.GetRegistry: REGISTRY}) as made:
        for path in ("", "?linearizable=0", "?linearizable=1"):
            assert (await made.call("GET", f"/api/registry{path}")).status == 200
        assert [query.linearizable for query in made.bus.asked] == [False, False, True]
        assert (await made.call("GET", "/api/registry?linearizable=yes")).status == 400


@pytest.mark.parametrize(
    ("path", "body", "query", "status"),
    [
        ("change", {"add": ["a"], "remove": ["b"]}, committee.ChangeCommittee(("a",), ("b",)), 202),
        ("transfer", {"peer": "a"}, committee.HandOver("a"), 202),
        ("snapshot", None, raft.TakeSnapshot(), 202),
        ("recover", {"confirm": True}, committee.RecoverAlone(), 200),
        ("accept", {"digest": "ab" * 32}, committee.AcceptEpoch("ab" * 32), 200),
    ],
)
async def test_what_operators_ask(path: str, body: Any, query: Any, status: int) -> None:
    async with door({type(query): 5 if path == "snapshot" else "digest"}) as made:
        assert (await made.call("POST", f"/api/committee/{path}", body)).status == status
        assert made.bus.asked == [query]


async def test_recovery_wants_a_clear_word() -> None:
    async with door({}) as made:
        assert (await made.call("POST", "/api/committee/recover", {})).status == 400
        assert made.bus.asked == []


@pytest.mark.parametrize(
    "body",
    [
        {"kind": "ban", "peer": "a", "reason": "r"},
        {"kind": "set", "name": "admission", "value": "listed"},
    ],
)
async def test_decisions(body: dict[str, str]) -> None:
    async with door({committee.Decide: committee.Decided(9)}) as made:
        assert (await made.call("POST", "/api/registry", body)).json == {"index": 9}
        asked = made.bus.asked[0]
        assert (asked.kind, asked.peer, asked.name, asked.text) == (
            body["kind"],
            body.get("peer", ""),
            body.get("name", ""),
            body.get("value", ""),
        )


async def test_errors_keep_their_meaning() -> None:
    async with door({committee.Decide: Refused("only members of the committee decide")}) as made:
        reply = await made.call("POST", "/api/registry", {"kind": "ban", "peer": "a"})
        assert (reply.status, reply.json["error"]["code"]) == (403, "refused")
        assert (await made.call("POST", "/api/registry", {"kind": "crown", "peer": "a"})).status == 400
    async with door({committee.ChangeCommittee: Overloaded("no leader", retry_after_s=1.0)}) as made:
        reply = await made.call("POST", "/api/committee/change", {"add": ["a"]})
        assert reply.status == 503
        assert reply.headers["retry-after"] == "1"


async def test_metrics_are_in_the_text_format() -> None:
    async with door({raft.GetCommittee: RAFT}) as made:
        reply = await made.call("GET", "/metrics")
        lines = reply.body.decode().splitlines()
        assert "edgenet_raft_term 7.0" in lines
        assert "edgenet_raft_is_leader 1.0" in lines
        assert "edgenet_raft_proposals_total 5.0" in lines
        assert "edgenet_raft_fsync_seconds 0.002" in lines
