"""Frames on streams of calls and of one-way messages, and errors as frames.

A frame is `u32 length | u64 id | u8 kind | payload`, big-endian; `length` counts everything after itself, so 9 more
than the payload. Kinds: 0 request, 1 response, 2 error, 3 cancel; 4 message, on a stream of one-way messages alone.
Ids of calls are chosen by the opener, from 1 up; a message has id 0. Id 0 in an error frame means the whole stream: the
sender is about to end it, and says why.

An error's payload is the MessagePack array `[code, message, retry_after_s]`.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Final

import msgspec

from ... import errors
from ...errors import EdgenetError, Malformed, RemoteError, TooLarge
from ...wire.registry import one_line

REQUEST: Final = 0
RESPONSE: Final = 1
ERROR: Final = 2
CANCEL: Final = 3
MESSAGE: Final = 4

HEADER = struct.Struct(">IQB")
OVERHEAD: Final = HEADER.size - 4
MESSAGE_CHARS_MAX: Final = 500
RETRY_AFTER_MAX_S: Final = 3600.0


class Frame(msgspec.Struct, frozen=True):
    kind: int
    id: int
    payload: bytes


class FrameDecoder:
    """Splits bytes into frames. Nothing is allocated for a frame above `frame_bytes_max`: it is refused by its
    header."""

    def __init__(self, frame_bytes_max: int, kind_max: int = CANCEL) -> None:
        self._max = frame_bytes_max
        self._kind_max = kind_max
        self._buffer = bytearray()

    def feed(self, data: bytes) -> None:
        self._buffer += data

    @property
    def phase(self) -> int:
        """Of the frame being received: 0 nothing, 1 a part of its header, 2 the header."""
        return 0 if not self._buffer else 1 if len(self._buffer) < HEADER.size else 2

    def missing(self) -> int:
        """Bytes still to come before the header, then the frame, is whole; 0 or less when it is."""
        have = len(self._buffer)
        if have < HEADER.size:
            return HEADER.size - have
        return min(int.from_bytes(self._buffer[:4], "big"), OVERHEAD + self._max) + 4 - have

    def next(self) -> Frame | None:
        """`TooLarge` above the limit, `Malformed` when the length or the kind cannot be."""
        if len(self._buffer) < HEADER.size:
            return None
        length, frame_id, kind = HEADER.unpack_from(self._buffer)
        if length < OVERHEAD or kind > self._kind_max:
            raise Malformed(f"not a frame: length {length}, kind {kind}")
        if length - OVERHEAD > self._max:
            raise TooLarge(f"a frame of {length - OVERHEAD} bytes, the limit is {self._max}")
        end = 4 + length
        if len(self._buffer) < end:
            return None
        payload = bytes(memoryview(self._buffer)[HEADER.size : end])
        del self._buffer[:end]
        return Frame(kind, frame_id, payload)


def encode(kind: int, frame_id: int, payload: bytes = b"") -> bytes:
    return HEADER.pack(OVERHEAD + len(payload), frame_id, kind) + payload


class ErrorBody(msgspec.Struct, frozen=True, array_like=True):
    code: str
    message: str
    retry_after_s: float = 0.0


def encode_error(frame_id: int, error: Exception) -> bytes:
    """Foreign exceptions are told as "internal error": their text is nobody else's business."""
    if isinstance(error, EdgenetError):
        body = ErrorBody(error.code, error.message[:MESSAGE_CHARS_MAX], float(error.retry_after_s))
    else:
        body = ErrorBody("error", "internal error")
    return encode(ERROR, frame_id, msgspec.msgpack.encode(body))


# What a peer's error means here. All others are the peer's own trouble: a plain `RemoteError` with code and text.
_REMOTE: Mapping[str, type[RemoteError]] = {
    kind.code: kind for kind in (errors.Malformed, TooLarge, errors.Refused, errors.InvalidResult, errors.WrongSwarm)
}
_NEUTRAL: Mapping[str, type[EdgenetError]] = {
    kind.code: kind
    for kind in (
        errors.Overloaded,
        errors.TimedOut,
        errors.Cancelled,
        errors.NotFound,
        errors.Conflict,
        errors.UsageError,
    )
}


def decode_error(payload: bytes, peer: str) -> EdgenetError:
    """The exception to raise for a peer's error frame; an undecodable one is itself `Malformed`."""
    try:
        body = msgspec.msgpack.decode(payload, type=ErrorBody)
    except (msgspec.DecodeError, ValueError):
        return Malformed("undecodable error frame", peer=peer)
    message = one_line(body.message)
    retry = body.retry_after_s if 0 <= body.retry_after_s <= RETRY_AFTER_MAX_S else 0.0
    if remote := _REMOTE.get(body.code):
        return remote(message, retry_after_s=retry, peer=peer)
    if neutral := _NEUTRAL.get(body.code):
        return neutral(message, retry_after_s=retry)
    return RemoteError(f"{one_line(body.code[:32])}: {message}", retry_after_s=retry, peer=peer)
