"""`IndexesCore` step by step: what it saves, asks and answers, in which order, and asks again after a restart."""

from __future__ import annotations

import hashlib
import math
import random
from typing import Any

from edgenet_node.effects import Ask, Call, Compute, Delete, Done, Effect, Envelope, Now, Put, Reply, Row, Tick
from edgenet_node.errors import TimedOut
from edgenet_node.memory.inner import BUILD, FUNCTIONS, SEARCH
from edgenet_node.memory.owner import ACCEPTS, HEARS, REMOTE, IndexesCore
from edgenet_node.memory.settings import IndexSettings
from edgenet_node.messages.artifacts import PutArtifact, Stored
from edgenet_node.messages.memory import AddDocuments, AddResult, CreateIndex, Document, IndexView, SearchIndex
from edgenet_node.messages.network import GetPeers, GetSwarm, PeerUp, SwarmInfo
from edgenet_node.messages.tasks import Submit, TaskOutcome, TaskView, Verified
from edgenet_node.messages.trust import GetStandings
from edgenet_node.wire.index import Held, Hold

from .oracle import vector_of
from .world import SWARM, Key, embedder

NOW = Now(100.0, 1_700_000_000.0)
PEER = "12D3KooWBVZCcnfGMQuKKXvKohTaWhbimpVCjpbrTnJ6bgXtPra6"


class Desk:
    """A core, its saved rows, and its operations by query type."""

    def __init__(self, rows: dict[tuple[str, str], bytes] | None = None) -> None:
        self.rows = rows if rows is not None else {}
        self.core = IndexesCore(
            IndexSettings(), Key(bytes(32)), embedder(), random.Random(1).randbytes, random.Random(2)
        )
        saved = [Row(table, key, value) for (table, key), value in sorted(self.rows.items())]
        self.first = self.core.restore(saved, NOW)

    def step(self, body: Any, reply_to: int = 0, now: Now = NOW) -> list[Effect]:
        effects = self.core.step(Envelope(body, reply_to), now)
        for effect in effects:
            if isinstance(effect, Put):
                self.rows[effect.table, effect.key] = effect.value
            elif isinstance(effect, Delete):
                self.rows.pop((effect.table, effect.key), None)
        return effects


def asked(effects: list[Effect], kind: type) -> Any:
    (found,) = [one for one in effects if isinstance(one, Ask | Call) and isinstance(one.query, kind)]
    return found


def outcome(ask: Ask, state: Any = "done") -> TaskOutcome:
    view = TaskView("t_1", "embedding", state, 0, 0, 0, 1, 0, 0, 0, {}, Verified(), reason="nobody took it")
    return TaskOutcome(view, b"".join(vector_of(item.decode()) for item in ask.query.items))


def filled() -> tuple[Desk, Stored]:
    """A core with one index of one sealed document."""
    desk = Desk()
    desk.step(CreateIndex("notes"), 1)
    submit = asked(desk.step(AddDocuments("notes", (Document("a", "text"),)), 2), Submit)
    (build,) = desk.step(Done(submit.tag, outcome(submit)))
    assert isinstance(build, Compute)
    (put,) = desk.step(Done(build.tag, b"file"))
    assert isinstance(put, Ask)
    stored = Stored(hashlib.sha256(b"file").hexdigest(), 4, "/file")
    desk.step(Done(put.tag, stored))
    return desk, stored


def test_the_parts_of_the_vocabulary_fit_together() -> None:
    assert set(REMOTE) <= set(ACCEPTS)
    assert not set(HEARS) & set(ACCEPTS)
    assert all(target.startswith("edgenet_node.memory.search_worker:") for target in FUNCTIONS.values())


def test_a_new_core_asks_who_it_is_among_who_is_there_and_whom_to_avoid() -> None:
    desk = Desk()
    assert [effect.query for effect in desk.first if isinstance(effect, Ask)] == [
        GetSwarm(),
        GetPeers(),
        GetStandings("embedding"),
        GetStandings("index.search"),
    ]
    assert desk.core.wake_at() == math.inf


def test_an_index_is_saved_before_it_is_confirmed() -> None:
    save, reply = Desk().step(CreateIndex("notes", ("*",)), 7)
    assert isinstance(save, Put)
    assert (save.table, save.key) == ("index", "notes")
    assert isinstance(reply, Reply)
    assert isinstance(reply.value, IndexView)
    assert (reply.to, reply.value.readers, reply.value.documents) == (7, ("*",), 0)


def test_documents_are_saved_then_embedded_then_built_then_sealed_at_once() -> None:
    desk = Desk()
    desk.step(CreateIndex("notes"), 1)
    save, submit = desk.step(AddDocuments("notes", (Document("a", "text"),), only=(PEER,)), 2)
    assert isinstance(save, Put)
    assert save.table == "batch"
    assert isinstance(submit, Ask)
    assert submit.query == Submit(
        kind="embedding",
        items=(b"text",),
        spec=b"spec",
        only=(PEER,),
        key=f"{save.key.partition('/')[2]}.0",
        timeout_s=600.0,
        source="index:notes",
    )
    (build,) = desk.step(Done(submit.tag, outcome(submit)))
    assert isinstance(build, Compute)
    assert (build.place, build.fn, build.args[0]) == ("worker", BUILD, vector_of("text"))
    (put,) = desk.step(Done(build.tag, b"file"))
    assert isinstance(put, Ask)
    assert put.query == PutArtifact(b"file", "index")
    assert ("segment", "notes/0000000001") not in desk.rows
    effects = desk.step(Done(put.tag, Stored("ab" * 32, 4, "/file")))
    assert sorted(desk.rows) == [("index", "notes"), ("segment", "notes/0000000001")]
    (reply,) = [effect for effect in effects if isinstance(effect, Reply)]
    assert reply.value == AddResult(1, 0, save.key.partition("/")[2], "t_1")
    assert isinstance(effects[0], Put), "saves come first"


def test_a_restart_submits_the_same_task_again() -> None:
    desk = Desk()
    desk.step(CreateIndex("notes"), 1)
    first = asked(desk.step(AddDocuments("notes", (Document("a", "text"),)), 2), Submit)
    again = asked(Desk(desk.rows).first, Submit)
    assert again.query == first.query


def test_a_failed_task_is_told_and_tried_again_under_another_name() -> None:
    desk = Desk()
    desk.step(CreateIndex("notes"), 1)
    submit = asked(desk.step(AddDocuments("notes", (Document("a", "text"),)), 2), Submit)
    _, reply = desk.step(Done(submit.tag, outcome(submit, "timed_out")))
    assert isinstance(reply, Reply)
    assert isinstance(reply.error, TimedOut)
    wake = desk.core.wake_at()
    assert NOW.mono < wake < math.inf
    again = asked(desk.step(Tick(), now=Now(wake, NOW.wall + 10)), Submit)
    assert again.query.items == submit.query.items
    assert again.query.key == submit.query.key.replace(".0", ".1")
    assert asked(Desk(desk.rows).first, Submit).query.key == again.query.key
    assert desk.core.wake_at() > wake


def test_an_unanswered_task_keeps_its_name() -> None:
    desk = Desk()
    desk.step(CreateIndex("notes"), 1)
    submit = asked(desk.step(AddDocuments("notes", (Document("a", "text"),)), 2), Submit)
    desk.step(Done(submit.tag, error=TimedOut("no answer")))
    again = asked(desk.step(Tick(), now=Now(desk.core.wake_at(), 0)), Submit)
    assert again.query.key == submit.query.key


def test_holders_are_saved_before_they_are_asked_and_asked_again_after_a_restart() -> None:
    desk, stored = filled()
    desk.step(Done(desk.first[0].tag, SwarmInfo(SWARM, "founded", "")))  # type: ignore[union-attr]
    save, call = desk.step(PeerUp(PEER))
    assert isinstance(save, Put)
    assert (save.table, save.key) == ("holders", "notes/0000000001")
    assert isinstance(call, Call)
    assert isinstance(call.query, Hold)
    assert (call.peer, call.query.digest, call.query.size) == (PEER, stored.digest, 4)
    assert desk.step(Done(call.tag, Held(0))) == []
    after = Desk(desk.rows)
    after.step(Done(after.first[0].tag, SwarmInfo(SWARM, "founded", "")))  # type: ignore[union-attr]
    assert asked(after.step(PeerUp(PEER)), Hold).query.digest == stored.digest


def test_a_search_alone_is_one_computation() -> None:
    desk, stored = filled()
    (compute,) = desk.step(SearchIndex("notes", vector=vector_of("q"), k=3), 9)
    assert isinstance(compute, Compute)
    assert (compute.fn, compute.args[0]) == (SEARCH, [["/file", stored.digest, b""]])
    (reply,) = desk.step(Done(compute.tag, {"hits": b"\x90", "rows": 1}))
    assert isinstance(reply, Reply)
    assert (reply.value.complete, reply.value.rows) == (True, 1)
    assert desk.core.wake_at() > NOW.mono


def test_a_query_is_embedded_without_a_save() -> None:
    desk, _ = filled()
    (ask,) = desk.step(SearchIndex("notes", text="question"), 9)
    assert isinstance(ask, Ask)
    assert (ask.query.durable, ask.query.items, ask.query.wait) == (False, (b"question",), True)
    (compute,) = desk.step(Done(ask.tag, outcome(ask)))
    assert isinstance(compute, Compute)
    assert compute.args[1] == vector_of("question")


def test_late_completions_are_ignored() -> None:
    desk, _ = filled()
    (compute,) = desk.step(SearchIndex("notes", vector=vector_of("q")), 9)
    assert isinstance(compute, Compute)
    effects = desk.step(Tick(), now=Now(NOW.mono + 60, NOW.wall + 60))
    (reply,) = [effect for effect in effects if isinstance(effect, Reply)]
    assert not reply.value.complete
    assert desk.step(Done(compute.tag, {"hits": b"\x90", "rows": 1}), now=Now(NOW.mono + 61, NOW.wall)) == []
