"""task.run/1, task.stop/1, and what the kinds `embedding` and `echo` put into their bytes."""

from __future__ import annotations

import math
import struct
from typing import Any

from .kit import Book, call, pack, reply

RUN, RESULT = "call:task.run/1", "reply:task.run/1"
STOP, STOPPED = "call:task.stop/1", "reply:task.stop/1"
ITEMS, EMBEDDINGS = "items", "embedding-output"
LEASE = bytes(range(16, 32))
TEXTS = [b"a swarm of nodes", "zw\u00f6lf".encode()]


def build(book: Book) -> None:
    _run(book)
    _result(book)
    _stop(book)
    _items(book)
    _embeddings(book)


def _run(book: Book) -> None:
    wrap = call("task.run/1")
    body: dict[str, Any] = {
        "lease": LEASE,
        "task": "t1",
        "chunk": 0,
        "kind": "embedding",
        "spec": b"",
        "input": pack(TEXTS),
        "items": 2,
        "units": 2,
        "timeout_s": 30.0,
    }
    must = ["TASK-1", "ENC-6"]
    book.good("run", RUN, wrap(body), must)
    lower = {"chunk": 0, "spec": b"", "input": b"", "items": 1, "units": 0, "timeout_s": 0.0}
    book.good("run at the lower bounds", RUN, wrap(body | lower), must)
    upper = {
        "task": "T" * 40,
        "chunk": 2**31 - 1,
        "spec": bytes(16 * 1024),
        "input": bytes(512 * 1024),
        "items": 512,
        "units": 10**9,
        "timeout_s": 86_400.0 * 31,
    }
    book.good("run at the upper bounds", RUN, wrap(body | upper), must)
    book.damaged("run", RUN, wrap, body)
    cases: dict[str, Any] = {
        "lease: of 15 bytes": bytes(15),
        "task: empty": "",
        "task: of 41 characters": "t" * 41,
        "task: with a slash": "../t",
        "task: that ends in a newline": "t1\n",
        "chunk: below zero": -1,
        "chunk: of 2^31": 2**31,
        "kind: empty": "",
        "kind: with a space": "em bedding",
        "spec: of 16385 bytes": bytes(16 * 1024 + 1),
        "input: of 524289 bytes": bytes(512 * 1024 + 1),
        "items: of zero": 0,
        "items: of 513": 513,
        "units: below zero": -1,
        "units: above 10^9": 10**9 + 1,
        "timeout_s: below zero": -1.0,
        "timeout_s: above 31 days": 86_400.0 * 32,
        "timeout_s: that is not a number": math.nan,
    }
    book.beyond("run", RUN, wrap, body, "TASK-1", cases)
    large = wrap(body | {"input": bytes(600 * 1024)})
    book.bad("run above its limit", RUN, large, "too_large", "600 KiB at most", ["ENC-9", "TASK-1"])


def _result(book: Book) -> None:
    body = {"output": b"EMB1", "units": 2}
    book.good("result", RESULT, reply(body), ["TASK-1", "ENC-6"])
    book.good("result of nothing", RESULT, reply({"output": b"", "units": 0}), ["TASK-1"])
    book.good("result at the upper bounds", RESULT, reply({"output": bytes(900 * 1024), "units": 10**9}), ["TASK-1"])
    book.damaged("result", RESULT, reply, body)
    cases: dict[str, Any] = {
        "output: of 921601 bytes": bytes(900 * 1024 + 1),
        "units: below zero": -1,
        "units: above 10^9": 10**9 + 1,
    }
    book.beyond("result", RESULT, reply, body, "TASK-1", cases)
    large = reply(body | {"output": bytes(1023 * 1024)})
    book.bad("result above its limit", RESULT, large, "too_large", "1023 KiB at most", ["ENC-9"])


def _stop(book: Book) -> None:
    wrap = call("task.stop/1")
    body = {"task": "t1", "chunk": 7}
    book.good("stop", STOP, wrap(body), ["TASK-1"])
    book.damaged("stop", STOP, wrap, body)
    large = wrap(body | {"task": "t" * 256})
    book.bad("stop above its limit", STOP, large, "too_large", "256 bytes at most", ["ENC-9"])
    for known in (True, False):
        book.good(f"stopped, known: {known}", STOPPED, reply({"known": known}), ["ENC-6"])
    book.damaged("stopped", STOPPED, reply, {"known": True})


def _items(book: Book) -> None:
    must = ["TASK-2"]
    book.good("two texts", ITEMS, pack(TEXTS), must, items=2)
    book.good("one empty item", ITEMS, pack([b""]), must, items=1)
    book.good("an item of 70,000 bytes", ITEMS, pack([b"x" * 70_000]), must, items=1)
    for name, data, count, reason in (
        ("fewer items than said", pack(TEXTS), 3, "two in place of three"),
        ("more items than said", pack(TEXTS), 1, "two in place of one"),
        ("items that are text", pack(["a", "b"]), 2, "bin expected, str found"),
        ("items that are numbers", pack([1, 2]), 2, "bin expected, int found"),
        ("a map of items", pack({"a": b"b"}), 1, "an array expected"),
        ("items cut short", pack(TEXTS)[:-1], 2, "the last byte is missing"),
        ("items with a byte after them", pack(TEXTS) + b"\0", 2, "trailing bytes"),
        ("no bytes at all", b"", 1, "no value"),
    ):
        book.bad(name, ITEMS, data, "malformed", reason, must, items=count)


def _embeddings(book: Book) -> None:
    """One vector of 384: a unit along one axis, so that the bytes can be read."""
    must = ["TASK-3"]
    axis = struct.pack("<384f", *(float(n == 5) for n in range(384)))
    even = struct.pack("<384f", *([384**-0.5] * 384))
    head = struct.pack("<4sIII", b"EMB1", 1, 384, 0)
    tail = struct.pack("<H", 6)
    good = head + axis + tail
    value = {"count": 1, "dimension": 384, "flags": 0, "pieces": [6]}
    book.good("one vector", EMBEDDINGS, good, must, value, items=1)
    two = struct.pack("<4sIII", b"EMB1", 2, 384, 0) + axis + even + struct.pack("<2H", 6, 256)
    book.good(
        "two vectors", EMBEDDINGS, two, must, {"count": 2, "dimension": 384, "flags": 0, "pieces": [6, 256]}, items=2
    )
    nan = struct.pack("<f", math.nan) + axis[4:]
    for name, data, reason in (
        ("another magic", b"EMB2" + good[4:], "header"),
        ("another count", struct.pack("<4sIII", b"EMB1", 2, 384, 0) + good[16:], "header"),
        ("another dimension", struct.pack("<4sIII", b"EMB1", 1, 383, 0) + good[16:], "header"),
        ("a vector of length zero", head + bytes(4 * 384) + tail, "not of unit length"),
        ("a vector that is too long", head + struct.pack("<384f", *([1.0] * 384)) + tail, "not of unit length"),
        ("a vector that holds NaN", head + nan + tail, "not of unit length"),
        ("no counts of pieces", head + axis, "too short"),
        ("a byte after it", good + b"\0", "too long"),
        ("nothing", b"", "too short"),
        ("only a header", head, "too short"),
    ):
        book.bad(f"embedding output: {name}", EMBEDDINGS, data, "invalid_result", reason, must, items=1)
