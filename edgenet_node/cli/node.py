"""The node itself: init, run, status, peers, models, stop, version."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from .. import __version__
from .options import (
    DataDirOption,
    DebugOption,
    JsonOption,
    door,
    duration,
    folder,
    mebibytes,
    note,
    print_json,
    say,
    short,
    table,
)
from .paths import path_of

SwarmOption = Annotated[str | None, typer.Option("--swarm", metavar="GENESIS", help="Belong to this swarm only.")]


def init(
    data_dir: DataDirOption = None,
    swarm: SwarmOption = None,
    new_swarm: Annotated[
        bool, typer.Option("--new-swarm", help="Found a swarm: its committee is this node alone, and can grow.")
    ] = False,
    password: Annotated[bool, typer.Option("--password", help="Protect the key with a password (asked for).")] = False,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Create this node's identity and configuration.

    A node without bootstrap peers founds a swarm when it first runs; --new-swarm does it now, and keeps it.

    Example: edgenet-node init --data-dir ~/edgenet
    """
    from ..app.initialise import initialise

    if new_swarm and swarm:
        raise typer.BadParameter("give either --new-swarm or --swarm", param_hint="--new-swarm")
    text = typer.prompt("Password", hide_input=True, confirmation_prompt=True) if password else None
    made = initialise(folder(data_dir), swarm=swarm or "", password=text, new_swarm=new_swarm)
    if as_json:
        print_json(made)
        return
    say(f"identity  {made['short_id']}  {made['peer_id']}")
    say(f"key       {made['key_file']} (readable by you only; back it up: who has it is this node)")
    say(f"config    {made['config_file']}")
    if made["swarm"]:
        say(f"swarm     {made['swarm']}" + (" (new: a committee of one)" if new_swarm else ""))
    say(f"next      edgenet-node run --data-dir {made['data_dir']}")


def run(
    data_dir: DataDirOption = None,
    listen: Annotated[list[str] | None, typer.Option("--listen", metavar="MULTIADDR", help="Listen here.")] = None,
    announce: Annotated[
        list[str] | None, typer.Option("--announce", metavar="MULTIADDR", help="Tell others this instead.")
    ] = None,
    bootstrap: Annotated[
        list[str] | None, typer.Option("--bootstrap", metavar="MULTIADDR", help="Join through this peer.")
    ] = None,
    api: Annotated[str | None, typer.Option("--api", metavar="HOST:PORT", help="Serve the API here.")] = None,
    swarm: SwarmOption = None,
    workers: Annotated[int | None, typer.Option("--workers", help="Worker processes.", min=1, max=256)] = None,
    lie: Annotated[bool, typer.Option("--lie", help="Return wrong results, to see them caught.", hidden=True)] = False,
    config_file: Annotated[Path | None, typer.Option("--config", help="Configuration file.")] = None,
    log_level: Annotated[str | None, typer.Option("--log-level", help="debug, info, warning, error.")] = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Run the daemon in the foreground until Ctrl-C or a signal.

    Without --bootstrap a fresh node founds a swarm of its own; with it, it adopts that of the first peer it reaches.

    Example: edgenet-node run --bootstrap /ip4/192.0.2.7/tcp/4001/p2p/12D3KooW...
    """
    host, port = _host_port(api)
    overrides: dict[str, object] = {
        "node.data_dir": str(data_dir) if data_dir else None,
        "node.log_level": log_level,
        "network.listen": tuple(listen) if listen else None,
        "network.announce": tuple(announce) if announce else None,
        "network.bootstrap": tuple(bootstrap) if bootstrap else None,
        "network.swarm": swarm,
        "api.host": host,
        "api.port": port,
        "workers.count": workers,
        "faults.lie": True if lie else None,
    }
    from .. import config as settings

    config = settings.load(config_file, os.environ, overrides)

    from ..kernels.bootstrap import apply as configure_blas

    configure_blas()  # before anything imports numpy
    from ..app.start import run_node  # after what may be wrong: it takes a second

    raise typer.Exit(run_node(config, _print_ready_json if as_json else _print_ready))


def _host_port(api: str | None) -> tuple[str | None, int | None]:
    if api is None:
        return None, None
    host, _, port = api.rpartition(":")
    if not host or not port.isdigit():
        raise typer.BadParameter("use HOST:PORT, for example 127.0.0.1:8787", param_hint="--api")
    return host.strip("[]"), int(port)


def _print_ready_json(ready: dict[str, Any]) -> None:
    print_json(ready)


def _print_ready(ready: dict[str, Any]) -> None:
    say(f"READY  {ready['peer_id']}  {' '.join(ready['addresses'])}  api {ready['api']}")


def status(data_dir: DataDirOption = None, as_json: JsonOption = False, debug: DebugOption = False) -> None:
    """How this node is doing.

    Example: edgenet-node status --json
    """
    seen = door(data_dir).request("GET", path_of("status"))
    if as_json:
        print_json(seen)
        return
    tasks = seen["tasks"]
    say(f"{seen['state'].upper()}  {seen['peers']} peers  up {duration(seen['uptime_s'])}  version {seen['version']}")
    say(f"identity  {seen['short_id']}  {seen['peer_id']}")
    say(f"swarm     {seen['swarm'] or 'none yet'} ({seen['swarm_origin'] or 'looking for the first peer'})")
    committee = seen["committee"]
    role = f", this node is {committee['role']}" if committee["role"] != "none" else ""
    say(f"committee {committee['members']} ({committee['trust']}){role}")
    for alarm in committee["alarms"]:
        say(f"ALARM     {alarm}")
    for address in seen["addresses"]:
        say(f"address   {address}")
    own = ", ".join(f"{count} {state}" for state, count in tasks.items() if state in _STATES and count) or "none"
    say(f"own tasks {own}")
    say(f"for peers {tasks['served_items']} items in {tasks['served_chunks']} chunks, {tasks['serving']} running")
    workers = seen["workers"]
    say(f"workers   {workers['busy']} of {workers['workers']} busy, {workers['restarts']} restarts")
    say(f"health    loop lag {seen['loop_lag_ms']:.1f} ms, {mebibytes(seen['rss_bytes'])} resident")


_STATES = ("queued", "running", "done", "failed", "timed_out", "rejected", "cancelled")


def peers(data_dir: DataDirOption = None, as_json: JsonOption = False, debug: DebugOption = False) -> None:
    """The peers this node knows, and what they offer.

    Example: edgenet-node peers
    """
    seen = door(data_dir).request("GET", path_of("peers"))
    if as_json:
        print_json(seen)
        return
    rows = [
        (
            short(peer["peer_id"]),
            peer["state"],
            ",".join(one["kind"] for one in peer["capabilities"]) or "-",
            f"{peer['load']}/{peer['workers']}",
            peer["reason"] or (peer["addresses"][0].split("/p2p/")[0] if peer["addresses"] else "-"),
        )
        for peer in seen
    ]
    if not rows:
        note("no peers yet")
    table(("PEER", "STATE", "OFFERS", "LOAD", "ADDRESS OR REASON"), rows)


def models(data_dir: DataDirOption = None, as_json: JsonOption = False, debug: DebugOption = False) -> None:
    """The task kinds and models that this node can run.

    Example: edgenet-node models
    """
    seen = door(data_dir).request("GET", path_of("models"))
    if as_json:
        print_json(seen)
        return
    rows = [
        (one["kind"], one["model"] or "-", "yes" if one["available"] else "no", f"{one['price']}", one["reason"] or "")
        for one in seen
    ]
    table(("KIND", "MODEL", "AVAILABLE", "MICRO-RUV/UNIT", "REASON"), rows)


def stop(data_dir: DataDirOption = None, as_json: JsonOption = False, debug: DebugOption = False) -> None:
    """Ask the daemon to drain and stop.

    Example: edgenet-node stop
    """
    seen = door(data_dir).request("POST", path_of("stop"))
    if as_json:
        print_json(seen)
    else:
        say("stopping")


def version(as_json: JsonOption = False) -> None:
    """The version of this program."""
    if as_json:
        print_json({"version": __version__})
    else:
        say(__version__)
