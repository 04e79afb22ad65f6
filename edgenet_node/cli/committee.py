"""The committee and the registry of the swarm."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import TimedOut, UsageError
from .options import DataDirOption, DebugOption, JsonOption, door, note, pick, print_json, say, short, table
from .paths import path_of

if TYPE_CHECKING:
    from .door import Door

app = typer.Typer(no_args_is_help=True, help="The committee that orders what the swarm decides.", rich_markup_mode=None)
registry = typer.Typer(
    no_args_is_help=True, help="Members and parameters that the committee decided.", rich_markup_mode=None
)

CHANGE_TIMEOUT_S = 90.0
"""A new member has a minute to catch up, and the change some seconds more."""

POLL_S = 0.2

PeersArgument = Annotated[list[str], typer.Argument(metavar="PEER...", help="PeerIds, or the ends of known ones.")]
NoWaitOption = Annotated[bool, typer.Option("--no-wait", help="Do not wait until it is done.")]


@app.command("status")
def status(data_dir: DataDirOption = None, as_json: JsonOption = False, debug: DebugOption = False) -> None:
    """Who is in it, who leads, how far the log is, and what it may be trusted with.

    Example: edgenet-node committee status
    """
    seen = door(data_dir).request("GET", path_of("committee"))
    if as_json:
        print_json(seen)
        return
    leader = short(seen["leader"]) if seen["leader"] else "nobody at the moment"
    say(f"committee of {len(seen['committee'])}  {seen['trust']}  epoch {seen['epoch']}  set {seen['set']}")
    if seen["member"]:
        say(f"this node {seen['role']}  term {seen['term']}  leader {leader}")
        say(f"log       committed {seen['commit']}  applied {seen['applied']}  kept from {seen['first']}")
        figures = seen["figures"]
        times = f"{1000 * figures['commit_s']:.1f} ms to commit, {1000 * figures['fsync_s']:.1f} ms to sync"
        say(f"lately    {times}, {figures['batch']:.0f} entries at once")
    else:
        say(f"this node follows it, up to entry {seen['applied']}")
    head = seen["head"]
    if head:
        say(f"head      entry {head['index']}, signed by {head['signatures']} of {head['members']}")
    say(f"state     {seen['state_hash'][:32] or 'unknown'}")
    for text in (seen["reshaping"], *seen["alarms"]):
        if text:
            say(f"NOTE      {text}")
    if seen["offered_epoch"]:
        say(f"ALARM     a new epoch is offered: edgenet-node committee accept {seen['offered_epoch']}")
    rows = [
        (short(one["peer"]), one["role"], str(one["match"] or "-"), _contact(one["last_contact_s"]))
        for one in seen["members"]
    ]
    if not rows:
        rows = [(short(peer), "member", "-", "-") for peer in seen["committee"]]
    table(("PEER", "ROLE", "MATCH", "LAST CONTACT"), rows)


def _contact(seconds: float) -> str:
    return "never" if seconds < 0 else f"{seconds:.1f} s"


@app.command("add")
def add(
    peers: PeersArgument,
    no_wait: NoWaitOption = False,
    data_dir: DataDirOption = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Add members, all at once: 1 grows to 3, 3 to 4, 5 or 7. Ask on a member.

    Example: edgenet-node committee add 12D3KooW... 12D3KooW...
    """
    _change(door(data_dir), peers, [], wait=not no_wait, as_json=as_json)


@app.command("remove")
def remove(
    peers: PeersArgument,
    no_wait: NoWaitOption = False,
    data_dir: DataDirOption = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Remove members, all at once. Ask on a member.

    Example: edgenet-node committee remove 12D3KooW...
    """
    _change(door(data_dir), [], peers, wait=not no_wait, as_json=as_json)


def _change(node: Door, add: list[str], remove: list[str], *, wait: bool, as_json: bool) -> None:
    known = _known(node)
    body = {"add": pick(add, known), "remove": pick(remove, known)}
    before = node.request("GET", path_of("committee"))
    node.request("POST", path_of("committee", "change"), body)
    if not wait:
        if as_json:
            print_json({"state": "begun"})
        else:
            say("begun; see edgenet-node committee status")
        return
    wanted = (set(before["committee"]) | set(body["add"])) - set(body["remove"])
    deadline = time.monotonic() + CHANGE_TIMEOUT_S
    said = ""
    while True:
        seen = node.request("GET", path_of("committee"))
        if set(seen["committee"]) == wanted and not seen["joint"]:
            break
        if seen["reshaping"].startswith("failed: "):
            raise UsageError(f"the committee is as it was: {seen['reshaping'][8:]}")
        if seen["reshaping"] and seen["reshaping"] != said:
            said = seen["reshaping"]
            note(said)
        if time.monotonic() > deadline:
            raise TimedOut("the change is not finished: see edgenet-node committee status")
        time.sleep(POLL_S)
    if as_json:
        print_json(seen)
    else:
        say(f"committee of {len(seen['committee'])}  {seen['trust']}  set {seen['set']}")


def _known(node: Door) -> list[str]:
    status, peers = node.request("GET", path_of("status")), node.request("GET", path_of("peers"))
    return [status["peer_id"], *(peer["peer_id"] for peer in peers)]


@app.command("transfer")
def transfer(
    peer: Annotated[str, typer.Argument(metavar="PEER", help="A member.")],
    data_dir: DataDirOption = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Hand leadership to a member.

    Example: edgenet-node committee transfer 12D3KooW...
    """
    node = door(data_dir)
    body = {"peer": pick([peer], _known(node))[0]}
    node.request("POST", path_of("committee", "transfer"), body)
    if as_json:
        print_json(body)
    else:
        say(f"handing over to {short(body['peer'])}")


@app.command("snapshot")
def snapshot(data_dir: DataDirOption = None, as_json: JsonOption = False, debug: DebugOption = False) -> None:
    """Make a snapshot of this member's state now, and shorten its log.

    Example: edgenet-node committee snapshot
    """
    seen = door(data_dir).request("POST", path_of("committee", "snapshot"))
    if as_json:
        print_json(seen)
    else:
        say(f"snapshot of entry {seen['index']} under way")


@app.command("recover")
def recover(
    yes: Annotated[bool, typer.Option("--yes", help="Without asking.")] = False,
    data_dir: DataDirOption = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Go on alone after the majority is lost FOR GOOD. Stop all other members first.

    A new epoch begins with what this member has; what only the lost ones had is gone. Every operator of the swarm has
    to accept it (committee accept), and other members must be removed from their old log and added anew.

    Example: edgenet-node committee recover
    """
    if not yes:
        typer.confirm("End this committee's epoch and go on alone with what this member has?", abort=True)
    seen = door(data_dir).request("POST", path_of("committee", "recover"), {"confirm": True})
    if as_json:
        print_json(seen)
    else:
        say(f"a new epoch began; on every other node: edgenet-node committee accept {seen['epoch_digest']}")


@app.command("accept")
def accept(
    digest: Annotated[str, typer.Argument(metavar="DIGEST", help="As the recovered member printed it.")],
    data_dir: DataDirOption = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Accept a new epoch of the committee after a recovery.

    Example: edgenet-node committee accept 3f2a...
    """
    seen = door(data_dir).request("POST", path_of("committee", "accept"), {"digest": digest})
    if as_json:
        print_json(seen)
    else:
        say("accepted")


@registry.command("show")
def show(data_dir: DataDirOption = None, as_json: JsonOption = False, debug: DebugOption = False) -> None:
    """Members and parameters, as the newest head that this node has proves them.

    Example: edgenet-node registry show
    """
    seen = door(data_dir).request("GET", path_of("registry"))
    if as_json:
        print_json(seen)
        return
    say(f"as of entry {seen['index']}  {seen['state_hash'][:32]}")
    table(
        ("PARAMETER", "VALUE", "DEFAULT"), [(one["name"], one["value"], one["default"]) for one in seen["parameters"]]
    )
    say()
    rows = [
        (short(one["peer"]), one["status"], ",".join(one["capabilities"]) or "-", one["reason"] or _where(one))
        for one in seen["members"]
    ]
    table(("PEER", "STATUS", "OFFERS", "ADDRESS OR REASON"), rows)


def _where(member: dict[str, Any]) -> str:
    return member["addresses"][0].split("/p2p/")[0] if member["addresses"] else "-"


@registry.command("admit")
def admit(
    peer: Annotated[str, typer.Argument(metavar="PEER", help="A PeerId, or the end of a known one.")],
    data_dir: DataDirOption = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Admit a node by name: it may connect when admission is listed. Lifts a ban. Ask on a member of the committee.

    Example: edgenet-node registry admit 12D3KooW...
    """
    _decide(door(data_dir), "admit", peer, "", as_json=as_json)


@registry.command("ban")
def ban(
    peer: Annotated[str, typer.Argument(metavar="PEER", help="A PeerId, or the end of a known one.")],
    reason: Annotated[str, typer.Option("--reason", help="Shown to it and to everybody.")] = "",
    data_dir: DataDirOption = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Ban a node from the whole swarm. Ask on a member of the committee.

    Example: edgenet-node registry ban 12D3KooW... --reason "wrong results"
    """
    _decide(door(data_dir), "ban", peer, reason, as_json=as_json)


@registry.command("set")
def set_parameter(
    name: str,
    value: str,
    data_dir: DataDirOption = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Set a parameter of the swarm. Ask on a member of the committee.

    Example: edgenet-node registry set admission listed
    """
    body = {"kind": "set", "name": name, "value": value}
    _print_decision(door(data_dir).request("POST", path_of("registry"), body), as_json=as_json)


def _decide(node: Door, kind: str, peer: str, reason: str, *, as_json: bool) -> None:
    known = [one["peer"] for one in node.request("GET", path_of("registry"))["members"]]
    body = {"kind": kind, "peer": pick([peer], [*known, *_known(node)])[0], "reason": reason}
    _print_decision(node.request("POST", path_of("registry"), body), as_json=as_json)


def _print_decision(seen: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json(seen)
    else:
        say(f"decided, entry {seen['index']}")
