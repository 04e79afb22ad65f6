"""Frames of a call stream, error frames, and answers that are errors."""

from __future__ import annotations

import struct
from typing import Any

from .kit import Book, pack, reply

FRAMES, ERROR, ANSWER = "frames", "error-frame", "reply:task.stop/1"
REQUEST, RESPONSE, FAILED, CANCEL = range(4)
ERRORS = (
    "cancelled",
    "conflict",
    "invalid_result",
    "malformed",
    "not_found",
    "overloaded",
    "refused",
    "timeout",
    "too_large",
    "wrong_swarm",
)


def frame(kind: int, number: int, payload: bytes = b"") -> bytes:
    return struct.pack(">IQB", len(payload) + 9, number, kind) + payload


def build(book: Book) -> None:
    _frames(book)
    _error_frames(book)
    _answers(book)


def _frames(book: Book) -> None:
    must = ["RPC-1"]
    hello = pack(["task.stop/1", {"task": "t1", "chunk": 0}])
    one = frame(REQUEST, 1, hello)
    book.good("a request", FRAMES, one, must, [[REQUEST, 1, hello]])
    book.good(
        "a response", FRAMES, frame(RESPONSE, 1, reply({"known": True})), must, [[RESPONSE, 1, reply({"known": True})]]
    )
    book.good("a cancellation", FRAMES, frame(CANCEL, 2**64 - 1), must, [[CANCEL, 2**64 - 1, b""]])
    error = pack(["overloaded", "busy", 0.5])
    book.good("an error", FRAMES, frame(FAILED, 3, error), must, [[FAILED, 3, error]])
    book.good("the end of a connection", FRAMES, frame(FAILED, 0, error), must, [[FAILED, 0, error]])
    book.good("an empty request", FRAMES, frame(REQUEST, 1), must, [[REQUEST, 1, b""]])
    three = frame(REQUEST, 1, b"a") + frame(REQUEST, 2, b"bb") + frame(CANCEL, 1)
    book.good("three in one piece", FRAMES, three, must, [[REQUEST, 1, b"a"], [REQUEST, 2, b"bb"], [CANCEL, 1, b""]])
    most = bytes(1 << 20)
    book.good("a payload of 1 MiB", FRAMES, frame(REQUEST, 1, most), ["RPC-2"], [[REQUEST, 1, most]])
    book.good("a frame that has not ended", FRAMES, one[:-1], must, [], rest=len(one) - 1)
    book.good("half a header", FRAMES, one[:6], must, [], rest=6)
    for length in (0, 1, 8):
        data = struct.pack(">IQB", length, 1, REQUEST)
        book.bad(f"a length of {length}", FRAMES, data, "malformed", "length counts id and kind: 9 at least", must)
    for kind in (4, 5, 255):
        book.bad(f"kind {kind}", FRAMES, struct.pack(">IQB", 9, 1, kind), "malformed", "there are kinds 0 to 3", must)
    head = struct.pack(">IQB", (1 << 20) + 10, 1, REQUEST)
    book.bad(
        "a payload of 1 MiB and a byte, only its header sent", FRAMES, head, "too_large", "1 MiB at most", ["RPC-2"]
    )
    book.bad("a length of 2^32 - 1", FRAMES, b"\xff" * 4 + head[4:], "too_large", "1 MiB at most", ["RPC-2"])
    book.bad(
        "a request and then no frame", FRAMES, one + b"GET / HTTP/1.1\r\n", "malformed", "there are kinds 0 to 3", must
    )


def _error_frames(book: Book) -> None:
    must = ["RPC-7"]
    for code in (*ERRORS, "usage"):
        data = pack([code, "the reason", 1.5])
        book.good(f"error {code}", ERROR, data, must, raises=code, retry_after_s=1.5)
    book.good("error without a pause", ERROR, pack(["refused", "no"]), must, raises="refused", retry_after_s=0.0)
    book.good(
        "error of a code that is not known",
        ERROR,
        pack(["teapot", "short", 0.0]),
        must,
        raises="remote",
        retry_after_s=0.0,
    )
    for name, pause in (("below zero", -1.0), ("above an hour", 3601.0), ("that is not a number", float("nan"))):
        value = ["overloaded", "busy", str(pause)]
        data = pack(["overloaded", "busy", pause])
        book.good(f"error with a pause {name}", ERROR, data, must, value, raises="overloaded", retry_after_s=0.0)
    for name, data in (
        ("nothing", b""),
        ("a map", pack({"code": "refused", "message": "no"})),
        ("no message", pack(["refused"])),
        ("a code that is a number", pack([1, "no", 0.0])),
        ("a message that is bytes", pack(["refused", b"no", 0.0])),
        ("a message that is not UTF-8", b"\x93\xa7refused\xa2\xff\xfe\x00"),
        ("a pause that is text", pack(["refused", "no", "1"])),
        ("a byte after it", pack(["refused", "no", 0.0]) + b"\0"),
        ("nothing but its head", b"\x93"),
    ):
        book.bad(f"error frame of {name}", ERROR, data, "malformed", "undecodable", must)


def _answers(book: Book) -> None:
    body: dict[str, Any] = {"code": "refused", "message": "the lease has expired", "retry_after_s": 0.0}
    must = ["ENC-12"]
    for code in (*ERRORS,):
        book.good(f"answer: {code}", ANSWER, pack([1, body | {"code": code}]), must, raises=code)
    for code in ("local", "error", "teapot", ""):
        name = f"answer: {code or 'no code'}, which is the peer's own trouble"
        book.good(name, ANSWER, pack([1, body | {"code": code}]), must, raises="remote")
    upper = {"code": "overloaded", "message": "m" * 512, "retry_after_s": 86_400.0}
    book.good("answer: an error at the upper bounds", ANSWER, pack([1, upper]), must, raises="overloaded")
    short = {"code": "refused", "message": "no"}
    book.good(
        "answer: without the field that has a default",
        ANSWER,
        pack([1, short]),
        ["ENC-2"],
        raises="refused",
        lenient=True,
    )

    def wrap(error: Any) -> bytes:
        return pack([1, error])

    book.damaged("error answer", ANSWER, wrap, body, optional=["retry_after_s"])
    cases: dict[str, Any] = {
        "code: of 33 characters": "c" * 33,
        "message: of 513 characters": "m" * 513,
        "retry_after_s: below zero": -1.0,
        "retry_after_s: above a day": 86_401.0,
        "retry_after_s: that is not a number": float("nan"),
    }
    book.beyond("error answer", ANSWER, wrap, body, "ENC-12", cases)
    large = wrap(body | {"message": "m" * 4096})
    book.bad("error answer above its limit", ANSWER, large, "too_large", "4 KiB at most", ["ENC-9"])
