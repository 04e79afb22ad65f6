"""The command line: one module per command group, no logic of the node.

`node` (init, run, status, peers, models, stop, version), `tasks` (submit, task), `indexes` (index, search), `devnet`.
Every command has `--json` (stable fields) and honest exit codes: 0 done, 1 failed, 2 usage, 3 cannot reach the daemon,
4 refused (limit, admission), 5 timed out. Errors are one line: what, why, what to do.

`--help` must come within 150 ms: trio, numpy, libp2p and rich's heavier parts are imported by the commands that need
them, never here. All commands but `init`, `run` and `devnet` speak to the daemon's HTTP API.
"""

from __future__ import annotations

import os
import sys

from ..errors import EdgenetError
from .exits import FAILED, code_of


def main() -> None:
    """Entry point of `edgenet-node`."""
    from .root import app

    try:
        app(prog_name="edgenet-node")
    except EdgenetError as error:
        if "--debug" in sys.argv:
            raise
        sys.stderr.write(f"edgenet-node: {error.message}\n")
        sys.exit(code_of(error))
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # the reader (head, less) has seen enough
        sys.exit(FAILED)
    except KeyboardInterrupt:
        sys.exit(130)
