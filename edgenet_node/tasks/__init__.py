"""Tasks: work that an owner wants done, cut into chunks, run by this node and by others, checked and put together.

Two cores. `jobs.JobsCore` is the submitting side, `serving.ServingCore` the executing side; they meet only on the wire.

What the submitting side decides: who computes which items (`seeking`, `placing`), how large a chunk is and when it is
late (`chunks`), what is checked and who is believed (`verification`, `judging`), what is saved (`journal`) and for how
long (`history`). `desk` is what these share: tables, alarms and the effects of the current step. `work` is the state of
one task, `executors` of everybody who can work, `events` the stream that every surface follows, `escrow` the seam where
payment is taken, `handlers` and `registry` what a task kind means.

States of a task: queued <-> running -> done | failed | timed_out | cancelled; rejected when its handler is gone after a
restart. Queued is also what waits because nobody can take it: its reason is in the view and in a `waiting` event.

Life of an item: waiting -> in flight (perhaps at two executors, if the first is late) -> being checked -> accepted. It
goes back to waiting when its executor dies, refuses, fails, or is caught lying. Accepted ranges never overlap, so that
every item is in the merged output exactly once; a durable task saves each accepted chunk in the step that accepts it
and after a restart computes the rest only.

Who computes. This node is an executor as any other, with `self_share` of its workers; `local` leaves only it, `only`
only the peers named. A task of few items runs here at once if a worker is free and nothing measured says that a peer
with a lease is quicker; nobody measured yet means here. Otherwise the quickest free slot comes first, by measured
seconds per item and what is queued there. Leases that are held and standings that are fresh are kept here: such a task
costs one `Call` and one `Reply`, with no question to anybody in between.

How results are counted: `checked` items were computed or confirmed by this node, or compared between two executors;
items that this node computed are checked by that. `mismatches` are wrong items that were found; all were redone. What
may still be wrong is `error_bound`; `verification` derives it.

Limits are in `settings`; items of a chunk and their bytes in `wire.task`. All tables are bounded: unfinished tasks and
their bytes, attempts by slots, events for each task, history, leases, standings, waiting askers.

Sources: guided self-scheduling (Polychronopoulos and Kuck, 1987); adaptive replication and spot checks as in BOINC;
backup tasks for stragglers as in MapReduce (Dean and Ghemawat, 2004).
"""
