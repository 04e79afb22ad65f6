"""Builds protocols/*/vectors/*.json from fixed seeds: `python -m tests.protocols.builder`.

It imports nothing of edgenet_node: bytes come from the plain `msgpack` package, signatures from `cryptography`, hashes
from hashlib. So the vectors say what the specs say, not what our own codec does. What it writes is reviewed and
committed; no test runs it.
"""
