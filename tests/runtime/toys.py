"""Toy messages and cores, a toy wire table, and a harness that runs one node."""

from __future__ import annotations

import math
import random
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import trio
from msgspec import Struct

from edgenet_node.effects import Core, Effect, Envelope, Limits, Now, Part, Query, Row
from edgenet_node.errors import (
    EdgenetError,
    InvariantError,
    LocalError,
    Malformed,
    Overloaded,
    Refused,
    TimedOut,
    TooLarge,
)
from edgenet_node.ports.clock import Clock
from edgenet_node.ports.executor import Executor
from edgenet_node.ports.network import Channel
from edgenet_node.ports.store import RowStore
from edgenet_node.runtime import Runtime, Supervision
from edgenet_node.testing.clock import TrioClock
from edgenet_node.testing.inline_executor import InlineExecutor
from edgenet_node.testing.network import FakeNetwork, Link
from edgenet_node.testing.store import MemoryStore

MESSAGE_CHARS_MAX = 1000


class Add(Query[int], frozen=True):
    amount: int


class Get(Query[int], frozen=True):
    pass


class Note(Struct, frozen=True):
    """A tell."""

    text: str


class Memo(Struct, frozen=True):
    """Another tell."""

    text: str


class Happened(Struct, frozen=True):
    """An event."""

    number: int


Services = dict[type, Callable[[Any], Any]]
Step = Callable[[Envelope[Any], Now], list[Effect]]


class Script:
    """A core made of functions; `seen` is every body it was stepped with."""

    def __init__(
        self,
        step: Step,
        *,
        restore: Callable[[Sequence[Row]], list[Effect]] = lambda _rows: [],
        wake_at: Callable[[], float] = lambda: math.inf,
    ) -> None:
        self._step = step
        self._restore = restore
        self._wake_at = wake_at
        self.seen: list[Any] = []

    def restore(self, rows: Sequence[Row], now: Now) -> list[Effect]:
        return self._restore(rows)

    def step(self, e: Envelope[Any], now: Now) -> list[Effect]:
        self.seen.append(e.body)
        return self._step(e, now)

    def wake_at(self) -> float:
        return self._wake_at()


def part(
    core: Core | Callable[[], Core],
    *,
    name: str = "toy",
    accepts: tuple[type, ...] = (Add, Get, Note),
    remote: tuple[type, ...] = (),
    hears: tuple[type, ...] = (),
    tells: tuple[type, ...] = (),
    limits: Limits | None = None,
    fail_stop: bool = False,
) -> Part:
    make: Callable[[], Core] = core if callable(core) else (lambda: core)
    return Part(name, make, accepts, remote, hears, tells, limits or Limits(), fail_stop)


class ToyWire:
    """A `WireTable` for the toys: MessagePack of `[type name, body]`."""

    _types: Mapping[str, type] = {kind.__name__: kind for kind in (Add, Get, Note, Memo)}
    _errors: Mapping[str, type[EdgenetError]] = {
        kind.code: kind for kind in (LocalError, Malformed, Overloaded, Refused, TimedOut)
    }

    def channel(self, query: Any) -> Channel:
        return "hello" if type(query) is Get else "rpc"

    def encode_call(self, query: Any) -> bytes:
        return msgspec.msgpack.encode([type(query).__name__, query])

    def decode_call(self, channel: Channel, data: bytes) -> Any:
        try:
            name, body = msgspec.msgpack.decode(data, type=tuple[str, msgspec.Raw])
            return msgspec.msgpack.decode(body, type=self._types[name])
        except (msgspec.DecodeError, KeyError) as error:
            raise Malformed("not a call") from error

    def encode_reply(self, query_type: type, value: Any) -> bytes:
        return msgspec.msgpack.encode([0, value])

    def decode_reply(self, query: Any, data: bytes) -> Any:
        try:
            status, body = msgspec.msgpack.decode(data, type=tuple[int, Any])
        except msgspec.DecodeError as error:
            raise Malformed("not an answer") from error
        if status == 0:
            return body
        code, message, retry_after_s = body
        raise self._errors.get(code, LocalError)(message, retry_after_s=retry_after_s)

    def encode_error(self, error: Exception) -> bytes:
        code = error.code if isinstance(error, EdgenetError) else LocalError.code
        retry_after_s = error.retry_after_s if isinstance(error, EdgenetError) else 0.0
        return msgspec.msgpack.encode([1, [code, "" if isinstance(error, LocalError) else str(error), retry_after_s]])

    def encode_message(self, body: Any) -> tuple[str, bytes]:
        if type(body) not in (Note, Memo):
            raise InvariantError(f"no stream for {type(body).__name__}")
        if len(body.text) > MESSAGE_CHARS_MAX:
            raise TooLarge("too long a message")
        return f"{type(body).__name__}/1", msgspec.msgpack.encode(body)

    def decode_message(self, stream: str, data: bytes) -> Any:
        try:
            return msgspec.msgpack.decode(data, type=self._types[stream.partition("/")[0]])
        except (msgspec.DecodeError, KeyError) as error:
            raise Malformed("not a message") from error

    def encode_gossip(self, body: Any, swarm: str) -> tuple[str, bytes]:
        if type(body) not in (Note, Memo):
            raise InvariantError(f"no topic for {type(body).__name__}")
        return f"/edgenet/{swarm}/{type(body).__name__}/1", msgspec.msgpack.encode(body)

    def decode_gossip(self, topic_id: str, data: bytes) -> Any:
        try:
            return msgspec.msgpack.decode(data, type=self._types[topic_id.split("/")[3]])
        except (msgspec.DecodeError, KeyError) as error:
            raise Malformed("not a notice") from error


class Node(Struct):
    """One running node; `failure` once it has failed."""

    runtime: Runtime
    network: FakeNetwork
    ended: trio.Event
    failure: EdgenetError | None = None


@asynccontextmanager
async def running(
    *parts: Part,
    store: RowStore | None = None,
    executor: Executor | None = None,
    services: Services | None = None,
    supervision: Supervision | None = None,
    seed: int = 0,
    link: Link | None = None,
    clock: Clock | None = None,
) -> AsyncIterator[Node]:
    """Start the parts on fakes, and end them hard when the block ends. Peers may be added to `node.network`."""
    async with trio.open_nursery() as nursery:
        network = FakeNetwork(seed, link)
        await nursery.start(network.run)
        port = network.node("self")
        runtime = Runtime(
            parts,
            store=store or MemoryStore(),
            network=port,
            executor=executor or InlineExecutor({}),
            clock=clock or TrioClock(),
            rng=random.Random(seed),
            wire=ToyWire(),
            services=services,
            supervision=supervision,
        )
        port.attach(runtime.listener)
        node = Node(runtime, network, trio.Event())
        await nursery.start(_run, node)
        yield node
        nursery.cancel_scope.cancel()


async def _run(node: Node, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
    try:
        await node.runtime.run(task_status=task_status)
    except EdgenetError as failure:
        node.failure = failure
        if not node.runtime.started:
            task_status.started()
    finally:
        node.ended.set()
