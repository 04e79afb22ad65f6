"""Who is in the swarm: admission, addresses, presence. The core of the part `membership`.

States of a peer: `known` (a signed record, not connected), `undecided` (connected, no hello yet), `member`, `refused`.
The dialling side says hello; both sides decide on one exchange. Two that dial each other at once may both see
themselves as the one that was dialled: a member that hears nothing for `hello_wait_s` says hello itself. A node without
a genesis adopts that of the first peer that it dialled and refuses any other from then on. Records are signed by their
subject, so anybody may pass them on and one bootstrap peer is enough.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Protocol

from ..crypto.fingerprints import Genesis, found_swarm, short_id
from ..crypto.signing import Signer
from ..effects import (
    Ask,
    Call,
    Done,
    Effect,
    Envelope,
    Event,
    Now,
    Publish,
    Put,
    Reply,
    Row,
    Tell,
    Tick,
)
from ..errors import Conflict, EdgenetError, InvariantError, Malformed, Refused, WrongSwarm
from ..messages.committee import Admission, AdmissionChanged, GetAdmission
from ..messages.network import (
    Admit,
    Blame,
    ConnectionInfo,
    GetAddresses,
    GetConnections,
    GetPeers,
    GetSwarm,
    LearnAddresses,
    LoadChanged,
    PardonPeer,
    PeerConnected,
    PeerDisconnected,
    PeerDown,
    PeerOffers,
    PeerUp,
    RefusePeer,
    SetSwarm,
    SwarmAdopted,
    SwarmInfo,
)
from ..wire.codec import decode, encode
from ..wire.hello import ADDRESSES_MAX, WELCOME_RECORDS_MAX, Hello, PeerRecord, SignedRecord, Welcome
from ..wire.peers import ListMembers, Members, Presence
from .admission import barred
from .peers import Peer, PeerTable
from .records import RecordBook
from .settings import MembershipSettings


class Rng(Protocol):
    def random(self) -> float: ...


class Member(Signer, Protocol):
    """The node's identity, as far as this core needs it."""

    @property
    def peer_id(self) -> str: ...


class MembershipCore:
    """`pinned` is the genesis in hex that a fresh node must find, empty to adopt the first one reached. `founds`: a
    node without a genesis makes its own swarm; one that has a genesis keeps it, whatever it is told."""

    def __init__(self, signer: Member, settings: MembershipSettings, rng: Rng, *, founds: bool, pinned: str) -> None:
        self._signer = signer
        self._settings = settings
        self._rng = rng
        self._genesis: Genesis | None = None
        self._founds = founds
        self._pinned = pinned
        self._origin = "pinned" if pinned else ""
        self._peers = PeerTable(settings.peers_max)
        self._book = RecordBook(settings.peers_max)
        self._addresses: tuple[str, ...] = ()
        self._record: SignedRecord | None = None
        self._load = 0
        self._admission: Admission | None = None
        self._presence_at = math.inf
        self._exchange_at = math.inf
        self._published_mono = -math.inf
        self._timers: dict[tuple[str, str], float] = {}
        self._asked: set[tuple[str, ...]] = set()  # tags in flight

    # -- life

    def restore(self, rows: Sequence[Row], now: Now) -> list[Effect]:
        out = self._once(Ask(("connections",), GetConnections(), 5.0))
        out += self._once(Ask(("admission",), GetAdmission(), 5.0))
        for row in rows:
            if row.table == "genesis":
                self._genesis = decode(row.value, Genesis, bytes_max=1024)
                self._origin = row.key
        founding = self._genesis is None and self._founds and not self._pinned
        if founding:
            self._genesis = found_swarm(self._signer, epoch=0, created_ms=int(now.wall * 1000))
            self._origin = "founded"
        if self._genesis is not None:
            if self._pinned and self._genesis.name != self._pinned:
                raise Conflict(f"this node belongs to swarm {self._genesis.name}, not {self._pinned}")
            out += self._join(now, save=founding)
            for row in rows:
                if row.table == "records":
                    out += self._learn([decode(row.value, SignedRecord, bytes_max=16_384)], now, save=False)
        return out

    def wake_at(self) -> float:
        return min(self._presence_at, self._exchange_at, *self._timers.values(), math.inf)

    def step(self, e: Envelope[Any], now: Now) -> list[Effect]:
        if isinstance(e.body, Done):
            self._asked.discard(e.body.tag)
        match e.body:
            case PeerConnected(peer, outbound):
                return self._connected(peer, outbound, now)
            case PeerDisconnected(peer):
                return self._disconnected(peer)
            case Hello():
                return self._hello(e.body, e.sender, e.reply_to, now)
            case Presence():
                return self._presence(e.body, e.sender, now)
            case ListMembers(records_max):
                return [Reply(e.reply_to, Members(self._recent(records_max)))]
            case Done(("hello", str() as peer), value, error):
                return self._answered(peer, value, error, now)
            case Done(("addresses",), value, error):
                return self._own_addresses(value, error, now)
            case Done(("connections",), value, error):
                return self._reconnected(value, now) if error is None else []
            case AdmissionChanged(admission) | Done(("admission",), Admission() as admission, None):
                return self._decided(admission, now)
            case Done(("exchange", str()), value, error):
                return self._learn(value.records, now) if error is None else []
            case Tick():
                return self._tick(now)
            case Blame(peer, reason):
                return self._blame(peer, reason, now)
            case LoadChanged(load):
                self._load = load
                return []
            case GetSwarm():
                return [Reply(e.reply_to, self._info())]
            case GetPeers():
                rows = [known.view(peer, self._book.addresses(peer)) for peer, known in sorted(self._peers.items())]
                return [Reply(e.reply_to, tuple(rows))]
            case Done():
                return []
            case _:
                raise InvariantError(f"membership does not take {type(e.body).__name__}")

    def _once(self, operation: Ask | Call) -> list[Effect]:
        """Unless the same is in flight: then its answer is as good."""
        if operation.tag in self._asked:
            return []
        self._asked.add(operation.tag)
        return [operation]

    # -- the swarm

    @property
    def _swarm(self) -> str:
        return "" if self._genesis is None else self._genesis.name

    def _info(self) -> SwarmInfo:
        key = b"" if self._genesis is None else self._genesis.founder
        return SwarmInfo(self._swarm, self._origin, short_id(key) if key else "", key)

    def _join(self, now: Now, *, save: bool) -> list[Effect]:
        if self._genesis is None:
            raise InvariantError("joining without a genesis")
        self._presence_at = now.mono + self._settings.presence_debounce_s
        self._exchange_at = now.mono + self._settings.exchange_interval_s * (0.5 + self._rng.random())
        out: list[Effect] = [Put("genesis", self._origin, encode(self._genesis))] if save else []
        return [*out, Tell(SetSwarm(self._swarm)), *self._once(Ask(("addresses",), GetAddresses(), 5.0))]

    def _reconnected(self, connections: Sequence[ConnectionInfo], now: Now) -> list[Effect]:
        """After a crash of this core the transport still has its peers, and tells of none of them again."""
        out: list[Effect] = []
        for one in connections:
            if self._peers.of(one.peer).connected:
                continue
            out += self._connected(one.peer, one.outbound, now)
            if one.admitted:
                out += self._admit(one.peer, now)
        return out

    def _own_addresses(self, value: Any, error: Exception | None, now: Now) -> list[Effect]:
        if error is None and tuple(value) != self._addresses:
            self._addresses = tuple(value)[:ADDRESSES_MAX]
            self._record = None
        return self._announce(now)

    def _own_record(self, now: Now) -> SignedRecord:
        if self._record is None:
            body = encode(PeerRecord(self._signer.public, self._swarm, int(now.wall * 1000), [*self._addresses]))
            self._record = SignedRecord(body, self._signer.sign(b"peer-record", body))
        return self._record

    def _announce(self, now: Now) -> list[Effect]:
        if self._genesis is None:
            return []
        self._published_mono = now.mono
        settings = self._settings
        return [
            Publish(
                Presence(
                    self._own_record(now), [*settings.capabilities], settings.workers, self._load, settings.version
                )
            )
        ]

    # -- connections and hello

    def _connected(self, peer: str, outbound: bool, now: Now) -> list[Effect]:
        known = self._peers.of(peer)
        known.connected, known.outbound, known.hellos, known.seen_wall = True, outbound, 0, now.wall
        if known.state == "refused" and ("refused", peer) in self._timers:
            return [Tell(RefusePeer(peer, known.reason))]
        if known.state != "member":
            known.state = "undecided"
        if outbound or (self._genesis is None and peer in self._settings.chosen):
            return self._say_hello(peer, now)
        if self._genesis is not None:
            self._timers["hello", peer] = now.mono + self._settings.hello_wait_s
        return []

    def _say_hello(self, peer: str, now: Now) -> list[Effect]:
        known = self._peers.of(peer)
        if ("hello", peer) in self._asked:  # on an earlier connection
            self._timers["hello", peer] = now.mono + self._settings.hello_wait_s
            return []
        known.hellos += 1
        record = self._own_record(now) if self._genesis is not None else None
        hello = Hello(self._swarm or self._pinned, self._settings.version, record)
        return self._once(Call(("hello", peer), peer, hello, self._settings.hello_timeout_s))

    def _disconnected(self, peer: str) -> list[Effect]:
        known = self._peers.get(peer)
        if known is None:
            return []
        known.connected = False
        was_member, known.state = known.state == "member", "refused" if known.state == "refused" else "known"
        self._timers.pop(("hello", peer), None)
        return [Event(PeerDown(peer))] if was_member else []

    def _hello(self, hello: Hello, sender: str, reply_to: int, now: Now) -> list[Effect]:
        known = self._peers.of(sender)
        if self._genesis is None:
            return [Reply(reply_to, error=Refused("this node has not found its swarm yet", retry_after_s=1.0))]
        if known.state == "refused" and ("refused", sender) in self._timers:
            return [Reply(reply_to, error=Refused(known.reason))]
        if bar := barred(self._admission, sender):
            self._timers["drop", sender] = now.mono + 0.5  # so that the answer gets out before the connection ends
            known.state, known.reason = "refused", bar
            return [Reply(reply_to, error=Refused(bar))]
        if hello.swarm not in ("", self._swarm):
            reason = f"wrong swarm: this is {self._swarm}, you are of {hello.swarm}"
            out: list[Effect] = [Reply(reply_to, error=WrongSwarm(reason))]
            self._timers["drop", sender] = now.mono + 0.5  # so that the answer gets out before the connection ends
            known.state, known.reason = "refused", reason
            return out
        try:
            learnt = self._learn([hello.record], now, only=sender) if hello.record is not None else []
        except Malformed as error:
            return [Reply(reply_to, error=error), Event(Blame(sender, error.message))]
        known.version = hello.version
        welcome = Welcome(
            self._swarm, self._genesis, self._settings.version, self._own_record(now), self._recent(WELCOME_RECORDS_MAX)
        )
        return [*self._admit(sender, now), Reply(reply_to, welcome), *learnt]

    def _answered(self, peer: str, value: Any, error: Exception | None, now: Now) -> list[Effect]:
        known = self._peers.get(peer)
        if known is None or not known.connected:
            return []
        if error is not None:
            if known.state == "member":  # by its own hello, which crossed ours
                return []
            return self._hello_failed(peer, known, error, now)
        welcome: Welcome = value
        swarm = welcome.genesis.name
        if not welcome.genesis.verify() or welcome.swarm != swarm:
            return self._refuse(peer, "its genesis record does not verify", now)
        out: list[Effect] = []
        if bar := barred(self._admission, peer):
            return self._refuse(peer, bar, now)
        if self._genesis is None:
            if self._pinned and swarm != self._pinned:
                return self._refuse(peer, f"wrong swarm: it is of {swarm}, this node is pinned to {self._pinned}", now)
            self._genesis, self._record = welcome.genesis, None
            self._origin = self._origin or "adopted"
            out += [*self._join(now, save=True), Event(SwarmAdopted(swarm, peer))]
        elif swarm != self._swarm:
            return self._refuse(peer, f"wrong swarm: it is of {swarm}, this is {self._swarm}", now)
        known.version = welcome.version
        try:
            learnt = self._learn([welcome.record], now, only=peer)
            learnt += self._learn(welcome.records, now)
        except Malformed as bad:
            return [*out, *self._refuse(peer, bad.message, now)]
        return [*out, *self._admit(peer, now), *learnt]

    def _hello_failed(self, peer: str, known: Peer, error: Exception, now: Now) -> list[Effect]:
        if isinstance(error, WrongSwarm):
            return self._refuse(peer, error.message, now)
        if known.hellos >= self._settings.hello_tries_max:
            known.reason = f"no welcome after {known.hellos} hellos: {error}"
            return []
        pause = error.retry_after_s if isinstance(error, EdgenetError) and error.retry_after_s else 0.5
        self._timers["hello", peer] = now.mono + min(pause * 2 ** (known.hellos - 1), 15.0)
        return []

    def _admit(self, peer: str, now: Now) -> list[Effect]:
        known = self._peers.of(peer)
        known.connected = True
        if known.state == "member":
            return [Tell(Admit(peer))]
        known.state, known.reason, known.seen_wall = "member", "", now.wall
        self._timers.pop(("hello", peer), None)
        soon = max(now.mono, self._published_mono + 1.0) + self._settings.presence_debounce_s
        self._presence_at = min(self._presence_at, soon)
        self._timers["greet", peer] = now.mono + 2.0  # its gossip mesh has formed by then
        out: list[Effect] = [Tell(Admit(peer)), Event(PeerUp(peer))]
        if known.capabilities:
            out.append(Event(PeerOffers(peer, known.capabilities, known.workers, known.load)))
        return out

    def _decided(self, admission: Admission, now: Now) -> list[Effect]:
        """The committee's word on who may connect; it holds for those who are here, too."""
        before, self._admission = self._admission, admission
        out: list[Effect] = []
        for peer, known in list(self._peers.items()):
            if known.connected and known.state in ("member", "undecided") and (reason := barred(admission, peer)):
                out += self._refuse(peer, reason, now)
            elif known.state == "refused" and barred(before, peer) and not barred(admission, peer):
                self._timers.pop(("refused", peer), None)
                known.state, known.reason = "undecided" if known.connected else "known", ""
                out.append(Tell(PardonPeer(peer)))
                if self._book.addresses(peer):
                    out.append(Tell(LearnAddresses(peer, self._book.addresses(peer))))
        return out

    def _refuse(self, peer: str, reason: str, now: Now) -> list[Effect]:
        known = self._peers.of(peer)
        was_member = known.state == "member"
        known.state, known.reason = "refused", reason
        self._timers["refused", peer] = now.mono + self._settings.refuse_for_s
        out: list[Effect] = [Tell(RefusePeer(peer, reason))]
        return [Event(PeerDown(peer)), *out] if was_member else out

    def _blame(self, peer: str, reason: str, now: Now) -> list[Effect]:
        known = self._peers.of(peer)
        if now.mono - known.blames_since > self._settings.blame_window_s:
            known.blames, known.blames_since = 0, now.mono
        known.blames += 1
        if known.blames < self._settings.blame_max or known.state == "refused":
            return []
        return self._refuse(peer, f"too many malformed messages, the last: {reason}", now)

    # -- records and presence

    def _learn(self, records: Sequence[SignedRecord], now: Now, *, only: str = "", save: bool = True) -> list[Effect]:
        """Take records in. With `only`, the record must be that peer's own, else `Malformed`."""
        out: list[Effect] = []
        for signed in records:
            entry = self._book.take(signed, self._swarm)
            if only and (entry is None or entry.peer != only):
                raise Malformed("the peer record is not its sender's, or does not verify")
            if entry is None or entry.peer == self._signer.peer_id or not entry.fresh:
                continue
            self._peers.of(entry.peer)
            out.append(Tell(LearnAddresses(entry.peer, entry.addresses)))
            if save:
                out.append(Put("records", entry.peer, encode(signed)))
        return out

    def _recent(self, records_max: int) -> list[SignedRecord]:
        alive = sorted(
            (peer for peer, known in self._peers.items() if known.state in ("member", "known")),
            key=lambda peer: (self._peers[peer].state != "member", -self._peers[peer].seen_wall, peer),
        )
        found = (self._book.get(peer) for peer in alive)
        return [record for record in found if record is not None][:records_max]

    def _presence(self, presence: Presence, sender: str, now: Now) -> list[Effect]:
        if sender == self._signer.peer_id or self._genesis is None:
            return []
        try:
            learnt = self._learn([presence.record], now, only=sender)
        except Malformed as error:
            return self._blame(sender, error.message, now)
        known = self._peers.of(sender)
        known.version, known.workers, known.load = presence.version, presence.workers, presence.load
        known.capabilities, known.seen_wall = tuple(presence.capabilities), now.wall
        if known.state != "member":
            return learnt
        return [*learnt, Event(PeerOffers(sender, known.capabilities, known.workers, known.load))]

    # -- time

    def _tick(self, now: Now) -> list[Effect]:
        out: list[Effect] = []
        for key in [key for key, at in self._timers.items() if at <= now.mono]:
            out += self._timer(key, now)
        if self._presence_at <= now.mono:
            self._presence_at = now.mono + self._settings.presence_interval_s * (0.9 + 0.2 * self._rng.random())
            out += self._once(Ask(("addresses",), GetAddresses(), 5.0))
        if self._exchange_at <= now.mono:
            self._exchange_at = now.mono + self._settings.exchange_interval_s * (0.5 + self._rng.random())
            members = sorted(peer for peer, known in self._peers.items() if known.state == "member")
            if members:
                peer = members[int(self._rng.random() * len(members))]
                out += self._once(Call(("exchange", peer), peer, ListMembers(), 10.0))
        return out

    def _timer(self, key: tuple[str, str], now: Now) -> list[Effect]:
        del self._timers[key]
        what, peer = key
        known = self._peers.get(peer)
        if known is None:
            return []
        if what == "hello" and known.connected and known.state == "undecided":
            return self._say_hello(peer, now)
        if what == "drop":
            return self._refuse(peer, known.reason, now)
        if what == "refused":
            known.state, known.blames = "undecided" if known.connected else "known", 0
        if what == "greet":
            self._presence_at = min(self._presence_at, max(now.mono, self._published_mono + 1.0))
        return []
