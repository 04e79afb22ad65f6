"""The routes: one function for each question."""

from __future__ import annotations

import struct
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import msgspec
import trio
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from ..effects import Query
from ..errors import EdgenetError, NotFound, UsageError
from ..messages.committee import GetRegistry
from ..messages.memory import (
    AddDocuments,
    CreateIndex,
    DeleteIndex,
    Document,
    GetIndex,
    ListIndexes,
    RemoveDocuments,
    SearchIndex,
    ShareIndex,
)
from ..messages.network import GetAddresses, GetPeers, GetSwarm
from ..messages.raft import GetCommittee
from ..messages.tasks import CancelTask, GetServingStats, GetTask, GetTaskStats, ListTasks, Submit, TaskOutcome
from .answers import Pieces, answer, error_body, failure, in_pieces
from .committee_routes import CommitteeRoutes
from .exchange import Exchange
from .following import SEQ_MAX, follow, start_following
from .metrics import CONTENT_TYPE, render
from .node_view import NodeView
from .requests import AddBody, CreateIndexBody, ReadersBody, RemoveBody, SearchBody, SubmitBody, number, read
from .settings import GatewaySettings

R = TypeVar("R")
T = TypeVar("T")
Endpoint = Callable[[Request], Awaitable[Response]]

LONG_ASK_S = 7 * 86_400.0
"""For questions that wait for work: the task's own deadline ends them earlier."""

READY_TIMEOUT_S = 1.0
"""A node that needs longer to say in which swarm it is will not take work."""

OUTPUT_BYTES_DIRECT = 64 * 1024
"""Outputs up to this are shown at once (1 ms); larger ones in a thread, and sent in pieces."""


class Resource:
    """One path and its methods. HEAD is GET without the body."""

    def __init__(self, endpoints: dict[str, Endpoint]) -> None:
        self._endpoints = endpoints

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive, send)
        endpoint = self._endpoints.get("GET" if request.method == "HEAD" else request.method)
        response = await endpoint(request) if endpoint else self._refuse(request.method)
        await response(scope, receive, send)

    def _refuse(self, method: str) -> Response:
        text = f"{method} is not allowed here: use {' or '.join(self._endpoints)}"
        allow = {"allow": ", ".join(self._endpoints)}
        return Response(error_body(UsageError.code, text), 405, allow, media_type="application/json")


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
            ("GET", "/metrics", self.metrics),
            *CommitteeRoutes(self._ask).table(),
        )
        resources: dict[str, dict[str, Endpoint]] = {}
        for method, path, endpoint in table:
            resources.setdefault(path, {})[method] = endpoint
        routes = [Route(path, Resource(endpoints)) for path, endpoints in resources.items()]
        handlers = {EdgenetError: _failed, 404: _not_found, Exception: _broken}
        app = Starlette(routes=routes, exception_handlers=handlers)
        app.router.redirect_slashes = False
        return app

    async def _ask(self, query: Query[R], timeout_s: float = 0.0) -> R:
        return await self._bus.ask(query, timeout_s=timeout_s or self._settings.ask_timeout_s)

    async def _ask_long(self, request: Request, query: Query[R]) -> R:
        exchange: Exchange = request.scope["exchange"]
        exchange.wait_for_work()
        return await self._ask(query, LONG_ASK_S)

    # -- the node

    async def livez(self, _: Request) -> Response:
        return answer({"state": "live"})

    async def readyz(self, _: Request) -> Response:
        reason = self._node.facts().state
        if reason == "ready":
            try:
                swarm = await self._ask(GetSwarm(), READY_TIMEOUT_S)
                reason = "" if swarm.swarm else "no swarm reached yet"
            except EdgenetError as error:
                reason = error.message
        return answer({"state": "not ready" if reason else "ready", "reason": reason}, 503 if reason else 200)

    async def status(self, _: Request) -> Response:
        facts = self._node.facts()
        swarm = await self._ask(GetSwarm())
        peers = await self._ask(GetPeers())
        tasks = await self._ask(GetTaskStats())
        serving = await self._ask(GetServingStats())
        registry = await self._ask(GetRegistry())
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
                "committee": {
                    "trust": registry.trust,
                    "members": len(registry.committee),
                    "role": "none" if registry.raft is None else registry.raft.role,
                    "leader": "" if registry.raft is None else registry.raft.leader,
                    "alarms": registry.alarms,
                },
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

    async def metrics(self, _: Request) -> Response:
        return Response(render(await self._ask(GetCommittee())), media_type=CONTENT_TYPE)

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
        body = await _body(request, SubmitBody)
        if body.local and body.only:
            raise UsageError("give either 'local' or 'only', not both")
        query = Submit(
            body.kind,
            payload=body.payload,
            only=tuple(body.only),
            local=body.local,
            wait=body.wait,
            durable=body.durable,
            key=body.key,
            price_max=body.price_max,
            timeout_s=body.timeout_s,
        )
        if body.wait:
            return await self._show(await self._ask_long(request, query))
        return await self._show(await self._ask(query), 202)

    async def _show(self, outcome: TaskOutcome, status: int = 200) -> Response:
        """A task with its result, if it has one."""
        view = outcome.view
        shown: dict[str, Any] = msgspec.to_builtins(view)
        if view.state != "done":
            return answer({**shown, "result": None}, status)
        if len(outcome.output) <= OUTPUT_BYTES_DIRECT:
            return answer({**shown, "result": self._node.present(view.kind, outcome.output)}, status)
        result = await trio.to_thread.run_sync(self._node.present, view.kind, outcome.output)
        return Pieces(in_pieces({**shown, "result": result}), "application/json")

    async def tasks(self, request: Request) -> Response:
        limit = number("limit", request.query_params.get("limit", "50"), 1, 1000)
        return answer(await self._ask(ListTasks(limit)))

    async def task(self, request: Request) -> Response:
        return await self._show(await self._ask(GetTask(request.path_params["task"])))

    async def cancel(self, request: Request) -> Response:
        return answer(await self._ask(CancelTask(request.path_params["task"])))

    async def events(self, request: Request) -> Response:
        task = request.path_params["task"]
        text = request.query_params.get("after", request.headers.get("last-event-id", "0"))
        after = number("after", text, 0, SEQ_MAX)
        first = await start_following(self._bus, task, after, self._settings)
        exchange: Exchange = request.scope["exchange"]
        exchange.wait_for_work()
        return Pieces(follow(self._bus, task, after, first, self._settings), "text/event-stream")

    # -- indexes

    async def indexes(self, _: Request) -> Response:
        return answer(await self._ask(ListIndexes()))

    async def create_index(self, request: Request) -> Response:
        body = await _body(request, CreateIndexBody)
        return answer(await self._ask(CreateIndex(body.name, tuple(body.readers))), 201)

    async def index(self, request: Request) -> Response:
        return answer(await self._ask(GetIndex(request.path_params["name"])))

    async def delete_index(self, request: Request) -> Response:
        await self._ask(DeleteIndex(request.path_params["name"]))
        return answer({"deleted": request.path_params["name"]})

    async def share(self, request: Request) -> Response:
        body = await _body(request, ReadersBody)
        return answer(await self._ask(ShareIndex(request.path_params["name"], tuple(body.readers))))

    async def add(self, request: Request) -> Response:
        body = await _body(request, AddBody)
        documents = tuple(Document(one.id, one.text, one.metadata) for one in body.documents)
        query = AddDocuments(request.path_params["name"], documents, body.wait, tuple(body.only), body.local)
        return answer(await (self._ask_long(request, query) if body.wait else self._ask(query)))

    async def remove(self, request: Request) -> Response:
        body = await _body(request, RemoveBody)
        removed = await self._ask(RemoveDocuments(request.path_params["name"], tuple(body.ids)))
        return answer({"removed": removed})

    async def search(self, request: Request) -> Response:
        body = await _body(request, SearchBody)
        if bool(body.text) == bool(body.vector):
            raise UsageError("give either 'text' or 'vector'")
        try:
            vector = struct.pack(f"<{len(body.vector)}f", *body.vector)
        except OverflowError:
            raise UsageError("vector: a component is beyond 32-bit floating point") from None
        query = SearchIndex(request.path_params["name"], body.text, vector, body.k, body.where, body.owner)
        return answer(await self._ask(query, self._settings.search_timeout_s))


async def _body(request: Request, kind: type[T]) -> T:
    exchange: Exchange = request.scope["exchange"]
    return read(await exchange.take_body(), kind)


async def _failed(_: Request, error: Exception) -> Response:
    return failure(error) if isinstance(error, EdgenetError) else await _broken(_, error)


async def _not_found(_: Request, error: Exception) -> Response:
    return failure(NotFound("no such resource"))


async def _broken(_: Request, error: Exception) -> Response:
    """A bug: the guard logs it."""
    text = "the node failed to answer: its log has the details"
    return Response(error_body("error", text), 500, media_type="application/json")
