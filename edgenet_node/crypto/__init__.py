"""Cryptography as plain functions: bytes in, bytes out. No file, no clock, no randomness of its own.

Decides: which signatures are valid, one policy for all nodes (`signing`); how keys are derived (`kdf`), payloads sealed
(`aead`) and content named (`hashing`); which names a public key has and what a swarm's birth certificate is
(`fingerprints`); how two identities agree on keys that only they know (`session`).
States: `aead.Sealer` and `aead.Opener` count nonces, `session.Session` holds one of each and a deadline; nothing else
has any.
Limits: every key and nonce has one length; a sealing key ends after `aead.MESSAGES_MAX` messages or `aead.BLOCKS_MAX`
blocks; a session after its time to live; Argon2id parameters are bounded before memory is taken.
Errors: what a peer may have caused is `Malformed` or `Refused`, or False from `verify`; wrong lengths of our own keys
are `InvariantError`.
Secrets: CPython copies and never wipes immutable bytes, so nothing here promises that key material leaves memory. Keep
the process from being dumped or swapped where that matters.
Sources: RFC 8032 (Ed25519), RFC 7748 (X25519), RFC 5869 (HKDF), RFC 9106 (Argon2id), RFC 6962 (Merkle trees), NIST SP
800-38D (GCM), FIPS 180-4 (SHA-2); the arithmetic is libsodium's, OpenSSL's and the Argon2 reference code's.
"""
