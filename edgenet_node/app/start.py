"""Entry points of the command line: make a node's folder, run a node."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import structlog
import trio
from msgspec import structs

from .. import logs
from ..adapters import keystore
from ..adapters.artifact_files import ArtifactFiles
from ..adapters.data_dir import DataDir, prepare
from ..adapters.sqlite_store import SqliteStore
from ..config import Config, data_dir, render
from ..errors import ConfigError, Conflict, EdgenetError
from ..gateway.server import Gateway
from ..runtime.supervisor import NodeFailed
from .limits import artifact_limits, gateway_settings
from .node import Node

log = structlog.get_logger("edgenet_node")


def initialise(root: Path, *, swarm: str = "", password: str | None = None) -> dict[str, str]:
    """Create folder, key and configuration. `Conflict` when there is a key already."""
    layout = prepare(root)
    if layout.identity_key.exists():
        raise Conflict(f"{layout.identity_key} exists already; to start anew choose another --data-dir")
    config = _pinned(Config(), swarm)
    identity = keystore.create(layout.identity_key, keystore.generate_seed(), password)
    if not layout.config.exists():
        layout.config.write_text(render(config))
    return {
        "peer_id": identity.peer_id,
        "pi_key": identity.pi_key.hex(),
        "short_id": identity.short_id,
        "data_dir": str(layout.root),
        "key_file": str(layout.identity_key),
        "config_file": str(layout.config),
        "swarm": swarm,
    }


def _pinned(config: Config, swarm: str) -> Config:
    if not swarm:
        return config
    if len(swarm) != 42 or any(digit not in "0123456789abcdef" for digit in swarm):
        raise ConfigError("--swarm takes a genesis: 42 hexadecimal digits, as `status` shows it")
    return structs.replace(config, network=structs.replace(config.network, swarm=swarm))


def run_node(config: Config, on_ready: Callable[[dict[str, Any]], None]) -> int:
    """Run until a signal; the exit code. Errors of the start are raised."""
    logs.configure(config.node.log_level, config.node.log_format)
    with DataDir.claim(data_dir(config)) as folder:
        if not folder.layout.identity_key.exists():
            keystore.create(folder.layout.identity_key, keystore.generate_seed())
        gateway = Gateway(gateway_settings(config), folder.token())
        api = gateway.bind()
        try:
            trio.run(_main, config, folder, gateway, api, on_ready)
        except BaseExceptionGroup as group:
            return _ended_by(group)
        except NodeFailed as error:
            return _ended_by(BaseExceptionGroup("", [error]))
    return 0


async def _main(
    config: Config, folder: DataDir, gateway: Gateway, api: str, on_ready: Callable[[dict[str, Any]], None]
) -> None:
    layout = folder.layout
    store = await SqliteStore.open(layout.store)
    try:
        files = await ArtifactFiles.open(layout.artifacts, limits=artifact_limits(config))
        node = Node(config, folder, store, files)
        logs.adopt("libp2p")
        if config.node.log_level != "debug":
            logs.hush("libp2p")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_await_signal, node.stop)
            await node.run(gateway, api, on_ready)
            nursery.cancel_scope.cancel()
    finally:
        with trio.CancelScope(shield=True):
            await store.close()


async def _await_signal(stop: Callable[[], None]) -> None:
    """The first signal drains; the second one is Python's own and ends at once."""
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async for _ in signals:
            stop()
            return


def _ended_by(group: BaseExceptionGroup[BaseException]) -> int:
    """The last line of a node that failed, and its exit code."""
    first: BaseException = group
    while isinstance(first, BaseExceptionGroup):
        first = first.exceptions[0]
    if isinstance(first, KeyboardInterrupt):
        return 130
    if isinstance(first, NodeFailed):
        log.critical("stopped", reason=first.message)
        return first.exit_code
    if isinstance(first, EdgenetError):
        raise first
    raise group
