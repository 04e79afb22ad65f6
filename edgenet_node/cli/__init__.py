"""The command line: one module per command group, no logic of the node.

`node` (init, run, status, peers, models, stop, version), `tasks` (submit, task), `indexes` (index, search), `devnet`.
Every command has `--json` (stable fields) and honest exit codes: 0 done, 1 failed, 2 usage, 3 cannot reach the daemon,
4 refused (limit, admission), 5 timed out. Errors are one line: what, why, what to do; `--debug` shows tracebacks.
Results go to standard output, everything else to standard error.

`--help` must come within 150 ms: trio, numpy, libp2p and rich are imported by the commands that need them, never here.
All commands but `init`, `run` and `devnet` speak to the daemon's HTTP API.
"""

from __future__ import annotations

import os
import sys

from ..errors import EdgenetError
from .exits import DONE, FAILED, INTERRUPTED, code_of


def main() -> None:
    """Entry point of `edgenet-node`."""
    sys.exit(run_command(sys.argv[1:]))


def run_command(arguments: list[str]) -> int:
    """The exit code of one command line. What goes wrong is one line on standard error."""
    import typer

    from .root import app

    try:
        code = app(arguments, prog_name="edgenet-node", standalone_mode=False)
        sys.stdout.flush()
        return code if isinstance(code, int) else DONE
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # the reader (head, less) has seen enough
        return FAILED
    except (KeyboardInterrupt, typer.Abort):
        return INTERRUPTED
    except Exception as error:
        if "--debug" in arguments:
            raise
        line, code = _explain(error)
        sys.stderr.write(line.rstrip() + "\n")
        return code


def _explain(error: Exception) -> tuple[str, int]:
    if isinstance(error, EdgenetError):
        return f"edgenet-node: {error.message}", code_of(error)
    shown = getattr(error, "format_message", None)  # of click, in whose place typer has brought its own
    if shown is None:
        return f"edgenet-node: {type(error).__name__}: {error} (a bug: --debug shows where)", FAILED
    context = getattr(error, "ctx", None)
    place = context.command_path if context is not None else "edgenet-node"
    text = str(shown())
    if text.startswith("Usage:") or not text:  # a group without a command: its help is the answer
        return text or context.get_help() if context is not None else text, getattr(error, "exit_code", FAILED)
    return f"edgenet-node: {' '.join(text.split())} (see: {place} --help)", getattr(error, "exit_code", FAILED)
