"""What `run` does: take the folder, open the key, then build the node and run it until a signal."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import structlog
import trio

from .. import logs
from ..adapters import keystore
from ..adapters.artifact_files import ArtifactFiles
from ..adapters.data_dir import DataDir, Layout
from ..adapters.split_store import SplitStore
from ..adapters.sqlite_store import SqliteStore, StoreLimits
from ..config import Config, data_dir
from ..errors import EdgenetError
from ..identity.keys import Identity
from ..runtime.supervisor import NodeFailed
from ..wire.raft import SNAPSHOT_BYTES_MAX

if TYPE_CHECKING:
    from ..gateway.server import Gateway

PASSWORD = "EDGENET_KEY_PASSWORD"  # noqa: S105 - the name of the variable
"""Where the password of a protected key is read from. Not a setting: workers do not inherit it, nothing logs it."""

RAFT_LIMITS = StoreLimits(value_bytes_max=SNAPSHOT_BYTES_MAX + (1 << 16), pending_bytes_max=3 * SNAPSHOT_BYTES_MAX)
"""A snapshot is one row; it waits together with the log that it replaces."""

log = structlog.get_logger("edgenet_node")


def run_node(config: Config, on_ready: Callable[[dict[str, Any]], None]) -> int:
    """Run until a signal; the exit code. Errors of the start are raised."""
    logs.configure(config.node.log_level, config.node.log_format)
    with DataDir.claim(data_dir(config)) as folder:
        identity = _identity(folder.layout)
        from ..gateway.server import Gateway  # with libp2p in the next line most of a second: after what may be wrong
        from .limits import gateway_settings

        gateway = Gateway(gateway_settings(config), folder.token())
        api = gateway.bind()
        try:
            trio.run(_main, config, folder, identity, gateway, api, on_ready)
        except BaseExceptionGroup as group:
            return _ended_by(group)
        except NodeFailed as error:
            return _ended_by(BaseExceptionGroup("", [error]))
    return 0


def _identity(layout: Layout) -> Identity:
    if not layout.identity_key.exists():
        return keystore.create(layout.identity_key, keystore.generate_seed())
    return keystore.load(layout.identity_key, os.environ.pop(PASSWORD, None))


async def _main(
    config: Config,
    folder: DataDir,
    identity: Identity,
    gateway: Gateway,
    api: str,
    on_ready: Callable[[dict[str, Any]], None],
) -> None:
    from .limits import artifact_limits
    from .node import Node

    layout = folder.layout
    store = await _open_stores(layout)
    try:
        files = await ArtifactFiles.open(layout.artifacts, limits=artifact_limits(config))
        node = Node(config, folder, store, files, identity)
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


async def _open_stores(layout: Layout) -> SplitStore:
    rest = await SqliteStore.open(layout.store)
    try:
        raft = await SqliteStore.open(layout.raft, limits=RAFT_LIMITS)
    except BaseException:
        with trio.CancelScope(shield=True):
            await rest.close()
        raise
    return SplitStore(rest, {"raft": raft})


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
