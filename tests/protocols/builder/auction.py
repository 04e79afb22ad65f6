"""The auction topic, auction.offer/1, auction.release/1."""

from __future__ import annotations

import math
from typing import Any

from .kit import SWARM, Book, call, pack, reply

ANNOUNCE = "gossip:auction/1"
OFFER, RECEIPT = "call:auction.offer/1", "reply:auction.offer/1"
RELEASE, RELEASED = "call:auction.release/1", "reply:auction.release/1"
AUCTION = bytes(range(16))
LEASE = bytes(range(16, 32))
OUT_OF_NONCE = {"of 15 bytes": bytes(15), "of 17 bytes": bytes(17), "empty": b""}


def build(book: Book) -> None:
    _announce(book)
    _offer(book)
    _release(book)


def _announce(book: Book) -> None:
    body = {"auction": AUCTION, "kind": "embedding", "model": "all-MiniLM-L6-v2", "units": 512, "reserve": 100}
    must = ["AUCTION-1", "AUCTION-2", "ENC-6"]
    book.good("announce", ANNOUNCE, pack(body), must, topic=f"/edgenet/{SWARM}/auction/1")
    book.good("announce of a kind without a model", ANNOUNCE, pack(body | {"kind": "e", "model": ""}), must)
    book.good(
        "announce at the lower bounds", ANNOUNCE, pack(body | {"auction": bytes(16), "units": 0, "reserve": 0}), must
    )
    upper = {"units": 1_000_000_000, "reserve": 1_000_000_000, "kind": "k" * 48, "model": "m" * 64}
    book.good("announce at the upper bounds", ANNOUNCE, pack(body | upper), must)
    book.damaged("announce", ANNOUNCE, pack, body)
    book.beyond(
        "announce", ANNOUNCE, pack, body, "AUCTION-1", {f"auction: {note}": bad for note, bad in OUT_OF_NONCE.items()}
    )
    cases: dict[str, Any] = {
        "kind: empty": "",
        "kind: of 49 characters": "k" * 49,
        "kind: that starts with a digit": "1embedding",
        "model: of 65 characters": "m" * 65,
        "model: that ends in a newline": "m\n",
        "units: below zero": -1,
        "units: above 10^9": 1_000_000_001,
        "reserve: below zero": -1,
        "reserve: above 10^9": 1_000_000_001,
        "reserve: of 2^64 - 1": 2**64 - 1,
        "reserve: as a float": 100.0,
    }
    book.beyond("announce", ANNOUNCE, pack, body, "AUCTION-2", cases)
    large = pack(body | {"model": "m" * 1024})
    book.bad("announce above its limit", ANNOUNCE, large, "too_large", "1 KiB at most", ["ENC-9"])


def _offer(book: Book) -> None:
    wrap = call("auction.offer/1")
    body = {
        "auction": AUCTION,
        "lease": LEASE,
        "price": 10,
        "units": 1024,
        "expires_s": 120.0,
        "workers": 2,
        "load": 0,
    }
    must = ["AUCTION-1", "AUCTION-2", "ENC-6"]
    book.good("offer", OFFER, wrap(body), must)
    lower = {"price": 0, "units": 0, "expires_s": 0.0, "workers": 0, "load": 0}
    book.good("offer at the lower bounds", OFFER, wrap(body | lower), must)
    upper = {"price": 10**9, "units": 10**9, "expires_s": 86_400.0 * 31, "workers": 2**31 - 1, "load": 2**31 - 1}
    book.good("offer at the upper bounds", OFFER, wrap(body | upper), must)
    book.good("offer for a part of a second", OFFER, wrap(body | {"expires_s": 0.1}), must)
    book.good("offer with a whole number of seconds", OFFER, wrap(body | {"expires_s": 120}), ["ENC-4"], lenient=True)
    single = wrap(body).replace(b"\xcb\x40\x5e\x00\x00\x00\x00\x00\x00", b"\xca\x42\xf0\x00\x00")
    assert single != wrap(body)
    book.good("offer with seconds in 32 bits", OFFER, single, ["ENC-4"], lenient=True)

    book.damaged("offer", OFFER, wrap, body)
    cases: dict[str, Any] = {
        f"{field}: {note}": bad for field in ("auction", "lease") for note, bad in OUT_OF_NONCE.items()
    }
    book.beyond("offer", OFFER, wrap, body, "AUCTION-1", cases)
    cases = {
        "price: below zero": -1,
        "price: above 10^9": 10**9 + 1,
        "units: below zero": -1,
        "units: above 10^9": 10**9 + 1,
        "expires_s: below zero": -0.5,
        "expires_s: above 31 days": 86_400.0 * 31 + 1,
        "workers: below zero": -1,
        "workers: of 2^31": 2**31,
        "load: of 2^31": 2**31,
        "load: nil": None,
    }
    book.beyond("offer", OFFER, wrap, body, "AUCTION-2", cases)
    for name, number in (("NaN", math.nan), ("infinity", math.inf), ("minus infinity", -math.inf)):
        data = wrap(body | {"expires_s": number})
        book.bad(
            f"offer that expires after {name}",
            OFFER,
            data,
            "malformed",
            "expires_s out of bounds",
            ["ENC-8", "AUCTION-2"],
        )
    large = wrap(body | {"zz": bytes(1024)})
    book.bad("offer above its limit", OFFER, large, "too_large", "1 KiB at most", ["ENC-9"])
    for wanted in (True, False):
        book.good(f"offer wanted: {wanted}", RECEIPT, reply({"wanted": wanted}), ["AUCTION-4"])
    book.damaged("receipt", RECEIPT, reply, {"wanted": True})


def _release(book: Book) -> None:
    wrap = call("auction.release/1")
    book.good("release", RELEASE, wrap({"lease": LEASE}), ["AUCTION-1", "AUCTION-5"])
    book.damaged("release", RELEASE, wrap, {"lease": LEASE})
    book.beyond(
        "release",
        RELEASE,
        wrap,
        {"lease": LEASE},
        "AUCTION-1",
        {f"lease: {note}": bad for note, bad in OUT_OF_NONCE.items()},
    )
    book.good("released", RELEASED, reply({}), ["ENC-2"])
    book.damaged("released", RELEASED, reply, {})
