"""etcd-io/raft's data-driven scripts, run against our algorithm.

The scripts are etcd's own data (Apache-2.0), read from `$EDGENET_CONFORMANCE/etcd-raft/{interaction,quorum,confchange}`
(by default `../shared/conformance` beside the project), never copied. `script` parses them, `describe` writes what etcd
would print, `environment` is the group of members that the interaction scripts play with.

Compared is every character of what a command prints, except the lines of etcd's logger: those that begin, after
spaces, with DEBUG, INFO, WARN, ERROR or FATAL and a space. Output of nothing but such lines equals `ok`, which is what
a command prints that prints nothing.

What differs by design:

| what | etcd | ours | in the scripts |
| --- | --- | --- | --- |
| answer of somebody who is no member | `Step` returns an error | `step` returns False | the line is printed for False |
| `send-snapshot` | a message without a session | with that of the leader's progress | nothing |
"""
