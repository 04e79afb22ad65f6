"""Serving the door: a socket of our own, hypercorn on it, in the node's nursery."""

from __future__ import annotations

import socket
from typing import Any

import trio

from hypercorn.config import Config
from hypercorn.trio import serve

from ..errors import ConfigError
from .guard import Guard
from .node_view import NodeView
from .routes import Routes
from .settings import GatewaySettings


class Gateway:
    """`bind` before the node is built (so that a taken port is an early, clear error), `serve` when it runs."""

    def __init__(self, settings: GatewaySettings, token: str) -> None:
        self._settings = settings
        self._token = token
        self._socket: socket.socket | None = None
        self._stopping = trio.Event()

    def bind(self) -> str:
        """Listen, and return the API's root as a URL. `ConfigError` when the address is taken or not ours."""
        host, port = self._settings.host, self._settings.port
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        found = socket.socket(family, socket.SOCK_STREAM)
        try:
            found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            found.bind((host, port))
            found.listen(128)
        except OSError as error:
            found.close()
            raise ConfigError(
                f"cannot listen on {host}:{port} for the API: {error.strerror}; choose another with --api"
            ) from error
        self._socket = found
        shown = f"[{host}]" if family == socket.AF_INET6 else host
        return f"http://{shown}:{found.getsockname()[1]}"

    async def serve(self, node: NodeView, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Until `close`."""
        if self._socket is None:
            raise ConfigError("the API has no socket; bind first")
        config = Config()
        config.bind = [f"fd://{self._socket.fileno()}"]
        config.graceful_timeout = 0.5
        config.shutdown_timeout = 1.0
        config.accesslog = None
        config.errorlog = None
        config.include_server_header = False
        config.h11_max_incomplete_size = 16 * 1024
        config.read_timeout = 30
        app: Any = Guard(Routes(node, self._settings).app(), self._settings, self._token)
        async with trio.open_nursery() as nursery:
            await nursery.start(lambda task_status: _serve(app, config, self._stopping, task_status))
            task_status.started()

    def close(self) -> None:
        self._stopping.set()


async def _serve(app: Any, config: Config, stopping: trio.Event, task_status: trio.TaskStatus[Any]) -> None:
    await serve(app, config, shutdown_trigger=stopping.wait, task_status=task_status, mode="asgi")
