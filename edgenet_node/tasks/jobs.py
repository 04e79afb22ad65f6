"""The submitting side: `JobsCore`."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from typing import Any

from msgspec import structs

from ..effects import Done, Effect, Envelope, Now, Reply, Row, Tell, Tick
from ..errors import Conflict, EdgenetError, InvariantError, NotFound, Overloaded, UsageError
from ..messages.network import PeerDown, PeerUp
from ..messages.tasks import (
    CancelTask,
    GetTask,
    GetTaskEvents,
    GetTaskStats,
    ListTasks,
    Submit,
    TaskOutcome,
    TaskState,
    TaskStats,
    TaskView,
    Verified,
)
from ..messages.trust import StandingChanged
from . import journal
from .chunks import gaps
from .desk import Desk, RunTag, StopTag
from .handlers import Handler
from .history import Finished, History
from .judging import Ending, Judge
from .placing import Placer
from .registry import Registry
from .seeking import Seeker, SeekTag, StandingsTag
from .serving import OwnLoad
from .settings import Entropy, JobsSettings, Rng
from .verification import Sampled
from .work import Job, Request

ONLY_MAX = 64
"""Peers that one task may name."""

LIST_MAX = 1000
KEY_CHARS_MAX = 200
TIMEOUT_S_MAX = 7 * 86_400.0
RETRY_AFTER_S = 1.0
PEER_UP_S = 0.3
"""A new member announces what it offers within about this."""


class JobsCore:
    def __init__(self, settings: JobsSettings, registry: Registry, node: str, rng: Rng, entropy: Entropy) -> None:
        self._settings = settings
        self._registry = registry
        self._desk = Desk(settings, registry, node, rng, entropy)
        self._seeker = Seeker(self._desk)
        self._placer = Placer(self._desk, self._seeker)
        self._judge = Judge(self._desk, self._seeker)
        self._history = History(settings)
        self._keys: dict[str, str] = {}
        self._live_bytes = 0
        self._ended: Counter[str] = Counter()
        self._own_load = 0

    # -- the core

    def restore(self, rows: Sequence[Row], now: Now) -> list[Effect]:
        self._desk.begin(now)
        for saved in journal.read(rows):
            handler = self._registry.find(saved.request.kind)
            if saved.row.state != "queued":
                self._remember(saved.request, _ended_view(saved), saved.log, saved.outputs(), handler)
            elif handler is None:
                self._reject(saved)
            else:
                self._resume(saved, handler)
        return self._end_of_step()

    def wake_at(self) -> float:
        return self._desk.alarms.next()

    def step(self, e: Envelope[Any], now: Now) -> list[Effect]:
        self._desk.begin(now)
        body = e.body
        match body:
            case Submit():
                self._submit(body, e.reply_to)
            case Done():
                self._done(body)
            case Tick():
                self._tick()
            case GetTask() | ListTasks() | CancelTask() | GetTaskEvents() | GetTaskStats():
                self._answer(body, e.reply_to)
            case PeerUp():
                self._peer_up()
            case PeerDown(peer):
                self._peer_down(peer)
            case StandingChanged(standing):
                self._standing_changed(standing.kind, standing.peer, body)
            case _:
                raise InvariantError(f"jobs does not take {type(body).__name__}")
        return self._end_of_step()

    def _end_of_step(self) -> list[Effect]:
        if self._desk.freed and self._desk.hungry:
            self._placer.fill_others()
        load = len(self._desk.executors.flying(self._desk.node))
        if load != self._own_load:
            self._own_load = load
            self._desk.out.append(Tell(OwnLoad(load)))
        return self._desk.out

    # -- submitting

    def _submit(self, query: Submit, reply_to: int) -> None:
        try:
            handler, request, items = self._read(query)
            known = self._keys.get(query.key) if query.key else None
            if known is not None:
                self._again(known, request, query, reply_to)
                return
            self._check_room(items)
        except EdgenetError as error:
            self._desk.out.append(Reply(reply_to, error=error))
            return
        job = Job(request, items, handler, self._desk.now.mono + query.timeout_s)
        if request.durable:
            self._desk.out += journal.submission(job)
        self._enter(job)
        self._desk.emit(job, "queued", {"items": request.items, "units": request.units})
        if query.wait:
            job.waiters.append(reply_to)
        else:
            self._desk.out.append(Reply(reply_to, TaskOutcome(job.view(), b"")))
        self._placer.start(job)
        self._settle(job, None)

    def _read(self, query: Submit) -> tuple[Handler, Request, Sequence[bytes]]:
        """`UsageError` for whatever is wrong with it, in one line."""
        handler = self._registry.get(query.kind)
        if bool(query.payload) == bool(query.items):
            raise UsageError(f"{query.kind}: give either a payload or items")
        if query.payload:
            parsed = handler.parse(query.payload)
            spec, items = parsed.spec, parsed.items
        else:
            spec, items = query.spec, query.items
            handler.check_items(spec, items)
        settings = self._settings
        size = sum(map(len, items))
        if len(items) > settings.items_max or size > settings.input_bytes_max:
            limit = f"at most {settings.items_max} items and {settings.input_bytes_max} bytes in one task"
            raise UsageError(f"{query.kind}: {len(items)} items with {size} bytes, {limit}")
        if not 0.0 < query.timeout_s <= TIMEOUT_S_MAX:
            raise UsageError(f"timeout_s must be above 0 and at most {TIMEOUT_S_MAX:g}")
        if len(query.only) > ONLY_MAX or len(query.key) > KEY_CHARS_MAX or query.price_max < 0:
            raise UsageError(f"at most {ONLY_MAX} peers and {KEY_CHARS_MAX} characters of key; no negative price")
        return handler, self._request(query, handler, spec, items), items

    def _request(self, query: Submit, handler: Handler, spec: bytes, items: Sequence[bytes]) -> Request:
        local = query.local or query.only == (self._desk.node,)
        if query.local and query.only and self._desk.node not in query.only:
            raise UsageError("local and only exclude each other")
        if local and (reason := handler.unavailable()):
            raise UsageError(f"{query.kind} cannot run here: {reason}")
        digest = b""
        if query.key:
            seen = hashlib.sha256(f"{query.kind}\0{len(spec)}\0".encode() + spec)
            for item in items:
                seen.update(len(item).to_bytes(4, "little") + item)
            digest = seen.digest()
        wall = self._desk.now.wall
        return Request(
            f"t_{int(wall * 1000):011x}{self._desk.entropy(5).hex()}", query.kind, spec,
            tuple(dict.fromkeys(query.only)), local, query.durable, query.key, digest, query.price_max,
            query.source[:64], len(items), sum(map(handler.units, items)), wall, wall + query.timeout_s,
        )  # fmt: skip

    def _again(self, task: str, request: Request, query: Submit, reply_to: int) -> None:
        """A key that is known: the same task, or a conflict."""
        job, finished = self._desk.jobs.get(task), self._history.get(task)
        earlier = job.request if job is not None else finished.request if finished is not None else None
        if earlier is None or earlier.digest != request.digest:
            raise Conflict(f"the key {query.key!r} belongs to another task, {task}")
        if finished is not None:
            self._desk.out.append(Reply(reply_to, finished.outcome()))
        elif job is not None and query.wait:
            if len(job.waiters) >= self._settings.waits_max:
                raise Overloaded("too many wait for this task", retry_after_s=RETRY_AFTER_S)
            job.waiters.append(reply_to)
        elif job is not None:
            self._desk.out.append(Reply(reply_to, TaskOutcome(job.view(), b"")))

    def _check_room(self, items: Sequence[bytes]) -> None:
        settings, live = self._settings, len(self._desk.jobs)
        if live >= settings.live_max or self._live_bytes + sum(map(len, items)) > settings.live_bytes_max:
            raise Overloaded(f"{live} tasks are unfinished here, no room for more", retry_after_s=RETRY_AFTER_S)

    def _enter(self, job: Job) -> None:
        desk = self._desk
        desk.jobs[job.task] = job
        self._live_bytes += job.input_bytes
        if job.request.key:
            self._keys[job.request.key] = job.task
        desk.alarms.set(("deadline", job.task), job.deadline, desk.now.mono)

    # -- what happens to a job

    def _settle(self, job: Job, ending: Ending | None) -> None:
        """After anything that touched the job: end it, or give it what is free."""
        while ending is None:
            self._placer.fill(job)
            waived = self._placer.unverifiable(job) if job.checks else []
            if not waived:
                if job.hungry:
                    if job.remote:
                        self._seeker.keep_seeking(job)
                    else:
                        self._seeker.say_why(job, ())
                return
            for check in waived:
                ending = self._judge.waived(job, check) or ending
        self._finish(job, *ending)

    def _done(self, done: Done) -> None:
        desk = self._desk
        match done.tag:
            case RunTag(number):
                attempt = desk.landed(number)
                job = desk.jobs.get(attempt.task) if attempt is not None else None
                if attempt is not None and job is not None:
                    self._settle(job, self._judge.arrived(job, attempt, done))
            case SeekTag():
                for job in self._seeker.sought(done.tag, done):
                    self._settle(job, None)
            case StandingsTag():
                for job in self._seeker.judged(done.tag, done):
                    self._settle(job, None)
            case StopTag():
                pass
            case _:
                raise InvariantError(f"jobs has no operation {done.tag!r}")

    def _tick(self) -> None:
        desk = self._desk
        for key in desk.alarms.due(desk.now.mono):
            match key:
                case ("poll", str(task), int(reply_to)):
                    desk.poll_over(task, reply_to)
                case ("deadline", str(task)):
                    if (job := desk.jobs.get(task)) is not None:
                        self._finish(job, "timed_out", _unfinished(job))
                case ("seek", str(task)):
                    if (job := desk.jobs.get(task)) is not None and job.hungry:
                        self._seeker.seek(job)
                        self._settle(job, None)
                case (_, str(task)):
                    if (job := desk.jobs.get(task)) is not None:
                        self._settle(job, None)

    def _peer_up(self) -> None:
        for task in self._desk.hungry:
            job = self._desk.jobs.get(task)
            if job is not None and job.remote:
                job.seek_pause = 0.0
                self._seeker.later(job, PEER_UP_S * (0.5 + self._desk.rng.random()))

    def _peer_down(self, peer: str) -> None:
        desk = self._desk
        for attempt in desk.attempts_at(peer):
            job = desk.jobs.get(attempt.task)
            if job is not None and attempt.number in job.attempts:
                self._settle(job, self._judge.gone(job, attempt))
        for kind in desk.executors.kinds(peer):
            desk.out += desk.executors.forget(kind, peer, "the peer is gone")

    def _standing_changed(self, kind: str, peer: str, event: StandingChanged) -> None:
        desk = self._desk
        desk.executors.judge(event.standing, desk.now.mono)
        if event.standing.avoided:
            for attempt in desk.attempts_at(peer):
                job = desk.jobs.get(attempt.task)
                if job is not None and attempt.kind == kind and attempt.number in job.attempts:
                    self._settle(job, self._judge.shunned(job, attempt, f"avoided: {event.standing.reason}"))
        desk.freed = True  # a proven peer takes more than a newcomer

    def _finish(self, job: Job, state: TaskState, reason: str) -> None:
        desk = self._desk
        if state == "done" and not job.complete:
            raise InvariantError(f"{job.task} ends with {job.done} of {len(job.items)} items")
        for attempt in list(job.attempts.values()):
            desk.abandon(attempt)
        del desk.jobs[job.task]
        desk.hungry.pop(job.task, None)
        for name in ("deadline", "seek", "late", "fill"):
            desk.alarms.drop((name, job.task))
        self._live_bytes -= job.input_bytes
        self._ended[state] += 1
        job.reason = reason
        verified = job.verified()
        settlement = job.account.settle()
        data: dict[str, Any] = {"reason": reason} if reason else {}
        data |= {"executors": job.executors(), "verified": structs.asdict(verified), "price": settlement.total}
        desk.emit(job, state, data)
        view = job.view(state, desk.now.wall)
        starts = sorted(job.segments)
        outputs = {start: job.segments[start].output for start in starts} if state == "done" else {}
        if job.request.durable:
            desk.out.append(journal.job_row(job, state, desk.now.wall, verified))
            desk.out += journal.inputs_gone(job)
            if state != "done":
                desk.out += [journal.undone(job.task, start) for start in starts]
        finished = self._remember(job.request, view, job.log, outputs, job.handler)
        if job.waiters:
            outcome = finished.outcome()
            desk.out += [Reply(to, outcome) for to in job.waiters]

    def _remember(
        self, request: Request, view: TaskView, log: Any, outputs: dict[int, bytes], handler: Handler | None
    ) -> Finished:
        finished = Finished(request, view, log, outputs, handler)
        if request.key:
            self._keys[request.key] = request.task
        gone, rows = self._history.add(finished)
        self._desk.out += rows
        for one in gone:
            if self._keys.get(one.request.key) == one.request.task:
                del self._keys[one.request.key]
        return finished

    # -- after a restart

    def _resume(self, saved: journal.Saved, handler: Handler) -> None:
        desk, request = self._desk, saved.request
        deadline = desk.now.mono + request.deadline_wall - desk.now.wall
        job = Job(request, saved.items, handler, deadline)
        job.input_rows, job.log, job.mismatches = saved.input_rows, saved.log, saved.row.mismatches
        job.excluded = dict(saved.row.excluded)
        job.contributors = {*saved.row.contributors, *(one.peer for one in saved.segments if one.peer != desk.node)}
        job.segments = {one.start: one for one in saved.segments}
        job.done = sum(one.items for one in saved.segments)
        job.queue.clear()
        for start, stop in reversed(gaps([(one.start, one.stop) for one in saved.segments], len(saved.items))):
            job.queue.give_back(start, stop)
        self._enter(job)
        desk.emit(job, "resumed", {"done": job.done, "items": len(job.items)})
        if job.complete:
            self._finish(job, "done", "")
        else:
            self._placer.start(job)
            self._settle(job, None)

    def _reject(self, saved: journal.Saved) -> None:
        """Its handler is gone: the package that brought it was uninstalled."""
        reason = f"no handler for {saved.request.kind} is installed any more"
        row = structs.replace(saved.row, state="rejected", reason=reason, finished_wall=self._desk.now.wall)
        self._desk.out.append(journal.ended_row(saved.request.task, row))
        saved.row = row
        self._remember(saved.request, _ended_view(saved), saved.log, {}, None)

    # -- questions

    def _answer(self, query: Any, reply_to: int) -> None:
        try:
            value = self._value(query, reply_to)
        except EdgenetError as error:
            self._desk.out.append(Reply(reply_to, error=error))
        else:
            if value is not None:
                self._desk.out.append(Reply(reply_to, value))

    def _value(self, query: Any, reply_to: int) -> Any:
        match query:
            case GetTask(task):
                job = self._desk.jobs.get(task)
                return TaskOutcome(job.view(), b"") if job is not None else self._finished(task).outcome()
            case CancelTask(task):
                job = self._desk.jobs.get(task)
                if job is not None:
                    self._finish(job, "cancelled", "cancelled by its owner")
                return self._finished(task).view
            case ListTasks(tasks_max):
                return self._list(max(1, min(tasks_max, LIST_MAX)))
            case GetTaskStats():
                return self._stats()
            case GetTaskEvents():
                return self._events(query, reply_to)
        raise InvariantError(f"jobs has no answer to {type(query).__name__}")

    def _finished(self, task: str) -> Finished:
        finished = self._history.get(task)
        if finished is None:
            raise NotFound(f"there is no task {task[:60]!r} here (finished ones are kept for a while only)")
        return finished

    def _list(self, tasks_max: int) -> tuple[TaskView, ...]:
        requests = [job.request for job in self._desk.jobs.values()] + [one.request for one in self._history.all()]
        newest = sorted(requests, key=lambda one: (one.created_wall, one.task), reverse=True)[:tasks_max]
        jobs = self._desk.jobs
        return tuple(jobs[one.task].view() if one.task in jobs else self._finished(one.task).view for one in newest)

    def _events(self, query: GetTaskEvents, reply_to: int) -> Any:
        job = self._desk.jobs.get(query.task)
        log = job.log if job is not None else self._finished(query.task).log
        events = log.after(query.after)
        if events or job is None or not query.wait_s > 0.0:
            return events
        if not self._desk.poll(query.task, reply_to, query.after, min(query.wait_s, self._settings.poll_s_max)):
            raise Overloaded("too many wait for events", retry_after_s=RETRY_AFTER_S)
        return None

    def _stats(self) -> TaskStats:
        running = sum(1 for job in self._desk.jobs.values() if job.attempts or job.checks)
        waiting = len(self._desk.jobs) - running
        states = {
            **self._ended,
            **({"running": running} if running else {}),
            **({"queued": waiting} if waiting else {}),
        }
        return TaskStats(states, running, waiting, 0, 0, 0)


def _ended_view(saved: journal.Saved) -> TaskView:
    request, row = saved.request, saved.row
    samples: list[Sampled] = [one.sampled() for one in saved.segments]
    counts: Counter[str] = Counter()
    for sample in samples:
        counts[sample.peer] += sample.items
    verified = Verified(sum(one.checked for one in samples), row.items, row.mismatches, row.error_bound)
    done = sum(counts.values())
    return TaskView(
        request.task, request.kind, row.state, request.created_wall, row.finished_wall, request.deadline_wall,
        request.items, done, request.units, row.price, dict(counts), verified, row.reason, saved.log.seq,
    )  # fmt: skip


def _unfinished(job: Job) -> str:
    done = f"{job.done} of {len(job.items)} items were done in time"
    return f"{done}; {job.reason}" if job.reason else done
