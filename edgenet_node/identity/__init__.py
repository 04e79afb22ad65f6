"""Who this node is, which swarm it belongs to, and whom it lets in.

Decides: what the one secret of a node, a 32-byte Ed25519 seed, stands for (`keys`): its PeerId, by which peers address
and authorise it, and its Pi-key, a fingerprint for people. Both are functions of one public key, so a peer that has
proved its PeerId in the Noise handshake has proved its Pi-key. A swarm is named by the genesis that its founder signed
(`crypto.fingerprints.Genesis`); peers of another genesis are refused.
States: a node has no swarm (fresh, started with a bootstrap peer), or exactly one, for good. It founds one when it
starts fresh without a bootstrap peer, adopts that of the first peer it reaches, or is told beforehand.
Limits: authority always rests on the 32-byte public key, never on a short id. A session between two identities lives at
most a day (`crypto.session`).
Secrets: the seed stays in `keys.Identity`, which neither prints, pickles nor encodes it; files are the keystore's
(`adapters.keystore`). CPython cannot promise to wipe memory.
Sources: RFC 8032; the libp2p PeerId specification (github.com/libp2p/specs/blob/master/peer-ids/peer-ids.md).
"""
