"""Handing out work: chunks to free slots, checks to somebody else, late chunks to a second executor."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from itertools import islice

from .chunks import chunk_size
from .desk import Desk
from .seeking import Seat, Seeker
from .work import Attempt, Check, Chunk, Job

RECHECK_S = 0.5
"""A late chunk for which nobody is free is looked at again after this."""

FILL_TRIES_MAX = 8
"""Jobs of which none could use a free slot, before the others are left for the next time."""

FILL_LOOKS_MAX = 24
"""Jobs that are looked at for one free slot, longest waiting first. If none can use it, the next slot starts behind."""


def _likeness(job: Job) -> Hashable:
    """What two jobs share that find the same free slots, so that the second need not look; None when it may differ."""
    if job.excluded or job.pauses or job.checks:
        return None
    request = job.request
    return request.kind, request.only, request.local, request.reserve, len(job.items), job.searches > 0


class Placer:
    def __init__(self, desk: Desk, seeker: Seeker) -> None:
        self._desk = desk
        self._seeker = seeker

    def start(self, job: Job) -> None:
        """A new or resumed job: use who is there, look for more unless it is small and placed."""
        self.fill(job)
        if job.hungry or len(job.items) > self._desk.settings.small_items:
            self._seeker.seek(job)

    def fill(self, job: Job) -> bool:
        """Give this job all the free slots that it can use. Whether anything was placed."""
        before = len(job.attempts)
        if job.checks:
            self._place_checks(job)
        while job.queue:
            seats = self._seeker.seats(job)
            if not seats:
                break
            for seat in seats:
                if job.queue:
                    self._place_chunk(job, seat)
        if job.hungry:
            self._desk.hungry[job.task] = None
        else:
            self._desk.hungry.pop(job.task, None)
        if not job.queue and (job.chunks or job.checks):
            self._place_late(job)
        return len(job.attempts) > before

    def fill_others(self) -> None:
        """A slot was freed: whoever waits longest may have use for it."""
        desk = self._desk
        looked = list(islice(desk.hungry, FILL_LOOKS_MAX))
        if not self._fill_first(looked):
            for task in looked:  # none of them can use it now: do not let them hide the ones behind
                if task in desk.hungry:
                    desk.hungry[task] = desk.hungry.pop(task)

    def _fill_first(self, tasks: Sequence[str]) -> bool:
        """Whether any of them was given something."""
        placed, misses = False, 0
        barren: set[Hashable] = set()
        for task in tasks:
            job = self._desk.jobs.get(task)
            if job is None:
                del self._desk.hungry[task]
                continue
            likeness = _likeness(job)
            if likeness is not None and likeness in barren:
                continue
            if self.fill(job):
                placed, misses = True, 0
                continue
            barren.add(likeness)
            misses += 1
            if misses >= FILL_TRIES_MAX:
                break
        return placed

    # -- chunks

    def _place_chunk(self, job: Job, seat: Seat) -> None:
        settings = self._desk.settings
        items_max = (
            min(settings.newcomer_items, job.handler.chunk_items_max)
            if seat.newcomer
            else (job.handler.chunk_items_max)
        )
        size = chunk_size(
            job.queue.items, seat.seconds_per_item, job.last_size.get(seat.peer, 0), self._share(job, seat), settings,
            items_max,
        )  # fmt: skip
        part = job.queue.carve(size, job.items)
        job.last_size[seat.peer] = part.stop - part.start
        chunk = Chunk(part)
        job.chunks[part.start] = chunk
        attempt = self._desk.launch(job, seat.peer, "run", range(part.start, part.stop), part.start)
        chunk.attempts.append(attempt.number)
        self._used(job, seat.peer)

    def _share(self, job: Job, seat: Seat) -> float:
        """Of the speed of all executors of this job that one worker of `seat` has. Unmeasured ones count as it does."""
        executors, kind = self._desk.executors, job.request.kind
        peers = [*self._seeker.lessors(job), *([self._desk.node] if self._seeker.here(job) else [])]
        own = 1.0 / (seat.seconds_per_item or 1.0)
        total = 0.0
        for peer in peers:
            speed = executors.speed(kind, peer)
            workers = self._seeker.local_slots() if peer == self._desk.node else executors.workers(kind, peer)
            total += workers * (1.0 / speed if speed else own)
        return own / max(total, own)

    def _used(self, job: Job, peer: str) -> None:
        if peer != self._desk.node:
            job.contributors.add(peer)
            if peer not in job.leased:
                held = self._desk.executors.held[job.request.kind, peer]
                job.leased |= {peer}
                job.account.award([held.view], job.request.units)
                executor = {"peer": peer, "price": held.view.price, "rtt_s": held.view.rtt_s}
                self._desk.emit(job, "leased", {"executors": [executor]})
            self._seeker.renew(job, peer)

    # -- checks

    def _place_checks(self, job: Job) -> None:
        for check in list(job.checks.values()):
            if check.attempt == 0 and check.number in job.checks:
                peer = self._checker(job, check)
                if peer:
                    start = check.segment.start
                    claim = check.opinions[check.segment.peer] if peer == self._desk.node else b""
                    attempt = self._desk.launch(job, peer, "check", check.items, start, check.number, claim)
                    check.attempt = attempt.number
                    if peer != self._desk.node:
                        self._used(job, peer)

    def _checker(self, job: Job, check: Check) -> str:
        """Who gives the next opinion: this node if it has the model; else another executor, proven ones before
        newcomers, drawn at random so that nobody can choose who checks it. Empty: nobody is free."""
        desk = self._desk
        if not desk.unavailable(job) and desk.settings.workers > 0:
            if desk.local_flying(checks=True) < desk.settings.workers and not job.paused(desk.node, desk.now.mono):
                return desk.node
            return ""
        free = []
        for peer in self.opinions(job, check):
            standing = desk.executors.standing(job.request.kind, peer)
            room = len(desk.executors.flying(peer)) <= desk.executors.workers(job.request.kind, peer)
            if standing is not None and room and not job.paused(peer, desk.now.mono):
                free.append((standing.newcomer, peer))
        proven = [peer for newcomer, peer in free if not newcomer] or [peer for _, peer in free]
        return proven[desk.rng.randrange(len(proven))] if proven else ""

    def opinions(self, job: Job, check: Check) -> list[str]:
        """Other peers that could give an opinion, busy or not."""
        return [peer for peer in self._seeker.lessors(job) if peer not in check.opinions]

    def unverifiable(self, job: Job) -> list[Check]:
        """First checks that nobody can do: this node lacks the model, and a search since found nobody else. A dispute
        that nobody can decide waits instead, and says so."""
        desk = self._desk
        if not desk.unavailable(job) and desk.settings.workers > 0:
            return []
        found = []
        for check in job.checks.values():
            if check.attempt or self.opinions(job, check):
                continue
            alone = bool(job.request.only) and set(job.request.only) <= {check.segment.peer, *job.excluded}
            if len(check.opinions) > 1:
                self._say_undecided(job, check)
            elif alone or job.searches > check.searches:
                found.append(check)
            else:
                self._seeker.seek(job)
        return found

    def _say_undecided(self, job: Job, check: Check) -> None:
        names = " and ".join(sorted(peer[-8:] for peer in check.opinions))
        reason = f"{names} disagree, and nobody is here for another opinion"
        if not job.attempts:
            self._seeker.waits(job, reason, {"items": len(check.items)})

    # -- stragglers

    def _place_late(self, job: Job) -> None:
        """Nothing waits any more: give what is late to somebody who is free, and look again when the next one is."""
        desk, now = self._desk, self._desk.now.mono
        next_at = math.inf
        for check in job.checks.values():
            attempt = job.attempts.get(check.attempt)
            if attempt is not None and attempt.peer != desk.node:
                at = self._late_at(job, attempt)
                if at <= now and self.opinions(job, check):
                    check.attempt = 0
                    desk.abandon(attempt)
                    desk.report_failed(job, attempt)
                    desk.pause(job, attempt.peer, desk.settings.backoff_s)
                    desk.hungry[job.task] = None
                next_at = min(next_at, max(at, now + RECHECK_S))
        for chunk in list(job.chunks.values()):
            if not chunk.duplicated:
                attempt = job.attempts[chunk.attempts[0]]
                at = self._late_at(job, attempt)
                if at <= now and not self._duplicate(job, chunk, attempt):
                    at = now + RECHECK_S
                next_at = min(next_at, at) if at > now else next_at
        if next_at < math.inf:
            desk.alarms.set(("late", job.task), next_at, now)

    def _late_at(self, job: Job, attempt: Attempt) -> float:
        """When this attempt is late; one that queues there behind another has twice the time."""
        settings, items = self._desk.settings, len(attempt.items)
        speed = self._desk.executors.speed(attempt.kind, attempt.peer)
        patience_s = job.lateness.limit_s(items, settings)
        if speed:
            patience_s = min(patience_s, max(settings.straggler_s, settings.timeout_factor * speed * items))
        return min(attempt.started, attempt.sent + patience_s) + patience_s

    def _duplicate(self, job: Job, chunk: Chunk, attempt: Attempt) -> bool:
        seat = next((one for one in self._seeker.seats(job) if one.peer != attempt.peer), None)
        if seat is None:
            return False
        part = chunk.range
        twin = self._desk.launch(job, seat.peer, "run", range(part.start, part.stop), part.start)
        chunk.attempts.append(twin.number)
        chunk.duplicated = True
        data = {"chunk": attempt.number, "items": part.stop - part.start, "from": attempt.peer, "to": seat.peer}
        self._desk.emit(job, "duplicated", data)
        self._used(job, seat.peer)
        return True
