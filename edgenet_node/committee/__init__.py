"""What the swarm decides together, and how everybody can check it.

Theory of operation. A committee of 1, 3, 4, 5 or 7 members keeps one log by Raft (`edgenet_node.raft`). Raft orders and
survives crashes; it believes its members. So nothing that the log says is passed on as the swarm's word until a quorum
of members has signed it: they sign a *head*, the Merkle root over the whole registry after one entry, each only if it
is its own. Whoever is no member follows heads and checks them along the chain of committee sets, from the founder whom
the genesis names.

| module | what it decides |
| --- | --- |
| `core` | dispatch: member or follower |
| `operating` | what operators ask; what this node registers of itself |
| `serving` | what this node tells others; whether it lets itself be made a member |
| `record` | chain, rows, cursor of this node; what an entry of the log does to them; how they are saved |
| `state`, `parameters` | the registry as a deterministic state machine: members, bans, typed parameters with bounds |
| `chain` | sets, certificates, quorums; two committees of one genesis |
| `office`, `heads`, `collecting` | marks, signatures, certified heads; a member that differs stops |
| `reshaping` | changing the committee: prepare, learn, joint change, certificate, leave |
| `following` | heads by gossip or by asking, rows from anybody |
| `submitting` | this node's own commands, exactly once |
| `reading` | linearizable reads on a member |

What it drives: membership refuses who is banned, and under `admission = listed` who is not admitted
(`AdmissionChanged`); where commands are sent (`LearnRoster`); heads are as frequent as `head_interval_ms` says.

Limits. Below four members a certificate proves what the operators of the committee say, not that it is true: status
calls it `trusted`. A Byzantine leader can stall. Any one member decides (admit, ban, set) and can begin a change of the
committee: a set's certificate proves that a quorum has the change in its log, not that every operator wished it. Losing
the majority for good is mended by hand, loudly: a new epoch that each operator accepts. Sources: Ongaro's thesis
(2014), Castro and Liskov (OSDI 1999), RFC 6962, etcd's raft.
"""
