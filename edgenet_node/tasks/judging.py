"""What came back: accepted, checked, disputed, condemned; and what did not come back.

A result passes three doors. Its form (`Handler.check_output`): what no honest executor sends excludes the sender and is
blamed. Its sample: the items that `verification.draw` picks now are computed by somebody else. Its verdict: agreement
accepts it; disagreement with this node condemns the executor; disagreement between peers calls for more opinions until
two agree, and condemns the others.
To condemn is to exclude the peer from this job, to throw away what it returned and nobody checked, to do that again
elsewhere, and to tell `trust`.
"""

from __future__ import annotations

from typing import Any

from ..effects import Done, Event, Tell
from ..errors import (
    Cancelled,
    InvalidResult,
    Malformed,
    Overloaded,
    Refused,
    TimedOut,
    TooLarge,
    Unreachable,
)
from ..messages.network import Blame
from ..messages.tasks import TaskState
from ..messages.trust import Outcome
from ..wire.task import RunResult
from . import journal
from .desk import Desk
from .seeking import Seeker
from .verification import draw
from .work import Attempt, Check, Job, Segment

OPINIONS_MAX = 7
"""Opinions on one sample that all differ, before everybody involved is out of the job."""

REPEATS = 4
"""A peer whose pause has doubled to this many times the first one, and whose computation fails again, is out."""

Ending = tuple[TaskState, str]
"""How a job ends, and why."""


class Judge:
    def __init__(self, desk: Desk, seeker: Seeker) -> None:
        self._desk = desk
        self._seeker = seeker
        self._checks = 0

    # -- what came back

    def arrived(self, job: Job, attempt: Attempt, done: Done) -> Ending | None:
        """An attempt is complete. How the job ends by that, if it does."""
        desk, now = self._desk, self._desk.now.mono
        if done.error is not None:
            desk.executors.land(attempt, now, measured=False)
            return self.failed(job, attempt, done.error)
        try:
            output, units = self._open(job, attempt, done.value)
        except InvalidResult as error:
            desk.executors.land(attempt, now, measured=False)
            return self.failed(job, attempt, error)
        seconds = desk.executors.land(attempt, now, measured=True)
        job.pauses.pop(attempt.peer, None)
        job.account.charge(attempt.peer, attempt.price, units)
        if attempt.purpose == "run":
            job.lateness.add(seconds, len(attempt.items))
            return self._result(job, attempt, output, seconds)
        check = job.checks[attempt.check]
        check.attempt = 0
        return self._opinion(job, check, attempt.peer, output, seconds)

    def _open(self, job: Job, attempt: Attempt, value: Any) -> tuple[bytes, int]:
        output, units = (value.output, value.units) if isinstance(value, RunResult) else (value, 0)
        if not isinstance(output, bytes):
            raise InvalidResult(f"{job.request.kind}: the computation returned {type(output).__name__}, not bytes")
        if not 0 <= units <= attempt.units:
            raise InvalidResult(f"charges {units} units for work of {attempt.units}")
        job.handler.check_output(job.request.spec, output, len(attempt.items))
        return output, units

    def _result(self, job: Job, attempt: Attempt, output: bytes, seconds: float) -> Ending | None:
        """The first result of a chunk: a twin is stopped, the sample is drawn."""
        desk = self._desk
        chunk = job.chunks.pop(attempt.chunk)
        for number in chunk.attempts:
            twin = job.attempts.get(number)
            if twin is not None:
                desk.abandon(twin)
        part = chunk.range
        if attempt.peer == desk.node:
            return self._accept(
                job, Segment(part.start, part.stop, desk.node, output, len(attempt.items), 1.0, desk.node)
            )
        standing = desk.executors.standing(job.request.kind, attempt.peer)
        rate = 1.0 if standing is None or standing.newcomer else standing.rate
        items = draw(attempt.items, rate, desk.rng)
        segment = Segment(part.start, part.stop, attempt.peer, output, 0, rate)
        if not items:
            desk.report(job, attempt.peer, segment.items, seconds)
            return self._accept(job, segment)
        self._checks += 1
        drawn = job.handler.take(output, [item - part.start for item in items])
        opinions = {attempt.peer: drawn}
        job.checks[self._checks] = Check(self._checks, segment, items, seconds, part.tries, job.searches, opinions)
        return None

    def _accept(self, job: Job, segment: Segment) -> Ending | None:
        job.segments[segment.start] = segment
        job.done += segment.items
        job.reason = job.said = ""
        if job.request.durable:
            self._desk.out.append(journal.done_row(job, segment))
        if job.complete:
            return "done", ""
        self._desk.emit(job, "progress", {"done": job.done, "total": len(job.items)})
        return None

    # -- checks

    def _opinion(self, job: Job, check: Check, peer: str, output: bytes, seconds: float) -> Ending | None:
        """Somebody else's result for the drawn items. This node's own decides; of peers, the first two that agree."""
        desk, count = self._desk, len(check.items)
        wrong = {of: job.handler.same(output, earlier).count(False) for of, earlier in check.opinions.items()}
        if peer != desk.node and all(wrong.values()):
            check.opinions[peer] = output
            return self._undecided(job, check) if len(check.opinions) >= OPINIONS_MAX else None
        del job.checks[check.number]
        if peer != desk.node:
            desk.report(job, peer, count, seconds, checked=count)
        for of in check.opinions:
            if of != check.segment.peer and not wrong[of]:
                desk.report(job, of, count, 0.0, checked=count)
        # Guilt first: it may take back results that would make the job look complete.
        endings = [self._condemn(job, check, of, mistakes, peer) for of, mistakes in wrong.items() if mistakes]
        if wrong[check.segment.peer]:
            job.queue.give_back(check.segment.start, check.segment.stop, check.tries)
        elif (done := self._passed(job, check, peer)) is not None:
            return done
        return next((ending for ending in endings if ending is not None), None)

    def _passed(self, job: Job, check: Check, by: str) -> Ending | None:
        segment = check.segment
        segment.checked, segment.by = len(check.items), by
        self._desk.report(job, segment.peer, segment.items, check.seconds, checked=segment.checked)
        data = {"peer": segment.peer, "items": segment.items, "checked": segment.checked, "by": by}
        self._desk.emit(job, "verified", data)
        return self._accept(job, segment)

    def _undecided(self, job: Job, check: Check) -> Ending | None:
        """So many opinions and no two agree: whoever is honest among them cannot be told. All are out of this job."""
        del job.checks[check.number]
        job.queue.give_back(check.segment.start, check.segment.stop, check.tries)
        reason = f"{len(check.opinions)} opinions differ, all but one are wrong"
        endings = [self._exclude(job, peer, reason, len(check.items)) for peer in check.opinions]
        return next((ending for ending in endings if ending is not None), None)

    def waived(self, job: Job, check: Check) -> Ending | None:
        """Nobody can check it: accepted as it is, and counted as unchecked in the bound."""
        del job.checks[check.number]
        segment = check.segment
        segment.rate = 0.0
        self._desk.report(job, segment.peer, segment.items, check.seconds)
        return self._accept(job, segment)

    # -- guilt

    def _condemn(self, job: Job, check: Check, peer: str, wrong: int, by: str) -> Ending | None:
        items = check.segment.items if peer == check.segment.peer else len(check.items)
        checked = len(check.items)
        self._desk.out.append(
            Tell(Outcome(peer, job.request.kind, items, checked, wrong, failed=False, seconds=check.seconds))
        )
        job.mismatches += wrong
        data = {"peer": peer, "wrong": wrong, "checked": checked, "by": by}
        self._desk.emit(job, "mismatch", data)
        return self._exclude(job, peer, f"returned {wrong} wrong of {checked} checked items", 0)

    def _exclude(self, job: Job, peer: str, reason: str, open_items: int) -> Ending | None:
        """No more work of this job for `peer`; what nobody checked of its results is done again."""
        desk = self._desk
        if peer == desk.node or peer in job.excluded:
            return None
        job.excluded[peer] = reason
        job.account.void(peer)
        if open_items:
            desk.emit(job, "mismatch", {"peer": peer, "wrong": 0, "undecided": open_items})
        redone = self._discard(job, peer) + self._withdraw(job, peer)
        if redone:
            desk.emit(job, "redone", {"items": redone, "peer": peer, "why": reason})
        if job.request.durable:
            desk.out.append(journal.job_row(job))
        desk.out += desk.executors.forget(job.request.kind, peer, reason)
        return self.hopeless(job)

    def hopeless(self, job: Job) -> Ending | None:
        """Only certain peers may do it, and all of them are out."""
        only = job.request.only
        if only and all(peer in job.excluded for peer in only):
            reasons = "; ".join(f"{peer[-8:]} {job.excluded[peer]}" for peer in only)
            return "failed", f"none of the chosen peers is left: {reasons}"
        return None

    def _discard(self, job: Job, peer: str) -> int:
        """Accepted results of `peer` that were not checked in full, and those that only it has checked."""
        redone = 0
        for segment in list(job.segments.values()):
            doubtful = segment.peer == peer and segment.checked < segment.items
            if doubtful or (segment.by == peer and segment.peer != self._desk.node):
                del job.segments[segment.start]
                job.done -= segment.items
                job.queue.give_back(segment.start, segment.stop)
                redone += segment.items
                if job.request.durable:
                    self._desk.out.append(journal.undone(job.task, segment.start))
        return redone

    def _withdraw(self, job: Job, peer: str) -> int:
        """Everything that is in flight at `peer`, or waits to be checked, or rests on its opinion."""
        desk, redone = self._desk, 0
        for check in list(job.checks.values()):
            if check.segment.peer == peer:
                del job.checks[check.number]
                self._take_back(job, check)
                redone += check.segment.items
            else:
                check.opinions.pop(peer, None)
        for attempt in [one for one in job.attempts.values() if one.peer == peer]:
            desk.abandon(attempt)
            redone += self._loose(job, attempt, 0)
        return redone

    def _take_back(self, job: Job, check: Check) -> None:
        """The result in question is thrown away."""
        self._stop_check(job, check)
        job.queue.give_back(check.segment.start, check.segment.stop, check.tries)

    def _stop_check(self, job: Job, check: Check) -> None:
        attempt = job.attempts.get(check.attempt)
        if attempt is not None:
            self._desk.abandon(attempt)
        check.attempt = 0

    def _loose(self, job: Job, attempt: Attempt, failed: int) -> int:
        """An attempt that is over without a result: its items wait again, unless a twin has them. How many do."""
        if attempt.purpose != "run":
            check = job.checks.get(attempt.check)
            if check is not None and check.attempt == attempt.number:
                check.attempt = 0
            return 0
        chunk = job.chunks.get(attempt.chunk)
        if chunk is None or attempt.number not in chunk.attempts:
            return 0
        chunk.attempts.remove(attempt.number)
        if chunk.attempts:
            chunk.duplicated = False
            return 0
        del job.chunks[attempt.chunk]
        job.queue.give_back(chunk.range.start, chunk.range.stop, chunk.range.tries + failed)
        return len(attempt.items)

    # -- what did not come back

    def failed(self, job: Job, attempt: Attempt, error: Exception) -> Ending | None:
        """An attempt ended without a result. The peer pauses, or is out; the items go elsewhere."""
        desk, kind, peer = self._desk, attempt.kind, attempt.peer
        local = peer == desk.node
        pause_s = desk.settings.backoff_s
        counts = 0
        if not local:
            desk.out += desk.executors.refund(kind, peer, attempt.lease, attempt.units)
        match error:
            case Overloaded():
                pause_s = max(error.retry_after_s, 0.1)
            case Refused() | Cancelled() if not local:
                desk.out += desk.executors.forget(kind, peer, str(error)[:120])
                self._seeker.later(job, desk.settings.seek_s * desk.rng.random())
            case TimedOut() | Unreachable() if not local:
                desk.out += desk.executors.forget(kind, peer, "does not answer")
                self._seeker.later(job, desk.settings.seek_s * desk.rng.random())
                self._desk.report_failed(job, attempt)
            case InvalidResult() | Malformed() | TooLarge() if not local:
                if isinstance(error, InvalidResult):
                    desk.out.append(Event(Blame(peer, error.message[:160])))
                return self._broken(job, attempt, error)
            case _ if local:
                counts = 1
            case _:
                if job.pauses.get(peer, (0.0, 0.0))[1] >= REPEATS * pause_s:
                    return self._broken(job, attempt, error)
                counts = 1 if desk.unavailable(job) else 0
                self._desk.report_failed(job, attempt)
        desk.pause(job, peer, pause_s)
        return self._lost(job, attempt, str(error), counts)

    def _broken(self, job: Job, attempt: Attempt, error: Exception) -> Ending | None:
        """The peer answers, but cannot do this. Its failures count against the job only if this node cannot try."""
        self._desk.report_failed(job, attempt)
        counts = 1 if self._desk.unavailable(job) else 0
        ending = self._lost(job, attempt, str(error), counts)
        return self._exclude(job, attempt.peer, f"failed: {str(error)[:100]}", 0) or ending

    def _lost(self, job: Job, attempt: Attempt, why: str, failed: int) -> Ending | None:
        chunk = job.chunks.get(attempt.chunk)
        tries = (chunk.range.tries if chunk is not None and attempt.purpose == "run" else 0) + failed
        if attempt.purpose != "run" and attempt.peer == self._desk.node and failed:
            # This node computes no more for the job: the check goes to a peer, or is waived.
            job.local_broken = f"cannot compute it: {why[:120]}"
        items = self._loose(job, attempt, failed)
        job.reason = f"{attempt.peer[-8:]}: {why[:200]}"
        self._desk.emit(job, "lost", {"peer": attempt.peer, "items": items, "why": why[:200]})
        if items:
            self._desk.emit(job, "redone", {"items": items, "peer": attempt.peer, "why": why[:200]})
        if tries >= self._desk.settings.tries_max:
            return "failed", f"computing it failed {tries} times, last: {why[:300]}"
        return None

    def gone(self, job: Job, attempt: Attempt) -> Ending | None:
        """The executor is not connected any more: do not wait for its answer."""
        self._desk.abandon(attempt, stop=False)
        return self.failed(job, attempt, Unreachable("the peer is gone"))

    def shunned(self, job: Job, attempt: Attempt, why: str) -> Ending | None:
        """The executor is to be avoided, as was just learnt elsewhere."""
        self._desk.abandon(attempt)
        return self._lost(job, attempt, why, 0)
