"""Raft: one log, in one order, for a committee of a few members.

**What it decides.** Who leads, which entries are in the log and in what order, which of them are committed (they cannot
be lost while a majority of disks survives), who the members are, and when a state may be read as current. It tolerates
crashes, loss, delay, duplication and reordering of messages; it does not tolerate lies: what a commit authorises is
signed by a quorum elsewhere.

**The algorithm** (`rawnode` and what it imports) is Ongaro and Ousterhout's ("In search of an understandable consensus
algorithm", 2014; Ongaro's thesis, 2014), with the decisions of etcd-io/raft, whose data-driven scripts it passes
(`tests/raft/etcd`). It is pure: no clock (ticks), no randomness but an injected one, no input or output but values.

* `quorum`     majorities, and pairs of them.
* `confchange` changes of the configuration, as an algebra of sets; their form in the log.
* `progress`   what a leader knows of a follower: probe, replicate, snapshot; the window of appends under way.
* `log`        stable and unstable part; committed, applying, applied. `storage`: where the stable part is read.
* `membership` configuration, progress and votes together. `reads`: reads that wait for a majority's confirmation.
* `state`      one member: its transitions, in one place, and its outbox.
* `stepping`   the table: (role, message kind) to handler; before it, what a message's term means.
* `election`   campaigning and voting. `following`: the follower. `sending`, `replication`, `reading`, `leading`: the
  leader.
* `checks`     what no correct member could have sent is `Malformed`, before anything changes.
* `ready`      what is to be done in the world. `rawnode`: the calls.

**States.** Follower, pre-candidate, candidate, leader (`state` draws the transitions). With `pre_vote` a member asks
whether it could win before it raises the term, so that one that was cut off does not depose anybody when it returns.
With `check_quorum` a leader that no majority answers steps down, and followers that hear of a leader ignore candidates.

**Durability.** Votes and acknowledgements wait in `outbox_after_append` until everything unstable at that time is
durable; all else, a leader's appends too, may go out before. A leader's own entries count for commitment only once they
are durable with it.

**Sessions.** A leader numbers each progress that it makes. Appends, snapshots and heartbeats carry the number, answers
repeat it, and the leader ignores answers with another: those to a former membership of the same member, removed and
added again within one term, would otherwise count entries that its new log does not have.

**Membership.** A change counts from when it is applied, not from when it is appended. So only one may be under way, and
a member does not campaign with an unapplied one. Several at once go through a joint configuration. A learner receives
the log and does not count.

**Differences from etcd**, none of them in what its scripts show: sessions, as said; impossible messages are `Malformed`
where etcd panics; a message for another member is ignored; a change that could not be applied is refused when proposed,
and changes nothing if it is applied all the same; a new member takes a snapshot from before it was added; a proposal
passed on has the member that passes it on as its sender, and reads of others are not passed on; at most 4096 reads
wait at a leader; the only voter answers a read alone only after a commit in its term; a rejected vote tells what is
committed, and a joint configuration is left also after leadership was not handed over, as groups could come to a stop
otherwise.

**Limits.** 16 members (`wire.raft`), entries of 64 KiB; `Config` bounds appends, windows, uncommitted and unapplied
bytes.
"""
