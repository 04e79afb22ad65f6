"""A real door on loopback, a bus that answers from a table, and a client that speaks HTTP by hand."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import h11
import trio
from msgspec import Struct, structs

from edgenet_node.gateway.node_view import ModelView, NodeFacts, NodeView
from edgenet_node.gateway.server import Gateway
from edgenet_node.gateway.settings import GatewaySettings
from edgenet_node.messages.committee import HeadView, ParameterView, RegistryView
from edgenet_node.messages.raft import CommitteeView, MemberView, RaftFigures
from edgenet_node.messages.tasks import TaskOutcome, TaskView, Verified
from edgenet_node.wire.committee import MemberRow

TOKEN = "0123456789abcdef-secret"

FACTS = NodeFacts(
    state="ready",
    version="9.9.9",
    peer_id="12D3KooWown",
    pi_key="ab" * 40,
    short_id="pi:abab",
    uptime_s=12.5,
    loop_lag_ms=0.25,
    rss_bytes=1 << 27,
    workers={"workers": 2, "busy": 1, "queued": 0, "restarts": 0},
    limits={"workers": 2},
    counters={},
)

_MEMBERS = tuple(f"12D3KooW{name}" for name in ("own", "other", "third"))

RAFT = CommitteeView(
    epoch=0,
    member=1,
    role="leader",
    term=7,
    leader=_MEMBERS[0],
    members=tuple(
        MemberView(place + 1, peer, "follower" if place else "leader", 42 - place, -1.0 if place == 2 else 0.25)
        for place, peer in enumerate(_MEMBERS)
    ),
    commit=42,
    applied=42,
    first=2,
    last=43,
    joint=False,
    figures=RaftFigures(proposals=5, commit_s=0.004, fsync_s=0.002, batch=3.0),
)

REGISTRY = RegistryView(
    swarm="ab" * 21,
    trust="trusted",
    committee=_MEMBERS,
    epoch=0,
    number=1,
    index=41,
    history="cd" * 32,
    head=HeadView(0, 1, 40, "aa" * 32, "bb" * 32, 2, 3),
    members=((_MEMBERS[1], MemberRow(b"k" * 32, "banned", "wrong results")),),
    parameters=(ParameterView("admission", "open", "open", "who may connect"),),
    reshaping="",
    offered_epoch="",
    alarms=(),
    raft=RAFT,
)

Present = Callable[[str, bytes], dict[str, Any]]


def size_of(kind: str, output: bytes) -> dict[str, Any]:
    return {"kind": kind, "size": len(output)}


class FakeBus:
    """Answers by message type; an answer may be a value, an exception, or a function of the query, also an async one.

    `open` counts asks that are not answered: an ask that is cancelled is no longer among them."""

    def __init__(self, answers: Mapping[type, Any] | None = None) -> None:
        self.answers = dict(answers or {})
        self.asked: list[Any] = []
        self.timeouts: list[float] = []
        self.open = 0
        self.changed = trio.Event()

    async def ask(self, query: Any, timeout_s: float) -> Any:
        self.asked.append(query)
        self.timeouts.append(timeout_s)
        self._count(1)
        try:
            await trio.lowlevel.checkpoint()
            answer = self.answers[type(query)]
            if callable(answer):
                answer = answer(query)
            if isinstance(answer, Awaitable):
                answer = await answer
            if isinstance(answer, Exception):
                raise answer
            return answer
        finally:
            self._count(-1)

    def _count(self, change: int) -> None:
        self.open += change
        self.changed.set()
        self.changed = trio.Event()

    async def until(self, condition: Callable[[], bool]) -> None:
        """As soon as an ask that began or ended makes it true."""
        with trio.fail_after(10):
            while not condition():
                await self.changed.wait()


class Reply(Struct, frozen=True):
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> tuple[int, str]:
        return self.status, self.json["error"]["code"]


class Client:
    """One connection."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self._http = h11.Connection(h11.CLIENT)

    async def send_head(self, method: str, path: str, headers: Mapping[str, str]) -> None:
        data = self._http.send(
            h11.Request(
                method=method, target=path, headers=[(k.encode(), v.encode("latin-1")) for k, v in headers.items()]
            )
        )
        await self.stream.send_all(data or b"")

    async def send_piece(self, piece: bytes) -> None:
        await self.stream.send_all(self._http.send(h11.Data(data=piece)) or b"")

    async def end(self) -> None:
        await self.stream.send_all(self._http.send(h11.EndOfMessage()) or b"")

    async def _event(self) -> Any:
        while True:
            event = self._http.next_event()
            if event is not h11.NEED_DATA:
                return event
            self._http.receive_data(await self.stream.receive_some(65536))

    async def reply_head(self) -> tuple[int, dict[str, str]]:
        head = await self._event()
        while isinstance(head, h11.InformationalResponse):
            head = await self._event()
        assert isinstance(head, h11.Response), head
        return head.status_code, {name.decode(): value.decode() for name, value in head.headers}

    async def pieces(self) -> AsyncIterator[bytes]:
        while not isinstance(event := await self._event(), h11.EndOfMessage):
            assert isinstance(event, h11.Data), event
            yield bytes(event.data)

    async def reply(self) -> Reply:
        status, headers = await self.reply_head()
        body = b"".join([piece async for piece in self.pieces()])
        if self._http.our_state is h11.DONE and self._http.their_state is h11.DONE:
            self._http.start_next_cycle()
        return Reply(status, headers, body)

    async def frames(self) -> AsyncIterator[bytes]:
        """Server-sent events and comments."""
        buffer = b""
        async for piece in self.pieces():
            buffer += piece
            while b"\n\n" in buffer:
                frame, _, buffer = buffer.partition(b"\n\n")
                yield frame
        assert buffer == b""


class Door:
    """The gateway under test. `stopped` counts calls of stop."""

    def __init__(self, bus: FakeBus, settings: GatewaySettings, facts: NodeFacts, present: Present) -> None:
        self.bus = bus
        self.facts = facts
        self.stopped = 0
        self.gateway = Gateway(settings, TOKEN)
        self.url = self.gateway.bind()
        self.port = int(self.url.rpartition(":")[2])
        self.present = present

    def view(self) -> NodeView:
        def stop() -> None:
            self.stopped += 1

        models = (ModelView("echo", "", True, 10), ModelView("embedding", "m", False, 10, "no weights"))
        return NodeView(
            bus=self.bus,
            facts=lambda: self.facts,
            models=lambda: models,
            present=self.present,
            stop=stop,
        )

    async def connect(self) -> Client:
        return Client(await trio.open_tcp_stream("127.0.0.1", self.port))

    def headers(self, token: str = TOKEN) -> dict[str, str]:
        proof = {"Authorization": f"Bearer {token}"} if token else {}
        return {"Host": f"127.0.0.1:{self.port}", **proof}

    async def call(
        self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None, token: str = TOKEN
    ) -> Reply:
        """One request over a connection of its own."""
        data = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        client = await self.connect()
        async with client.stream:
            with trio.fail_after(20):
                sent = {**self.headers(token), "Content-Length": str(len(data)), **(headers or {})}
                await client.send_head(method, path, sent)
                if data:
                    await client.send_piece(data)
                await client.end()
                return await client.reply()


@asynccontextmanager
async def door(
    answers: Mapping[type, Any] | None = None, *, facts: NodeFacts = FACTS, present: Present = size_of, **limits: Any
) -> AsyncIterator[Door]:
    settings = GatewaySettings(port=0, **limits)
    made = Door(FakeBus(answers), settings, facts, present)
    async with trio.open_nursery() as nursery:
        await nursery.start(made.gateway.serve, made.view())
        try:
            yield made
        finally:
            made.gateway.close()


def outcome(state: str = "done", output: bytes = b"", **fields: Any) -> TaskOutcome:
    view = TaskView(
        task="t_1",
        kind="echo",
        state="done",
        created_wall=1.0,
        finished_wall=2.0,
        deadline_wall=60.0,
        items=1,
        done=1,
        units=1,
        price=10,
        executors={"12D3KooWother": 1},
        verified=Verified(1, 1, 0, 0.0),
    )
    return TaskOutcome(structs.replace(view, state=state, **fields), output)
