"""Finding executors: leases from `market`, standings from `trust`; who has a free slot for a job.

Held leases are kept here, so that a small task needs no question to anybody. An unknown standing means: not yet. The
question costs microseconds, and work for a peer that is to be avoided costs more.
"""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from ..effects import Ask, Done
from ..messages.market import Acquire, Declined, Leases
from ..messages.trust import GetStandings, Standing
from .desk import Desk
from .work import Job

ACQUIRE_TIMEOUT_S = 10.0
STANDINGS_TIMEOUT_S = 5.0

REASONS_MAX = 5
"""Peers named in the sentence that says why a task waits. The event carries up to `DECLINED_MAX`."""

DECLINED_MAX = 50

TINY_S = 0.02
"""Chunks quicker than this are sent ahead: their time is mostly the way there."""

TINY_AHEAD = 8
"""How many of them, beyond one for each worker there."""


class SeekTag(Struct, frozen=True):
    """An `Acquire` under way. `wanted` is what was asked, so that jobs that want the same share one answer."""

    kind: str
    reserve: int
    only: tuple[str, ...]
    exclude: tuple[str, ...]


class StandingsTag(Struct, frozen=True):
    kind: str


class Seat(Struct):
    """A free slot. `seconds_per_item` is 0 if unknown; `expected_s`: until one more item would be done there."""

    peer: str
    newcomer: bool
    seconds_per_item: float
    workers: int
    expected_s: float


class Seeker:
    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._seeking: dict[SeekTag, dict[str, None]] = {}
        self._asking: set[str] = set()

    # -- leases

    def seek(self, job: Job) -> None:
        """Ask `market` for executors, unless that is under way."""
        if not job.remote or job.request.only == (self._desk.node,):
            return
        request = job.request
        tag = SeekTag(request.kind, request.reserve, request.only, tuple(sorted(job.excluded)))
        if tag in self._seeking:
            self._seeking[tag][job.task] = None
            return
        self._seeking[tag] = {job.task: None}
        units = max(request.units, self._desk.settings.lease_units)
        query = Acquire(
            request.kind,
            job.handler.model,
            min(units, 1_000_000_000),
            request.reserve,
            self._desk.settings.executors_max,
            tuple(peer for peer in request.only if peer != self._desk.node),
            tag.exclude,
        )
        self._desk.out.append(Ask(tag, query, ACQUIRE_TIMEOUT_S))

    def renew(self, job: Job, peer: str) -> None:
        """The lease of `peer` was just used: replace it in time, without anybody waiting for it."""
        desk, kind, now = self._desk, job.request.kind, self._desk.now.mono
        held = desk.executors.held.get((kind, peer))
        expiring = held is not None and held.view.expires_mono - now < desk.settings.lease_margin_s
        if expiring and ("renew", kind) not in desk.alarms:
            desk.alarms.set(("renew", kind), now + 1.0, now)
            self.seek(job)
        if desk.executors.standing_age(kind, peer, now) > desk.settings.standing_s:
            self.ask_standings(kind)

    def sought(self, tag: SeekTag, done: Done) -> list[Job]:
        """The answer came, or did not. Returns the jobs that were waiting for it."""
        tasks = self._seeking.pop(tag, {})
        found = done.value if isinstance(done.value, Leases) else Leases((), ())
        self._desk.executors.expire(self._desk.now.mono)
        self._desk.executors.grant(found.leases)
        standings = [self._desk.executors.standing(tag.kind, one.peer) for one in found.leases]
        # `market` offers nobody who is to be avoided: what is known here otherwise is out of date.
        if any(standing is None or standing.avoided for standing in standings):
            self.ask_standings(tag.kind)
        jobs = [self._desk.jobs[task] for task in tasks if task in self._desk.jobs]
        for job in jobs:
            self._answered(job, found)
        return jobs

    def _answered(self, job: Job, found: Leases) -> None:
        desk, settings = self._desk, self._desk.settings
        job.searches += 1
        peers = frozenset(lease.peer for lease in found.leases)
        if peers - job.leased:
            job.leased |= peers
            job.account.award(found.leases, job.request.units)
            executors = [{"peer": one.peer, "price": one.price, "rtt_s": one.rtt_s} for one in found.leases]
            desk.emit(job, "leased", {"executors": executors})
        pause = settings.seek_s_max if peers else min(settings.seek_s_max, 2 * job.seek_pause or settings.seek_s)
        job.seek_pause = 0.0 if peers else pause
        self.later(job, pause * (0.5 + desk.rng.random()))
        if not peers:
            self.say_why(job, found.declined)

    def later(self, job: Job, pause_s: float) -> None:
        """Look for executors after `pause_s`."""
        self._desk.alarms.set(("seek", job.task), self._desk.now.mono + pause_s, self._desk.now.mono)

    def keep_seeking(self, job: Job) -> None:
        """Whoever has work to give is looking for executors, or will be."""
        if job.hungry and ("seek", job.task) not in self._desk.alarms and not self._under_way(job):
            self.later(job, self._desk.settings.seek_s * (0.5 + self._desk.rng.random()))

    def _under_way(self, job: Job) -> bool:
        return any(job.task in tasks for tasks in self._seeking.values())

    def say_why(self, job: Job, declined: tuple[Declined, ...]) -> None:
        """A task that nobody works on waits with its reason."""
        if job.attempts or not job.hungry or self.here(job):
            return
        why = [f"{one.peer[-8:]} {one.reason}" for one in declined[:REASONS_MAX]]
        why += [f"{peer[-8:]} {reason}" for peer, reason in sorted(job.excluded.items())[:REASONS_MAX]]
        why += [f"and {len(declined) - REASONS_MAX} more"] if len(declined) > REASONS_MAX else []
        local = self._local_objection(job)
        others = "; ".join(why) or ("no other member of the swarm is known" if job.remote else "it is to run here")
        reason = f"no executor: {others}; this node: {local}"
        listed = [{"peer": one.peer, "reason": one.reason} for one in declined[:DECLINED_MAX]]
        self.waits(job, reason, {"declined": listed})

    def waits(self, job: Job, reason: str, data: dict[str, Any]) -> None:
        """Nothing moves, and why: shown in the task, an event when it is news."""
        job.reason = reason
        if reason != job.said:
            job.said = reason
            self._desk.emit(job, "waiting", {"reason": reason, **data, "deadline_wall": job.request.deadline_wall})

    # -- standings

    def ask_standings(self, kind: str) -> None:
        if kind not in self._asking:
            self._asking.add(kind)
            peers = tuple(sorted(peer for of, peer in self._desk.executors.held if of == kind))
            self._desk.out.append(Ask(StandingsTag(kind), GetStandings(kind, peers), STANDINGS_TIMEOUT_S))

    def judged(self, tag: StandingsTag, done: Done) -> list[Job]:
        """Standings came. Whoever is missing, or all if `trust` did not answer, counts as a newcomer. Returns the jobs
        of this kind that have something to do."""
        self._asking.discard(tag.kind)
        executors, now = self._desk.executors, self._desk.now.mono
        for standing in done.value or ():
            executors.judge(standing, now)
        for kind, peer in executors.held:
            if kind == tag.kind and executors.standing(kind, peer) is None:
                executors.judge(Standing(peer, kind, rate=1.0, newcomer=True, avoided=False, score=0.0), now)
        jobs = [self._desk.jobs[task] for task in self._desk.hungry if task in self._desk.jobs]
        return [job for job in jobs if job.request.kind == tag.kind]

    # -- seats

    def here(self, job: Job) -> bool:
        """This node may compute the job's chunks, and can."""
        return not self._local_objection(job)

    def _local_objection(self, job: Job) -> str:
        desk, request = self._desk, job.request
        if reason := desk.unavailable(job):
            return reason
        if request.local or desk.node in request.only:
            return ""
        if request.only:
            return "not among the chosen peers"
        if desk.settings.workers == 0:
            return "no workers"
        if desk.settings.self_share > 0.0 or (job.searches > 0 and self._deserted(job)):
            return ""
        return "leaves work to others (self_share is 0)"

    def _deserted(self, job: Job) -> bool:
        """Nobody with a lease, or all of them failed last: even a node without a share of its own takes over."""
        now = self._desk.now.mono
        return all(job.paused(peer, now) for peer in self.lessors(job))

    def local_slots(self) -> int:
        settings = self._desk.settings
        return max(1, round(settings.workers * min(1.0, settings.self_share)))

    def seats(self, job: Job) -> list[Seat]:
        """Free slots for this job, quickest first."""
        found = [seat for peer in self.lessors(job) if (seat := self._remote_seat(job, peer)) is not None]
        node, now = self._desk.node, self._desk.now.mono
        if not job.paused(node, now) and self.here(job):
            flying = self._desk.local_flying(checks=False)
            if flying < self.local_slots() + self._ahead(job):
                found.append(self._seat(job, node, newcomer=False))
        return sorted(found, key=lambda seat: seat.expected_s) if len(found) > 1 else found

    def lessors(self, job: Job) -> list[str]:
        """Peers with a usable lease that this job may use, busy or not."""
        desk, request, now = self._desk, job.request, self._desk.now.mono
        if not job.remote:
            return []
        peers = request.only or tuple(peer for kind, peer in desk.executors.held if kind == request.kind)
        return [
            peer
            for peer in peers
            if peer not in job.excluded
            and desk.executors.lease(request.kind, peer, request.reserve, now) is not None
            and ((standing := desk.executors.standing(request.kind, peer)) is None or not standing.avoided)
        ]

    def _remote_seat(self, job: Job, peer: str) -> Seat | None:
        desk, kind = self._desk, job.request.kind
        standing = desk.executors.standing(kind, peer)
        if standing is None or job.paused(peer, desk.now.mono):
            return None
        flying = desk.executors.flying(peer)
        if standing.newcomer:
            unproven = len(flying) + sum(1 for check in job.checks.values() if check.segment.peer == peer)
            if unproven >= desk.settings.newcomer_chunks:
                return None
        elif len(flying) >= self._slots(job, peer) + self._ahead(job):
            return None
        return self._seat(job, peer, newcomer=standing.newcomer)

    def _slots(self, job: Job, peer: str) -> int:
        """One chunk for each worker there, one more to hide the way there and back, several if they are tiny."""
        executors, kind, settings = self._desk.executors, job.request.kind, self._desk.settings
        held = executors.held[kind, peer]
        speed = executors.speed(kind, peer)
        if speed and speed * min(len(job.items), settings.chunk_start) < TINY_S:
            return held.view.workers + TINY_AHEAD
        return held.view.workers + (held.view.rtt_s > 0.02 * settings.chunk_s)

    def _ahead(self, job: Job) -> int:
        """A small task need not wait until a chunk of a large one is done: one is let in beside it."""
        return 1 if len(job.items) <= self._desk.settings.small_items else 0

    def _seat(self, job: Job, peer: str, *, newcomer: bool) -> Seat:
        executors, kind = self._desk.executors, job.request.kind
        speed, workers = executors.speed(kind, peer), executors.workers(kind, peer)
        # Nobody measured yet: this node first, since there is no way to go.
        guess = speed or (0.0 if peer == self._desk.node else 3600.0)
        queued = len(executors.flying(peer)) // workers
        return Seat(peer, newcomer, speed, workers, guess * (1 + queued))
