"""Serving the door: a socket of our own, and hypercorn for each connection to it."""

from __future__ import annotations

import socket
from functools import partial
from typing import Any

import structlog
import trio
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.config import Config
from hypercorn.trio.worker_context import WorkerContext

from ..errors import ConfigError, InvariantError
from .connection import Connection
from .guard import Guard
from .node_view import NodeView
from .routes import Routes
from .settings import GatewaySettings

BACKLOG = 128
_REACHED_BY = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}  # noqa: S104 - what clients on this machine use instead

log = structlog.get_logger("edgenet_node.gateway")


class Gateway:
    """`bind` before the node is built (so that a taken port is an early, clear error), `serve` when it runs.

    hypercorn's own `serve` would take the socket by number (two owners of one descriptor), accept without limit, and
    let an error in one connection end the node; so accepting is done here, and each connection runs by itself."""

    def __init__(self, settings: GatewaySettings, token: str) -> None:
        self._settings = settings
        self._token = token
        self._socket: socket.socket | None = None
        self._stopping = trio.Event()
        self._open: set[Connection] = set()
        self._left = trio.Event()

    def bind(self) -> str:
        """Listen, and return the API's root as a URL. `ConfigError` when the address is taken or not ours."""
        host, port = self._settings.host, self._settings.port
        found: socket.socket | None = None
        try:
            family, kind, protocol, _, address = socket.getaddrinfo(
                host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )[0]
            found = socket.socket(family, kind, protocol)
            found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            found.bind(address)
            found.listen(BACKLOG)
        except OSError as error:
            if found is not None:
                found.close()
            raise ConfigError(
                f"cannot listen on {host}:{port} for the API: {error.strerror}: choose another with --api"
            ) from error
        self._socket = found
        shown = _REACHED_BY.get(host, f"[{host}]" if ":" in host else host)
        return f"http://{shown}:{found.getsockname()[1]}"

    async def serve(self, node: NodeView, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Until `close`; then answers that are under way get `grace_s`."""
        if self._socket is None:
            raise InvariantError("the API has no socket: bind comes first")
        app = ASGIWrapper(Guard(Routes(node, self._settings).app(), self._settings, self._token))
        config, context = _config(), WorkerContext(None)
        listener = trio.SocketListener(trio.socket.from_stdlib_socket(self._socket))
        self._socket = None  # the listener closes it
        async with trio.open_nursery() as connections:
            connections.start_soon(self._end, connections.cancel_scope, context)
            async with listener, trio.open_nursery() as accepting:
                attend = partial(self._attend, app, config, context)
                accepting.start_soon(partial(trio.serve_listeners, attend, [listener], handler_nursery=connections))
                task_status.started()
                await self._stopping.wait()
                accepting.cancel_scope.cancel()

    @property
    def connections(self) -> int:
        """Open now."""
        return len(self._open)

    def close(self) -> None:
        """Accept nobody any more and come to an end. Also gives back the port of a door that was never served."""
        self._stopping.set()
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    async def _end(self, connections: trio.CancelScope, context: Any) -> None:
        """The last moments of all connections, also when the door is cancelled."""
        try:
            await self._stopping.wait()
            await context.terminated.set()  # connections end after the answer that is under way
            for connection in self._open:
                connection.retire()
            with trio.move_on_after(self._settings.grace_s):
                while self._open:
                    self._left = trio.Event()
                    await self._left.wait()
        finally:
            for connection in self._open:
                connection.abort()
            connections.cancel()

    async def _attend(self, app: Any, config: Any, context: Any, stream: trio.SocketStream) -> None:
        if len(self._open) >= self._settings.connections_max:
            return  # serve_listeners closes it
        connection = Connection(stream, self._settings)
        self._open.add(connection)
        try:
            await connection.run(app, config, context)
        except* Exception:
            # The seam: what a client can provoke in the HTTP library ends its connection, not the node.
            log.warning("a connection to the API failed", exc_info=True)
        finally:
            self._open.discard(connection)
            self._left.set()


def _config() -> Any:
    config = Config()
    config.accesslog = None
    config.errorlog = None  # the guard reports what goes wrong
    config.include_server_header = False
    return config
