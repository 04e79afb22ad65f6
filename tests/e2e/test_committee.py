"""A committee of real processes: killed, frozen, cut off, wiped, reshaped, while clients ask all of its members.

The tests follow one another on one swarm of six nodes: one member, then three, then five, then three again. With
`EDGENET_LONG=1` the rounds of faults are ten times as many.
"""

from __future__ import annotations

import contextlib
import os
import random
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from edgenet_node.cli.exits import Answered, NoDaemon

from .cables import Cables
from .registry_clients import FIRST, Clients, parameter
from .support import Land, Node, until

pytestmark = pytest.mark.e2e

LONG = os.environ.get("EDGENET_LONG") == "1"
NAMES = "abcdef"
CONTRACT = {"term", "leader", "members", "commit", "applied", "state_hash", "trust"}
CLIENTS = 4

ACKNOWLEDGED_PER_FAULT = 12
"""Decisions between two faults: the next one strikes at a committee that works."""


class Town:
    """Six nodes behind cables; `a` founded."""

    def __init__(self, land: Land) -> None:
        self.nodes: dict[str, Node] = {}
        self.cables = Cables(lambda: {name: node.pid for name, node in self.nodes.items() if node.alive})
        for name in NAMES:
            self.nodes[name] = land.node(
                name, EDGENET_COMMITTEE__PROFILE="lan", EDGENET_NETWORK__PRESENCE_INTERVAL_S="1"
            )
        self.written = FIRST
        """The register, where the last history ended."""

    def launch(self, *names: str, bootstrap: bool = True) -> None:
        for name in names:
            front, own = self.cables.front(name)
            others = [node.address for node in self.nodes.values() if node.ready and node is not self.nodes[name]]
            self.nodes[name].launch(
                "--announce",
                f"/ip4/127.0.0.1/tcp/{front}",
                listen=f"/ip4/127.0.0.1/tcp/{own}",
                bootstrap=others if bootstrap else (),
            )

    def start(self, *names: str, bootstrap: bool = True) -> None:
        self.launch(*names, bootstrap=bootstrap)
        for name in names:
            self.nodes[name].wait_ready()

    def name(self, peer: str) -> str:
        return next(name for name, node in self.nodes.items() if node.ready and node.id == peer)

    def status(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = self.nodes[name].get("committee")
        return found

    def members(self, name: str = "a") -> list[str]:
        return sorted(self.name(peer) for peer in self.status(name)["committee"])

    def leader(self, among: Sequence[str]) -> str:
        """The one that says so itself, of the latest term."""

        def found() -> str:
            seen = {}
            for name in among:
                with contextlib.suppress(Answered, NoDaemon):
                    if self.nodes[name].alive:
                        one = self.status(name)
                        if one["role"] == "leader":
                            seen[one["term"]] = name
            return seen[max(seen)] if seen else ""

        return str(until(found, "a leader"))

    def settled(self, members: Sequence[str], followers: Sequence[str]) -> None:
        """Members have the same state; followers have proven the same head, and that is all there is."""

        def same() -> bool:
            inside = [self.status(name) for name in members]
            if len({(one["state_hash"], one["epoch"], one["set"]) for one in inside}) != 1:
                return False
            outside = [self.status(name) for name in followers]
            return all(
                one["head"] is not None
                and one["state_hash"] == one["head"]["history"] == inside[0]["state_hash"]
                and one["head"]["root"] == inside[0]["head"]["root"]
                for one in outside
            )

        until(same, "all have one state")
        assert not [alarm for name in [*members, *followers] for alarm in self.status(name)["alarms"]]


@pytest.fixture(scope="module")
def town(land: Land) -> Iterator[Town]:
    made = Town(land)
    try:
        first = made.nodes["a"]
        assert first.cli("init", "--new-swarm", "--json").code == 0
        made.start("a", bootstrap=False)
        made.start(*NAMES[1:])
        yield made
    finally:
        made.cables.close()


def joined(town: Town, *names: str) -> None:
    """Connected to all that run, so that an operator can name them."""
    for name in names:
        for other in names:
            if other != name:
                until(
                    lambda: town.nodes[name].peers().get(town.nodes[other].id, {}).get("connected"),  # noqa: B023
                    f"{name} sees {other}",
                )


def change(town: Town, on: str, verb: str, names: str) -> dict[str, Any]:
    found: dict[str, Any] = town.nodes[on].cli("committee", verb, *(town.nodes[one].id for one in names), "--json").json
    return found


def torment(town: Town, members: str, faults: Sequence[Callable[[], None]], seed: int) -> None:
    """Clients on all members while one fault comes after another; then everything has to be right."""
    with Clients(lambda: [town.nodes[name] for name in members if town.nodes[name].ready], CLIENTS, seed) as clients:
        for fault in faults:
            enough = clients.acknowledged + ACKNOWLEDGED_PER_FAULT
            until(lambda: clients.acknowledged >= enough, "the committee works")  # noqa: B023 - at once
            fault()
        enough = clients.acknowledged + ACKNOWLEDGED_PER_FAULT
        until(lambda: clients.acknowledged >= enough, "the committee works again")
    final = until(lambda: _read(town.nodes[members[0]]), "a last read")
    clients.judge(final, town.written)
    town.written = int(parameter(final, "members_max"))
    town.settled(members, [name for name in NAMES if name not in members and town.nodes[name].alive])


def _read(node: Node) -> dict[str, Any] | None:
    with contextlib.suppress(Answered):
        found: dict[str, Any] = node.get("registry", linearizable=1)
        return found
    return None


# ---- faults; each leaves all members running


def kill_the_leader(town: Town, members: str) -> None:
    victim = town.leader(members)
    town.nodes[victim].kill()
    town.leader([name for name in members if name != victim])
    town.start(victim)


def kill_as_many_as_may(town: Town, members: str) -> None:
    """The leader among them."""
    leader = town.leader(members)
    others = [name for name in members if name != leader]
    victims = [leader, *others[: (len(members) - 1) // 2 - 1]]
    for name in victims:
        town.nodes[name].kill()
    town.leader([name for name in members if name not in victims])
    town.start(*victims)


def freeze_the_leader(town: Town, members: str) -> None:
    victim = town.leader(members)
    town.nodes[victim].freeze()
    try:
        town.leader([name for name in members if name != victim])
    finally:
        town.nodes[victim].thaw()


def cut_off_the_leader(town: Town, members: str) -> None:
    """It steps down by itself; those that can count to a majority go on."""
    victim = town.leader(members)
    town.cables.isolate(victim, NAMES)
    try:
        town.leader([name for name in members if name != victim])
        until(lambda: town.status(victim)["role"] != "leader", "it no longer thinks that it leads")
    finally:
        town.cables.mend()


def cut_one_way(town: Town, members: str) -> None:
    """The leader hears its followers and they do not hear it."""
    victim = town.leader(members)
    for other in members:
        town.cables.cut(victim, other)
    try:
        town.leader([name for name in members if name != victim])
    finally:
        town.cables.mend()


# ---- the story


def test_status_of_a_committee_of_one(town: Town) -> None:
    seen = until(lambda: (one := town.nodes["a"].cli("committee", "status", "--json").json)["head"] and one, "a head")
    assert seen.keys() >= CONTRACT
    own = town.nodes["a"].id
    assert (seen["leader"], seen["role"], seen["trust"], seen["committee"]) == (own, "leader", "trusted", [own])
    assert [(one["peer"], one["role"], one["match"]) for one in seen["members"]] == [(own, "leader", seen["last"])]
    assert seen["members"][0].keys() >= {"peer", "role", "match", "last_contact_s"}
    assert seen["commit"] >= seen["applied"] > 0
    assert seen["term"] >= 1
    assert len(bytes.fromhex(seen["state_hash"])) == 32


def test_it_grows_to_three_and_survives_what_three_can(town: Town) -> None:
    joined(town, *NAMES)
    seen = change(town, "a", "add", "bc")
    assert set(seen["committee"]) == {town.nodes[name].id for name in "abc"}
    assert seen["trust"] == "trusted"
    faults = [kill_the_leader, freeze_the_leader, kill_the_leader, cut_off_the_leader, cut_one_way]
    torment(town, "abc", _plan(town, "abc", faults), seed=3)
    contacts = [one["last_contact_s"] for one in town.status(town.leader("abc"))["members"]]
    assert len(contacts) == 3
    assert all(contact >= 0 for contact in contacts)


def test_a_node_outside_does_not_decide_and_gives_no_linearizable_read(town: Town) -> None:
    outside = town.nodes["f"]
    with pytest.raises(Answered, match="committee"):
        outside.get("registry", linearizable=1)
    assert "committee" in outside.cli("registry", "set", "members_max", "7").err
    assert town.status("f")["role"] == "none"
    assert set(town.status("f")["committee"]) == {town.nodes[name].id for name in "abc"}


def test_a_wiped_member_neither_votes_nor_serves_and_is_made_anew(town: Town) -> None:
    """Of three, one is wiped and one killed: the third must not find a majority with an amnesiac."""
    leader = town.leader("abc")
    wiped, killed = (name for name in "abc" if name != leader)
    town.nodes[wiped].kill()
    for pattern in ("raft.sqlite*", "store.sqlite*"):
        files = list(town.nodes[wiped].home.rglob(pattern))
        assert files
        for path in files:
            path.unlink()
    town.start(wiped)
    until(lambda: set(town.status(wiped)["committee"]) == {town.nodes[name].id for name in "abc"}, "it follows")
    seen = town.status(wiped)
    assert (seen["member"], seen["role"]) == (False, "none")
    with pytest.raises(Answered):
        town.nodes[wiped].get("registry", linearizable=1)
    town.nodes[killed].kill()
    until(lambda: town.status(leader)["role"] != "leader", "the third cannot lead alone")
    before = town.status(leader)["commit"]
    with pytest.raises((Answered, NoDaemon)):
        town.nodes[leader].door.request(
            "POST", "/api/registry", {"kind": "set", "name": "members_max", "value": "999"}, timeout_s=2.0
        )
    assert town.status(leader)["commit"] == before
    assert not town.status(wiped)["member"]
    town.start(killed)
    left = sorted({leader, killed})
    on = town.leader(left)
    refused = town.nodes[on].cli("committee", "remove", town.nodes[wiped].id)
    assert "1, 3, 4, 5, 7" in refused.err, "two are no committee"
    spare = town.nodes["d"].id
    joined(town, on, "d", wiped)
    body = {"add": [spare], "remove": [town.nodes[wiped].id]}
    town.nodes[on].post("committee", "change", body=body)
    until(lambda: "d" in town.members(on) and not town.status(on)["joint"], "d in its place")
    seen = change(town, on, "add", wiped)
    assert len(seen["committee"]) == 4
    assert seen["trust"] == "quorum 3 of 4"
    until(lambda: town.status(wiped)["role"] in ("follower", "leader"), "it serves again")
    town.settled("abcd", "ef")
    town.written = int(parameter(town.nodes[on].get("registry", linearizable=1), "members_max"))


def test_five_survive_what_five_can(town: Town) -> None:
    seen = change(town, town.leader("abcd"), "add", "e")
    assert len(seen["committee"]) == 5
    faults = [kill_as_many_as_may, cut_off_the_leader, kill_the_leader]
    torment(town, "abcde", _plan(town, "abcde", faults), seed=5)


def test_leadership_is_handed_over_and_a_snapshot_is_taken(town: Town) -> None:
    before = town.leader("abcde")
    target = next(name for name in "abcde" if name != before)
    assert town.nodes["e"].cli("committee", "transfer", town.nodes[target].id, "--json").code == 0
    until(lambda: town.status(target)["role"] == "leader", "it leads")
    taken = town.nodes[target].cli("committee", "snapshot", "--json").json["index"]
    until(lambda: town.status(target)["figures"]["snapshots_made"], "it is made")
    assert 0 < taken <= town.status(target)["applied"]
    assert "no voter" in town.nodes[target].cli("committee", "transfer", town.nodes["f"].id).err


def test_all_stop_and_come_back(town: Town) -> None:
    """Of some the orderly way, of others not."""
    before = _read(town.nodes["b"])
    assert before is not None
    for name in "cde":
        town.nodes[name].kill()
    for name in "abf":
        assert town.nodes[name].terminate() == 0
    town.launch(*NAMES)
    for name in NAMES:
        town.nodes[name].wait_ready()
    town.leader("abcde")
    after = until(lambda: _read(town.nodes["b"]), "a read")
    assert parameter(after, "members_max") == parameter(before, "members_max")
    assert after["index"] > before["index"]
    town.settled("abcde", "f")


def test_who_is_banned_is_cut_off_everywhere(town: Town) -> None:
    joined(town, *NAMES)
    banned = town.nodes["f"]
    answer = town.nodes["b"].cli("registry", "ban", banned.id, "--reason", "wrong results", "--json").json
    assert answer["index"] > 0
    for name in "abcde":
        until(lambda: not town.nodes[name].peers()[banned.id]["connected"], f"{name} drops it")  # noqa: B023
        assert "wrong results" in until(lambda: town.nodes[name].peers()[banned.id]["reason"], "why")  # noqa: B023
    assert town.nodes["c"].cli("registry", "admit", banned.id, "--json").json["index"] > answer["index"]
    until(lambda: town.nodes["a"].peers()[banned.id]["connected"], "it is let in again")


def test_under_listed_only_who_was_admitted_connects(town: Town, land: Land) -> None:
    assert town.nodes["d"].cli("registry", "set", "admission", "listed", "--json").code == 0
    until(lambda: parameter(town.nodes["f"].get("registry"), "admission") == "listed", "all know")
    stranger = land.node("stranger").start(bootstrap=[town.nodes["a"].address])

    def reason() -> str:
        return str(town.nodes["a"].peers().get(stranger.id, {}).get("reason", ""))

    assert "admi" in until(reason, "it is refused")
    assert town.nodes["f"].peers()[town.nodes["a"].id]["connected"], "it was admitted by name"
    stranger.kill()
    assert town.nodes["d"].cli("registry", "set", "admission", "open", "--json").code == 0


def test_a_lost_majority_is_mended_by_hand(town: Town) -> None:
    """Five shrink to three, two of those are lost for good; the third goes on alone when its operator says so."""
    on = town.leader("abcde")
    gone = [name for name in "abcde" if name != on][:2]
    seen = change(town, on, "remove", "".join(gone))
    assert len(seen["committee"]) == 3
    left = [name for name in "abcde" if name not in gone]
    survivor, *lost = left
    town.settled(left, "f")
    for name in lost:
        town.nodes[name].kill()
    digest = town.nodes[survivor].cli("committee", "recover", "--yes", "--json").json["epoch_digest"]
    until(lambda: town.status(survivor)["epoch"] == 1, "a new epoch")
    outside = town.nodes["f"]
    until(lambda: town.status("f")["offered_epoch"] == digest, "it is offered")
    assert town.status("f")["epoch"] == 0
    assert outside.cli("committee", "accept", digest, "--json").code == 0
    until(lambda: town.status("f")["epoch"] == 1, "accepted")
    assert town.nodes[survivor].cli("registry", "set", "members_max", "4000", "--json").code == 0
    town.settled(survivor, "f")


def _plan(town: Town, members: str, faults: Sequence[Callable[[Town, str], None]]) -> list[Callable[[], None]]:
    """Each fault once; in the long run ten times as many, by chance."""
    rng = random.Random(time.time_ns())
    chosen = list(faults) + ([rng.choice(faults) for _ in range(9 * len(faults))] if LONG else [])
    return [lambda fault=fault: fault(town, members) for fault in chosen]  # type: ignore[misc]
