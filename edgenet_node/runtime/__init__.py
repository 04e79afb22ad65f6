"""The runtime: one driver for all cores, over the ports.

It decides nothing about the protocol. It decides when a core runs, when its effects are released, and who is told what
when something fails.

**Path of a message.** `bus` finds the one owner of its type and puts an envelope in its `mailbox` (bounded; events and
tells beyond the bound are shed and counted, asks refused with `Overloaded`). `drive` takes a batch, steps the core with
each, and hands saves and outputs to the `outbox`, which commits all saves that have gathered in one transaction, while
stepping goes on, and releases the outputs in step order once the saves of their step and of all earlier ones are
durable. `Early` effects leave at once.

**Operations** (`operations`) are claimed at the step and started at the release. `Ask` is a callback and an entry in
the node's heap of deadlines (`timers`); `Call`, `Transfer` and `Compute` are tasks in the incarnation's nursery, at
most `operations_max`, others queue within their own deadline; `Compute(inline)` runs in place. Each gives exactly one
`Done` unless it is cancelled; all die with the incarnation.

**`Saved` and `Send`.** A `Saved` is a mark in the outbox: at its release it goes into the mailbox as a completion does,
without a slot, and is skipped there by any later incarnation. A `Send` is encoded at its step and handed to the network
at its release; what cannot go is shed and counted. A one-way message of a peer is a tell with a sender (`wiring`).

**Promises.** An accepted ask is settled exactly once: reply, deadline, crash, full disk, or stop.

**States of a part** (`supervisor`): restoring -> running -> one of

* crashed (an exception in `step`): operations end, earlier steps are committed and released, open asks get a
  `LocalError`, the message is dropped (`poison`: and its like after a second crash), the core is rebuilt after backoff;
  too many crashes in a window raise `NodeFailed`; a `fail_stop` part raises `InvariantError` at once.
* refused (the disk is full): the steps that were not durable are taken back, their asks get `StoreFull`, the core is
  rebuilt. Any other `StoreError` ends the node before anything is released.
* stopped: intakes closed, mailboxes drained, operations settled or cancelled at the end of the grace, asks answered,
  the store flushed (`node`).

**Limits**: `effects.Limits` for each part, `InboundLimits` for each peer, `SERVICES_RUNNING_MAX`, `SLICE_S` of
uninterrupted stepping, `Supervision` for restarts.

**Sources**: h11 and etcd/raft (sans-IO, `Ready`), Erlang/OTP (restart intensity), TigerBeetle (limits on everything).
"""

from .bus import Actor, Bus, Service
from .clock import SystemClock
from .counters import Counters, PartCounters, WiringCounters
from .kit import Supervision
from .lag import Lag, LagMonitor
from .node import Runtime
from .supervisor import NodeFailed
from .wiring import InboundLimits, WireTable, Wiring

__all__ = [
    "Actor",
    "Bus",
    "Counters",
    "InboundLimits",
    "Lag",
    "LagMonitor",
    "NodeFailed",
    "PartCounters",
    "Runtime",
    "Service",
    "Supervision",
    "SystemClock",
    "WireTable",
    "Wiring",
    "WiringCounters",
]
