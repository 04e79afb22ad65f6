"""The committee in the world of events: `RaftCore` as the daemon runs it, under everything that may go wrong.

* `register`: a replicated map that consumes the log; `clients` read, write and swap, and try again until answered, so
  that each key's history can be judged.
* `operator`: founds the committee, adds, removes and replaces members, as the daemon's registry does.
* `faults`: what strikes; `committee`: one run; `scenario`: which committees, which loads, which faults.
* `watch`: the invariants, after every step of every member.

What is expected to be survived, and no more: a majority keeps its disks. Faults that destroy one (`wipe`, `bit_flip`)
wait until the operator has replaced the members lost before. Lies are not in this world: members crash, stall and
forget; what a hostile one can send is for the tests of the algorithm.
"""
