"""edgenet-node: a daemon that pools machines for AI work in a peer-to-peer swarm.

A node joins a swarm through any peer of it, announces what it can compute, runs chunks of other members' tasks in
worker processes, and lets its owner use everybody's: embeddings, and vector indexes that are spread over the swarm.
Nobody is trusted blindly: results are recomputed or compared, at a rate that follows each peer's own record, and
every result says how much of it was checked. What the swarm decides as a whole is ordered by a small committee (Raft),
certified by a quorum of it, and checked by everybody.

Four kinds of rooms:

* **kernels** (`kernels`): arrays in, arrays out. They know no peer, clock or file, but for the loading of weights.
* **cores** (`identity.membership`, `market`, `trust`, `tasks`, `memory`, `raft`, `committee`): what a node decides.
  Synchronous state machines, `step(envelope, now) -> effects`, after h11 and etcd/raft. The same core runs in the
  daemon, in a unit test and in a simulated swarm. Each package opens with its theory of operation.
* **adapters** (`adapters`, `gateway`): what touches the world. libp2p, SQLite, artifact files, worker processes, HTTP.
* **composition** (`app`, `cli`): joins them. `app.parts` is the list of everything that decides.

Between them: `effects` is the vocabulary of cores, `runtime` the one driver (durable before released, one completion
for each operation, supervision), `messages` what travels on the bus inside a node, `wire` what travels between nodes,
`ports` the interfaces to the world, `testing` the shipped fakes of all of them.

Who may import whom is written in `pyproject.toml` and enforced by `scripts/check`:

    cli | testing > app > gateway | adapters
    > runtime | identity | market | trust | tasks | memory | raft | committee
    > ports > messages > config > logs > wire > crypto > effects > kernels > errors

How the main job flows: `cli` asks the local daemon over HTTP; `gateway` turns that into one ask; `tasks` splits the
job, asks `market` for executors (which announces it to the swarm and collects offers) and sends chunks over one open
stream to each of them; there, `tasks` checks the lease and has a worker process compute; back home the results are
verified, merged and answered, and `trust` learns from each outcome. `memory` uses the very same path to embed what it
indexes.
"""

__version__ = "0.1.0"
