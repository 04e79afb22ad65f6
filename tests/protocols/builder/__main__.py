"""`python -m tests.protocols.builder`: write all vectors. Read the diff before committing it."""

from __future__ import annotations

from . import auction, blob, committee, hello, identity, index, peers, raft, rpc, task
from .kit import Book

BUILDERS = {
    "hello": hello.build,
    "peers": peers.build,
    "auction": auction.build,
    "task": task.build,
    "index": index.build,
    "raft": raft.build,
    "committee": committee.build,
    "rpc": rpc.build,
    "blob": blob.build,
    "identity": identity.build,
}

for protocol, build in BUILDERS.items():
    book = Book(protocol)
    build(book)
    book.write()
