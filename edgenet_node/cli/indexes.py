"""Indexes: create, fill, search."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import UsageError
from .options import DataDirOption, DebugOption, JsonOption, door, note, print_json, say, short, table
from .passages import lines, passages
from .paths import path_of
from .tasks import LocalOption, OnlyOption, chosen, read_text

if TYPE_CHECKING:
    from .door import Door

app = typer.Typer(no_args_is_help=True, help="Named vector indexes: create, add, list, show.", rich_markup_mode=None)

BATCH_DOCUMENTS = 1024
"""Passages of one request, each durable before the next: what an interruption may cost."""

ADD_TIMEOUT_S = 3600.0
SUFFIXES = frozenset({".md", ".txt", ".rst", ".py", ".toml", ".csv", ".json", ".html", ".log"})
"""What `add FOLDER` picks up; files named one by one may be called anything."""


@app.command("create")
def create(
    name: str,
    reader: Annotated[
        list[str] | None, typer.Option("--reader", metavar="PEER", help="Who may search it besides you; '*': members.")
    ] = None,
    data_dir: DataDirOption = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Create an empty index that belongs to this node.

    Example: edgenet-node index create notes
    """
    seen = door(data_dir).request("POST", path_of("indexes"), {"name": name, "readers": reader or []})
    _print_index(seen, as_json=as_json)


@app.command("add")
def add(
    name: str,
    files: Annotated[list[Path], typer.Argument(help="Text files or folders.")],
    by_line: Annotated[bool, typer.Option("--lines", help="One passage per line.")] = False,
    only: OnlyOption = None,
    local: LocalOption = False,
    data_dir: DataDirOption = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Add files, cut into passages. Run it again to resume or to update: what is there already is skipped.

    Example: edgenet-node index add notes ~/notes
    """
    node = door(data_dir)
    documents: list[dict[str, Any]] = []
    counts: dict[str, int] = {}
    for path in _files(files):
        made = (lines if by_line else passages)(path.as_posix(), read_text(path))
        counts[path.as_posix()] = len(made)
        documents += made
    peers = chosen(node, only)
    total = {"files": len(counts), "passages": len(documents), "added": 0, "skipped": 0, "removed": 0}
    for first in range(0, len(documents), BATCH_DOCUMENTS):
        batch = documents[first : first + BATCH_DOCUMENTS]
        body = {"documents": batch, "wait": True, "only": peers, "local": local}
        seen = node.request("POST", path_of("indexes", name, "documents"), body, timeout_s=ADD_TIMEOUT_S)
        total["added"] += seen["added"]
        total["skipped"] += seen["skipped"]
        done = min(len(documents), first + BATCH_DOCUMENTS)
        note(f"{done}/{len(documents)} passages ({seen['added']} embedded, {seen['skipped']} already there)")
    if not by_line:
        total["removed"] = sum(_remove_stale(node, name, path, count) for path, count in counts.items())
    if as_json:
        print_json(total)
    else:
        say(f"{total['passages']} passages of {total['files']} files: {total['added']} added, {total['skipped']} there")


def _remove_stale(node: Door, name: str, path: str, count: int) -> int:
    """A file that became shorter leaves passages behind its end: take them out."""
    removed = 0
    while True:
        ids = [f"{path}#{count + 1 + n}" for n in range(removed, removed + 64)]
        gone = int(node.request("POST", path_of("indexes", name, "remove"), {"ids": ids})["removed"])
        removed += gone
        if gone < len(ids):
            return removed


def _files(paths: Sequence[Path]) -> Iterator[Path]:
    for path in paths:
        if path.is_dir():
            yield from (one for one in sorted(path.rglob("*")) if one.is_file() and one.suffix in SUFFIXES)
        elif path.exists() or str(path) == "-":
            yield path
        else:
            raise UsageError(f"no such file: {path}")


@app.command("remove")
def remove(
    name: str, ids: list[str], data_dir: DataDirOption = None, as_json: JsonOption = False, debug: DebugOption = False
) -> None:
    """Delete passages by id.

    Example: edgenet-node index remove notes notes/a.md#3
    """
    seen = door(data_dir).request("POST", path_of("indexes", name, "remove"), {"ids": ids})
    if as_json:
        print_json(seen)
    else:
        say(f"{seen['removed']} removed")


@app.command("list")
def list_indexes(data_dir: DataDirOption = None, as_json: JsonOption = False, debug: DebugOption = False) -> None:
    """The indexes of this node."""
    seen = door(data_dir).request("GET", path_of("indexes"))
    if as_json:
        print_json(seen)
        return
    rows = [
        (one["name"], f"{one['documents']}", f"{one['pending']}", f"{len(one['segments'])}", f"{one['replicas']}")
        for one in seen
    ]
    table(("INDEX", "PASSAGES", "PENDING", "SEGMENTS", "REPLICAS"), rows)


@app.command("show")
def show(name: str, data_dir: DataDirOption = None, as_json: JsonOption = False, debug: DebugOption = False) -> None:
    """One index: its segments and who holds them."""
    _print_index(door(data_dir).request("GET", path_of("indexes", name)), as_json=as_json)


@app.command("share")
def share(
    name: str,
    readers: Annotated[
        list[str] | None, typer.Argument(help="PeerIds, or '*' for every member; none: only you.")
    ] = None,
    data_dir: DataDirOption = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Replace the list of those who may search it."""
    seen = door(data_dir).request("PUT", path_of("indexes", name, "readers"), {"readers": readers or []})
    _print_index(seen, as_json=as_json)


@app.command("delete")
def delete(name: str, data_dir: DataDirOption = None, as_json: JsonOption = False, debug: DebugOption = False) -> None:
    """Delete an index here and at its holders."""
    seen = door(data_dir).request("DELETE", path_of("indexes", name))
    if as_json:
        print_json(seen)
    else:
        say(f"deleted {seen['deleted']}")


def _print_index(seen: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json(seen)
        return
    readers = " ".join(short(one) for one in seen["readers"]) or "only you"
    say(f"{seen['name']}  {seen['documents']} passages, {seen['pending']} pending, readers: {readers}")
    rows = [
        (
            one["digest"][:12],
            f"{one['rows']}",
            f"{one['deleted']}",
            " ".join(short(p) for p in one["holders"]) or "here",
        )
        for one in seen["segments"]
    ]
    table(("SEGMENT", "ROWS", "DELETED", "HOLDERS"), rows)


def search(
    name: Annotated[str, typer.Argument(help="Index.")],
    query: Annotated[str, typer.Argument(help="What you look for.")],
    k: Annotated[int, typer.Option("-k", help="Number of results.", min=1, max=256)] = 5,
    where: Annotated[
        list[str] | None, typer.Option("--where", metavar="KEY=VALUE", help="Only with this metadata (repeatable).")
    ] = None,
    owner: Annotated[str, typer.Option("--owner", metavar="PEER", help="Whose index, if not your own.")] = "",
    data_dir: DataDirOption = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Search an index by meaning.

    Example: edgenet-node search notes "how did we fix the leak?"
    """
    conditions = dict(_condition(text) for text in where or [])
    node = door(data_dir)
    body = {"text": query, "k": k, "where": conditions, "owner": chosen(node, [owner])[0] if owner else ""}
    seen = node.request("POST", path_of("indexes", name, "search"), body, timeout_s=90.0)
    if as_json:
        print_json(seen)
    else:
        for hit in seen["hits"]:
            say(f"{hit['score']:.3f}  {hit['id']}")
            say(f"       {_excerpt(hit['text'])}")
        nodes = ", ".join(f"{short(peer)} {rows}" for peer, rows in seen["holders"].items())
        note(f"{seen['rows']} passages searched in {seen['seconds'] * 1000:.0f} ms by {nodes or 'nobody'}")
    if not seen["complete"]:
        note("incomplete: some segments could not be reached")
        raise typer.Exit(1)


def _condition(text: str) -> tuple[str, str]:
    key, sign, value = text.partition("=")
    if not sign or not key:
        raise UsageError(f"--where takes KEY=VALUE, not {text!r}")
    return key, value


def _excerpt(text: str) -> str:
    flat = " ".join(text.split())
    width = 160 if not sys.stdout.isatty() else 72
    return flat if len(flat) <= width else flat[: width - 1] + "…"
