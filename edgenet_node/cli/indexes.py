"""Indexes: create, fill, search."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import UsageError
from .options import DataDirOption, DebugOption, JsonOption, door, fitted, note, print_json, say, short, table
from .passages import lines, passages
from .paths import path_of
from .tasks import LocalOption, OnlyOption, chosen, read_text

if TYPE_CHECKING:
    from .door import Door

app = typer.Typer(no_args_is_help=True, help="Named vector indexes: create, add, list, show.", rich_markup_mode=None)

BATCH_DOCUMENTS = 1024
"""Passages of one request, each durable before the next: what an interruption may cost."""

BATCH_CHARS = 2 * 1024 * 1024
"""In UTF-8 and JSON at most 12 MiB: less than the API takes."""

STALE_WINDOW = 1024
"""Numbers that are looked through at once for passages of an earlier version."""

EXCERPT_CHARS = 160
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
    node = door(data_dir)
    seen = node.request("POST", path_of("indexes"), {"name": name, "readers": _readers(node, reader)})
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
    cut = lines if by_line else passages
    found = {path.as_posix(): cut(path.as_posix(), text) for path, text in _texts(files)}
    documents = [one for made in found.values() for one in made]
    total = {"files": len(found), "passages": len(documents), "added": 0, "skipped": 0, "removed": 0}
    done = 0
    peers = chosen(node, only)
    for batch in _batches(documents):
        body = {"documents": batch, "wait": True, "only": peers, "local": local}
        seen = node.request("POST", path_of("indexes", name, "documents"), body, timeout_s=ADD_TIMEOUT_S)
        total["added"] += seen["added"]
        total["skipped"] += seen["skipped"]
        done += len(batch)
        note(f"{done}/{len(documents)} passages ({seen['added']} embedded, {seen['skipped']} already there)")
    for path, made in found.items():
        total["removed"] += _remove_stale(node, name, path, [one["id"] for one in made])
    if as_json:
        print_json(total)
        return
    say(
        f"{total['passages']} passages of {total['files']} files: {total['added']} added, "
        f"{total['skipped']} there already, {total['removed']} stale ones removed"
    )


def _batches(documents: Sequence[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    batch: list[dict[str, Any]] = []
    chars = 0
    for one in documents:
        if batch and (len(batch) >= BATCH_DOCUMENTS or chars + len(one["text"]) > BATCH_CHARS):
            yield batch
            batch, chars = [], 0
        batch.append(one)
        chars += len(one["text"])
    if batch:
        yield batch


def _remove_stale(node: Door, name: str, path: str, ids: Sequence[str]) -> int:
    """What an earlier version of this file had and this one has not: numbers in between, and those after its end, for
    which it looks as far as it finds some."""
    kept = set(ids)
    last = int(ids[-1].rpartition("#")[2]) if ids else 0
    removed, first = 0, 1
    while True:
        window = [f"{path}#{n}" for n in range(first, first + STALE_WINDOW)]
        first += STALE_WINDOW
        stale = [one for one in window if one not in kept]
        gone = 0
        if stale:
            gone = int(node.request("POST", path_of("indexes", name, "remove"), {"ids": stale})["removed"])
        removed += gone
        if first > last and not gone:
            return removed


def _texts(paths: Sequence[Path]) -> Iterator[tuple[Path, str]]:
    """Each file once. Of folders what looks like text and is not hidden; what is none after all is left out, with a
    note. Files that were named must be text."""
    seen: set[Path] = set()
    for given in paths:
        if not given.is_dir() and not given.exists() and str(given) != "-":
            raise UsageError(f"no such file: {given}")
        for path in _inside(given) if given.is_dir() else [given]:
            if path in seen:
                continue
            seen.add(path)
            try:
                yield path, read_text(path)
            except UsageError as error:
                if path is given:
                    raise
                note(f"left out: {error.message}")


def _inside(folder: Path) -> list[Path]:
    return sorted(
        one
        for one in folder.rglob("*")
        if one.suffix in SUFFIXES
        and one.is_file()
        and not any(part.startswith(".") for part in one.relative_to(folder).parts)
    )


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
    node = door(data_dir)
    seen = node.request("PUT", path_of("indexes", name, "readers"), {"readers": _readers(node, readers)})
    _print_index(seen, as_json=as_json)


def _readers(node: Door, readers: Sequence[str] | None) -> list[str]:
    everybody = [one for one in readers or () if one == "*"]
    return everybody[:1] + chosen(node, [one for one in readers or () if one != "*"])


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
            say(fitted(f"       {_excerpt(hit['text'])}"))
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
    return flat if len(flat) <= EXCERPT_CHARS else flat[: EXCERPT_CHARS - 1] + "…"
