"""Whole transfers: what the fetcher sends, what the server answers, how the stream ends."""

from __future__ import annotations

import hashlib
import struct
from typing import Any

from .kit import Book, pack
from .rpc import CANCEL, FAILED, REQUEST, RESPONSE, frame

SERVE, FETCH = "serve", "fetch"
CONTENT = b"an artifact of thirty-five bytes..."
DIGEST = hashlib.sha256(CONTENT).digest()
EMPTY = hashlib.sha256(b"").digest()
LARGE = bytes(300_000)
LARGE_DIGEST = hashlib.sha256(LARGE).digest()


def u64(number: int) -> bytes:
    return struct.pack(">Q", number)


def build(book: Book) -> None:
    _serve(book)
    _fetch(book)


def _serve(book: Book) -> None:
    """`hex` is what the fetcher sends; `value` is what it gets, after it the stream is closed."""
    must = ["BLOB-1", "BLOB-2", "BLOB-3"]

    def asks(digest: bytes, offset: int) -> bytes:
        return frame(REQUEST, 1, digest) + frame(REQUEST, 2, u64(offset))

    def gets(content: bytes, offset: int) -> dict[str, Any]:
        return {"answer": frame(RESPONSE, 1, u64(len(content))) + content[offset:]}

    book.good("serving a whole artifact", SERVE, asks(DIGEST, 0), must, gets(CONTENT, 0), content=CONTENT.hex())
    book.good("serving from an offset", SERVE, asks(DIGEST, 30), must, gets(CONTENT, 30), content=CONTENT.hex())
    book.good("serving from the end", SERVE, asks(DIGEST, 35), must, gets(CONTENT, 35), content=CONTENT.hex())
    book.good("serving an empty artifact", SERVE, asks(EMPTY, 0), must, gets(b"", 0), content="")
    book.good(
        "serving across a chunk",
        SERVE,
        asks(LARGE_DIGEST, 262_143),
        must,
        {"answer": {"head": frame(RESPONSE, 1, u64(300_000)), "zeros": 300_000 - 262_143}},
        content={"repeat": "00", "times": 300_000},
    )
    unknown = frame(FAILED, 1, pack(["not_found", "", 0.0]))
    book.good(
        "serving what is not there",
        SERVE,
        frame(REQUEST, 1, bytes(32)),
        ["BLOB-2"],
        {"error": "not_found", "frame": unknown[:13]},
        content=CONTENT.hex(),
    )
    for name, data in (
        ("a digest of 31 bytes", frame(REQUEST, 1, DIGEST[:31])),
        ("a digest in hex", frame(REQUEST, 1, DIGEST.hex().encode())),
        ("a first request with id 2", frame(REQUEST, 2, DIGEST)),
        ("a response in place of a request", frame(RESPONSE, 1, DIGEST)),
        ("a cancellation in place of a request", frame(CANCEL, 1)),
        ("an offset beyond the end", asks(DIGEST, 36)),
        ("an offset of 2^64 - 1", asks(DIGEST, 2**64 - 1)),
        ("an offset of 4 bytes", frame(REQUEST, 1, DIGEST) + frame(REQUEST, 2, bytes(4))),
        ("a second request with id 1", frame(REQUEST, 1, DIGEST) + frame(REQUEST, 1, u64(0))),
        ("no frame at all", b"\0" * 13),
        ("a request cut short", frame(REQUEST, 1, DIGEST)[:-1]),
    ):
        book.bad(
            f"serving: {name}",
            SERVE,
            data,
            "malformed",
            name,
            ["BLOB-1" if "offset" not in name else "BLOB-3"],
            content=CONTENT.hex(),
        )
    large = struct.pack(">IQB", (1 << 20) + 10, 1, REQUEST)
    book.bad(
        "serving: a request above 1 MiB", SERVE, large, "too_large", "1 MiB at most", ["RPC-2"], content=CONTENT.hex()
    )


def _fetch(book: Book) -> None:
    """`hex` is what the server sends; `value` is what the fetcher sent, and what is stored afterwards."""
    must = ["BLOB-4", "BLOB-5"]
    sent = frame(REQUEST, 1, DIGEST) + frame(REQUEST, 2, u64(0))
    size = frame(RESPONSE, 1, u64(35))
    book.good(
        "fetching a whole artifact",
        FETCH,
        size + CONTENT,
        must,
        {"sent": sent, "size": 35},
        digest=DIGEST.hex(),
        size_max=35,
    )
    resumed = frame(REQUEST, 1, DIGEST) + frame(REQUEST, 2, u64(30))
    book.good(
        "resuming a transfer",
        FETCH,
        size + CONTENT[30:],
        must,
        {"sent": resumed, "size": 35},
        digest=DIGEST.hex(),
        size_max=35,
        partial=CONTENT[:30].hex(),
    )
    empty = frame(REQUEST, 1, EMPTY) + frame(REQUEST, 2, u64(0))
    book.good(
        "fetching an empty artifact",
        FETCH,
        frame(RESPONSE, 1, u64(0)),
        must,
        {"sent": empty, "size": 0},
        digest=EMPTY.hex(),
        size_max=35,
    )
    for name, data, error, ids in (
        ("other bytes", size + bytes(35), "malformed", "BLOB-4"),
        ("a size above what is wanted", frame(RESPONSE, 1, u64(36)), "too_large", "BLOB-5"),
        ("a size of 2^64 - 1", frame(RESPONSE, 1, u64(2**64 - 1)), "too_large", "BLOB-5"),
        ("fewer bytes than said", size + CONTENT[:-1], "unreachable", "BLOB-4"),
        ("nothing", b"", "unreachable", "BLOB-4"),
        ("a size of 4 bytes", frame(RESPONSE, 1, bytes(4)), "malformed", "BLOB-2"),
        ("a size under another id", frame(RESPONSE, 2, u64(35)), "malformed", "BLOB-2"),
        ("a request", frame(REQUEST, 1, u64(35)), "malformed", "BLOB-2"),
        ("an answer above 4 KiB", struct.pack(">IQB", 4106, 1, RESPONSE), "malformed", "BLOB-2"),
        ("not_found", frame(FAILED, 1, pack(["not_found", "no such artifact", 0.0])), "not_found", "BLOB-2"),
        ("overloaded", frame(FAILED, 1, pack(["overloaded", "busy", 1.0])), "overloaded", "BLOB-2"),
        ("refused", frame(FAILED, 0, pack(["refused", "not admitted", 0.0])), "refused", "BLOB-2"),
        ("an error that does not decode", frame(FAILED, 1, b"\xc1"), "malformed", "RPC-7"),
    ):
        book.bad(
            f"fetching: the server sends {name}", FETCH, data, error, name, [ids], digest=DIGEST.hex(), size_max=35
        )
