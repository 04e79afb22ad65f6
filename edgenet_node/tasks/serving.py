"""The executing side: chunks of others, under leases, in worker processes.

A chunk runs if its lease exists, belongs to the peer that sends it, covers its kind and its units and has not expired;
if its input is what the handler expects; and if there is room for this buyer and in all. The seller counts the units
itself. Nothing is saved: a buyer whose chunk is lost asks somebody else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from msgspec import Struct

from ..effects import Cancel, Compute, Done, Effect, Envelope, Event, Now, Reply, Row, Tick
from ..errors import Cancelled, ComputeFailed, Conflict, EdgenetError, InvariantError, Malformed, Overloaded, Refused
from ..messages.market import LeaseEnded, LeaseGranted
from ..messages.network import LoadChanged, PeerDown
from ..messages.tasks import GetServingStats, TaskStats
from ..wire.task import INPUT_BYTES_MAX, ITEMS_MAX, OUTPUT_BYTES_MAX, Run, RunResult, Stop, Stopped
from .alarms import Alarms
from .handlers import Handler
from .registry import Registry
from .settings import Rng, ServingSettings


class OwnLoad(Struct, frozen=True):
    """Command to the executing side from the submitting side of this node: `chunks` of its own are on the workers."""

    chunks: int


class ChunkTag(Struct, frozen=True):
    buyer: str
    task: str
    chunk: int


@dataclass(slots=True, eq=False)
class Lease:
    buyer: str
    kind: str
    left: int
    expires_mono: float


@dataclass(slots=True, eq=False)
class Serving:
    """A chunk on the workers. `replies`: who waits for it, more than one if the buyer sent it again."""

    run: Run
    units: int
    handler: Handler
    replies: list[int] = field(default_factory=list)


class ServingCore:
    def __init__(self, settings: ServingSettings, registry: Registry, rng: Rng) -> None:
        self._settings = settings
        self._registry = registry
        self._rng = rng
        self._leases: dict[bytes, Lease] = {}
        self._running: dict[ChunkTag, Serving] = {}
        self._per_buyer: dict[str, int] = {}
        self._alarms = Alarms()
        self._own_load = 0
        self._announced = 0
        self._announced_at = float("-inf")
        self._served_chunks = 0
        self._served_items = 0

    def restore(self, rows: Sequence[Row], now: Now) -> list[Effect]:
        del rows, now  # nothing is saved: leases and chunks end with the process
        return []

    def wake_at(self) -> float:
        return self._alarms.next()

    def step(self, e: Envelope[Any], now: Now) -> list[Effect]:
        body = e.body
        match body:
            case Run():
                out = self._run(body, e.sender, e.reply_to, now)
            case Done():
                out = self._done(body)
            case Stop():
                out = self._stop(body, e.sender, e.reply_to)
            case LeaseGranted():
                out = self._granted(body, now)
            case LeaseEnded(lease):
                self._leases.pop(lease, None)
                return []
            case PeerDown(peer):
                out = self._gone(peer)
            case OwnLoad(chunks):
                self._own_load, out = chunks, []
            case GetServingStats():
                return [Reply(e.reply_to, self._stats())]
            case Tick():
                self._alarms.due(now.mono)
                out = []
            case _:
                raise InvariantError(f"serving does not take {type(body).__name__}")
        self._tell_load(out, now)
        return out

    # -- leases

    def _granted(self, granted: LeaseGranted, now: Now) -> list[Effect]:
        if len(self._leases) >= self._settings.leases_max:
            ended = [key for key, lease in self._leases.items() if lease.expires_mono <= now.mono]
            for key in ended or [next(iter(self._leases))]:
                del self._leases[key]
        self._leases[granted.lease] = Lease(granted.buyer, granted.kind, granted.units, granted.expires_mono)
        return []

    def _lease(self, run: Run, buyer: str, now: Now) -> Lease:
        lease = self._leases.get(run.lease)
        if lease is None or lease.buyer != buyer:
            raise Refused("there is no such lease")
        if lease.expires_mono <= now.mono:
            raise Refused("the lease has expired")
        if lease.kind != run.kind:
            raise Refused(f"the lease is for {lease.kind}")
        if lease.left < run.units:
            raise Refused(f"the lease has {lease.left} units left, {run.units} are asked for")
        return lease

    # -- chunks

    def _run(self, run: Run, buyer: str, reply_to: int, now: Now) -> list[Effect]:
        tag = ChunkTag(buyer, run.task, run.chunk)
        try:
            known = self._running.get(tag)
            if known is not None:
                self._join(known, run, reply_to)
                return []
            lease = self._lease(run, buyer, now)
            self._check_room(buyer)
            handler, units = self._check_input(run, buyer)
        except EdgenetError as error:
            return [Reply(reply_to, error=error)]
        lease.left -= units
        self._running[tag] = Serving(run, units, handler, [reply_to])
        self._per_buyer[buyer] = self._per_buyer.get(buyer, 0) + 1
        timeout_s = min(run.timeout_s, self._settings.run_timeout_s_max)
        args = handler.args(run.spec, run.input)
        return [Compute(tag, handler.place, handler.function, args, timeout_s, handler.model)]

    def _join(self, known: Serving, run: Run, reply_to: int) -> None:
        """The same chunk again, as a buyer may send that lost the connection. Another one of that name is refused."""
        if known.run != run or len(known.replies) >= self._settings.joins_max:
            raise Conflict(f"chunk {run.chunk} of this task is running here")
        known.replies.append(reply_to)

    def _check_room(self, buyer: str) -> None:
        settings = self._settings
        if len(self._running) >= settings.chunks_max:
            raise Overloaded("this node is full", retry_after_s=settings.retry_after_s)
        if self._per_buyer.get(buyer, 0) >= settings.chunks_per_buyer_max:
            raise Overloaded("too many chunks of yours are running here", retry_after_s=settings.retry_after_s)

    def _check_input(self, run: Run, buyer: str) -> tuple[Handler, int]:
        """The handler and the units of this chunk. `Malformed` names the buyer."""
        handler = self._registry.find(run.kind)
        if handler is None:
            raise Refused(f"this node does not execute {run.kind}")
        if len(run.input) > INPUT_BYTES_MAX or not 1 <= run.items <= min(ITEMS_MAX, handler.chunk_items_max):
            raise Malformed(f"{len(run.input)} bytes and {run.items} items in one chunk", peer=buyer)
        if not run.timeout_s > 0.0:
            raise Malformed("a chunk with no time to run", peer=buyer)
        try:
            units = handler.check_input(run.spec, run.input, run.items)
        except Malformed as error:
            error.peer = buyer
            raise
        if units > run.units:
            raise Refused(f"this chunk costs {units} units, {run.units} are offered")
        return handler, units

    def _done(self, done: Done) -> list[Effect]:
        if not isinstance(done.tag, ChunkTag) or done.tag not in self._running:
            return []
        serving = self._release(done.tag)
        error = done.error
        output = done.value
        if error is None and (not isinstance(output, bytes) or len(output) > OUTPUT_BYTES_MAX):
            kind = serving.run.kind
            error = ComputeFailed(f"the handler of {kind} returned no bytes, or more than {OUTPUT_BYTES_MAX}")
        if error is not None:
            self._refund(serving)
            return [Reply(to, error=error) for to in serving.replies]
        if self._settings.lie:
            output = serving.handler.falsify(output, self._rng)
        self._served_chunks += 1
        self._served_items += serving.run.items
        result = RunResult(output, serving.units)
        return [Reply(to, result) for to in serving.replies]

    def _release(self, tag: ChunkTag) -> Serving:
        left = self._per_buyer[tag.buyer] - 1
        if left:
            self._per_buyer[tag.buyer] = left
        else:
            del self._per_buyer[tag.buyer]
        return self._running.pop(tag)

    def _refund(self, serving: Serving) -> None:
        lease = self._leases.get(serving.run.lease)
        if lease is not None:
            lease.left += serving.units

    def _stop(self, stop: Stop, buyer: str, reply_to: int) -> list[Effect]:
        tag = ChunkTag(buyer, stop.task, stop.chunk)
        known = tag in self._running
        out = self._withdraw(tag, "stopped by its buyer") if known else []
        return [*out, Reply(reply_to, Stopped(known))]

    def _withdraw(self, tag: ChunkTag, why: str) -> list[Effect]:
        serving = self._release(tag)
        self._refund(serving)
        return [Cancel(tag), *(Reply(to, error=Cancelled(why)) for to in serving.replies)]

    def _gone(self, peer: str) -> list[Effect]:
        """Nobody waits for the chunks of a buyer that is gone. Its leases end by `LeaseEnded`."""
        tags = [tag for tag in self._running if tag.buyer == peer]
        return [effect for tag in tags for effect in self._withdraw(tag, "its buyer is gone")]

    # -- load

    def _tell_load(self, out: list[Effect], now: Now) -> None:
        """Announce a change, the first at once, further ones at the end of the interval."""
        load = len(self._running) + self._own_load
        if load == self._announced:
            self._alarms.drop("load")
            return
        due = self._announced_at + self._settings.load_interval_s
        if now.mono < due:
            if "load" not in self._alarms:
                self._alarms.set("load", due, now.mono)
            return
        self._alarms.drop("load")
        self._announced, self._announced_at = load, now.mono
        out.append(Event(LoadChanged(load)))

    def _stats(self) -> TaskStats:
        running = len(self._running)
        return TaskStats({}, running, 0, self._served_chunks, self._served_items, running)
