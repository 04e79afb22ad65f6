"""The committee's log, as a service: one order for what needs one, kept by a few members for the whole swarm.

Theory of operation. `algorithm` decides who leads and what is committed; it is pure and passes etcd's scripts. Around
it, `core` is the actor: inputs of one batch go to the algorithm at once, and the tick that follows takes one `Ready`:
however many came share one append, one fsync and one frame to each peer. What promises something durable leaves
when it is durable; a leader's appends go out early. Subsystems propose commands and consume the committed log by cursor
(`messages.raft`): they pull pages, apply them, and save cursor and effect in one transaction of their own.

| module | what it decides |
| --- | --- |
| `core` | dispatch: a member, or a node that is none and forwards its commands |
| `member` | what a member does with a `Ready`: save, send, apply; whose frames it takes |
| `journal` | the log as rows with checksums, and its image in memory |
| `applying`, `sessions` | applied entries, exactly once; pages for consumers |
| `proposing`, `forwarding` | commands that wait for their commit; those of nodes outside, by call or by gossip |
| `barriers` | linearizable reads that share one round of heartbeats |
| `changes`, `roster` | changes of configuration, one at a time; whose member id is whose |
| `snapshots` | made with the consumers, fetched from the leader in chunks |
| `recovery` | one member goes on alone after the majority is lost for good: a new epoch |
| `frames`, `meters`, `view`, `settings` | packing, figures, what operators see, limits |

Member ids are random, and new for each time that a node joins: one that was wiped and comes back under its old name is
nobody to the others, and cannot vote as if it remembered.

Limits. It survives crashes of any minority, not lies: what a commit authorises is certified by a quorum (`committee`).
Commands of 64 KiB, snapshots of 64 MiB (held in memory while they are made), 16 members with learners. A client that
falls out of the session table (4,096 clients, 1,024 commands of each) may see an old command executed twice. A follower
that lacks more than the log keeps (5,000 entries behind a snapshot) takes a snapshot.
"""
