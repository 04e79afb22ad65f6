"""index.*, grants, and the segment file."""

from __future__ import annotations

import math
import struct
from typing import Any

from .kit import FOUNDER, OTHER, OTHER_SWARM, SWARM, THIRD, Book, call, framed, pack, reply, signed

GRANT, GRANT_BODY, SEGMENT = "grant", "signed:IndexGrant", "segment"
DIGEST = "ab" * 32
VECTOR = struct.pack("<4f", 0.5, 0.5, 0.5, 0.5)


def grant_body(**changes: Any) -> dict[str, Any]:
    body = {"owner": FOUNDER.public, "name": "notes", "swarm": SWARM, "version": 1, "readers": [OTHER.peer_id]}
    return body | changes


def grant(**changes: Any) -> dict[str, Any]:
    return signed(FOUNDER, "index-grant", pack(grant_body(**changes)))


def build(book: Book) -> None:
    _grants(book)
    _hold(book)
    _drop(book)
    _search(book)
    _hits(book)
    _manifest(book)
    _segments(book)


def _grants(book: Book) -> None:
    must = ["INDEX-1", "ENC-10"]
    more = {"swarm": SWARM, "public": FOUNDER.public.hex(), "domain": "index-grant"}
    book.good("grant to one reader", GRANT, pack(grant()), must, **more)
    book.good("grant to every member", GRANT, pack(grant(readers=["*"])), must, **more)
    book.good("grant to nobody", GRANT, pack(grant(readers=[], version=0)), must, **more)
    body = pack(grant_body())
    for name, signed_grant, error, ids in (
        ("of another swarm", grant(swarm=OTHER_SWARM), "wrong_swarm", "INDEX-2"),
        ("signed by another key", signed(THIRD, "index-grant", body), "malformed", "INDEX-1"),
        ("signed in another domain", signed(FOUNDER, "peer-record", body), "malformed", "ENC-10"),
        ("signed without a domain", {"body": body, "signature": FOUNDER.sign_raw(body)}, "malformed", "ENC-10"),
        (
            "signed with the domain twice",
            {"body": body, "signature": FOUNDER.sign("index-grant", framed("index-grant", body))},
            "malformed",
            "ENC-10",
        ),
        (
            "with its reader changed",
            {"body": pack(grant_body(readers=["*"])), "signature": grant()["signature"]},
            "malformed",
            "INDEX-1",
        ),
        ("that is not canonical", signed(FOUNDER, "index-grant", b"\xde\x00\x05" + body[1:]), "malformed", "ENC-7"),
        ("whose name holds a slash", grant(name="../notes"), "malformed", "INDEX-3"),
        ("whose name ends in a newline", grant(name="notes\n"), "malformed", "INDEX-3"),
        ("with no bytes", signed(FOUNDER, "index-grant", b""), "malformed", "ENC-1"),
    ):
        book.bad(f"grant {name}", GRANT, pack(signed_grant), error, name, [ids], swarm=SWARM)
    upper = grant_body(name="n" * 64, version=2**53, readers=[OTHER.peer_id] * 256)
    book.good("grant body at the upper bounds", GRANT_BODY, pack(upper), ["INDEX-3", "ENC-7"])
    book.damaged("grant body", GRANT_BODY, pack, grant_body())
    cases: dict[str, Any] = {
        "owner: of 31 bytes": bytes(31),
        "name: empty": "",
        "name: of 65 characters": "n" * 65,
        "name: that starts with a dot": ".notes",
        "swarm: empty": "",
        "version: below zero": -1,
        "version: of 2^53 + 1": 2**53 + 1,
        "readers: of 257": ["*"] * 257,
        "readers: with one of 65 characters": ["r" * 65],
    }
    book.beyond("grant body", GRANT_BODY, pack, grant_body(), "INDEX-3", cases)
    for name, data in (
        (
            "with a number in more bytes than it needs",
            pack(grant_body()).replace(b"\xa7version\x01", b"\xa7version\xcc\x01"),
        ),
        ("with fields in another order", pack(dict(reversed(grant_body().items())))),
        ("with a repeated field", b"\x86" + body[1:] + pack("version") + b"\x01"),
    ):
        book.bad(f"grant body {name}", GRANT_BODY, data, "malformed", "not canonical", ["ENC-7"])


def _hold(book: Book) -> None:
    context, answer, wrap = "call:index.hold/1", "reply:index.hold/1", call("index.hold/1")
    body: dict[str, Any] = {
        "grant": grant(),
        "digest": DIGEST,
        "size": 6_500_000,
        "rows": 4096,
        "version": 0,
        "deleted": [],
        "source": FOUNDER.peer_id,
    }
    must = ["INDEX-3", "ENC-6"]
    book.good("hold", context, wrap(body), must)
    book.good("hold with deleted rows", context, wrap(body | {"version": 3, "deleted": [0, 17, 4095]}), must)
    upper = {"size": 2**40, "rows": 2**31 - 1, "version": 2**31 - 1, "deleted": [65_535], "source": "z" * 64}
    book.good("hold at the upper bounds", context, wrap(body | upper), must)
    book.damaged("hold", context, wrap, body)
    cases: dict[str, Any] = {
        "digest: of 63 characters": DIGEST[:-1],
        "digest: in upper case": DIGEST.upper(),
        "digest: that ends in a newline": DIGEST[:-1] + "\n",
        "size: below zero": -1,
        "size: above 2^40": 2**40 + 1,
        "rows: below zero": -1,
        "version: below zero": -1,
        "deleted: with row 65536": [65_536],
        "deleted: with a row below zero": [-1],
        "deleted: with a row that is text": ["1"],
        "source: of 45 characters": "z" * 45,
        "source: with a character outside base58": "0" * 52,
    }
    book.beyond("hold", context, wrap, body, "INDEX-3", cases)
    large = wrap(body | {"deleted": [65_535] * 200_000})
    book.bad("hold above its limit", context, large, "too_large", "512 KiB at most", ["ENC-9"])
    book.good("held", answer, reply({"version": 3}), must)
    book.damaged("held", answer, reply, {"version": 3})


def _drop(book: Book) -> None:
    context, answer, wrap = "call:index.drop/1", "reply:index.drop/1", call("index.drop/1")
    body = {"grant": grant(), "digests": [DIGEST]}
    book.good("drop", context, wrap(body), ["INDEX-3"])
    book.good("drop of 256", context, wrap(body | {"digests": [DIGEST] * 256}), ["INDEX-3"])
    book.damaged("drop", context, wrap, body)
    cases: dict[str, Any] = {"digests: of 257": [DIGEST] * 257, "digests: with one that is no digest": ["ab"]}
    book.beyond("drop", context, wrap, body, "INDEX-3", cases)
    book.good("dropped", answer, reply({}), ["INDEX-3"])
    book.damaged("dropped", answer, reply, {})


def _search(book: Book) -> None:
    context, wrap = "call:index.search/1", call("index.search/1")
    body: dict[str, Any] = {
        "owner": FOUNDER.public,
        "name": "notes",
        "segments": [{"digest": DIGEST, "version": 3}],
        "vector": VECTOR,
        "k": 10,
        "where": {},
    }
    must = ["INDEX-3", "ENC-6"]
    book.good("search", context, wrap(body), must)
    book.good("search with a filter", context, wrap(body | {"where": {"lang": "en", "year": ""}}), must)
    upper = {
        "segments": [{"digest": DIGEST, "version": 3}] * 256,
        "vector": bytes(4 * 4096),
        "k": 256,
        "where": {f"key{n:02d}": "v" for n in range(16)},
    }
    book.good("search at the upper bounds", context, wrap(body | upper), must)
    book.damaged("search", context, wrap, body)
    cases: dict[str, Any] = {
        "owner: of 33 bytes": bytes(33),
        "segments: of 257": [{"digest": DIGEST, "version": 0}] * 257,
        "segments: with one without version": [{"digest": DIGEST}],
        "vector: empty": b"",
        "vector: of 4097 components": bytes(4 * 4097),
        "k: of zero": 0,
        "k: of 257": 257,
        "where: of 17 conditions": {f"key{n:02d}": "v" for n in range(17)},
        "where: with an empty key": {"": "v"},
        "where: with a number": {"year": 2024},
        "where: with a value of 513 characters": {"k": "v" * 513},
    }
    book.beyond("search", context, wrap, body, "INDEX-3", cases)
    large = wrap(body | {"name": "n" * (64 * 1024)})
    book.bad("search above its limit", context, large, "too_large", "64 KiB at most", ["ENC-9"])


def _hits(book: Book) -> None:
    context = "reply:index.search/1"
    hit = {"id": "d1", "score": 0.75, "text": "a passage", "metadata": {"lang": "en"}}
    body = {"hits": [hit], "rows": 4096, "missing": []}
    must = ["INDEX-3", "ENC-6"]
    book.good("hits", context, reply(body), must)
    book.good("no hits, a segment missing", context, reply({"hits": [], "rows": 0, "missing": [DIGEST]}), must)
    edge = hit | {
        "id": "d" * 512,
        "score": -1.001,
        "text": "t" * 8192,
        "metadata": {f"k{n:02d}": "" for n in range(32)},
    }
    book.good("a hit at the bounds", context, reply(body | {"hits": [edge]}), must)
    book.damaged("hits", context, reply, body)
    for name, change in (
        ("without id", {"id": ""}),
        ("with an id of 513 characters", {"id": "d" * 513}),
        ("with a score above 1.001", {"score": 1.002}),
        ("with a score that is not a number", {"score": math.nan}),
        ("with a score that is infinite", {"score": math.inf}),
        ("with a text of 8193 characters", {"text": "t" * 8193}),
        ("with 33 metadata entries", {"metadata": {f"k{n:02d}": "" for n in range(33)}}),
    ):
        must = ["ENC-8", "INDEX-3"] if "score" in name else ["INDEX-3"]
        book.bad(f"a hit {name}", context, reply(body | {"hits": [hit | change]}), "malformed", "out of bounds", must)
    book.bad("257 hits", context, reply(body | {"hits": [hit] * 257}), "malformed", "hits out of bounds", ["INDEX-3"])


def _manifest(book: Book) -> None:
    context, answer, wrap = "call:index.manifest/1", "reply:index.manifest/1", call("index.manifest/1")
    book.good("manifest request", context, wrap({"name": "notes"}), ["INDEX-3"])
    book.damaged("manifest request", context, wrap, {"name": "notes"})
    cases: dict[str, Any] = {"name: empty": "", "name: of 65 characters": "n" * 65, "name: with a slash": "a/b"}
    book.beyond("manifest request", context, wrap, {"name": "notes"}, "INDEX-3", cases)
    segment = {"digest": DIGEST, "size": 6_500_000, "rows": 4096, "version": 0, "holders": [OTHER.peer_id]}
    body: dict[str, Any] = {
        "grant": grant(),
        "version": 4,
        "model": "all-MiniLM-L6-v2",
        "dimension": 384,
        "segments": [segment],
    }
    must = ["INDEX-3", "ENC-6"]
    book.good("manifest", answer, reply(body), must)
    book.good("manifest of an empty index", answer, reply(body | {"model": "", "dimension": 1, "segments": []}), must)
    book.good("manifest of 256 segments", answer, reply(body | {"segments": [segment] * 256}), must)
    book.damaged("manifest", answer, reply, body)
    cases = {
        "dimension: of zero": 0,
        "dimension: of 4097": 4097,
        "segments: of 257": [segment] * 257,
        "segments: with 17 holders": [segment | {"holders": [OTHER.peer_id] * 17}],
    }
    book.beyond("manifest", answer, reply, body, "INDEX-3", cases)


def _segments(book: Book) -> None:
    """Two rows of dimension 4 with one metadata key."""
    must = ["INDEX-5"]
    good = _segment()
    header, columns = dict(HEADER), [dict(COLUMN)]
    value = {"header": header, "ids": ["a", "b"], "texts": ["first", "second"], "metadata": [{"lang": "en"}, {}]}
    book.good("two rows", SEGMENT, good, must, value)
    plain = {
        "header": header | {"column_bytes": 1},
        "ids": ["a", "b"],
        "texts": ["first", "second"],
        "metadata": [{}, {}],
    }
    book.good("no metadata", SEGMENT, _segment(columns=[]), must, plain)
    long_vector = struct.pack("<8f", 1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0)
    nan = struct.pack("<f", math.nan) + VECTORS[4:]
    codes = struct.pack("<2H", 2, 0)
    for name, data, reason in (
        ("cut short", good[:-1], "shorter than its header says"),
        ("with a byte after it", good + b"\0", "longer than its header says"),
        ("of another magic", b"EDGSEG\0\2" + good[8:], "another version"),
        ("of nothing", b"", "no prefix"),
        ("with a header length of 2^32 - 1", good[:8] + b"\xff" * 4 + good[12:], "a header that does not fit"),
        ("with a header that is not canonical", _segment(head=b"\xde\x00\x07" + pack(header)[1:]), "not canonical"),
        ("of no rows", _segment(head=pack(header | {"rows": 0})), "rows out of bounds"),
        ("of dimension 4097", _segment(head=pack(header | {"dimension": 4097})), "dimension out of bounds"),
        ("of more rows than it has", _segment(head=pack(header | {"rows": 3})), "another length"),
        ("with a vector of another length", _segment(vectors=long_vector), "not of unit length"),
        ("with NaN in a vector", _segment(vectors=nan), "not of unit length"),
        ("with padding that is not zero", good[:PAD_AT] + b"\1" + good[PAD_AT + 1 :], "padding"),
        ("with equal ids", _segment(ids=b"aa"), "ids not ascending"),
        ("with descending ids", _segment(ids=b"ba"), "ids not ascending"),
        ("with ids that are not UTF-8", _segment(ids=b"a\xff"), "not UTF-8"),
        ("whose texts end beyond", _segment(text_ends=struct.pack("<2I", 5, 12)), "ends do not fit"),
        ("whose texts end before they begin", _segment(text_ends=struct.pack("<2I", 12, 11)), "ends descend"),
        ("with a code without a value", _segment(columns=[columns[0] | {"codes": codes}]), "codes"),
        ("with a value that no row has", _segment(columns=[columns[0] | {"values": ["en", "de"]}]), "values"),
        ("with codes of another length", _segment(columns=[columns[0] | {"codes": b"\1\0"}]), "codes"),
        ("with a key twice", _segment(columns=columns * 2), "keys not ascending"),
    ):
        book.bad(f"segment {name}", SEGMENT, data, "malformed", reason, must)


VECTORS = struct.pack("<8f", 0.6, 0.8, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0)
COLUMN: dict[str, Any] = {"key": "lang", "values": ["en"], "codes": struct.pack("<2H", 1, 0)}
HEADER: dict[str, Any] = {
    "model": "m",
    "dimension": 4,
    "rows": 2,
    "salt": bytes(range(16)),
    "id_bytes": 2,
    "text_bytes": 11,
    "column_bytes": len(pack([COLUMN])),
}
PAD_AT = 12 + len(pack(HEADER))
"""The first byte after the header; the vectors begin at the next multiple of 64."""


def _segment(
    *,
    head: bytes | None = None,
    vectors: bytes = VECTORS,
    ids: bytes = b"ab",
    text_ends: bytes = struct.pack("<2I", 5, 11),
    columns: list[dict[str, Any]] | None = None,
) -> bytes:
    encoded = pack([COLUMN] if columns is None else columns)
    header = pack(HEADER | {"column_bytes": len(encoded)}) if head is None else head
    data = b"EDGSEG\0\1" + struct.pack("<I", len(header)) + header
    for section in (vectors, struct.pack("<2I", 1, 2), text_ends, ids, b"firstsecond", encoded):
        data += bytes(-len(data) % 64) + section
    return data
