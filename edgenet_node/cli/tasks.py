"""Tasks: submit, follow, list, cancel."""

from __future__ import annotations

import base64
import json
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import UsageError
from .exits import of_state
from .options import (
    PEER_ID_CHARS,
    DataDirOption,
    DebugOption,
    JsonOption,
    door,
    fitted,
    note,
    pick,
    print_json,
    say,
    short,
    table,
)
from .paths import path_of

if TYPE_CHECKING:
    from .door import Door

_PEER_ID = re.compile(r"12D3KooW[1-9A-HJ-NP-Za-km-z]{44}")

app = typer.Typer(no_args_is_help=True, help="Tasks of this node: list, show, follow, cancel.", rich_markup_mode=None)

OnlyOption = Annotated[
    list[str] | None, typer.Option("--only", metavar="PEER", help="Only this peer may run it (repeatable).")
]
LocalOption = Annotated[bool, typer.Option("--local", help="Run it on this node only.")]
FILE_BYTES_MAX = 8 * 1024 * 1024
"""One input file; larger bodies of text belong into an index."""

ARRAY_FILES = frozenset({".npy", ".npz", ".safetensors"})
"""Suffixes of files that hold arrays: sent as they are."""


def submit(
    kind: Annotated[str, typer.Argument(help="Task kind, see: edgenet-node models")],
    text: Annotated[list[str] | None, typer.Option("--text", help="A text (repeatable).")] = None,
    file: Annotated[
        list[Path] | None,
        typer.Option("--file", help="One text per line; or arrays: .npz, .safetensors, or .npy named as its field."),
    ] = None,
    payload: Annotated[
        str | None, typer.Option("--payload", help="The whole request as JSON; beside files of arrays, the rest of it.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", help="Write a result that is an array to this .npy file.")
    ] = None,
    only: OnlyOption = None,
    local: LocalOption = False,
    timeout_s: Annotated[float, typer.Option("--timeout", help="Give up after this many seconds.")] = 600.0,
    price_max: Annotated[int, typer.Option("--max-price", help="Highest price, micro-rUv per unit.")] = 0,
    follow: Annotated[bool, typer.Option("--follow", help="Show what happens.")] = False,
    detach: Annotated[bool, typer.Option("--detach", help="Do not wait for the result.")] = False,
    data_dir: DataDirOption = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Run a task in the swarm and print its result.

    Example: edgenet-node submit embedding --text "hello" --follow
    Example: edgenet-node submit matmul --file a.npy --file b.npy --output product.npy
    """
    if detach and (follow or output):
        raise UsageError("give either --follow, --output or --detach" if follow else "--detach waits for no --output")
    node = door(data_dir)
    body: dict[str, Any] = {
        "kind": kind,
        "payload": _payload(text or [], file or [], payload),
        "only": chosen(node, only),
        "local": local,
        "timeout_s": timeout_s,
        "price_max": price_max,
        "wait": not (follow or detach),
    }
    seen = node.request("POST", path_of("tasks"), body, timeout_s=timeout_s + 30.0)
    if follow:
        for event in node.events(seen["task"]):
            note(event_line(event, seen["created_wall"]))
        seen = node.request("GET", path_of("tasks", seen["task"]))
    if output is not None and seen["state"] == "done":
        seen = seen | {"result": _written(seen["result"], output)}
    _print_outcome(seen, as_json=as_json)
    raise typer.Exit(0 if detach else of_state(seen["state"]))


def chosen(node: Door, peers: Sequence[str] | None) -> list[str]:
    """PeerIds for what was typed, which may be the ends of some."""
    if not peers:
        return []
    if all(len(peer) >= PEER_ID_CHARS for peer in peers):
        return list(peers)
    known = [peer["peer_id"] for peer in node.request("GET", path_of("peers"))]
    own = node.request("GET", path_of("status"))["peer_id"]
    return pick(peers, [*known, own])


def _payload(texts: list[str], files: list[Path], payload: str | None) -> dict[str, Any]:
    arrays = [path for path in files if path.suffix.lower() in ARRAY_FILES]
    if payload is not None:
        if texts or len(files) > len(arrays):
            raise UsageError("give either --payload or --text and --file")
        try:
            value = json.loads(payload)
        except ValueError as error:
            raise UsageError(f"--payload is not JSON: {error}") from None
        if not isinstance(value, dict):
            raise UsageError("--payload must be a JSON object")
        return value | _arrays(arrays, value)
    if arrays:
        if texts or len(files) > len(arrays):
            raise UsageError("give either texts or files of arrays")
        return _arrays(arrays, {})
    lines = [*texts]
    for path in files:
        lines += [line for line in read_text(path).splitlines() if line.strip()]
    if not lines:
        raise UsageError("nothing to do: give --text, --file or --payload")
    return {"text": lines[0]} if len(lines) == 1 else {"texts": lines}


def _arrays(paths: Sequence[Path], others: Mapping[str, Any]) -> dict[str, str]:
    """Fields with base64 of each file: a .npy by its name, a file of several as `arrays`."""
    fields: dict[str, str] = {}
    for path in paths:
        name = path.stem if path.suffix.lower() == ".npy" else "arrays"
        if name in fields or name in others:
            raise UsageError(f"{path}: {name} is given twice")
        fields[name] = base64.b64encode(_read(path)).decode()
    return fields


def _written(result: dict[str, Any], path: Path) -> dict[str, Any]:
    """The result without the array that now is in `path`."""
    if "npy" not in result:
        raise UsageError("this result is no array: leave out --output")
    try:
        path.write_bytes(base64.b64decode(result["npy"]))
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}") from None
    return {name: value for name, value in result.items() if name != "npy"} | {"file": str(path)}


def read_text(path: Path) -> str:
    """A UTF-8 text file (`-`: standard input); one-line errors."""
    try:
        return _read(path).decode()
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is not UTF-8 text (byte {error.start})") from None


def _read(path: Path) -> bytes:
    try:
        if str(path) == "-":
            data = sys.stdin.buffer.read(FILE_BYTES_MAX + 1)
        else:
            with path.open("rb") as file:
                data = file.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from None
    if len(data) > FILE_BYTES_MAX:
        raise UsageError(f"{path} is larger than {FILE_BYTES_MAX // (1 << 20)} MiB; split it")
    return data


def _print_outcome(seen: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json(seen)
        return
    if seen["state"] == "done":
        say(json.dumps(seen["result"], ensure_ascii=False))
    who = ", ".join(f"{short(peer)} {count}" for peer, count in seen["executors"].items()) or "nobody yet"
    note(f"{seen['task']}  {seen['state']}  {seen['done']}/{seen['items']} items  by {who}")
    note(verified_line(seen["verified"]) if seen["done"] else (seen["reason"] or ""))
    if seen["reason"] and seen["done"]:
        note(seen["reason"])


def verified_line(verified: dict[str, Any]) -> str:
    return (
        f"verified {verified['checked']} of {verified['total']}: {verified['mismatches']} wrong and redone; "
        f"at most {verified['error_bound']:.2%} of all wrong (95 % sure)"
    )


def event_line(event: dict[str, Any], start: float) -> str:
    """One event as people read it: PeerIds by their ends, wherever they stand."""
    data = event["data"].items()
    shown = ", ".join(f"{name} {short(str(value)) if name == 'peer' else _shown(value)}" for name, value in data)
    line = f"{max(0.0, event['wall'] - start):7.2f}s  {event['name']:<10}  {shown}".rstrip()
    return _PEER_ID.sub(lambda found: short(found.group()), line)


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3g}"
    if isinstance(value, dict):
        return " ".join(f"{short(str(key))} {_shown(inner)}" for key, inner in value.items())
    if isinstance(value, list):
        return " ".join(str(one["peer"]) if isinstance(one, dict) and "peer" in one else str(one) for one in value)
    return str(value)


@app.command("list")
def list_tasks(
    limit: Annotated[int, typer.Option("--limit", min=1, max=1000)] = 20,
    data_dir: DataDirOption = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """The newest tasks."""
    seen = door(data_dir).request("GET", path_of("tasks", limit=limit))
    if as_json:
        print_json(seen)
        return
    rows = [(one["task"], one["kind"], one["state"], f"{one['done']}/{one['items']}", one["reason"]) for one in seen]
    table(("TASK", "KIND", "STATE", "ITEMS", "REASON"), rows)


@app.command("show")
def show_task(
    task: str, data_dir: DataDirOption = None, as_json: JsonOption = False, debug: DebugOption = False
) -> None:
    """One task with its result."""
    _print_outcome(door(data_dir).request("GET", path_of("tasks", task)), as_json=as_json)


@app.command("follow")
def follow_task(
    task: str, data_dir: DataDirOption = None, as_json: JsonOption = False, debug: DebugOption = False
) -> None:
    """The events of a task until it is finished."""
    node = door(data_dir)
    start = node.request("GET", path_of("tasks", task))["created_wall"]
    for event in node.events(task):
        if as_json:
            print_json(event)
        else:
            say(fitted(event_line(event, start)))
    raise typer.Exit(of_state(node.request("GET", path_of("tasks", task))["state"]))


@app.command("cancel")
def cancel_task(
    task: str, data_dir: DataDirOption = None, as_json: JsonOption = False, debug: DebugOption = False
) -> None:
    """Cancel a task."""
    seen = door(data_dir).request("POST", path_of("tasks", task, "cancel"))
    if as_json:
        print_json(seen)
    else:
        say(f"{seen['task']} {seen['state']}")
