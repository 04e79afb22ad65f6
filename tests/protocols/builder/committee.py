"""The committee: sets, certificates and heads, registry rows and commands, its calls and its topic."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any, Final

from .kit import CREATED_MS, FOUNDER, OTHER, OTHER_SWARM, SWARM, THIRD, Book, Key, call, pack, reply

FOURTH: Final = Key(4)
FOUR: Final = sorted((FOUNDER, OTHER, THIRD, FOURTH), key=lambda key: key.public)
SET_DOMAIN, HEAD_DOMAIN, COMMAND_DOMAIN = "committee-set", "registry-head", "registry-command"
EMPTY_HISTORY: Final = hashlib.sha256(b"edgenet/registry/1").digest()
HASH: Final = hashlib.sha256(b"something").digest()
CLIENT: Final = bytes(range(16))


def sha256(value: Any) -> bytes:
    return hashlib.sha256(pack(value)).digest()


def quorum(members: int) -> int:
    return (members + (members - 1) // 3) // 2 + 1


def set_of(keys: Sequence[Key], number: int, previous: bytes, epoch: int = 0) -> dict[str, Any]:
    return {
        "epoch": epoch,
        "number": number,
        "members": sorted(key.public for key in keys),
        "previous": previous,
    }


FIRST: Final = set_of([FOUNDER], 0, hashlib.sha256(SWARM.encode()).digest())
SECOND: Final = set_of(FOUR, 1, sha256(FIRST))


def certificate(signing: dict[str, Any], domain: str, subject: Any, by: Sequence[Key]) -> dict[str, Any]:
    signatures = [
        {"place": signing["members"].index(key.public), "signature": key.sign(domain, sha256(subject))}
        for key in sorted(by, key=lambda key: key.public)
    ]
    return {"epoch": signing["epoch"], "number": signing["number"], "signatures": signatures}


def link(subject: dict[str, Any], signing: dict[str, Any] | None = None, by: Sequence[Key] = ()) -> dict[str, Any]:
    return {"set": subject, "certificate": None if signing is None else certificate(signing, SET_DOMAIN, subject, by)}


LINKS: Final = [link(FIRST), link(SECOND, FIRST, [FOUNDER])]


def head(number: int = 1, **changes: Any) -> dict[str, Any]:
    base = {"swarm": SWARM, "epoch": 0, "number": number, "index": 40, "root": HASH, "history": EMPTY_HISTORY}
    return base | changes


def certified(body: dict[str, Any], signing: dict[str, Any] = SECOND, by: Sequence[Key] = FOUR[:3]) -> dict[str, Any]:
    return {"head": body, "certificate": certificate(signing, HEAD_DOMAIN, body, by)}


def command(kind: str, **changes: Any) -> dict[str, Any]:
    base = {
        "kind": kind,
        "swarm": SWARM,
        "sequence": CREATED_MS,
        "peer": "",
        "reason": "",
        "addresses": [],
        "capabilities": [],
        "name": "",
        "value": 0,
    }
    return base | changes


def signed(key: Key, body: dict[str, Any], domain: str = COMMAND_DOMAIN) -> dict[str, Any]:
    data = pack(body)
    return {"author": key.public, "body": data, "signature": key.sign(domain, data)}


def merkle(leaves: list[bytes]) -> bytes:
    """RFC 6962, section 2.1, as it is written there."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return hashlib.sha256(b"\0" + leaves[0]).digest()
    split = 1 << (len(leaves) - 1).bit_length() - 1
    return hashlib.sha256(b"\1" + merkle(leaves[:split]) + merkle(leaves[split:])).digest()


class Registry:
    """What commands that are accepted write; a second reading of the page."""

    def __init__(self) -> None:
        self.rows: dict[str, bytes] = {"set/0": pack(LINKS[0])}
        self.history = EMPTY_HISTORY
        self.log: list[bytes] = []
        self.refused: list[int] = []

    def take(self, key: Key, body: dict[str, Any], writes: dict[str, Any] | None) -> None:
        """`writes` is None for a command that is refused."""
        index = len(self.log) + 2
        self.log.append(pack(signed(key, body)))
        if writes is None:
            self.refused.append(index)
            return
        if body["kind"] != "register":
            writes = {f"author/{key.public.hex()}": {"sequence": body["sequence"]}, **writes}
        packed = {name: pack(writes[name]) for name in sorted(writes)}
        self.rows |= packed
        self.history = hashlib.sha256(self.history + index.to_bytes(8, "big") + pack(packed)).digest()

    @property
    def value(self) -> dict[str, Any]:
        rows = dict(sorted(self.rows.items()))
        root = merkle([pack({"key": key, "value": value}) for key, value in rows.items()])
        return {"rows": rows, "history": self.history, "root": root, "refused": self.refused}


def member(key: Key, index: int, status: str = "open", **changes: Any) -> dict[str, Any]:
    base = {
        "public_key": key.public,
        "status": status,
        "reason": "",
        "addresses": [],
        "capabilities": [],
        "sequence": 0,
        "index": index,
    }
    return base | changes


def build(book: Book) -> None:
    _values(book)
    _chains(book)
    _registries(book)
    _commands(book)
    _head_calls(book)
    _member_calls(book)
    _topic(book)


def _values(book: Book) -> None:
    """What is hashed, signed or kept, by itself."""
    row = member(OTHER, 9, "admitted", reason="known", addresses=["/ip4/192.0.2.2/tcp/4001"], capabilities=["echo"])
    whole = {"index": 40, "history": HASH, "pending": SECOND, "rows": {"set/0": pack(LINKS[0])}}
    cases: dict[str, tuple[str, dict[str, Any], list[str], list[str]]] = {
        "CommitteeSet": ("set", SECOND, ["COMMITTEE-1"], []),
        "Link": ("link", LINKS[1], ["COMMITTEE-3"], ["certificate"]),
        "Head": ("head", head(), ["COMMITTEE-8"], []),
        "SignedCommand": ("signed command", signed(OTHER, command("register")), ["COMMITTEE-12"], []),
        "MemberRow": (
            "member row",
            row,
            ["COMMITTEE-15"],
            ["reason", "addresses", "capabilities", "sequence", "index"],
        ),
        "ParameterRow": ("parameter row", {"value": -(2**53), "index": 9}, ["COMMITTEE-17"], ["index"]),
        "AuthorRow": ("author row", {"sequence": 2**53}, ["COMMITTEE-14"], []),
        "Whole": ("state for a snapshot", whole, ["COMMITTEE-31"], []),
    }
    for kind, (name, body, must, optional) in cases.items():
        context = f"canonical:{kind}"
        book.good(name, context, pack(body), must)
        book.damaged(name, context, pack, body, optional=optional)
        for field in optional:
            without = {key: value for key, value in body.items() if key != field}
            book.bad(f"{name} without {field}", context, pack(without), "malformed", "not canonical", ["ENC-7"])
    keys = [key.public for key in FOUR]
    bad_sets: dict[str, Any] = {
        "members: none": [],
        "members: in descending order": keys[::-1],
        "members: twice the same": [keys[0], keys[0]],
        "members: of eight": sorted(Key(number).public for number in range(1, 9)),
        "previous: of 31 bytes": bytes(31),
        "epoch: of 2^32": 2**32,
        "number: of 2^31": 2**31,
    }
    book.beyond("set", "canonical:CommitteeSet", pack, SECOND, "COMMITTEE-1", bad_sets)
    signatures = LINKS[1]["certificate"]["signatures"]
    for what, found in {
        "none": [],
        "one twice": signatures * 2,
        "a place of 7": [signatures[0] | {"place": 7}],
        "out of order": [signatures[0] | {"place": 1}, signatures[0]],
    }.items():
        broken = LINKS[1] | {"certificate": LINKS[1]["certificate"] | {"signatures": found}}
        reason = f"signatures: {what}"
        book.bad(f"link with {what}", "canonical:Link", pack(broken), "malformed", reason, ["COMMITTEE-4"])
    rows: dict[str, Any] = {
        "status: unknown": "member",
        "reason: of 201 characters": "r" * 201,
        "addresses: of 17": ["/ip4/192.0.2.2"] * 17,
        "capabilities: of 65": ["echo"] * 65,
        "sequence: above 2^53": 2**53 + 1,
    }
    book.beyond("member row", "canonical:MemberRow", pack, row, "COMMITTEE-15", rows)


def _chains(book: Book) -> None:
    """An answer to `committee.head/1`, as a follower that knows the genesis alone judges it."""
    context = "chain"
    founder = FOUNDER.public.hex()
    more = {"swarm": SWARM, "public": founder}

    def answer(links: list[Any], of_head: Any = None) -> bytes:
        return pack({"links": links, "more": False, "roster": [], "head": of_head})

    def good(name: str, data: bytes, must: list[str], **value: Any) -> None:
        book.good(name, context, data, must, value, **more)

    def bad(name: str, data: bytes, error: str, reason: str, must: list[str], **others: Any) -> None:
        book.bad(name, context, data, error, reason, must, **(more | others))

    good("the first set", answer([LINKS[0]]), ["COMMITTEE-2"], epoch=0, number=0, head=None)
    good("four, by the founder", answer(LINKS), ["COMMITTEE-3", "COMMITTEE-5"], epoch=0, number=1, head=None)
    good("without the set that is known", answer(LINKS[1:]), ["COMMITTEE-3"], epoch=0, number=1, head=None)
    for name, by in (("three of four", FOUR[:3]), ("three others of four", FOUR[1:]), ("all four", FOUR)):
        data = answer(LINKS, certified(head(), by=by))
        good(f"a head that {name} signed", data, ["COMMITTEE-4", "COMMITTEE-8"], epoch=0, number=1, head=40)
    third = set_of(FOUR[:3], 2, sha256(SECOND))
    good(
        "back to three",
        answer([*LINKS, link(third, SECOND, FOUR[1:])]),
        ["COMMITTEE-3"],
        epoch=0,
        number=2,
        head=None,
    )
    old = certified(head(0), FIRST, [FOUNDER])
    good("a head of a set that left office", answer(LINKS, old), ["COMMITTEE-9"], epoch=0, number=1, head=None)
    alone = set_of([OTHER], 2, sha256(SECOND), epoch=1)
    good(
        "a new epoch that nobody accepted", answer([*LINKS, link(alone)]), ["COMMITTEE-7"], epoch=0, number=1, head=None
    )
    early = set_of([FOUNDER], 1, sha256(FIRST), epoch=1)
    good(
        "a new epoch from an earlier set", answer([*LINKS, link(early)]), ["COMMITTEE-7"], epoch=0, number=1, head=None
    )

    three = "a quorum of four is three"
    two = [*LINKS, link(third, SECOND, FOUR[:2])]
    bad("a set that two of four signed", answer(two), "malformed", three, ["COMMITTEE-4"])
    bad("a set without a certificate", answer([*LINKS, link(third)]), "malformed", three, ["COMMITTEE-3"])
    wrong = link(third, SECOND, FOUR[:3])
    wrong["certificate"]["signatures"][1]["signature"] = bytes(64)
    extra = link(third, SECOND, FOUR)
    extra["certificate"]["signatures"][3]["signature"] = bytes(64)
    bad("a set with a false signature", answer([*LINKS, wrong]), "malformed", "it does not verify", ["COMMITTEE-4"])
    bad("a quorum and a false signature", answer([*LINKS, extra]), "malformed", "one does not verify", ["COMMITTEE-4"])
    other = link(third, SECOND, FOUR[:3])
    other["certificate"]["number"] = 0
    bad("a certificate of another number", answer([*LINKS, other]), "malformed", "set 1 has to sign", ["COMMITTEE-4"])
    beyond = link(third, SECOND, FOUR[:3])
    beyond["certificate"]["signatures"][2]["place"] = 4
    bad("a place beyond the set", answer([*LINKS, beyond]), "malformed", "there are four members", ["COMMITTEE-4"])
    domain = {"set": third, "certificate": certificate(SECOND, HEAD_DOMAIN, third, FOUR[:3])}
    bad("signed in the domain of heads", answer([*LINKS, domain]), "malformed", "committee-set is due", ["COMMITTEE-5"])
    gap = link(set_of(FOUR[:3], 3, sha256(SECOND)), SECOND, FOUR[:3])
    bad("a set that skips a number", answer([*LINKS, gap]), "malformed", "3 follows 2", ["COMMITTEE-3"])
    loose = link(set_of(FOUR[:3], 2, HASH), SECOND, FOUR[:3])
    bad("a set that follows another one", answer([*LINKS, loose]), "malformed", "previous is wrong", ["COMMITTEE-3"])
    for size in (2, 6):
        keys = [Key(number) for number in range(1, size + 1)]
        data = answer([link(set_of(keys, 1, sha256(FIRST)), FIRST, [FOUNDER])])
        bad(f"a committee of {size}", data, "malformed", "1, 3, 4, 5 or 7", ["COMMITTEE-1"])
    usurped = set_of([OTHER], 0, FIRST["previous"])
    bad("a first set of another founder", answer([link(usurped)]), "malformed", "the genesis names it", ["COMMITTEE-2"])
    bad(
        "another swarm's chain",
        answer(LINKS),
        "malformed",
        "its genesis is another",
        ["COMMITTEE-2"],
        swarm=OTHER_SWARM,
    )
    fork = link(set_of(FOUR[:3], 1, sha256(FIRST)), FIRST, [FOUNDER])
    bad("two committees of one genesis", answer([*LINKS, fork]), "conflict", "both are certified", ["COMMITTEE-6"])
    skipping = link(set_of([OTHER], 2, sha256(SECOND), epoch=2))
    bad("an epoch that is skipped", answer([*LINKS, skipping]), "malformed", "2 follows 0", ["COMMITTEE-7"])
    several = link(set_of(FOUR[:3], 2, sha256(SECOND), epoch=1))
    bad("an epoch of three", answer([*LINKS, several]), "malformed", "one goes on alone", ["COMMITTEE-7"])
    few = certified(head(), by=FOUR[:2])
    bad("a head that two of four signed", answer(LINKS, few), "malformed", three, ["COMMITTEE-9"])
    forged = certified(head()) | {"head": head(index=41)}
    bad("a head with another index", answer(LINKS, forged), "malformed", "its digest is another", ["COMMITTEE-9"])
    book.damaged("answer", context, pack, {"links": LINKS, "more": False, "roster": []})


def _registries(book: Book) -> None:
    """Logs of a committee of one: commands at the entries 2, 3 and so on; and the registry after the last."""
    context, more = "registry", {"swarm": SWARM, "public": FOUNDER.public.hex()}

    def good(name: str, registry: Registry, must: list[str]) -> None:
        book.good(name, context, pack(registry.log), must, registry.value, **more)

    good("no command at all", Registry(), ["COMMITTEE-8"])
    address, peer = ["/ip4/192.0.2.2/tcp/4001"], f"member/{OTHER.peer_id}"
    registry = Registry()
    body = command("register", addresses=address, capabilities=["echo"])
    shown: dict[str, Any] = {"addresses": address, "capabilities": ["echo"], "sequence": CREATED_MS}
    registry.take(OTHER, body, {peer: member(OTHER, 2, **shown)})
    registry.take(OTHER, body, None)
    registry.take(OTHER, body | {"sequence": CREATED_MS - 1}, None)
    registry.take(
        FOUNDER,
        command("ban", peer=OTHER.peer_id, reason="lies"),
        {peer: member(OTHER, 5, "banned", reason="lies", **shown)},
    )
    registry.take(OTHER, body | {"sequence": CREATED_MS + 1}, None)
    registry.take(FOUNDER, command("admit", peer=OTHER.peer_id), None)
    again = command("admit", peer=OTHER.peer_id, sequence=CREATED_MS + 1)
    registry.take(FOUNDER, again, {peer: member(OTHER, 8, "admitted", **shown)})
    good("registered, banned, admitted", registry, ["COMMITTEE-14", "COMMITTEE-15", "COMMITTEE-16", "COMMITTEE-19"])

    registry = Registry()
    turn = iter(range(CREATED_MS, CREATED_MS + 99))
    for name, value, index in (("admission", 1, 2), ("members_max", 1, 3), ("head_interval_ms", 50, 4)):
        body = command("set", name=name, value=value, sequence=next(turn))
        registry.take(FOUNDER, body, {f"parameter/{name}": {"value": value, "index": index}})
    for name, value in (("admission", 2), ("members_max", 0), ("head_interval_ms", 600_001), ("colour", 1)):
        registry.take(FOUNDER, command("set", name=name, value=value, sequence=next(turn)), None)
    registry.take(OTHER, command("register"), None)
    listed = command("admit", peer=OTHER.peer_id, sequence=next(turn))
    registry.take(FOUNDER, listed, {peer: member(OTHER, 10, "admitted")})
    registry.take(OTHER, command("register"), {peer: member(OTHER, 11, "admitted", sequence=CREATED_MS)})
    registry.take(FOUNDER, command("ban", peer=THIRD.peer_id, sequence=next(turn)), None)
    registry.take(FOUNDER, command("mark", sequence=next(turn)), {})
    registry.take(FOUNDER, command("epoch", sequence=next(turn)), {})
    good("parameters, a list, a full registry, a mark", registry, ["COMMITTEE-15", "COMMITTEE-17", "COMMITTEE-18"])

    def bad(name: str, last: bytes, reason: str, must: list[str]) -> None:
        book.bad(name, context, pack([last]), "malformed", reason, must, **more)

    by_other = {
        "admit": command("admit", peer=THIRD.peer_id),
        "ban": command("ban", peer=THIRD.peer_id),
        "set": command("set", name="members_max", value=9),
        "mark": command("mark"),
        "epoch": command("epoch"),
    }
    for kind, body in by_other.items():
        bad(f"{kind} by no member", pack(signed(OTHER, body)), "members decide", ["COMMITTEE-13"])
    mark = command("mark")
    form, forged = "not canonical", signed(FOUNDER, mark) | {"signature": bytes(64)}
    bad("in another order", pack(dict(reversed(signed(FOUNDER, mark).items()))), form, ["COMMITTEE-12"])
    reverse = pack(dict(reversed(mark.items())))
    inner = {"author": FOUNDER.public, "body": reverse, "signature": FOUNDER.sign(COMMAND_DOMAIN, reverse)}
    bad("with a body in another order", pack(inner), form, ["COMMITTEE-12"])
    bad("with a false signature", pack(forged), "it does not verify", ["COMMITTEE-12"])
    bad("in another domain", pack(signed(FOUNDER, mark, SET_DOMAIN)), "registry-command is due", ["COMMITTEE-12"])
    bad(
        "of another swarm", pack(signed(FOUNDER, command("mark", swarm=OTHER_SWARM))), "another swarm", ["COMMITTEE-12"]
    )
    bad("no command", b"\xc0", "nil", ["COMMITTEE-12"])
    bad(
        "a ban of a member",
        pack(signed(FOUNDER, command("ban", peer=FOUNDER.peer_id))),
        "removed first",
        ["COMMITTEE-16"],
    )
    bad("a ban of no key", pack(signed(FOUNDER, command("ban", peer="1" * 46))), "no Ed25519 key", ["COMMITTEE-16"])
    bad("an admission of nobody", pack(signed(FOUNDER, command("admit"))), "no peer", ["COMMITTEE-16"])
    bad("an unknown parameter", pack(signed(FOUNDER, command("set", name="colour"))), "there is none", ["COMMITTEE-17"])


def _commands(book: Book) -> None:
    context, must = "signed:RegistryCommand", ["COMMITTEE-12"]
    body = command("register", addresses=["/ip4/192.0.2.2/tcp/4001"], capabilities=["echo"])
    book.good("registration", context, pack(body), must)
    book.good("ban", context, pack(command("ban", peer=OTHER.peer_id, reason="wrong results")), must)
    book.good("lowest value", context, pack(command("set", name="n" * 48, value=-(2**53))), must)
    book.good("highest value", context, pack(command("set", name="a_1", value=2**53, sequence=2**53)), must)
    book.damaged("command", context, pack, body)
    cases: dict[str, Any] = {
        "kind: unknown": "mint",
        "swarm: in capitals": SWARM.upper(),
        "sequence: below zero": -1,
        "peer: with a zero": "0" * 46,
        "reason: of 201 characters": "r" * 201,
        "addresses: of 17": ["/ip4/192.0.2.2"] * 17,
        "capabilities: of 65": ["echo"] * 65,
        "name: that begins with a digit": "1a",
        "value: above 2^53": 2**53 + 1,
    }
    book.beyond("command", context, pack, body, "COMMITTEE-12", cases)


ROSTER: Final = [{"member": number, "peer": key.peer_id} for number, key in enumerate(FOUR, 1)]


def _head_calls(book: Book) -> None:
    ask, rows = call("committee.head/1"), call("committee.rows/1")
    name = "call:committee.head/1"
    for number in (-1, 0, 2**31 - 1):
        book.good(f"head asked for by one that has set {number}", name, ask({"number": number}), ["COMMITTEE-26"])
    book.damaged("head asked for", name, ask, {"number": 0})
    cases: dict[str, Any] = {"number: below -1": -2, "number: of 2^31": 2**31}
    book.beyond("head asked for", name, ask, {"number": 0}, "COMMITTEE-26", cases)
    name = "reply:committee.head/1"
    body: dict[str, Any] = {"links": LINKS, "more": False, "roster": ROSTER, "head": certified(head())}
    book.good("chain and head", name, reply(body), ["COMMITTEE-26"])
    nothing = {"links": [], "more": False, "roster": [], "head": None}
    book.good("nothing new", name, reply(nothing), ["COMMITTEE-26"])
    book.damaged("chain and head", name, reply, body, optional=["head"])
    cases = {
        "links: of 65": LINKS[:1] * 65,
        "roster: of 65": ROSTER[:1] * 65,
        "head: without certificate": {"head": head()},
    }
    book.beyond("chain and head", name, reply, body, "COMMITTEE-26", cases)

    name = "call:committee.rows/1"
    body = {"index": 40, "after": f"member/{OTHER.peer_id}"}
    book.good("rows asked for", name, rows(body), ["COMMITTEE-27"])
    book.good("rows asked for from the first on", name, rows({"index": 2**62, "after": ""}), ["COMMITTEE-27"])
    book.damaged("rows asked for", name, rows, body, optional=["after"])
    cases = {"index: below zero": -1, "index: above 2^62": 2**62 + 1, "after: of 129 characters": "a" * 129}
    book.beyond("rows asked for", name, rows, body, "COMMITTEE-27", cases)
    name = "reply:committee.rows/1"
    one = {"key": "set/0", "value": pack(LINKS[0])}
    book.good("rows", name, reply({"rows": [one], "more": True}), ["COMMITTEE-27"])
    book.good("no rows", name, reply({"rows": [], "more": False}), ["COMMITTEE-27"])
    book.good("a row of 8 KiB", name, reply({"rows": [one | {"value": bytes(8192)}], "more": False}), ["COMMITTEE-27"])
    body = {"rows": [one], "more": False}
    book.damaged("rows", name, reply, body)
    cases = {
        "rows: of 513": [one] * 513,
        "rows: of one above 8 KiB": [one | {"value": bytes(8193)}],
        "rows: with a key without a kind": [one | {"key": "0"}],
        "rows: with a key in capitals": [one | {"key": "Set/0"}],
        "rows: with an empty key": [one | {"key": ""}],
    }
    book.beyond("rows", name, reply, body, "COMMITTEE-27", cases)


def _member_calls(book: Book) -> None:
    sign, prepare, change = (call(f"committee.{name}/1") for name in ("sign", "prepare", "change"))
    name = "call:committee.sign/1"
    body: dict[str, Any] = {"subject": "head", "index": 40, "digest": sha256(head())}
    book.good("signature asked for, of a head", name, sign(body), ["COMMITTEE-20"])
    of_set = body | {"subject": "set", "digest": sha256(SECOND)}
    book.good("signature asked for, of a set", name, sign(of_set), ["COMMITTEE-21"])
    book.damaged("signature asked for", name, sign, body)
    cases: dict[str, Any] = {"subject: unknown": "row", "index: below zero": -1, "digest: of 31 bytes": bytes(31)}
    book.beyond("signature asked for", name, sign, body, "COMMITTEE-20", cases)
    name = "reply:committee.sign/1"
    one = {"place": 3, "signature": FOUR[3].sign(HEAD_DOMAIN, sha256(head()))}
    book.good("signature", name, reply(one), ["COMMITTEE-20"])
    book.damaged("signature", name, reply, one)
    cases = {"place: of 7": 7, "place: below zero": -1, "signature: of 63 bytes": bytes(63)}
    book.beyond("signature", name, reply, one, "COMMITTEE-20", cases)

    name = "call:committee.prepare/1"
    body = {"epoch": 0, "links": LINKS, "roster": ROSTER}
    book.good("preparation", name, prepare(body), ["COMMITTEE-23"])
    book.damaged("preparation", name, prepare, body)
    cases = {
        "epoch: of 2^32": 2**32,
        "links: none": [],
        "links: of 1025": LINKS[:1] * 1025,
        "roster: of 65": ROSTER[:1] * 65,
    }
    book.beyond("preparation", name, prepare, body, "COMMITTEE-23", cases)
    name = "reply:committee.prepare/1"
    book.good("prepared", name, reply({"member": 2**63 - 1}), ["COMMITTEE-23"])
    book.damaged("prepared", name, reply, {"member": 1})
    cases = {"member: below zero": -1, "member: of 2^63": 2**63}
    book.beyond("prepared", name, reply, {"member": 1}, "COMMITTEE-23", cases)

    name = "call:committee.change/1"
    body = {"add": [OTHER.peer_id], "remove": [THIRD.peer_id], "transfer": ""}
    book.good("change", name, change(body), ["COMMITTEE-25"])
    handed = {"add": [], "remove": [], "transfer": OTHER.peer_id}
    book.good("change of the leader", name, change(handed), ["COMMITTEE-25"])
    book.damaged("change", name, change, body, optional=list(body))
    cases = {
        "add: of eight": [OTHER.peer_id] * 8,
        "remove: of eight": [OTHER.peer_id] * 8,
        "add: of a short name": ["1" * 45],
        "transfer: with a zero": "0" * 46,
    }
    book.beyond("change", name, change, body, "COMMITTEE-25", cases)
    name = "reply:committee.change/1"
    book.good("change begun", name, reply({}), ["COMMITTEE-25"])
    book.damaged("change begun", name, reply, {})


def _topic(book: Book) -> None:
    context = "gossip:raft/1"
    proposal = {"consumer": "registry", "client": CLIENT, "sequence": 7, "low": 3, "command": b"\x81\xa1a\x01"}
    body: dict[str, Any] = {
        "epoch": 0,
        "term": 5,
        "leader": FOUNDER.peer_id,
        "commit": 41,
        "head": certified(head()),
        "proposal": None,
    }
    full = body | {"proposal": proposal}
    book.good("hints and a head", context, pack(body), ["COMMITTEE-28"])
    hint = body | {"head": None, "leader": "", "term": 0, "commit": 0}
    book.good("a proposal", context, pack(hint | {"proposal": proposal}), ["COMMITTEE-29"])
    most = proposal | {"command": bytes(16 * 1024)}
    book.good("a proposal of 16 KiB", context, pack(hint | {"proposal": most}), ["COMMITTEE-29"])
    book.damaged("notice", context, pack, full, optional=[field for field in full if field != "epoch"])
    cases: dict[str, Any] = {
        "epoch: of 2^32": 2**32,
        "term: above 2^62": 2**62 + 1,
        "leader: with a zero": "0" * 46,
        "commit: below zero": -1,
        "head: without certificate": {"head": head()},
    }
    book.beyond("notice", context, pack, body, "COMMITTEE-28", cases)
    large = hint | {"proposal": proposal | {"command": bytes(16 * 1024 + 1)}}
    reason = "16 KiB at most by gossip"
    book.bad("a proposal above 16 KiB", context, pack(large), "malformed", reason, ["COMMITTEE-29"])
    too_large = pack(body | {"zz": bytes(64 * 1024)})
    book.bad("notice above its limit", context, too_large, "too_large", "64 KiB at most", ["ENC-9"])
