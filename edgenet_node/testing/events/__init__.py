"""A world in which cores are driven without trio: one heap of moments (`loop`) in place of tasks.

`simulation` plays whole nodes with the daemon's own runtime; this world plays the cores of some parts (`effects.Core`)
and models the runtime, so that a protocol can be run through thousands of seeds. What cores rely on is the same:
batches, ticks before messages, commits in groups while stepping goes on, release in step order once durable, `Early`,
`Saved`, operations with deadlines, bounded mailboxes, what is left after a crash (`driver`, `host`). What is not here:
waiting `Tell`s, `Progress`, `Compute`, `Transfer`, quarantine of messages; a core that raises ends its node.

* `host`: one node: parts, bus, clock (`clock`: skew, drift, frozen), disks (`disk`: what a write-ahead log promises, a
  lost tail, torn transactions, a failed fsync, a full disk, flipped bits).
* `network`: loss, delay, doubling, reordering, cuts in one direction, lost connections; calls and one-way messages.
* `world`: hosts, network and journal of a run; `Scenario`, faults as scripts, `play`: some seconds of trouble, then
  peace in which everything promised must come true. A run ends at its first violation.
* `report`: the trace, made readable only when somebody reads it, and a digest of every step.
* `linearizability`: were clients told a consistent story?

A run is a function of its seed. All randomness comes from the world's, drawn in a fixed order; nothing iterates over
sets of strings or asks what time it is.

To plug in a subsystem: a `Run` that builds hosts from `HostPlan`s and judges them, its `FaultKind`s, a `Scenario`, and
a line in `testing.subsystems`. Invariants listen to `World.on_step`, `on_send`, `on_durable`, `on_start`, `on_end`.
`testing.raft` is the example.
"""
