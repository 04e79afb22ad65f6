"""The main job, shown: five nodes index a body of text, one is killed, one lies, the answers are right all the same.

`scripts/demo` sets up and starts this. Everything it says was measured in this run; the results are held against a
brute-force search with the same model in this process, and the exit code is 1 when they differ.
"""

from __future__ import annotations

import argparse
import ast
import json
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..errors import EdgenetError, LocalError
from .devnet import Member, Swarm, scratch
from .exits import DONE, FAILED, code_of
from .options import short
from .passages import passages
from .paths import path_of
from .tasks import event_line, verified_line

INDEX = "documents"
QUESTIONS = (
    "How does a node notice that a peer returned wrong results?",
    "What happens when a disk is full?",
    "Who may search an index that belongs to somebody else?",
)
SCORE_TOLERANCE = 1e-4
"""Between two float32 computations of one cosine."""


def collect(root: Path) -> list[dict[str, Any]]:
    """The project's own documents as passages: Markdown files, and the pages that open its packages and modules."""
    found: list[dict[str, Any]] = []
    for path in sorted([*root.glob("*.md"), *root.glob("protocols/**/*.md")]):
        found += passages(path.relative_to(root).as_posix(), path.read_text())
    for path in sorted(root.glob("edgenet_node/**/*.py")):
        text = ast.get_docstring(ast.parse(path.read_text()))
        if text:
            found += passages(path.relative_to(root).as_posix(), text)
    return found


class Story:
    """What happened, for people line by line and for programs at the end."""

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet
        self.start = time.monotonic()

    def say(self, text: str = "") -> None:
        if not self._quiet:
            sys.stdout.write(text + "\n")
            sys.stdout.flush()

    def step(self, text: str) -> None:
        self.say(f"\n[{time.monotonic() - self.start:5.1f}s] {text}")


class Adding(threading.Thread):
    """Adds the documents; keeps the daemon's answer or its error."""

    def __init__(self, member: Member, documents: list[dict[str, Any]]) -> None:
        super().__init__(daemon=True)
        self._member = member
        self._documents = documents
        self.answer: dict[str, Any] = {}
        self.error: EdgenetError | None = None

    def run(self) -> None:
        body = {"documents": self._documents, "wait": True}
        try:
            path = path_of("indexes", INDEX, "documents")
            self.answer = self._member.door.request("POST", path, body, timeout_s=600.0)
        except EdgenetError as error:
            self.error = error


class Killing:
    """Picks the victim: an honest executor that has delivered something and has just been given more."""

    def __init__(self, members: Sequence[Member], story: Story) -> None:
        self._victims = {member.peer_id: member for member in members if not member.liar}
        self._delivered: set[str] = set()
        self._half = False
        self._story = story
        self.killed = ""
        self.redone = 0

    def see(self, event: dict[str, Any]) -> None:
        name, data = event["name"], event["data"]
        peer = str(data.get("peer", ""))
        if name == "verified":
            self._delivered.add(peer)
        elif name == "progress":
            self._half = data["done"] * 2 >= data["total"]
        elif name == "redone" and self.killed and peer == self.killed:
            self.redone += data["items"]
        elif name == "running" and not self.killed and peer in self._victims:
            self._consider(peer)

    def _consider(self, peer: str) -> None:
        if peer in self._delivered or self._half:
            self.killed = peer
            self._victims[peer].kill()
            number = self._victims[peer].number
            self._story.say(f"{'':11}KILLED      node {number} {short(peer)}, with work in hand")


def embed_all(swarm: Swarm, documents: list[dict[str, Any]], story: Story) -> tuple[dict[str, Any], Killing]:
    """Index the documents; kill one executor while it works. The finished task, and the killing."""
    owner, *others = swarm.members
    owner.door.request("POST", path_of("indexes"), {"name": INDEX, "readers": []})
    adding = Adding(owner, documents)
    adding.start()
    task = _first_task(owner, adding)
    killing = Killing(others, story)
    started = time.time()
    for event in owner.door.events(task):
        if event["name"] not in ("running", "progress", "verified", "done"):
            story.say("  " + event_line(event, started))
        killing.see(event)
    adding.join(60.0)
    if adding.error is not None:
        raise adding.error
    if not killing.redone:
        raise LocalError("no work was lost with a node: use more documents")
    return owner.door.request("GET", path_of("tasks", task)), killing


def _first_task(owner: Member, adding: Adding) -> str:
    deadline = time.monotonic() + 30.0
    while time.monotonic() < deadline:
        tasks = [one for one in owner.door.request("GET", "/api/tasks") if one["kind"] == "embedding"]
        if tasks:
            return str(tasks[-1]["task"])
        if adding.error is not None:
            raise adding.error
        time.sleep(0.02)
    raise LocalError("no task was started within 30 s")


class Truth:
    """Brute force with the same model in this process: what the answers must be."""

    def __init__(self, documents: Sequence[dict[str, Any]], cache: Path) -> None:
        from ..kernels import bootstrap

        bootstrap.apply()
        from ..kernels.encoder import Encoder

        self._encoder = Encoder.open(cache)
        self._documents = documents
        self._vectors = self._encoder.encode([one["text"] for one in documents]).vectors

    def complaint(self, question: str, hits: Sequence[dict[str, Any]]) -> str:
        """What is wrong with these hits; empty if nothing is."""
        scores = self._vectors @ self._encoder.encode([question]).vectors[0]
        best = sorted(scores.tolist(), reverse=True)[: len(hits)]
        where = {one["id"]: n for n, one in enumerate(self._documents)}
        for hit, score in zip(hits, best, strict=True):
            own = float(scores[where[hit["id"]]])
            if abs(hit["score"] - score) > SCORE_TOLERANCE or abs(hit["score"] - own) > SCORE_TOLERANCE:
                return f"{question!r}: got {hit['id']} at {hit['score']:.4f}, expected a score of {score:.4f}"
        return ""


def ask(owner: Member, questions: Sequence[str], truth: Truth, story: Story) -> list[list[dict[str, Any]]]:
    """Answers by distributed search, each held against the truth."""
    answers = []
    for question in questions:
        body = {"text": question, "k": 3}
        seen = owner.door.request("POST", path_of("indexes", INDEX, "search"), body, timeout_s=60.0)
        complaint = truth.complaint(question, seen["hits"])
        if complaint or not seen["complete"]:
            raise LocalError(complaint or "a search could not reach every segment")
        nodes = ", ".join(f"{short(peer)} {rows}" for peer, rows in sorted(seen["holders"].items()))
        story.say(f"\n  {question}")
        for hit in seen["hits"]:
            story.say(f"    {hit['score']:.3f}  {hit['id']:<34}  {' '.join(hit['text'].split())[:60]}")
        story.say(f"    {seen['rows']} passages in {seen['seconds'] * 1000:.0f} ms, rows searched by {nodes}")
        answers.append([{"id": h["id"], "score": h["score"], "text": h["text"]} for h in seen["hits"]])
    return answers


def play(
    root: Path, documents: list[dict[str, Any]], questions: Sequence[str], nodes: int, story: Story
) -> dict[str, Any]:
    """The whole demonstration; the object that `--json` prints."""
    swarm = Swarm(root, nodes, liars=1)
    try:
        story.step(f"starting {nodes} nodes, real processes talking libp2p on loopback")
        swarm.start(lambda m: story.say(f"  node {m.number}  {short(m.peer_id)}{'  (it will lie)' if m.liar else ''}"))
        swarm.wait_joined()
        story.step(f"all joined; node 1 has {len(documents)} passages embedded by the swarm")
        task, killing = embed_all(swarm, documents, story)
        if task["state"] != "done" or task["done"] != len(documents):
            raise LocalError(f"the task ended {task['state']}: {task['reason']}")
        story.say(f"\n  {verified_line(task['verified'])}")
        story.say(f"  {killing.redone} passages of the killed node were done again by others")
        story.say("  " + ", ".join(f"{short(peer)} did {n}" for peer, n in sorted(task["executors"].items())))
        liar = swarm.members[-1].peer_id
        if not task["verified"]["mismatches"] or liar in task["executors"]:
            raise LocalError("the liar was not caught")
        story.step("the same passages embedded here, to hold the swarm's answers against")
        truth = Truth(documents, root / "truth")
        story.step("questions, answered by distributed vector search")
        answers = ask(swarm.members[0], questions, truth, story)
        story.step("shutting down")
        codes = [code for code, m in zip(swarm.stop(), swarm.members, strict=True) if m.peer_id != killing.killed]
        if any(codes):
            raise LocalError(f"a node did not stop cleanly: exit codes {codes}")
    finally:
        swarm.stop()
    seconds = round(time.monotonic() - story.start, 2)
    story.say(f"\nright answers with one node killed and one lying, in {seconds} s")
    return {
        "nodes": nodes,
        "passages": len(documents),
        "executors": task["executors"],
        "verified": task["verified"],
        "killed": killing.killed,
        "liar": liar,
        "recovered": killing.redone > 0,
        "query": questions[0],
        "top": answers[0],
        "answers": [{"query": q, "top": top} for q, top in zip(questions, answers, strict=True)],
        "seconds": seconds,
    }


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="scripts/demo", description=__doc__.split("\n\n")[0] if __doc__ else "")
    parser.add_argument("--json", action="store_true", help="print one JSON object at the end, nothing else")
    parser.add_argument("--query", action="append", help="your own question (repeatable)")
    parser.add_argument("--nodes", type=int, default=5, choices=range(4, 13), metavar="4..12")
    parser.add_argument("--dir", type=Path, help="keep the nodes' data and logs here")
    parser.add_argument("--documents", type=Path, default=Path(), help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    story = Story(quiet=options.json)
    try:
        with scratch(options.dir) as root:
            questions = tuple(options.query or QUESTIONS)
            result = play(root, collect(options.documents), questions, options.nodes, story)
    except EdgenetError as error:
        sys.stderr.write(f"demo: {error.message}\n")
        return code_of(error) or FAILED
    except KeyboardInterrupt:
        return 130
    if options.json:
        sys.stdout.write(json.dumps(result, ensure_ascii=False) + "\n")
    return DONE


if __name__ == "__main__":
    sys.exit(main())
