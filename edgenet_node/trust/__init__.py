"""Whom to trust with what, from this node's own evidence.

One posterior per (peer, kind): a Beta distribution over "an item comes back right and in time" that forgets
exponentially. Only verified outcomes and failures that this node saw itself count, never a peer's claim about itself or
others. It decides three things that `tasks`, `market` and `memory` consult: the share of a peer's items that is
verified (`Standing.rate`), whether it gets work at all (`avoided`), and its rank (`score`).

States of a peer for a kind: newcomer (fewer than `newcomer_items` items checked: everything is replicated) -> proven
(a random sample at an adaptive rate) -> avoided (a wrong result, or failures in a row) -> newcomer again when the time
is over; each further offence doubles it.

Sources: the Beta reputation system (Josang and Ismail, 2002); the Wilson score interval for the lower bound.
"""
