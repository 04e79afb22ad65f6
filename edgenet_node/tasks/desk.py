"""What the parts of `JobsCore` share: tables of unfinished tasks, executors, alarms, and the effects of this step."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from ..effects import Call, Cancel, Compute, Delete, Effect, Now, Reply, Tell
from ..messages.trust import Outcome
from ..wire.task import Run, Stop
from . import journal
from .alarms import Alarms
from .events import PASSING
from .executors import Executors, Held
from .registry import Registry
from .settings import Entropy, JobsSettings, Rng
from .work import Attempt, Job, Purpose

NUMBER_MAX = 2**31 - 1
"""Chunk numbers on the wire."""

SEEDS = 2**63
"""Seeds for `Handler.confirm`: more than an executor could prepare answers for."""

AVAILABLE_S = 10.0
"""How long the answer of `Handler.unavailable` is believed: it looks at files."""

_STOP_TIMEOUT_S = 5.0


class RunTag(Struct, frozen=True):
    """An attempt in flight."""

    number: int


class StopTag(Struct, frozen=True):
    """Telling an executor that it may stop. Nobody waits for the answer."""

    number: int


class Desk:
    """One step at a time: `begin`, then methods that append to `out`."""

    def __init__(self, settings: JobsSettings, registry: Registry, node: str, rng: Rng, entropy: Entropy) -> None:
        self.settings = settings
        self.registry = registry
        self.node = node
        self.rng = rng
        self.entropy = entropy
        self.executors = Executors(node, settings.workers)
        self.alarms = Alarms()
        self.jobs: dict[str, Job] = {}
        self.hungry: dict[str, None] = {}
        self.now = Now(0.0, 0.0)
        self.out: list[Effect] = []
        self.freed = False
        self._attempts: dict[int, Attempt] = {}
        # A chunk that the last incarnation of this node left at an executor must not be taken for a new one.
        self._number = int.from_bytes(entropy(4), "little") & (NUMBER_MAX >> 1)
        self._polls: dict[str, dict[int, int]] = {}
        self._available: dict[str, tuple[str, float]] = {}

    def begin(self, now: Now) -> None:
        self.now = now
        self.out = []
        self.freed = False

    # -- events and those who wait for them

    def emit(self, job: Job, name: str, data: dict[str, Any]) -> None:
        event, shed = job.log.add(name, self.now.wall, data)
        if job.request.durable and name not in PASSING:
            self.out.append(journal.event_row(job.task, event))
            if shed is not None:
                self.out.append(Delete("event", f"{job.task}/{shed.seq:010d}"))
        waiting = self._polls.pop(job.task, None)
        if waiting:
            for reply_to, after in waiting.items():
                self.alarms.drop(("poll", job.task, reply_to))
                self.out.append(Reply(reply_to, job.log.after(after)))

    def poll(self, task: str, reply_to: int, after: int, wait_s: float) -> bool:
        """Answer at the next event, or empty after `wait_s`. False if too many wait."""
        if sum(map(len, self._polls.values())) >= self.settings.waits_max:
            return False
        self._polls.setdefault(task, {})[reply_to] = after
        self.alarms.set(("poll", task, reply_to), self.now.mono + wait_s, self.now.mono)
        return True

    def poll_over(self, task: str, reply_to: int) -> None:
        waiting = self._polls.get(task, {})
        if waiting.pop(reply_to, None) is not None:
            self.out.append(Reply(reply_to, ()))
        if not waiting:
            self._polls.pop(task, None)

    # -- this node as an executor

    def unavailable(self, job: Job) -> str:
        """Why this node cannot compute the job's kind; empty if it can."""
        if job.local_broken:
            return job.local_broken
        kind = job.request.kind
        known = self._available.get(kind)
        if known is None or known[1] <= self.now.mono:
            known = (job.handler.unavailable(), self.now.mono + AVAILABLE_S)
            self._available[kind] = known
        return known[0]

    def local_flying(self, *, checks: bool) -> int:
        return sum(1 for one in self.executors.flying(self.node).values() if (one.purpose != "run") == checks)

    # -- attempts

    def launch(
        self, job: Job, peer: str, purpose: Purpose, items: Any, chunk: int, check: int = 0, claim: bytes = b""
    ) -> Attempt:
        """Send `items` to `peer`, which has a lease unless it is this node. `claim`: what another executor answered for
        them, for a check by this node."""
        handler, request, now = job.handler, job.request, self.now.mono
        picked = [job.items[index] for index in items]
        units = sum(map(handler.units, picked))
        self._number = self._number % NUMBER_MAX + 1
        held = None if peer == self.node else self.executors.held[request.kind, peer]
        attempt = Attempt(
            self._number, job.task, request.kind, peer, purpose, items, units,
            held.view.lease if held else b"", held.view.price if held else 0, now, now, chunk, check,
        )  # fmt: skip
        self.executors.depart(attempt, now)
        self._attempts[attempt.number] = job.attempts[attempt.number] = attempt
        if purpose == "run":
            self.emit(job, "running", {"peer": peer, "chunk": attempt.number, "items": len(items)})
        data, timeout_s, tag = handler.pack(picked), self._timeout_s(job, attempt), RunTag(attempt.number)
        if held is None:
            function, args = handler.function, handler.args(request.spec, data)
            if claim and handler.confirm:
                function, args = handler.confirm, (*args, claim, self.rng.randrange(SEEDS))
            self.out.append(Compute(tag, handler.place, function, args, timeout_s, handler.model))
        else:
            self._send(job, attempt, held, data, timeout_s)
        return attempt

    def _send(self, job: Job, attempt: Attempt, held: Held, data: bytes, timeout_s: float) -> None:
        request = job.request
        run = Run(
            held.view.lease, job.task, attempt.number, request.kind, request.spec, data,
            len(attempt.items), attempt.units, timeout_s,
        )  # fmt: skip
        self.out.append(Call(RunTag(attempt.number), attempt.peer, run, timeout_s))
        self.out.append(self.executors.spend(held, attempt.units))

    def _timeout_s(self, job: Job, attempt: Attempt) -> float:
        settings = self.settings
        speed = self.executors.speed(attempt.kind, attempt.peer)
        timeout_s = settings.chunk_timeout_s_max
        if speed:
            queued = 1 + len(self.executors.flying(attempt.peer)) / self.executors.workers(attempt.kind, attempt.peer)
            expected = speed * len(attempt.items) * queued
            timeout_s = min(timeout_s, max(settings.chunk_timeout_s_min, settings.timeout_factor * expected))
        return max(0.1, min(timeout_s, job.deadline - self.now.mono))

    def landed(self, number: int) -> Attempt | None:
        """The operation of this attempt is complete; None if it was given up before."""
        attempt = self._attempts.pop(number, None)
        if attempt is not None:
            self.freed = True
            job = self.jobs.get(attempt.task)
            if job is not None:
                job.attempts.pop(number, None)
        return attempt

    def abandon(self, attempt: Attempt, *, stop: bool = True) -> None:
        """Withdraw it, and tell its executor unless that is gone."""
        if self.landed(attempt.number) is None:
            return
        self.executors.land(attempt, self.now.mono, measured=False)
        self.out.append(Cancel(RunTag(attempt.number)))
        if stop and attempt.peer != self.node:
            query = Stop(attempt.task, attempt.number)
            self.out.append(Call(StopTag(attempt.number), attempt.peer, query, _STOP_TIMEOUT_S))

    def attempts_at(self, peer: str) -> list[Attempt]:
        return list(self.executors.flying(peer).values())

    # -- others

    def pause(self, job: Job, peer: str, least_s: float) -> None:
        """Doubles with each failure in a row, jittered; a success ends it."""
        before = job.pauses.get(peer, (0.0, 0.0))[1]
        pause_s = min(self.settings.backoff_s_max, max(least_s, 2 * before))
        job.pauses[peer] = (self.now.mono + pause_s * (0.75 + self.rng.random() / 2), pause_s)
        next_end = min(until for until, _ in job.pauses.values() if until > self.now.mono)
        self.alarms.set(("fill", job.task), next_end, self.now.mono)

    def report(self, job: Job, peer: str, items: int, seconds: float, *, checked: int = 0, wrong: int = 0) -> None:
        """What `trust` learns from a chunk that came back."""
        if peer != self.node:
            kind = job.request.kind
            self.out.append(Tell(Outcome(peer, kind, items, checked, wrong, failed=False, seconds=seconds)))

    def report_failed(self, job: Job, attempt: Attempt) -> None:
        """It gave no usable result."""
        outcome = Outcome(attempt.peer, job.request.kind, len(attempt.items), 0, 0, failed=True, seconds=0.0)
        self.out.append(Tell(outcome))
