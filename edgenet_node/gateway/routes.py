"""The routes: one function for each question."""

from __future__ import annotations

import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from ..errors import NotFound, UsageError
from ..messages.memory import (
    AddDocuments,
    CreateIndex,
    DeleteIndex,
    Document,
    GetIndex,
    IndexView,
    ListIndexes,
    RemoveDocuments,
    SearchIndex,
    ShareIndex,
)
from ..messages.network import GetAddresses, GetPeers, GetSwarm
from ..messages.tasks import (
    TERMINAL,
    CancelTask,
    GetServingStats,
    GetTask,
    GetTaskEvents,
    GetTaskStats,
    ListTasks,
    Submit,
    TaskOutcome,
)
from .guard import error_body
from .node_view import NodeView
from .requests import AddBody, CreateIndexBody, ReadersBody, RemoveBody, SearchBody, SubmitBody, read
from .settings import GatewaySettings

Endpoint = Callable[[Request], Awaitable[Response]]

LONG_ASK_S = 7 * 86_400.0
"""For questions that wait for work: the task's own deadline ends them earlier."""


def answer(value: Any, status: int = 200) -> Response:
    return Response(msgspec.json.encode(value), status_code=status, media_type="application/json")


class Routes:
    def __init__(self, node: NodeView, settings: GatewaySettings) -> None:
        self._node = node
        self._bus = node.bus
        self._settings = settings

    def app(self) -> Starlette:
        table: tuple[tuple[str, str, Endpoint], ...] = (
            ("GET", "/livez", self.livez),
            ("GET", "/readyz", self.readyz),
            ("GET", "/api/status", self.status),
            ("POST", "/api/stop", self.stop),
            ("GET", "/api/peers", self.peers),
            ("GET", "/api/models", self.models),
            ("POST", "/api/tasks", self.submit),
            ("GET", "/api/tasks", self.tasks),
            ("GET", "/api/tasks/{task}", self.task),
            ("GET", "/api/tasks/{task}/events", self.events),
            ("POST", "/api/tasks/{task}/cancel", self.cancel),
            ("GET", "/api/indexes", self.indexes),
            ("POST", "/api/indexes", self.create_index),
            ("GET", "/api/indexes/{name}", self.index),
            ("DELETE", "/api/indexes/{name}", self.delete_index),
            ("PUT", "/api/indexes/{name}/readers", self.share),
            ("POST", "/api/indexes/{name}/documents", self.add),
            ("POST", "/api/indexes/{name}/remove", self.remove),
            ("POST", "/api/indexes/{name}/search", self.search),
        )
        routes = [Route(path, endpoint, methods=[method]) for method, path, endpoint in table]
        return Starlette(routes=routes, exception_handlers={HTTPException: _http_error})

    async def _ask(self, query: Any, timeout_s: float = 0.0) -> Any:
        return await self._bus.ask(query, timeout_s=timeout_s or self._settings.ask_timeout_s)

    # -- the node

    async def livez(self, _: Request) -> Response:
        return answer({"state": "live"})

    async def readyz(self, _: Request) -> Response:
        facts = self._node.facts()
        swarm = await self._ask(GetSwarm(), 1.0)
        ready = facts.state == "ready" and bool(swarm.swarm)
        reason = "" if ready else ("no swarm reached yet" if facts.state == "ready" else facts.state)
        return answer({"state": "ready" if ready else "not ready", "reason": reason}, 200 if ready else 503)

    async def status(self, _: Request) -> Response:
        facts = self._node.facts()
        swarm = await self._ask(GetSwarm())
        peers = await self._ask(GetPeers())
        tasks = await self._ask(GetTaskStats())
        serving = await self._ask(GetServingStats())
        state = facts.state if facts.state != "ready" or swarm.swarm else "joining"
        return answer(
            {
                "state": state,
                "peer_id": facts.peer_id,
                "pi_key": facts.pi_key,
                "short_id": facts.short_id,
                "addresses": await self._ask(GetAddresses()),
                "peers": sum(peer.state == "member" for peer in peers),
                "swarm": swarm.swarm,
                "swarm_origin": swarm.origin,
                "version": facts.version,
                "uptime_s": round(facts.uptime_s, 3),
                "tasks": {
                    **tasks.states,
                    "running_chunks": tasks.running,
                    "waiting": tasks.waiting,
                    "served_chunks": serving.served_chunks,
                    "served_items": serving.served_items,
                    "serving": serving.serving,
                },
                "workers": facts.workers,
                "limits": facts.limits,
                "loop_lag_ms": round(facts.loop_lag_ms, 3),
                "rss_bytes": facts.rss_bytes,
                "counters": facts.counters,
            }
        )

    async def stop(self, _: Request) -> Response:
        self._node.stop()
        return answer({"state": "stopping"}, 202)

    async def peers(self, _: Request) -> Response:
        peers = await self._ask(GetPeers())
        return answer(
            [{"peer_id": peer.peer, "connected": peer.state == "member", **msgspec.to_builtins(peer)} for peer in peers]
        )

    async def models(self, _: Request) -> Response:
        return answer(self._node.models())

    # -- tasks

    async def submit(self, request: Request) -> Response:
        body = read(await request.body(), SubmitBody)
        if body.local and body.only:
            raise UsageError("give either 'local' or 'only', not both")
        outcome: TaskOutcome = await self._ask(
            Submit(
                body.kind,
                payload=body.payload,
                only=tuple(body.only),
                local=body.local,
                wait=body.wait,
                durable=body.durable,
                key=body.key,
                price_max=body.price_max,
                timeout_s=body.timeout_s,
            ),
            LONG_ASK_S if body.wait else 0.0,
        )
        return answer(self._task_json(outcome), 200 if body.wait else 202)

    def _task_json(self, outcome: TaskOutcome) -> dict[str, Any]:
        view = outcome.view
        shown: dict[str, Any] = msgspec.to_builtins(view)
        shown["result"] = self._node.present(view.kind, outcome.output) if view.state == "done" else None
        return shown

    async def tasks(self, request: Request) -> Response:
        text = request.query_params.get("limit", "50")
        if not text.isdigit() or not 1 <= int(text) <= 1000:
            raise UsageError("limit must be a number from 1 to 1000")
        return answer(await self._ask(ListTasks(int(text))))

    async def task(self, request: Request) -> Response:
        return answer(self._task_json(await self._ask(GetTask(request.path_params["task"]))))

    async def cancel(self, request: Request) -> Response:
        return answer(await self._ask(CancelTask(request.path_params["task"])))

    async def events(self, request: Request) -> Response:
        task = request.path_params["task"]
        after = request.query_params.get("after", request.headers.get("last-event-id", "0"))
        if not after.isdigit() or int(after) > 2**31:
            raise UsageError("after must be the number of an event")
        first = await self._ask(GetTaskEvents(task, int(after)))
        return StreamingResponse(self._follow(task, int(after), first), media_type="text/event-stream")

    async def _follow(self, task: str, after: int, events: Any) -> AsyncIterator[bytes]:
        """Server-sent events until the task is finished; a comment keeps idle connections open."""
        wait_s = self._settings.events_wait_s
        while True:
            for event in events:
                after = event.seq
                body = msgspec.json.encode(event)
                yield b"id: %d\nevent: %s\ndata: %s\n\n" % (event.seq, event.name.encode(), body)
                if event.name in TERMINAL:
                    return
            if not events:
                view = (await self._ask(GetTask(task))).view
                if view.state in TERMINAL and view.events <= after:
                    return
                yield b": waiting\n\n"
            events = await self._ask(GetTaskEvents(task, after, wait_s), wait_s + self._settings.ask_timeout_s)

    # -- indexes

    async def indexes(self, _: Request) -> Response:
        return answer(await self._ask(ListIndexes()))

    async def create_index(self, request: Request) -> Response:
        body = read(await request.body(), CreateIndexBody)
        view: IndexView = await self._ask(CreateIndex(body.name, tuple(body.readers)))
        return answer(view, 201)

    async def index(self, request: Request) -> Response:
        return answer(await self._ask(GetIndex(request.path_params["name"])))

    async def delete_index(self, request: Request) -> Response:
        await self._ask(DeleteIndex(request.path_params["name"]))
        return answer({"deleted": request.path_params["name"]})

    async def share(self, request: Request) -> Response:
        body = read(await request.body(), ReadersBody)
        return answer(await self._ask(ShareIndex(request.path_params["name"], tuple(body.readers))))

    async def add(self, request: Request) -> Response:
        body = read(await request.body(), AddBody)
        documents = tuple(Document(one.id, one.text, one.metadata) for one in body.documents)
        query = AddDocuments(request.path_params["name"], documents, body.wait, tuple(body.only), body.local)
        return answer(await self._ask(query, LONG_ASK_S if body.wait else 0.0))

    async def remove(self, request: Request) -> Response:
        body = read(await request.body(), RemoveBody)
        removed = await self._ask(RemoveDocuments(request.path_params["name"], tuple(body.ids)))
        return answer({"removed": removed})

    async def search(self, request: Request) -> Response:
        body = read(await request.body(), SearchBody)
        if bool(body.text) == bool(body.vector):
            raise UsageError("give either 'text' or 'vector'")
        try:
            vector = struct.pack(f"<{len(body.vector)}f", *body.vector)
        except OverflowError:
            raise UsageError("vector: a component is beyond 32-bit floating point") from None
        query = SearchIndex(request.path_params["name"], body.text, vector, body.k, body.where, body.owner)
        return answer(await self._ask(query, 60.0))


async def _http_error(_: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    code = {404: NotFound.code, 405: UsageError.code}.get(status, "error")
    text = {404: "no such resource", 405: "this method is not allowed here"}.get(status, str(error))
    return Response(error_body(code, text), status_code=status, media_type="application/json")
