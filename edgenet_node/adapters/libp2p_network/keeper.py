"""Keeps connections: knows addresses, dials, and never gives up on a peer marked `keep`.

Peers to `keep` (bootstrap, static) are dialled whenever they are not connected; learned ones while fewer than
`peers_target` are connected. Attempts back off exponentially with jitter, from `redial_first_s` to `redial_max_s`; a
connection that held for `STEADY_S` resets that. A learned peer that failed `FAILURES_MAX` times in a row is forgotten.

Addresses are dialled one after the other and directly, past the library's peer dialling: that tries one TCP address per
peer only, waits 250 ms beside it, and shuts a failed peer out for 60 s.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, Protocol

import trio
from libp2p.peer.id import ID
from multiaddr import Multiaddr

from ...errors import ConfigError
from .limits import NetworkSettings, backoff_s
from .report import Report

STEADY_S: Final = 10.0
FAILURES_MAX: Final = 8
DIALS_MAX: Final = 8
ADDRESS_CHARS_MAX: Final = 256
PAUSE_MIN_S: Final = 0.05
PAUSE_MAX_S: Final = 5.0
_HOST_PROTOCOLS: Final = frozenset({"ip4", "ip6", "dns", "dns4", "dns6", "dnsaddr"})


class Links(Protocol):
    """What the keeper needs to know about connections."""

    def connected(self, peer: str) -> bool: ...

    def count(self) -> int: ...

    def banned(self, peer: str) -> bool: ...


class Known:
    """One dialable peer. `since` is when it was last seen connected, `failures` dials in a row that did not hold."""

    __slots__ = ("addresses", "dialling", "failures", "keep", "next_at", "since")

    def __init__(self) -> None:
        self.addresses: tuple[Multiaddr, ...] = ()
        self.keep = False
        self.failures = 0
        self.next_at = 0.0
        self.since: float | None = None
        self.dialling = False


def parse_bootstrap(text: str) -> tuple[str, Multiaddr]:
    """(peer id, address without it). `ConfigError` when the multiaddr is not one, or does not name its peer."""
    try:
        address = Multiaddr(text)
        peer = address.value_for_protocol("p2p")
        ID.from_string(peer)
    except Exception as error:
        raise ConfigError(
            f"network.bootstrap {text!r}: not a multiaddr with a peer id, like /ip4/192.0.2.1/tcp/4001/p2p/12D3Koo..."
        ) from error
    if not dialable(address):
        raise ConfigError(f"network.bootstrap {text!r}: only TCP addresses can be dialled")
    return peer, address.decapsulate(Multiaddr(f"/p2p/{peer}"))


def parse_address(text: str, peer: str) -> Multiaddr | None:
    """A dialable address of this peer without its `/p2p` part, or None."""
    if len(text) > ADDRESS_CHARS_MAX:
        return None
    try:
        address = Multiaddr(text)
        names = [p.name for p in address.protocols()]
        if "p2p" in names:
            if address.value_for_protocol("p2p") != peer:
                return None
            address = address.decapsulate(Multiaddr(f"/p2p/{peer}"))
    except Exception:  # noqa: BLE001 - hostile text, a dozen exception types, one answer
        return None
    return address if dialable(address) else None


def dialable(address: Multiaddr) -> bool:
    """Plain TCP to a host and a port that is not 0."""
    names = [p.name for p in address.protocols()]
    if names[-1:] == ["p2p"]:
        names.pop()
    if len(names) != 2 or names[0] not in _HOST_PROTOCOLS or names[1] != "tcp":
        return False
    return bool(address.value_for_protocol("tcp") != "0")


class Keeper:
    def __init__(self, settings: NetworkSettings, own: str, links: Links, rng: random.Random, report: Report) -> None:
        self._settings = settings
        self._own = own
        self._links = links
        self._rng = rng
        self._report = report
        self._known: dict[str, Known] = {}
        self._wake = trio.Event()

    def learn(self, peer: str, addresses: Iterable[str], *, keep: bool) -> None:
        """Newest addresses first; at most `addresses_per_peer_max`. Malformed ones are counted and skipped."""
        try:
            ID.from_string(peer)
        except Exception:  # noqa: BLE001
            self._report.count("peers_malformed")
            return
        fresh = []
        for text in list(addresses)[: self._settings.addresses_per_peer_max]:
            if address := parse_address(text, peer):
                fresh.append(address)
            else:
                self._report.count("addresses_malformed")
        if peer == self._own or not fresh:
            return
        self.add(peer, fresh, keep=keep)

    def add(self, peer: str, addresses: Sequence[Multiaddr], *, keep: bool) -> None:
        if peer == self._own:
            return
        known = self._known.get(peer)
        if known is None:
            if len(self._known) >= self._settings.peers_known_max and not self._forget_one(keep):
                self._report.count("peers_not_learned")
                return
            known = self._known[peer] = Known()
        merged = list(dict.fromkeys([*addresses, *known.addresses]))
        known.addresses = tuple(merged[: self._settings.addresses_per_peer_max])
        known.keep = known.keep or keep
        self._wake.set()

    def _forget_one(self, keep: bool) -> bool:
        """Make room: the oldest learned peer that is not connected. A peer to keep may displace any learned one."""
        for peer, known in self._known.items():
            if not known.keep and (keep or not self._links.connected(peer)):
                del self._known[peer]
                return True
        return False

    def known(self) -> tuple[str, ...]:
        return tuple(self._known)

    def kept(self, peer: str) -> bool:
        known = self._known.get(peer)
        return known is not None and known.keep

    def connected(self, peer: str) -> None:
        if known := self._known.get(peer):
            known.since = trio.current_time()

    def disconnected(self, peer: str) -> None:
        known = self._known.get(peer)
        if known is None:
            return
        now = trio.current_time()
        if known.since is not None and now - known.since >= STEADY_S:
            known.failures = 0
        known.since = None
        self._postpone(known, now)
        self._wake.set()

    def _postpone(self, known: Known, now: float) -> None:
        wait_s = backoff_s(
            known.failures, self._settings.redial_first_s, self._settings.redial_max_s, self._rng.random()
        )
        known.failures += 1
        known.next_at = now + wait_s

    async def run(self, dial: Callable[[str, Multiaddr], Any]) -> None:
        """Dial what is due, until cancelled. `dial(peer, address)` connects or raises."""
        async with trio.open_nursery() as nursery:
            while True:
                self._wake = trio.Event()
                for peer, known in self._due(trio.current_time()):
                    known.dialling = True
                    nursery.start_soon(self._dial, peer, known, dial)
                with trio.move_on_after(self._pause(trio.current_time())):
                    await self._wake.wait()

    def _pause(self, now: float) -> float:
        """Seconds until the next peer is due; refusals end and targets change unannounced, so never above
        `PAUSE_MAX_S`."""
        short = self._links.count() < self._settings.peers_target
        times = [
            known.next_at - now
            for peer, known in self._known.items()
            if (known.keep or short) and not known.dialling and not self._links.connected(peer)
        ]
        return min(max(min(times, default=PAUSE_MAX_S), PAUSE_MIN_S), PAUSE_MAX_S)

    def _due(self, now: float) -> list[tuple[str, Known]]:
        free = DIALS_MAX - sum(known.dialling for known in self._known.values())
        short = self._settings.peers_target - self._links.count()
        due = []
        for peer, known in sorted(self._known.items(), key=lambda item: not item[1].keep):
            if free <= 0:
                break
            if known.dialling or now < known.next_at or self._links.connected(peer) or self._links.banned(peer):
                continue
            if not known.keep:
                if short <= 0:
                    break
                short -= 1
            free -= 1
            due.append((peer, known))
        return due

    async def _dial(self, peer: str, known: Known, dial: Callable[[str, Multiaddr], Any]) -> None:
        self._report.count("dials")
        try:
            for address in known.addresses:
                with trio.move_on_after(self._settings.dial_timeout_s):
                    try:
                        await dial(peer, address)
                        return
                    except Exception as error:  # noqa: BLE001 - a dial fails in many ways, all mean "not now"
                        self._report.count("dials_failed")
                        del error
        finally:
            known.dialling = False
            self._wake.set()
            if not self._links.connected(peer):
                self._postpone(known, trio.current_time())
                if not known.keep and known.failures > FAILURES_MAX and self._known.get(peer) is known:
                    del self._known[peer]
