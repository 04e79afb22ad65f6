"""Fakes of every port, and a simulator of whole swarms: shipped, since other subsystems and plug-ins test with them.

Fakes: `network` (delay, loss, duplication, partition, crash), `store` (torn writes, full and failing disks),
`artifacts`, `inline_executor` (faults, simulated time), `clock`; `world` puts runtimes over them, `determinism` makes a
run a function of its seed.

The simulator: a `simulation.Scenario` is a table of a cast, fault kinds, activities and invariants; `play` runs one
seed of it in trio's mock time. `swarm` builds nodes from the daemon's own parts list, with `hash_embedding` in place of
the model; `faults` go wrong, `owners` use the nodes and judge what they get, `invariants` judge the whole, `monitor`
sees every step, keeps the trace and its digest, and checks for each reply and operation that what was saved before it
is durable. `main_job` is the scenario of the main job.

`events` is a second world, without trio, in which the cores of one subsystem are driven through thousands of seeds;
`raft` plays the committee in it. `subsystems` is the table of all scenarios.

To plug in a subsystem: its parts through `Plan.parts`, its `FaultKind`s, its activities (`async f(run, rng)`, sharing
state by `run.shared`), its invariants (`begin` listens to steps, `check` looks in peace), and a line in `SUBSYSTEMS`.
"""
