"""peers.list/1 and the presence topic."""

from __future__ import annotations

from typing import Any

from .kit import FOUNDER, OTHER, SWARM, Book, call, pack, reply, signed_record

LIST, MEMBERS, PRESENCE = "call:peers.list/1", "reply:peers.list/1", "gossip:presence/1"
TOPIC = f"/edgenet/{SWARM}/presence/1"
wrap = call("peers.list/1")
EMBEDDING = {"kind": "embedding", "model": "all-MiniLM-L6-v2", "price": 10}


def build(book: Book) -> None:
    _presence(book)
    _list(book)


def _presence(book: Book) -> None:
    body: dict[str, Any] = {
        "record": signed_record(OTHER),
        "capabilities": [EMBEDDING],
        "workers": 2,
        "load": 0,
        "version": "0.1.0",
    }
    must = ["PEERS-2", "ENC-6"]
    book.good("presence", PRESENCE, pack(body), must, topic=TOPIC)
    book.good(
        "presence of a node that executes nothing", PRESENCE, pack(body | {"capabilities": [], "workers": 0}), must
    )
    kinds = [{"kind": f"kind-{n:02d}", "model": "", "price": n} for n in range(32)]
    upper = {"capabilities": kinds, "workers": 2**31 - 1, "load": 2**31 - 1}
    book.good("presence at the upper bounds", PRESENCE, pack(body | upper), must)
    edge = {"kind": "a" + "." * 47, "model": "m/" * 32, "price": 1_000_000_000}
    book.good("presence with the longest names and price", PRESENCE, pack(body | {"capabilities": [edge]}), must)
    book.good(
        "presence with load in more bytes than it needs",
        PRESENCE,
        pack(body).replace(b"\xa4load\x00", b"\xa4load\xcd\x00\x00"),
        ["ENC-6"],
        lenient=True,
    )

    book.damaged("presence", PRESENCE, pack, body)
    cases: dict[str, Any] = {
        "capabilities: of 33": [EMBEDDING] * 33,
        "workers: below zero": -1,
        "workers: of 2^31": 2**31,
        "load: below zero": -1,
        "load: of 2^31": 2**31,
        "load: not a whole number": 0.5,
    }
    book.beyond("presence", PRESENCE, pack, body, "PEERS-2", cases)
    for name, change in (
        ("without kind", {"kind": ""}),
        ("of a kind of 49 characters", {"kind": "k" * 49}),
        ("of a kind in upper case", {"kind": "Embedding"}),
        ("of a kind that ends in a newline", {"kind": "embedding\n"}),
        ("with a model of 65 characters", {"model": "m" * 65}),
        ("with a space in its model", {"model": "a b"}),
        ("with a price below zero", {"price": -1}),
        ("with a price above 10^9", {"price": 1_000_000_001}),
        ("with one more field", {"zz": 1}),
    ):
        data = pack(body | {"capabilities": [EMBEDDING | change]})
        book.bad(
            f"presence with a capability {name}", PRESENCE, data, "malformed", "capability out of bounds", ["PEERS-2"]
        )
    large = pack(body | {"version": "1" * (16 * 1024)})
    book.bad("presence above its limit", PRESENCE, large, "too_large", "16 KiB at most", ["ENC-9", "PEERS-5"])
    for name, topic in (
        ("of another name", f"/edgenet/{SWARM}/presences/1"),
        ("of another version", f"/edgenet/{SWARM}/presence/2"),
        ("with more parts", f"/edgenet/{SWARM}/presence/1/1"),
        ("of another project", f"/edge-net/{SWARM}/presence/1"),
        ("without a swarm", "/edgenet//presence/1"),
        ("of a swarm that is no genesis", "/edgenet/swarm/presence/1"),
        ("that ends in a newline", f"/edgenet/{SWARM}/presence/1\n"),
        ("of nothing", ""),
    ):
        book.bad(
            f"presence on a topic {name}", PRESENCE, pack(body), "malformed", "unknown topic", ["PEERS-6"], topic=topic
        )


def _list(book: Book) -> None:
    for count in (1, 64):
        book.good(f"a request for {count}", LIST, wrap({"records_max": count}), ["PEERS-3", "ENC-6"])
    book.good("a request without the field that has a default", LIST, wrap({}), ["ENC-2"], lenient=True)
    twice = b"\x92" + pack("peers.list/1") + b"\x82" + (pack("records_max") + b"\x01") * 2
    book.good("a request with a repeated field", LIST, twice, ["ENC-6"], lenient=True)
    book.damaged("a request", LIST, wrap, {"records_max": 64}, optional=["records_max"])
    cases: dict[str, Any] = {"records_max: of zero": 0, "records_max: of 65": 65, "records_max: of 2^64 - 1": 2**64 - 1}
    book.beyond("a request", LIST, wrap, {"records_max": 64}, "PEERS-3", cases)
    large = wrap({"records_max": 64, "zz": bytes(256)})
    book.bad("a request above its limit", LIST, large, "too_large", "256 bytes at most", ["ENC-9"])

    body = {"records": [signed_record(FOUNDER), signed_record(OTHER)]}
    book.good("no members", MEMBERS, reply({"records": []}), ["PEERS-3"])
    book.good("two members", MEMBERS, reply(body), ["PEERS-3"])
    most = {"records": [signed_record(OTHER)] * 64}
    book.good("64 members", MEMBERS, reply(most), ["PEERS-3"])
    book.damaged("members", MEMBERS, reply, body)
    more = {"records": [signed_record(OTHER)] * 65}
    book.bad("65 members", MEMBERS, reply(more), "malformed", "records out of bounds", ["ENC-4", "PEERS-3"])
