"""What owners do in a simulated swarm, and what they hold against the answers: tasks and indexes, with the truth known.

An owner is patient: it repeats what its node could not answer, under the same key, and looks after what was accepted
until it is finished. What contradicts a promise is a violation.
"""

from __future__ import annotations

import random
from collections.abc import Mapping

import numpy as np
import trio

from ..errors import Conflict, EdgenetError, NotFound
from ..memory.grants import check_name
from ..messages.memory import (
    AddDocuments,
    CreateIndex,
    Document,
    GetIndex,
    RemoveDocuments,
    SearchIndex,
    SearchResult,
)
from ..messages.tasks import TERMINAL, CancelTask, GetTask, GetTaskEvents, Submit, TaskOutcome
from ..tasks.handlers.embedding import read_vectors
from .hash_embedding import true_vector, true_vectors
from .simulation import Run

WRONG = 1e-3
"""Two vectors further apart than this are not the same: honest ones are equal here."""

SCORE_TOLERANCE = 1e-5

AMPLE_S = 300.0
"""A task that has this long outlives all trouble: faults last a few tens of seconds, the longest wait is a chunk's
timeout of 60 s."""


def words(rng: random.Random, name: str) -> str:
    return f"{name} " + " ".join(f"w{rng.randrange(1000)}" for _ in range(rng.choice((3, 10, 60))))


# ---- tasks


async def batch_tasks(run: Run, rng: random.Random) -> None:
    """Durable tasks of some to many items, one after another or at once; some with little time, some cancelled."""
    async with trio.open_nursery() as nursery:
        for owner in run.roles.owners:
            for number in range(rng.randint(1, 3)):
                nursery.start_soon(_durable, run, random.Random(rng.getrandbits(32)), owner, f"{owner}-{number}")
                await trio.sleep(rng.choice((0.0, 0.5, run.window_s / 6)))


async def _durable(run: Run, rng: random.Random, owner: str, name: str) -> None:
    texts = [words(rng, f"{name}.{item}") for item in range(rng.choice((1, 7, 30, 80, 150)))]
    timeout_s = rng.choice((4.0, AMPLE_S, AMPLE_S, AMPLE_S, AMPLE_S))
    query = Submit("embedding", {"texts": texts}, wait=False, key=name, timeout_s=timeout_s)
    accepted = await run.swarm.insist(owner, query)
    task = accepted.view.task
    run.monitor.note(owner, f"{task} accepted: {len(texts)} items within {timeout_s:g} s")
    cancelled = rng.random() < 0.1
    if cancelled:
        await trio.sleep(rng.uniform(0.0, 2.0))
        await run.swarm.insist(owner, CancelTask(task))
    outcome = await _finished(run, rng, owner, task, query)
    if outcome is None:
        return
    run.monitor.note(owner, f"{task} {outcome.view.state} {outcome.view.reason}")
    if outcome.view.state == "timed_out" and timeout_s >= AMPLE_S:
        run.monitor.violate("with time enough a task ends done", f"{owner}: {task}: {outcome.view.reason}")
    await judge(run, owner, texts, outcome, cancelled=cancelled)


async def _finished(run: Run, rng: random.Random, owner: str, task: str, query: Submit) -> TaskOutcome | None:
    """Its outcome, by asking for it, or by submitting it again."""
    while True:
        again = rng.random() < 0.3
        try:
            outcome = await run.swarm.insist(owner, query if again else GetTask(task))
        except NotFound:
            run.monitor.violate("an accepted task survives", f"{owner} does not know {task} any more")
            return None
        if outcome.view.task != task:
            run.monitor.violate("a key names one task", f"{owner}: {query.key} is {task} and {outcome.view.task}")
            return None
        if outcome.view.state in TERMINAL:
            return outcome
        await trio.sleep(0.5)


async def single_tasks(run: Run, rng: random.Random) -> None:
    """Small interactive work that is not saved: an answer or an error, never a wrong answer."""
    owner = rng.choice(run.roles.owners)
    for number in range(rng.randint(3, 8)):
        await trio.sleep(rng.uniform(0.0, run.window_s / 6))
        text = words(rng, f"{owner} single {number}")
        try:
            outcome = await run.swarm.ask(owner, Submit("embedding", {"text": text}, durable=False, timeout_s=20.0))
        except EdgenetError:
            continue
        await judge(run, owner, [text], outcome)


async def judge(run: Run, owner: str, texts: list[str], outcome: TaskOutcome, *, cancelled: bool = False) -> None:
    """Hold a finished task against the truth."""
    view, monitor = outcome.view, run.monitor
    if view.state == "timed_out" and view.finished_wall >= view.deadline_wall - 1e-3:
        return
    if view.state == "cancelled" and cancelled:
        return
    if view.state != "done":
        monitor.violate("a task ends done, or late", f"{owner}: {view.task} {view.state}: {view.reason}")
        return
    items = [text.encode() for text in texts]
    found = read_vectors(outcome.output)
    if len(found) != len(items) or view.done != view.items != len(items) or sum(view.executors.values()) != len(items):
        monitor.violate("no item is lost or doubled", f"{owner}: {view.task} has {len(found)} of {len(items)}: {view}")
        return
    wrong = np.flatnonzero(np.abs(found - true_vectors(items)).max(axis=1) > WRONG).tolist()
    if any(items[at] not in run.swarm.lies for at in wrong):
        monitor.violate("results are right", f"{owner}: {view.task} items {wrong[:10]} are nobody's lie")
    verified = view.verified
    if wrong and verified.error_bound == 0.0:  # which it is only when every item was checked
        monitor.violate("what was checked is right", f"{owner}: {view.task} items {wrong[:10]}, {verified}")
    if len(wrong) > verified.error_bound * len(items) + 1e-9:
        monitor.note(owner, f"{view.task}: {len(wrong)} of {len(items)} are wrong, bound {verified.error_bound:.3f}")
        run.bound_exceeded += 1
    await _judge_guilt(run, owner, view.task, bool(wrong))


async def _judge_guilt(run: Run, owner: str, task: str, wrong: bool) -> None:
    """Whoever was condemned did lie, and nothing of a condemned liar's is left."""
    try:
        events = await run.swarm.ask(owner, GetTaskEvents(task))
    except EdgenetError:
        return
    for event in events:
        if event.name == "mismatch":
            name = run.swarm.names[event.data["peer"]]
            run.monitor.note(owner, f"{task} caught {name}: {event.data}")
            if run.swarm.plans[name].lie is None:
                run.monitor.violate("the honest are not condemned", f"{owner}: {task} condemns {name}: {event.data}")
            elif wrong:
                run.monitor.violate("a caught liar's work is redone", f"{owner}: {task} still has wrong items")


# ---- indexes


class Shelf:
    """What an index must contain. `versions`: contents that each living document had since it was last removed."""

    def __init__(self, owner: str, name: str) -> None:
        check_name(name)
        self.owner = owner
        self.name = name
        self.documents: dict[str, Document] = {}
        self.versions: dict[str, list[str]] = {}

    def add(self, documents: list[Document]) -> None:
        for one in documents:
            self.documents[one.id] = one
            self.versions.setdefault(one.id, []).append(one.text)

    def remove(self, ids: list[str]) -> None:
        for one in ids:
            self.documents.pop(one, None)
            self.versions.pop(one, None)


class Shelves:
    """All indexes of a run."""

    def __init__(self) -> None:
        self.all: list[Shelf] = []


async def index_life(run: Run, rng: random.Random) -> None:
    """Documents come, change and go; what is deleted must not come back."""
    owner = rng.choice(run.roles.owners)
    shelf = Shelf(owner, f"of-{owner}")
    try:
        await run.swarm.insist(owner, CreateIndex(shelf.name, ("*",)))
    except Conflict:
        run.monitor.note(owner, "the index was made before the crash")
    run.shared(Shelves).all.append(shelf)
    for number in range(rng.randint(4, 7)):
        await trio.sleep(rng.choice((0.0, 0.0, rng.uniform(0.0, run.window_s / 4))))
        await _change(run, rng, shelf, number)
        if rng.random() < 0.6:
            await search(run, rng, shelf, owner, settled=False)


async def _change(run: Run, rng: random.Random, shelf: Shelf, number: int) -> None:
    known = sorted(shelf.documents)
    if known and rng.random() < 0.3:
        await _remove(run, shelf, rng.sample(known, rng.randint(1, max(1, len(known) // 2))))
        return
    fresh = [f"d{number}-{at}" for at in range(rng.choice((1, 5, 40, 100)))]
    ids = fresh + rng.sample(known, min(len(known), rng.choice((0, 3, 10))))
    documents = [
        Document(one, words(rng, f"{shelf.name} {one} {number}"), {"part": str(rng.randrange(3))}) for one in ids
    ]
    for one in documents:  # from now on either version may be found, until the answer comes
        if one.id in shelf.versions:
            shelf.versions[one.id].append(one.text)
    await run.swarm.insist(shelf.owner, AddDocuments(shelf.name, tuple(documents), wait=False))
    shelf.add(documents)
    run.monitor.note(shelf.owner, f"{shelf.name}: {len(documents)} documents accepted")
    if rng.random() < 0.4:  # while they are being embedded
        await _remove(run, shelf, rng.sample(ids, rng.randint(1, len(ids))))


async def _remove(run: Run, shelf: Shelf, ids: list[str]) -> None:
    await run.swarm.insist(shelf.owner, RemoveDocuments(shelf.name, tuple(ids)))
    shelf.remove(ids)
    run.monitor.note(shelf.owner, f"{shelf.name}: {len(ids)} documents removed")


async def search(run: Run, rng: random.Random, shelf: Shelf, reader: str, *, settled: bool) -> bool:
    """Search from `reader`, and hold the hits against the truth. Whether there was a complete answer."""
    about = rng.choice(sorted(shelf.documents)) if shelf.documents else ""
    text = shelf.documents[about].text if about else "nothing"
    noise = true_vector(words(rng, "noise").encode())
    vector = (true_vector(text.encode()) + rng.choice((0.0, 0.6, 3.0)) * noise).astype("<f4").tobytes()
    where = {"part": str(rng.randrange(3))} if rng.random() < 0.4 else {}
    k = rng.choice((1, 5, 20))
    owner = "" if reader == shelf.owner else run.swarm.peers[shelf.owner]
    try:
        pending = 0 if settled else (await run.swarm.ask(shelf.owner, GetIndex(shelf.name))).pending
        query = SearchIndex(shelf.name, vector=vector, k=k, where=where, owner=owner)
        result = await run.swarm.ask(reader, query, 60.0)
    except EdgenetError as error:
        run.monitor.note(reader, f"{shelf.name} search: {type(error).__name__}: {error}")
        return False
    if not result.complete:
        run.monitor.note(reader, f"{shelf.name}: incomplete, {result.rows} rows at {result.holders}")
    _judge_hits(run, shelf, reader, result)
    if result.complete and not pending:
        _judge_order(run, shelf, reader, result, np.frombuffer(vector, "<f4"), k, where)
    return result.complete


def _judge_hits(run: Run, shelf: Shelf, reader: str, result: SearchResult) -> None:
    for hit in result.hits:
        if hit.id not in shelf.versions:
            run.monitor.violate("what was deleted stays away", f"{reader} found {hit.id} in {shelf.name}")
        elif hit.text not in shelf.versions[hit.id]:
            run.monitor.violate("hits are documents", f"{reader} found another text of {hit.id} in {shelf.name}")


def _judge_order(
    run: Run, shelf: Shelf, reader: str, result: SearchResult, query: np.ndarray, k: int, where: Mapping[str, str]
) -> None:
    """Against brute force over the true vectors. Documents somebody lied about may stand anywhere, or not at all."""
    wanted = [one for one in shelf.documents.values() if where.items() <= one.metadata.items()]
    honest = {one.id: one for one in wanted if one.text.encode() not in run.swarm.lies}
    length = float(np.linalg.norm(query))
    scores = {name: float(query @ true_vector(one.text.encode())) / length for name, one in honest.items()}
    best = sorted(scores, key=lambda name: (-scores[name], name))
    found = [hit for hit in result.hits if hit.id in honest]
    expected = best[: k if len(honest) == len(wanted) else len(found)]
    same = len(found) == len(expected) and all(
        abs(hit.score - scores[name]) < SCORE_TOLERANCE and abs(scores[hit.id] - scores[name]) < SCORE_TOLERANCE
        for hit, name in zip(found, expected, strict=True)
    )
    if not same:
        text = f"{reader} searched {shelf.name}: {[hit.id for hit in found]} in place of {expected}"
        run.monitor.violate("complete searches are exact", f"{text} ({result.rows} rows)")
