"""All settings of a node, and the only reader of the configuration file and the environment.

Each key is one line of a section in `sections.py`: type, what it is for, bounds with their unit, default. The
repository's `config/node.toml` is `render(Config())`; a test holds the two together. `load` takes a key from the first
of these that names it:

1. flags of the command line (`overrides`, named `section.key`);
2. `EDGENET_<SECTION>__<KEY>`, e.g. `EDGENET_NETWORK__LISTEN`; lists are comma separated; `EDGENET_DATA_DIR` is short
   for `EDGENET_NODE__DATA_DIR`, `EDGENET_CONFIG` names the file, and `EDGENET_KEY_PASSWORD` opens a protected key;
3. other programs' names for the same thing, where we have an equal (`RUST_LOG`); where not, they are refused;
4. the file: the one given, else `EDGENET_CONFIG`, else `node.toml` in the data folder if it is there;
5. the default.

Unknown keys, wrong types and values out of range are a `ConfigError` that names source, key and remedy in one line.
Secrets are never settings: keys and tokens are files, named here at most. Imports nothing heavy, as every command of
the command line passes through here.
"""

from .load import data_dir, load, render, worker_count
from .sections import (
    Api,
    Artifacts,
    Committee,
    Config,
    Faults,
    Index,
    Market,
    Network,
    Node,
    Tasks,
    Verification,
    Workers,
)

__all__ = [
    "Api",
    "Artifacts",
    "Committee",
    "Config",
    "Faults",
    "Index",
    "Market",
    "Network",
    "Node",
    "Tasks",
    "Verification",
    "Workers",
    "data_dir",
    "load",
    "render",
    "worker_count",
]
