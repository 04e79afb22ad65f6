"""Options that many commands share, and how their results are printed."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import UsageError

if TYPE_CHECKING:
    from .door import Door

DataDirOption = Annotated[
    Path | None, typer.Option("--data-dir", help="Folder of the node.", show_default=False, envvar="EDGENET_DATA_DIR")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
DebugOption = Annotated[bool, typer.Option("--debug", help="Show tracebacks.", hidden=True)]


def folder(data_dir: Path | None) -> Path:
    """The data folder: the option, else the configured one."""
    from .. import config

    overrides: dict[str, object] = {"node.data_dir": str(data_dir) if data_dir else None}
    return config.data_dir(config.load(None, os.environ, overrides))


def door(data_dir: Path | None) -> Door:
    from .door import Door

    return Door.of(folder(data_dir))


def print_json(value: Any) -> None:
    sys.stdout.write(json.dumps(value, ensure_ascii=False) + "\n")
    sys.stdout.flush()


def say(text: str = "") -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def note(text: str) -> None:
    """To people, not to programs that read the output."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Aligned columns; on a terminal the last one is cut to its width, in a pipe nothing is."""
    if not rows:
        return
    columns = [max(len(row[i]) for row in (headers, *rows)) for i in range(len(headers))]
    for row in (headers, *rows):
        say(fitted("  ".join(cell.ljust(columns[i]) for i, cell in enumerate(row)).rstrip()))


def fitted(line: str) -> str:
    """One line of the terminal, if there is one."""
    if not sys.stdout.isatty():
        return line
    width = max(20, shutil.get_terminal_size().columns)
    return line if len(line) <= width else line[: width - 1] + "…"


PEER_ID_CHARS = 46
"""The shortest PeerId; anything shorter is the end of one."""


def short(peer: str) -> str:
    """A PeerId as people tell them apart: its last eight characters."""
    return "…" + peer[-8:] if len(peer) > 12 else peer


def pick(peers: Sequence[str], known: Sequence[str]) -> list[str]:
    """Full PeerIds for what the user typed: a PeerId, or the end of exactly one known one, with or without the ellipsis
    that `short` puts in front. `UsageError` when that is none, or several."""
    found = []
    for text in peers:
        tail = text.removeprefix("…")
        matches = sorted({peer for peer in known if tail and peer.endswith(tail)})
        if len(matches) == 1:
            found.append(matches[0])
        elif matches:
            raise UsageError(f"{text} may be {' or '.join(matches[:4])}: type more of its end")
        elif len(tail) >= PEER_ID_CHARS:
            found.append(tail)
        else:
            raise UsageError(f"no known peer ends in {tail or 'nothing'}: see edgenet-node peers")
    return found


def duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    if seconds < 172_800:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 86_400:.1f} d"


def mebibytes(count: int) -> str:
    return f"{count / (1 << 20):.0f} MiB"
