"""What `init` does: a node's folder with its key and configuration. Imports nothing of a running node."""

from __future__ import annotations

import time
from pathlib import Path

from msgspec import structs

from ..adapters import keystore
from ..adapters.data_dir import Layout, prepare
from ..adapters.sqlite_file import PendingCommit, SqliteFile, StoreLimits
from ..config import Config, render
from ..crypto.fingerprints import found_swarm
from ..effects import Put
from ..errors import ConfigError, Conflict
from ..identity.keys import Identity
from ..wire.codec import encode


def initialise(root: Path, *, swarm: str = "", password: str | None = None, new_swarm: bool = False) -> dict[str, str]:
    """Create folder, key and configuration; with `new_swarm` a genesis, too. `Conflict` when there is a key already."""
    layout = prepare(root)
    if layout.identity_key.exists():
        raise Conflict(f"{layout.identity_key} exists already; to start anew choose another --data-dir")
    config = _pinned(Config(), swarm)
    identity = keystore.create(layout.identity_key, keystore.generate_seed(), password)
    if not layout.config.exists():
        layout.config.write_text(render(config))
    if new_swarm:
        swarm = _found(layout, identity)
    return {
        "peer_id": identity.peer_id,
        "pi_key": identity.pi_key.hex(),
        "short_id": identity.short_id,
        "data_dir": str(layout.root),
        "key_file": str(layout.identity_key),
        "config_file": str(layout.config),
        "swarm": swarm,
    }


def _found(layout: Layout, identity: Identity) -> str:
    """The genesis, where the node will look for it: its first run begins the committee's log."""
    genesis = found_swarm(identity, epoch=0, created_ms=time.time_ns() // 1_000_000)
    store = SqliteFile(layout.store, StoreLimits())
    try:
        store.write([PendingCommit("membership", (Put("genesis", "founded", encode(genesis)),), 1024)])
    finally:
        store.close(fold=True)
    return genesis.name


def _pinned(config: Config, swarm: str) -> Config:
    if not swarm:
        return config
    if len(swarm) != 42 or any(digit not in "0123456789abcdef" for digit in swarm):
        raise ConfigError("--swarm takes a genesis: 42 hexadecimal digits, as `status` shows it")
    return structs.replace(config, network=structs.replace(config.network, swarm=swarm))
