"""What goes back: JSON, errors, and answers in pieces, so that a large one neither blocks the loop nor fills memory."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from typing import Any

import msgspec
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from ..errors import EdgenetError

STATUS: Mapping[str, int] = {
    "usage": 400,
    "malformed": 400,
    "too_large": 413,
    "not_found": 404,
    "conflict": 409,
    "overloaded": 503,
    "cancelled": 503,
    "timeout": 504,
    "refused": 403,
    "wrong_swarm": 403,
    "unreachable": 502,
    "disk_full": 507,
}
"""HTTP status by error code; anything else is 500."""

SLICE_VALUES = 8192
"""Scalars encoded without a break: 1.2 ms for floats, the slowest."""

PIECE_BYTES = 64 * 1024


def answer(value: Any, status: int = 200) -> Response:
    return Response(msgspec.json.encode(value), status_code=status, media_type="application/json")


def error_body(code: str, message: str) -> bytes:
    return msgspec.json.encode({"error": {"code": code, "message": message}})


def failure(error: EdgenetError) -> Response:
    headers = {"retry-after": str(max(1, round(error.retry_after_s)))} if error.retry_after_s > 0 else None
    status = STATUS.get(error.code, 500)
    return Response(error_body(error.code, error.message), status, headers, media_type="application/json")


class Pieces(Response):
    """An answer that is made while it is sent: each piece waits until the client took the one before."""

    def __init__(self, pieces: AsyncIterator[bytes], media_type: str) -> None:
        super().__init__(media_type=media_type, headers={"cache-control": "no-store"})
        del self.headers["content-length"]
        self._pieces = pieces

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        if scope["method"] != "HEAD":
            async for piece in self._pieces:
                await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b""})


async def in_pieces(value: Mapping[str, Any]) -> AsyncIterator[bytes]:
    """`value` as JSON. 4,096 embeddings are 33 MB and would hold the loop for 0.2 s in one go."""
    gathered = bytearray()
    for part in json_parts(value):
        gathered += part
        if len(gathered) >= PIECE_BYTES:
            yield bytes(gathered)
            gathered.clear()
    yield bytes(gathered)


def json_parts(value: Any) -> Iterator[bytes]:
    """The JSON of `value`, at most about `SLICE_VALUES` scalars at a time; joined, the same as encoded at once."""
    if isinstance(value, dict):
        mark = b"{"
        for key, inner in value.items():
            yield mark + msgspec.json.encode(key) + b":"
            yield from json_parts(inner)
            mark = b","
        yield b"}" if value else b"{}"
    elif isinstance(value, (list, tuple)) and value:
        mark = b"["
        step = max(1, SLICE_VALUES // _scalars(value[0]))
        for first in range(0, len(value), step):
            yield mark + msgspec.json.encode(value[first : first + step])[1:-1]
            mark = b","
        yield b"]"
    else:
        yield msgspec.json.encode(value)


def _scalars(value: Any) -> int:
    return max(1, len(value)) if isinstance(value, Sequence) and not isinstance(value, (str, bytes)) else 1
