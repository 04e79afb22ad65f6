"""Worker processes that run registered functions: the executor port, made of processes.

What it decides: which worker runs which task and when, when a worker is to be stopped, killed and replaced. It never
looks into a task. Modules: `pool` (the port), `schedule` (who runs what, pure), `process` (one worker as the parent
sees it), `worker` (the child's main), `frames` (what travels), `ring` (shared memory), `context` (what a function
sees), `local` (the places inline and thread), `settings`.

A function is named, never sent: the parent knows "package.module:attr" as text and only the worker imports it (the
parent too, for the light ones that are run inline or in a thread). This file imports nothing, because the child runs
through it before the BLAS settings are made, and numpy reads those once, at import.

States of a slot: cold (no process until there is work for it) -> starting -> idle <-> busy -> stopping -> (killed) ->
starting. A process that dies before it is ready is tried again after a jittered, doubling pause; one that dies later
is replaced at once. One task is outstanding per worker, so the conversation is in lockstep: a frame that nobody asked
for, or that does not decode, ends that worker.

States of a task: queued -> running -> done, or withdrawn by timeout and cancellation. Withdrawn while queued, it
never runs. Withdrawn while running, it sees `context.should_stop()`; its worker is killed if it still runs
`stop_grace_s` later. Nothing is ever retried here: a task starts at most once.

Scheduling (Blumofe and Leiserson, "Scheduling Multithreaded Computations by Work Stealing", JACM 46(5), 1999): a
deque per worker, own work from the young end, stolen work from the old end of the longest other deque. All deques
live in the parent, so stealing needs no lock. LIFO alone would starve what is old under steady load, hence any task
that has waited `starve_after_s` goes first, on any worker.

Transport: MessagePack frames over a socket pair, never pickle, since unpickling runs code of the sender. Arrays and
bytes above `inline_bytes_max` travel through two slabs per worker (anonymous memfd files, sealed against resizing, so
that a worker can neither fault the parent by truncation nor grow them, and a kill -9 leaves nothing behind). Large
copies are cut into pieces between which the loop runs.

What a worker may cost: `nice`, one BLAS thread, RLIMIT_DATA (private writable memory; files mapped read-only are free
and shared by all workers), the first choice of the kernel's out-of-memory killer. It dies with its parent
(PR_SET_PDEATHSIG on Linux, end of file elsewhere, there only between two tasks). It runs with the rights of the user:
this is isolation from faults and a narrow interface, not a sandbox.
"""
