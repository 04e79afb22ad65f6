"""How work finds executors: announcements, offers, leases.

A buyer gossips an `Announce`; able peers answer with an `Offer` on a direct stream. An offer is a lease: a price per
unit, a number of units and an expiry that the seller holds. The buyer keeps leases and spends them over many tasks, so
that interactive work negotiates once and not for each task. Eligible first (capability, connection, not avoided by
`trust`, price within the reserve), then by price, then by load, then by measured round trip.

States of a lease at the seller: granted -> released or expired; at the buyer: held -> spent, refused or expired.
Nothing here is saved: after a restart both sides start without leases and the next announcement brings new ones.
Prices are integers in micro-rUv. No money moves yet; the ledger takes its escrow where `tasks` awards.

Limits: `MarketSettings`. Not here yet: sealed bids and second prices for scarce work.
"""
