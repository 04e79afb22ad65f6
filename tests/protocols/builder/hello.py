"""hello/1, peer records."""

from __future__ import annotations

import math
import struct
from typing import Any

from .kit import (
    CREATED_MS,
    FOUNDER,
    OTHER,
    OTHER_SWARM,
    SWARM,
    THIRD,
    Book,
    call,
    framed,
    genesis,
    pack,
    peer_record,
    reply,
    signed,
    signed_record,
)

HELLO, WELCOME = "call:hello/1", "reply:hello/1"
RECORD, BODY = "record", "signed:PeerRecord"
wrap = call("hello/1")


def build(book: Book) -> None:
    _hello(book)
    _welcome(book)
    _record_bodies(book)
    _records(book)


def _hello(book: Book) -> None:
    fresh = {"swarm": "", "version": "0.1.0", "record": None}
    member = {"swarm": SWARM, "version": "0.1.0", "record": signed_record(OTHER)}
    book.good("a fresh caller", HELLO, wrap(fresh), ["HELLO-2", "ENC-2", "ENC-6"])
    book.good("a member", HELLO, wrap(member), ["HELLO-2", "HELLO-10"])
    book.good("no version", HELLO, wrap(fresh | {"version": ""}), ["HELLO-10"])
    book.good("the longest version", HELLO, wrap(fresh | {"version": "1.2.3-rc.4+" + "a" * 21}), ["HELLO-10"])
    short = {"swarm": "", "version": "0.1.0"}
    book.good("without the field that has a default", HELLO, wrap(short), ["ENC-2"], lenient=True)
    body = {"version": "0.1.0", "record": None, "swarm": ""}
    book.good("fields in another order", HELLO, wrap(body), ["ENC-6"], lenient=True)
    long_key = pack(["hello/1", fresh]).replace(b"\xa5swarm", b"\xd9\x05swarm")
    book.good("a key in more bytes than it needs", HELLO, long_key, ["ENC-6"], lenient=True)

    book.damaged("hello", HELLO, wrap, member, optional=["record"])
    cases: dict[str, Any] = {
        "swarm: of 41 characters": SWARM[:-1],
        "swarm: of 43 characters": SWARM + "0",
        "swarm: in upper case": SWARM.upper(),
        "swarm: of other letters": "g" * 42,
        "swarm: ending in a newline": SWARM[:-1] + "\n",
        "swarm: of only a newline": "\n",
    }
    book.beyond("hello", HELLO, wrap, fresh, "HELLO-2", cases)
    cases = {
        "version: of 33 characters": "1" * 33,
        "version: holding a space": "1 0",
        "version: holding an escape": "1\x1b[2J",
        "version: ending in a newline": "1.0\n",
    }
    book.beyond("hello", HELLO, wrap, fresh, "HELLO-10", cases)
    short_signature = member | {"record": {"body": b"", "signature": bytes(63)}}
    book.bad(
        "hello with a signature of 63 bytes",
        HELLO,
        wrap(short_signature),
        "malformed",
        "signature out of bounds",
        ["HELLO-5"],
    )
    no_signature = member | {"record": {"body": b""}}
    book.bad(
        "hello with a record without signature", HELLO, wrap(no_signature), "malformed", "a field is missing", ["ENC-2"]
    )
    huge = member | {"record": {"body": bytes(8193), "signature": bytes(64)}}
    book.bad("hello with a record of 8193 bytes", HELLO, wrap(huge), "malformed", "body out of bounds", ["HELLO-10"])
    oversized = wrap(fresh) + bytes(16 * 1024)
    book.bad("hello of more than 16 KiB", HELLO, oversized[: 16 * 1024 + 1], "malformed", "trailing bytes", ["ENC-1"])
    padded = wrap(fresh | {"version": "1" * (16 * 1024)})
    book.bad("hello above its limit", HELLO, padded, "too_large", "16 KiB at most", ["ENC-9", "HELLO-10"])
    bad_utf8 = wrap(fresh).replace(b"\xa50.1.0", b"\xa50.1\xff0")
    book.bad("hello with text that is not UTF-8", HELLO, bad_utf8, "malformed", "not UTF-8", ["ENC-5"])
    with_ext = b"\x92\xa7hello/1\x83\xa5swarm\xa0\xa7version\xd4\x05\x00\xa6record\xc0"
    book.bad("hello with an extension type", HELLO, with_ext, "malformed", "extension types do not occur", ["ENC-5"])
    number_key = b"\x92\xa7hello/1\x84\x01\x02" + pack(fresh)[1:]
    book.bad("hello with a key that is a number", HELLO, number_key, "malformed", "keys are text", ["ENC-5"])
    for name, data, reason in (
        ("nothing at all", b"", "no value"),
        ("a byte that MessagePack never uses", b"\xc1", "not MessagePack"),
        ("only the name of the call", pack(["hello/1"]), "a call has two elements"),
        ("a third element", pack(["hello/1", fresh, 1]), "a call has two elements"),
        ("a call of no name", pack(["", fresh]), "unknown call"),
        ("a call of the next version", pack(["hello/2", fresh]), "unknown call"),
        ("a call of the other stream", pack(["peers.list/1", {"records_max": 1}]), "rpc calls are not taken here"),
        ("a name of 65 characters", pack(["h" * 65, fresh]), "names have at most 64 characters"),
        ("an array that claims 2^32 - 1 elements", b"\xdd\xff\xff\xff\xff\xa7hello/1", "longer than the data"),
        ("a map that claims 2^32 - 1 entries", b"\x92\xa7hello/1\xdf\xff\xff\xff\xff", "longer than the data"),
        ("arrays nested 1000 deep", b"\x92\xa7hello/1" + b"\x91" * 1000 + b"\xc0", "not a map"),
    ):
        book.bad(name, HELLO, data, "malformed", reason, ["ENC-1" if "longer" in reason else "ENC-2"])


def _welcome(book: Book) -> None:
    body = {
        "swarm": SWARM,
        "genesis": genesis(FOUNDER),
        "version": "0.1.0",
        "record": signed_record(FOUNDER),
        "records": [signed_record(OTHER)],
    }
    book.good("welcome", WELCOME, reply(body), ["HELLO-7", "ENC-6"])
    book.good("welcome without other members", WELCOME, reply(body | {"records": []}), ["HELLO-10"])
    many = body | {"records": [signed_record(OTHER)] * 16}
    book.good("welcome with 16 members", WELCOME, reply(many), ["HELLO-10"])
    book.damaged("welcome", WELCOME, reply, body)
    cases: dict[str, Any] = {"swarm: empty": "", "records: of 17": [signed_record(OTHER)] * 17}
    book.beyond("welcome", WELCOME, reply, body, "HELLO-10", cases)
    extra = genesis(FOUNDER) | {"zz": 1}
    book.bad(
        "welcome with more in its genesis",
        WELCOME,
        reply(body | {"genesis": extra}),
        "malformed",
        "unknown fields",
        ["ENC-3"],
    )
    book.bad("an answer of status 2", WELCOME, pack([2, body]), "malformed", "status is 0 or 1", ["ENC-12"])
    book.bad("an answer without a body", WELCOME, pack([0]), "malformed", "an answer has two elements", ["ENC-12"])
    large = reply(body | {"version": "1" * (128 * 1024)})
    book.bad("welcome above its limit", WELCOME, large, "too_large", "128 KiB at most", ["ENC-9", "HELLO-10"])


def _record_bodies(book: Book) -> None:
    body = peer_record(OTHER)
    must = ["ENC-7", "HELLO-5"]
    book.good("record body", BODY, pack(body), must)
    book.good("record body at the lower bounds", BODY, pack(body | {"seq": 0, "addresses": []}), must)
    long_one = "/dns4/" + "a" * 250
    book.good("record body at the upper bounds", BODY, pack(body | {"seq": 2**53, "addresses": [long_one] * 16}), must)
    book.damaged("record body", BODY, pack, body)
    cases: dict[str, Any] = {
        "public_key: of 31 bytes": bytes(31),
        "public_key: of 33 bytes": bytes(33),
        "swarm: empty": "",
        "seq: below zero": -1,
        "seq: above 2^53": 2**53 + 1,
        "addresses: of 17": ["/ip4/192.0.2.1/tcp/1"] * 17,
        "addresses: holding an empty one": [""],
        "addresses: holding one of 257 characters": ["/" + "a" * 256],
        "addresses: holding a space": ["/ip4/192.0.2.1 /tcp/1"],
        "addresses: holding one without the slash": ["ip4/192.0.2.1/tcp/1"],
    }
    book.beyond("record body", BODY, pack, body, "HELLO-5", cases)
    good = pack(body)
    at = good.index(b"\xa3seq") + 4
    for name, data in (
        (
            "with a number in more bytes than it needs",
            pack(body | {"seq": 1}).replace(b"\xa3seq\x01", b"\xa3seq\xcc\x01"),
        ),
        ("with a signed form of a positive number", good[:at] + b"\xd3" + good[at + 1 :]),
        ("with fields in another order", pack(dict(reversed(body.items())))),
        ("with a repeated field", b"\x85" + good[1:] + pack("seq") + pack(CREATED_MS)),
        ("with a length in more bytes than it needs", good.replace(b"\xc4\x20", b"\xc5\x00\x20")),
        ("with text in more bytes than it needs", good.replace(b"\xd9\x2a", b"\xda\x00\x2a")),
        ("with an array in more bytes than it needs", good.replace(b"\xa9addresses\x91", b"\xa9addresses\xdc\x00\x01")),
        ("as a map in more bytes than it needs", b"\xde\x00\x04" + good[1:]),
    ):
        assert data != good
        book.bad(f"record body {name}", BODY, data, "malformed", "not canonical", ["ENC-7"])
    for name, number in (("NaN", math.nan), ("infinity", math.inf)):
        data = good[:at] + b"\xcb" + struct.pack(">d", number) + good[at + 9 :]
        book.bad(f"record body with {name} as its number", BODY, data, "malformed", "int expected", ["ENC-4", "ENC-8"])


def _records(book: Book) -> None:
    must = ["HELLO-5", "ENC-10"]
    for name, key in (("the founder's record", FOUNDER), ("another member's record", OTHER)):
        more = {"swarm": SWARM, "peer": key.peer_id, "public": key.public.hex(), "domain": "peer-record"}
        book.good(name, RECORD, pack(signed_record(key)), must, **more)
    good = signed_record(OTHER)
    body, signature = good["body"], good["signature"]
    order = 2**252 + 27742317777372353535851937790883648493
    malleable = signature[:32] + (int.from_bytes(signature[32:], "little") + order).to_bytes(32, "little")
    small = bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05")
    for name, record, reason, ids in (
        ("signed by another key", {"body": body, "signature": THIRD.sign("peer-record", body)}, "signature", "ENC-10"),
        ("signed in another domain", signed(OTHER, "index-grant", body), "domain", "ENC-10"),
        ("signed without a domain", {"body": body, "signature": OTHER.sign_raw(body)}, "domain", "ENC-10"),
        (
            "signed with the domain twice",
            {"body": body, "signature": OTHER.sign("peer-record", framed("peer-record", body))},
            "domain",
            "ENC-10",
        ),
        ("of another swarm", signed_record(OTHER, swarm=OTHER_SWARM), "swarm", "HELLO-5"),
        (
            "with one bit of its body changed",
            {"body": body[:-1] + bytes([body[-1] ^ 1]), "signature": signature},
            "signature",
            "ENC-10",
        ),
        (
            "with one bit of its signature changed",
            {"body": body, "signature": signature[:-1] + bytes([signature[-1] ^ 1])},
            "signature",
            "ENC-11",
        ),
        (
            "with S of its signature above the group order",
            {"body": body, "signature": malleable},
            "malleable signature",
            "ENC-11",
        ),
        (
            "of a key of small order",
            {"body": pack(peer_record(OTHER, public_key=small)), "signature": small + bytes(32)},
            "weak key",
            "ENC-11",
        ),
        (
            "whose body is not canonical",
            signed(OTHER, "peer-record", b"\xde\x00\x04" + body[1:]),
            "not canonical",
            "ENC-7",
        ),
        (
            "whose body has another field",
            signed(OTHER, "peer-record", pack(peer_record(OTHER, zz=1))),
            "unknown fields",
            "ENC-3",
        ),
        ("whose body is empty", signed(OTHER, "peer-record", b""), "no value", "ENC-1"),
    ):
        book.bad(f"record {name}", RECORD, pack(record), "malformed", reason, ["HELLO-5", ids], swarm=SWARM)
