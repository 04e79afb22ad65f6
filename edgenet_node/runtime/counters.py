"""What the runtime counts, and frozen snapshots of it for the gateway."""

from __future__ import annotations

from msgspec import Struct


class Tally:
    """The running counts of one part. Plain integers: they are touched for every message."""

    __slots__ = (
        "batch_largest",
        "batches",
        "commits",
        "completed",
        "crashes",
        "expired",
        "quarantined",
        "refused",
        "saves",
        "shed",
        "steps",
        "store_refusals",
        "timed_out",
    )

    def __init__(self) -> None:
        self.steps = 0
        self.batches = 0
        self.batch_largest = 0
        self.commits = 0
        self.saves = 0
        self.shed = 0
        self.refused = 0
        self.expired = 0
        self.timed_out = 0
        self.completed = 0
        self.crashes = 0
        self.quarantined = 0
        self.store_refusals = 0


class PartCounters(Struct, frozen=True):
    """One part: depths now, totals since start.

    `shed`: tells and events dropped because its mailbox was full. `refused`: asks answered with `Overloaded`.
    `expired`: asks that nobody waited for any more when they came up. `timed_out`: all asks it answered too late.
    `completed`: operations that ended. `restarts`: crashes of the core. `quarantined`: poison messages dropped unseen.
    `store_refusals`: commits the full disk refused.
    """

    name: str
    mailbox: int
    asks_open: int
    operations_running: int
    operations_queued: int
    outbox: int
    steps: int
    batches: int
    batch_largest: int
    commits: int
    saves: int
    shed: int
    refused: int
    expired: int
    timed_out: int
    completed: int
    restarts: int
    quarantined: int
    store_refusals: int


class WiringCounters(Struct, frozen=True):
    """The network's side. `publish_dropped`: no swarm yet, the pacing queue was full, or the notice was too large.
    `gossip_ignored`, `messages_ignored`: well formed, but no part of this node takes it. One-way messages:
    `messages_refused` did not decode, `messages_shed` found their mailbox full, `send_dropped` found no swarm, no
    connection, or the peer's queue full, or were too large."""

    calls_in: int = 0
    calls_refused: int = 0
    calls_out: int = 0
    gossip_in: int = 0
    gossip_rejected: int = 0
    gossip_ignored: int = 0
    published: int = 0
    publish_dropped: int = 0
    messages_in: int = 0
    messages_refused: int = 0
    messages_ignored: int = 0
    messages_shed: int = 0
    sent: int = 0
    send_dropped: int = 0
    blamed: int = 0


class Counters(Struct, frozen=True):
    """`bus.counters()`. `services_failed`: tells to an adapter whose handler raised."""

    parts: dict[str, PartCounters]
    wiring: WiringCounters
    services_running: int
    services_refused: int
    services_failed: int
    asks_open: int
