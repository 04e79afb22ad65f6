"""The core of the part `trust`: outcomes in, standings out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from msgspec import Struct

from ..effects import Done, Effect, Envelope, Event, Now, Put, Reply, Row, Tick
from ..errors import InvariantError
from ..messages.network import Blame
from ..messages.trust import GetStandings, Outcome, Standing, StandingChanged
from ..wire.codec import Wire, decode, encode

_Z90 = 1.2815515655446004
"""90 % one-sided quantile of the normal distribution."""


class TrustSettings(Struct, frozen=True):
    """`newcomer_items`: checked items before a peer is proven. `rate_min`: never verify less than this share.
    `half_life_items`: evidence this many items old counts half. `avoid_s`: for the first wrong result, doubled for each
    further one up to `avoid_max_s`. `failures_max` in a row: avoided for `pause_s`;
    those within `incident_s` of one another count as one. `save_interval_s`: how much good
    evidence a crash may lose (bad evidence is saved at once). `peers_max`: (peer, kind) pairs remembered."""

    newcomer_items: int = 16
    rate_min: float = 0.05
    half_life_items: float = 2000.0
    avoid_s: float = 3600.0
    avoid_max_s: float = 30 * 86_400.0
    failures_max: int = 4
    incident_s: float = 1.0
    pause_s: float = 20.0
    save_interval_s: float = 5.0
    peers_max: int = 8192


class Evidence(Wire, frozen=True):
    """What is saved for one (peer, kind). `good` and `bad` are discounted counts of items; `clean` counts checked items
    since the last wrong one; `avoided_until` is Unix seconds."""

    peer: str
    kind: str
    good: float = 0.0
    bad: float = 0.0
    clean: int = 0
    offences: int = 0
    failures: int = 0
    avoided_until: float = 0.0
    seconds_per_item: float = 0.0
    reason: str = ""


def lower_bound(good: float, bad: float) -> float:
    """Lower end of the one-sided 90 % Wilson interval for a success share, with one pseudo-count each side."""
    n = good + bad + 2.0
    share = (good + 1.0) / n
    z2 = _Z90 * _Z90
    centre = share + z2 / (2 * n)
    margin = _Z90 * math.sqrt(share * (1 - share) / n + z2 / (4 * n * n))
    return max(0.0, (centre - margin) / (1 + z2 / n))


def verification_rate(clean: int, settings: TrustSettings) -> float:
    """Share of items to verify: 1 for a newcomer, then falling as `newcomer_items / (2 clean)`, so that the number of
    items checked grows with the logarithm of the work done, down to `rate_min`."""
    if clean < settings.newcomer_items:
        return 1.0
    return max(settings.rate_min, min(1.0, settings.newcomer_items / (2.0 * clean)))


class TrustCore:
    def __init__(self, settings: TrustSettings) -> None:
        self._settings = settings
        self._evidence: dict[tuple[str, str], Evidence] = {}
        self._dirty: set[tuple[str, str]] = set()
        self._failed_at: dict[tuple[str, str], float] = {}
        self._save_at = math.inf
        self._lapses: dict[tuple[str, str], float] = {}  # when to announce that an avoidance ended; monotonic seconds

    def restore(self, rows: Sequence[Row], now: Now) -> list[Effect]:
        out: list[Effect] = []
        for row in rows:
            known = decode(row.value, Evidence, bytes_max=4096)
            self._evidence[known.peer, known.kind] = known
            if known.avoided_until > now.wall:
                self._lapses[known.peer, known.kind] = now.mono + known.avoided_until - now.wall
                out.append(Event(StandingChanged(self._standing(known, now))))
        return out

    def wake_at(self) -> float:
        return min(self._save_at, *self._lapses.values(), math.inf)

    def step(self, e: Envelope[Any], now: Now) -> list[Effect]:
        match e.body:
            case Outcome():
                return self._learn(e.body, now)
            case GetStandings(kind, peers):
                wanted = peers or tuple(sorted(peer for peer, of in self._evidence if of == kind))
                return [Reply(e.reply_to, tuple(self._standing(self._get(peer, kind), now) for peer in wanted))]
            case Blame(peer, reason):
                return self._blamed(peer, reason, now)
            case Tick():
                return self._tick(now)
            case Done():
                return []
            case _:
                raise InvariantError(f"trust does not take {type(e.body).__name__}")

    def _get(self, peer: str, kind: str) -> Evidence:
        return self._evidence.get((peer, kind)) or Evidence(peer, kind)

    def _standing(self, known: Evidence, now: Now) -> Standing:
        avoided = known.avoided_until > now.wall
        return Standing(
            known.peer,
            known.kind,
            verification_rate(known.clean, self._settings),
            known.clean < self._settings.newcomer_items,
            avoided,
            lower_bound(known.good, known.bad),
            known.seconds_per_item,
            known.reason if avoided else "",
        )

    def _learn(self, outcome: Outcome, now: Now) -> list[Effect]:
        old = self._get(outcome.peer, outcome.kind)
        keep = 0.5 ** (outcome.items / self._settings.half_life_items)
        right = 0 if outcome.failed else outcome.checked - outcome.wrong
        bad = max(1, outcome.items) if outcome.failed else outcome.wrong
        seconds = old.seconds_per_item
        if not outcome.failed and outcome.items and outcome.seconds > 0:
            seen = outcome.seconds / outcome.items
            seconds = seen if seconds == 0 else 0.7 * seconds + 0.3 * seen
        new = Evidence(
            old.peer,
            old.kind,
            old.good * keep + right,
            old.bad * keep + bad,
            0 if outcome.wrong else old.clean + right,
            old.offences + (1 if outcome.wrong else 0),
            self._failures(old, now) if outcome.failed else 0,
            old.avoided_until,
            seconds,
            old.reason,
        )
        if outcome.wrong:
            pause = min(self._settings.avoid_s * 2.0 ** (new.offences - 1), self._settings.avoid_max_s)
            reason = f"{outcome.wrong} of {outcome.checked} checked items were wrong"
            return self._avoid(new, now, pause, reason)
        if new.failures >= self._settings.failures_max:
            return self._avoid(new, now, self._settings.pause_s, f"failed {new.failures} times in a row")
        return self._keep(new, old, now)

    def _failures(self, old: Evidence, now: Now) -> int:
        """Failures in a row. What fails at once failed together: a peer that restarts loses all that it had in hand."""
        key = old.peer, old.kind
        together = now.mono - self._failed_at.get(key, -math.inf) < self._settings.incident_s
        if len(self._failed_at) >= self._settings.peers_max:
            self._failed_at.clear()
        self._failed_at[key] = now.mono
        return max(1, old.failures) if together else old.failures + 1

    def _keep(self, new: Evidence, old: Evidence, now: Now) -> list[Effect]:
        key = new.peer, new.kind
        self._remember(key, new)
        self._dirty.add(key)
        self._save_at = min(self._save_at, now.mono + self._settings.save_interval_s)
        standing = self._standing(new, now)
        if standing.newcomer != self._standing(old, now).newcomer:
            return [Event(StandingChanged(standing))]
        return []

    def _avoid(self, known: Evidence, now: Now, pause_s: float, reason: str) -> list[Effect]:
        until = max(known.avoided_until, now.wall + pause_s)
        new = Evidence(
            known.peer,
            known.kind,
            known.good,
            known.bad,
            known.clean,
            known.offences,
            0,
            until,
            known.seconds_per_item,
            reason,
        )
        key = known.peer, known.kind
        self._remember(key, new)
        self._dirty.discard(key)
        self._lapses[key] = now.mono + until - now.wall
        return [Put("evidence", "/".join(key), encode(new)), Event(StandingChanged(self._standing(new, now)))]

    def _remember(self, key: tuple[str, str], new: Evidence) -> None:
        if key not in self._evidence and len(self._evidence) >= self._settings.peers_max:
            # The least informative goes, never one that is avoided: else a flood of new names would clear a liar.
            idle = [one for one, of in self._evidence.items() if one not in self._lapses]
            if not idle:
                return
            dropped = min(idle, key=lambda one: self._evidence[one].good + self._evidence[one].bad)
            del self._evidence[dropped]
            self._failed_at.pop(dropped, None)
        self._evidence[key] = new

    def _blamed(self, peer: str, reason: str, now: Now) -> list[Effect]:
        out: list[Effect] = []
        for of, kind in [key for key in self._evidence if key[0] == peer]:
            out += self._learn(Outcome(of, kind, 1, 0, 0, failed=True, seconds=0.0), now)
        return out

    def _tick(self, now: Now) -> list[Effect]:
        out: list[Effect] = []
        if self._save_at <= now.mono:
            self._save_at = math.inf
            dirty = sorted(self._dirty & self._evidence.keys())
            out += [Put("evidence", "/".join(key), encode(self._evidence[key])) for key in dirty]
            self._dirty.clear()
        for key in [key for key, at in self._lapses.items() if at <= now.mono]:
            del self._lapses[key]
            known = self._evidence.get(key)
            if known is not None:
                out.append(Event(StandingChanged(self._standing(known, now))))
        return out
