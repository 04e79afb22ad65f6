"""`echo`: returns what it is given. To try out a swarm, and to measure what a task costs besides its computation.

Payload: `{"data": text}`. One item, verified by equality. It runs in a worker process as every real kind does, so that
a measured round trip contains the dispatch to a worker.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import Any

from ...effects import Place
from ...errors import InvalidResult, Malformed, UsageError
from ...wire.codec import decode, encode
from ...wire.task import ITEMS_MAX
from ..settings import Rng
from . import Environment, Parsed, Verification, pack_items, refuse_unknown, unpack_items

DATA_BYTES_MAX = 64 * 1024
"""One item; several fit a chunk."""

_UNIT_BYTES = 4096


class EchoHandler:
    kind = "echo"
    model = ""
    verification: Verification = "exact"
    place: Place = "worker"
    function = "echo.run"
    confirm = ""
    functions: Mapping[str, str] = {"echo.run": "edgenet_node.tasks.handlers.echo:run"}
    chunk_items_max = ITEMS_MAX

    def unavailable(self) -> str:
        return ""

    def parse(self, payload: Mapping[str, Any]) -> Parsed:
        refuse_unknown(self.kind, payload, ("data",))
        data = payload.get("data")
        if not isinstance(data, str):
            raise UsageError("echo: data must be text")
        items = (data.encode("utf-8", "surrogatepass"),)
        self.check_items(b"", items)
        return Parsed(b"", items)

    def check_items(self, spec: bytes, items: Sequence[bytes]) -> None:
        if spec:
            raise UsageError("echo: takes no spec")
        if any(len(item) > DATA_BYTES_MAX for item in items):
            raise UsageError(f"echo: data has at most {DATA_BYTES_MAX} bytes")

    def units(self, item: bytes) -> int:
        return 1 + len(item) // _UNIT_BYTES

    def pack(self, items: Sequence[bytes]) -> bytes:
        return pack_items(items)

    def check_input(self, spec: bytes, data: bytes, count: int) -> int:
        items = unpack_items(data, count)
        if spec or any(len(item) > DATA_BYTES_MAX for item in items):
            raise Malformed("echo: a spec, or an item above its limit")
        return sum(self.units(item) for item in items)

    def args(self, spec: bytes, data: bytes) -> tuple[Any, ...]:
        return (data,)

    def check_output(self, spec: bytes, output: bytes, count: int) -> None:
        try:
            found = len(_read(output))
        except Malformed as error:
            raise InvalidResult(f"echo: {error.message}") from error
        if found != count:
            raise InvalidResult(f"echo: {found} results in place of {count}")

    def take(self, output: bytes, indices: Sequence[int]) -> bytes:
        items = _read(output)
        return encode([items[index] for index in indices])

    def same(self, ours: bytes, theirs: bytes) -> list[bool]:
        return [mine == other for mine, other in zip(_read(ours), _read(theirs), strict=True)]

    def merge(self, spec: bytes, outputs: Sequence[bytes]) -> bytes:
        return outputs[0] if len(outputs) == 1 else encode([item for output in outputs for item in _read(output)])

    def result(self, output: bytes) -> dict[str, Any]:
        items = [item.decode("utf-8", "replace") for item in _read(output)]
        return {"data": items[0]} if len(items) == 1 else {"data": items}

    def falsify(self, output: bytes, rng: Rng) -> bytes:
        return encode([item + struct.pack("<I", rng.randrange(2**32)) for item in _read(output)])


def _read(output: bytes) -> list[bytes]:
    items: list[bytes] = decode(output, list[bytes], bytes_max=len(output))
    return items


def make(environment: Environment) -> EchoHandler:
    """The entry point."""
    return EchoHandler()


def run(context: object, data: bytes) -> bytes:
    """Runs in a worker."""
    return data
