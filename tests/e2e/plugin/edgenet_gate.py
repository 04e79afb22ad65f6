"""A task kind for tests, brought as any plug-in is: by an entry point. Its work stops and goes on when a test says so.

Payload: `{"items": [text, ...]}`; the result has the SHA-256 of each. An item that starts with `held` waits as long as
the file `hold` lies in the node's cache folder, and makes a file `waiting` there; one that starts with `bad` raises.
Each computed item is written to `runs.log`, so that a test can tell what was done twice. Chunks are of one item.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgenet_node.errors import UsageError
from edgenet_node.tasks.handlers import Environment, Parsed
from edgenet_node.tasks.handlers.echo import EchoHandler
from edgenet_node.wire.codec import decode, encode

LOOK_S = 0.01


class GateHandler(EchoHandler):
    kind = "gate"
    function = "gate.run"
    functions: Mapping[str, str] = {"gate.run": "edgenet_gate:run"}
    chunk_items_max = 1

    def __init__(self, environment: Environment) -> None:
        self._cache = environment.cache_folder

    def parse(self, payload: Mapping[str, Any]) -> Parsed:
        items = payload.get("items")
        if not isinstance(items, list) or not items:
            raise UsageError("gate: items must be a list of texts")
        return Parsed(b"", tuple(str(item).encode() for item in items))

    def args(self, spec: bytes, data: bytes) -> tuple[Any, ...]:
        return (str(self._cache), data)

    def result(self, output: bytes) -> dict[str, Any]:
        return {"digests": [item.hex() for item in decode(output, list[bytes], bytes_max=len(output))]}


def make(environment: Environment) -> GateHandler:
    return GateHandler(environment)


def run(context: Any, cache: str, data: bytes) -> bytes:
    """Runs in a worker."""
    folder = Path(cache)
    items = decode(data, list[bytes], bytes_max=len(data))
    for item in items:
        while item.startswith(b"held") and (folder / "hold").exists() and not context.should_stop():
            (folder / "waiting").touch()
            time.sleep(LOOK_S)
        if context.should_stop():
            raise InterruptedError("nobody waits for it")
        if item.startswith(b"bad"):
            raise ValueError("a bad item")
        with (folder / "runs.log").open("ab") as log:
            log.write(item + b"\n")
    return encode([hashlib.sha256(item).digest() for item in items])
