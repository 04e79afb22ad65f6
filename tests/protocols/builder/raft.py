"""The raft stream: frames, messages of every kind, entries, snapshots; the raft calls."""

from __future__ import annotations

import hashlib
import struct
from typing import Any, Final

from .kit import FOUNDER, OTHER, THIRD, Book, Key, call, pack, reply

FRAME, PIECES = "message:raft/1", "message-frames"
MESSAGE: Final = 4
PROP, APP, APP_RESP, VOTE, VOTE_RESP, SNAP, HEARTBEAT, HEARTBEAT_RESP = 2, 3, 4, 5, 6, 7, 8, 9
TRANSFER_LEADER, TIMEOUT_NOW, READ_INDEX, READ_INDEX_RESP, PRE_VOTE, PRE_VOTE_RESP = 13, 14, 15, 16, 17, 18
KINDS = {
    "PROP": PROP,
    "APP": APP,
    "APP_RESP": APP_RESP,
    "VOTE": VOTE,
    "VOTE_RESP": VOTE_RESP,
    "SNAP": SNAP,
    "HEARTBEAT": HEARTBEAT,
    "HEARTBEAT_RESP": HEARTBEAT_RESP,
    "TRANSFER_LEADER": TRANSFER_LEADER,
    "TIMEOUT_NOW": TIMEOUT_NOW,
    "READ_INDEX": READ_INDEX,
    "READ_INDEX_RESP": READ_INDEX_RESP,
    "PRE_VOTE": PRE_VOTE,
    "PRE_VOTE_RESP": PRE_VOTE_RESP,
}
NORMAL, CHANGE, CHANGE_V2 = range(3)
TERM_MAX, ID_MAX = 2**62, 2**63 - 1
DIGEST = hashlib.sha256(b"state").hexdigest()
CLIENT = bytes(range(16))


def entry(term: int, index: int, data: bytes = b"", kind: int = NORMAL) -> dict[str, Any]:
    return {"term": term, "index": index, "kind": kind, "data": data}


def conf(
    voters: list[int],
    learners: list[int] | None = None,
    outgoing: list[int] | None = None,
    coming: list[int] | None = None,
    *,
    auto: bool = False,
) -> dict[str, Any]:
    return {
        "voters": voters,
        "learners": learners or [],
        "voters_outgoing": outgoing or [],
        "learners_next": coming or [],
        "auto_leave": auto,
    }


def snapshot(**changes: Any) -> dict[str, Any]:
    base = {"index": 9, "term": 4, "conf_state": conf([1, 2, 3]), "size": 5, "digest": DIGEST, "data": b""}
    return base | changes


def message(kind: int, **changes: Any) -> dict[str, Any]:
    base = {
        "kind": kind,
        "to": 2,
        "sender": 1,
        "term": 5,
        "log_term": 0,
        "index": 0,
        "entries": [],
        "commit": 0,
        "vote": 0,
        "snapshot": None,
        "reject": False,
        "reject_hint": 0,
        "context": b"",
        "session": 0,
    }
    return base | changes


def of(*messages: dict[str, Any], epoch: int = 0) -> bytes:
    return pack({"epoch": epoch, "messages": list(messages)})


COMMAND = {
    "consumer": "registry",
    "session": hashlib.sha256(FOUNDER.peer_id.encode() + b"\0" + CLIENT).digest()[:16],
    "sequence": 7,
    "low": 3,
    "command": b"\x81\xa1a\x01",
}
ROSTER = [{"member": number, "peer": key.peer_id} for number, key in ((1, FOUNDER), (2, OTHER), (3, THIRD))]
GOOD: dict[str, dict[str, Any]] = {
    "proposal": message(PROP, term=0, entries=[entry(0, 0, pack(COMMAND))]),
    "proposal of several": message(PROP, term=0, entries=[entry(0, 0, b"a"), entry(0, 0, b"b", CHANGE_V2)]),
    "append": message(APP, log_term=3, index=7, entries=[entry(3, 8), entry(5, 9, pack(COMMAND))], commit=7, session=2),
    "append at the beginning of the log": message(APP, entries=[entry(1, 1), entry(1, 2)]),
    "append that only tells the commit index": message(APP, log_term=5, index=9, commit=9, session=2),
    "acknowledgement": message(APP_RESP, index=9, session=2),
    "rejection with a hint": message(APP_RESP, log_term=2, index=9, reject=True, reject_hint=4, session=2),
    "vote asked for": message(VOTE, log_term=3, index=9),
    "vote asked for when leadership is handed over": message(VOTE, log_term=3, index=9, context=b"CampaignTransfer"),
    "vote granted": message(VOTE_RESP),
    "vote refused": message(VOTE_RESP, reject=True),
    "snapshot": message(SNAP, snapshot=snapshot(), session=2),
    "heartbeat": message(HEARTBEAT, commit=9, session=2),
    "heartbeat for a read": message(HEARTBEAT, commit=9, context=(17).to_bytes(8, "little"), session=2),
    "answer to a heartbeat": message(HEARTBEAT_RESP, context=(17).to_bytes(8, "little"), session=2),
    "wish to lead": message(TRANSFER_LEADER),
    "leadership handed over": message(TIMEOUT_NOW),
    "read asked for": message(READ_INDEX, term=0, entries=[entry(0, 0, b"\x01\x02")]),
    "read confirmed": message(READ_INDEX_RESP, index=9, entries=[entry(0, 0, b"\x01\x02")]),
    "pre-vote asked for": message(PRE_VOTE, term=6, log_term=3, index=9),
    "pre-vote granted": message(PRE_VOTE_RESP, term=6),
    "pre-vote refused": message(PRE_VOTE_RESP, reject=True),
    "pre-vote refused by a member that has heard of no term": message(PRE_VOTE_RESP, term=0, reject=True),
}


def build(book: Book) -> None:
    _pieces(book)
    _frames(book)
    _heads(book)
    _entries(book)
    _snapshots(book)
    _configurations(book)
    _log(book)
    _calls(book)


def piece(payload: bytes, kind: int = MESSAGE, number: int = 0) -> bytes:
    return struct.pack(">IQB", len(payload) + 9, number, kind) + payload


def _pieces(book: Book) -> None:
    must = ["RAFT-1"]
    one = of(GOOD["heartbeat"])
    book.good("a message", PIECES, piece(one), must, [one])
    book.good("two in one piece", PIECES, piece(b"a") + piece(one), must, [b"a", one])
    book.good("a frame that has not ended", PIECES, piece(one)[:-1], must, [], rest=len(one) + 12)
    most = bytes(1 << 20)
    book.good("a payload of 1 MiB", PIECES, piece(most), ["RAFT-2"], [most])
    for kind in (0, 1, 2, 3, 5, 255):
        book.bad(f"a frame of kind {kind}", PIECES, piece(one, kind), "malformed", "an opener sends kind 4", must)
    book.bad("a message with an id", PIECES, piece(one, number=1), "malformed", "the id is 0", must)
    book.bad("a length of 8", PIECES, struct.pack(">IQB", 8, 0, MESSAGE), "malformed", "9 at least", must)
    head = struct.pack(">IQB", (1 << 20) + 10, 0, MESSAGE)
    reason = "1 MiB at most"
    book.bad("a payload of 1 MiB and a byte, only its header sent", PIECES, head, "too_large", reason, ["RAFT-2"])


def _frames(book: Book) -> None:
    musts = {
        "proposal": ["RAFT-9"],
        "append": ["RAFT-8"],
        "read": ["RAFT-9"],
        "snapshot": ["RAFT-10", "RAFT-11"],
    }
    for name, one in GOOD.items():
        must = ["RAFT-3", "RAFT-7", *musts.get(name.split()[0].removesuffix(","), [])]
        book.good(name, FRAME, of(one), must)
    several = of(GOOD["append"], GOOD["heartbeat"], epoch=2**32 - 1)
    book.good("two messages of the last epoch", FRAME, several, ["RAFT-3"])
    upper = message(APP_RESP, to=ID_MAX, sender=ID_MAX - 1, term=TERM_MAX, index=TERM_MAX, session=TERM_MAX)
    book.good("numbers at their upper bounds", FRAME, of(upper), ["RAFT-7"])
    book.good("256 messages", FRAME, of(*[GOOD["heartbeat"]] * 256), ["RAFT-3"])
    short = {key: value for key, value in GOOD["heartbeat"].items() if key in ("kind", "to", "sender", "term")}
    book.good("a message without the fields that have defaults", FRAME, of(short), ["ENC-2"], lenient=True)

    body = {"epoch": 0, "messages": [GOOD["snapshot"]]}
    book.damaged("a frame", FRAME, pack, body)
    book.damaged("a message of a frame", FRAME, of, GOOD["snapshot"], optional=set(GOOD["snapshot"]) - {"kind"})
    cases: dict[str, Any] = {
        "epoch: below zero": -1,
        "epoch: of 2^32": 2**32,
        "messages: of none": [],
        "messages: of 257": [GOOD["heartbeat"]] * 257,
    }
    book.beyond("a frame", FRAME, pack, body, "RAFT-3", cases)
    for name, bad in (("first", [message(VOTE, vote=1), GOOD["vote asked for"]]),
                      ("last", [GOOD["vote asked for"], message(VOTE, vote=1)])):  # fmt: skip
        reason = "one wrong message is enough"
        book.bad(f"a frame whose {name} message is wrong", FRAME, of(*bad), "malformed", reason, ["RAFT-4", "RAFT-7"])
    most = [entry(3, 8 + place, bytes(1 << 16)) for place in range(16)]
    large = of(message(APP, log_term=3, index=7, entries=most))
    book.bad("a frame above 1 MiB", FRAME, large, "too_large", "1 MiB at most", ["RAFT-2", "ENC-9"])


def _heads(book: Book) -> None:
    def bad(name: str, one: dict[str, Any], reason: str, must: str = "RAFT-7") -> None:
        book.bad(name, FRAME, of(one), "malformed", reason, [must])

    for kind in sorted({*range(26), 255} - set(KINDS.values())):
        bad(f"a message of kind {kind}", message(kind), "it does not travel, or there is none", "RAFT-6")
    bad("a message to nobody", message(VOTE, to=0), "0 is no member")
    bad("a message from nobody", message(VOTE, sender=0), "0 is no member")
    bad("a message to its sender", message(VOTE, to=1), "members speak to others")
    bad("a member of 2^63", message(VOTE, to=2**63), "below 2^63")
    for field in ("term", "log_term", "index", "commit", "reject_hint", "session"):
        bad(f"{field} above 2^62", message(APP_RESP, **{field: TERM_MAX + 1}), "2^62 at most")
        bad(f"{field} below zero", message(APP_RESP, **{field: -1}), "0 at least")
    for name, kind in KINDS.items():
        if kind in (PROP, READ_INDEX):
            one = GOOD["proposal" if kind == PROP else "read asked for"] | {"term": 5}
            bad(f"{name} with a term", one, "it belongs to no term")
        elif kind in (APP, SNAP, READ_INDEX_RESP):
            one = next(one for one in GOOD.values() if one["kind"] == kind) | {"term": 0}
            bad(f"{name} without a term", one, "it belongs to a term")
        else:
            bad(f"{name} without a term", message(kind, term=0), "it belongs to a term")
        base = next(one for one in GOOD.values() if one["kind"] == kind)
        bad(f"{name} with a vote", base | {"vote": 1}, "the field is a member's own")
        if kind not in (APP_RESP, VOTE_RESP, PRE_VOTE_RESP):
            bad(f"{name} that rejects", base | {"reject": True}, "only answers reject")
        if kind != SNAP:
            bad(f"{name} with a snapshot", base | {"snapshot": snapshot()}, "only SNAP has one", "RAFT-10")
    bad("a context of 1025 bytes", message(HEARTBEAT, context=bytes(1025)), "1024 bytes at most")


def _entries(book: Book) -> None:
    def bad(name: str, one: dict[str, Any], reason: str, must: str) -> None:
        book.bad(name, FRAME, of(one), "malformed", reason, [must])

    def append(name: str, reason: str, **changes: Any) -> None:
        bad(f"append {name}", GOOD["append"] | changes, reason, "RAFT-8")

    append("with a gap before its entries", "8 follows 7", entries=[entry(3, 9)])
    append("that repeats the entry before it", "8 follows 7", entries=[entry(3, 7)])
    append("with a gap between its entries", "9 follows 8", entries=[entry(3, 8), entry(3, 10)])
    append("with an entry twice", "9 follows 8", entries=[entry(3, 8), entry(3, 8)])
    append("whose terms fall after the entry before it", "terms do not fall", entries=[entry(2, 8)])
    append("whose terms fall", "terms do not fall", entries=[entry(5, 8), entry(4, 9)])
    append("with an entry of a later term", "a leader has none", entries=[entry(6, 8)])
    append("with an entry without a term", "terms begin at 1", log_term=0, index=0, entries=[entry(0, 1)])
    append("after an entry of a later term", "a leader has none", log_term=6, entries=[])
    append("after an entry without a term", "terms begin at 1", log_term=0, entries=[])
    append("after entry 0 with a term", "there is no entry 0", index=0, entries=[])
    append("with an entry of kind 3", "there are kinds 0 to 2", entries=[entry(3, 8, kind=3)])
    append("with 64 KiB and a byte of data", "64 KiB at most", entries=[entry(3, 8, bytes((1 << 16) + 1))])
    append("of 4097 entries", "4096 at most", log_term=0, index=0, entries=[entry(1, 1)] * 4097)
    for name, kind in KINDS.items():
        if kind not in (PROP, APP, READ_INDEX, READ_INDEX_RESP):
            base = next(one for one in GOOD.values() if one["kind"] == kind)
            bad(f"{name} with an entry", base | {"entries": [entry(3, 8)]}, "it carries none", "RAFT-9")
    for name, entries in (
        ("none", []),
        ("one that has an index", [entry(0, 1)]),
        ("one that has a term", [entry(0, 0), entry(1, 0)]),
    ):
        one = GOOD["proposal"] | {"entries": entries}
        bad(f"proposal of {name}", one, "entries without index and term", "RAFT-9")
    for asked in ("read asked for", "read confirmed"):
        for name, entries in (
            ("without its context", []),
            ("with two entries", [entry(0, 0), entry(0, 0)]),
            ("with an entry that has an index", [entry(0, 1)]),
            ("with a change of configuration", [entry(0, 0, kind=CHANGE)]),
        ):
            bad(f"{asked} {name}", GOOD[asked] | {"entries": entries}, "one entry, its context", "RAFT-9")


def _snapshots(book: Book) -> None:
    one = GOOD["snapshot"]
    book.bad("SNAP without a snapshot", FRAME, of(one | {"snapshot": None}), "malformed", "it needs one", ["RAFT-10"])
    for name, change, reason in (
        ("with its data", {"data": b"state"}, "the data is fetched"),
        ("of no entry", {"index": 0}, "entries begin at 1"),
        ("of no term", {"term": 0}, "terms begin at 1"),
        ("of a later term", {"term": 6}, "a leader has none"),
        ("with a digest and no size", {"size": 0}, "a state has bytes"),
        ("with a size and no digest", {"digest": ""}, "what is fetched is checked"),
        ("of nothing", {"size": 0, "digest": ""}, "a state has bytes"),
        ("with a digest of 63 digits", {"digest": DIGEST[1:]}, "64 hex digits"),
        ("with a digest in upper case", {"digest": DIGEST.upper()}, "lower case"),
        ("above 64 MiB", {"size": (64 << 20) + 1}, "64 MiB at most"),
    ):
        data = of(one | {"snapshot": snapshot(**change)})
        book.bad(f"snapshot {name}", FRAME, data, "malformed", reason, ["RAFT-10"])


def _configurations(book: Book) -> None:
    def data(state: dict[str, Any]) -> bytes:
        return of(GOOD["snapshot"] | {"snapshot": snapshot(conf_state=state)})

    for name, state in (
        ("one voter", conf([1])),
        ("learners", conf([1, 2, 3], [4, 5])),
        ("a joint one", conf([1, 2, 4], [5], [1, 2, 3])),
        ("a joint one that is left by itself", conf([4, 5, 6], [], [1, 2, 3], auto=True)),
        ("a joint one with a voter that will learn", conf([1, 2], [], [1, 2, 3], [3])),
    ):
        book.good(f"configuration: {name}", FRAME, data(state), ["RAFT-11"])
    for name, state in (
        ("nobody", conf([])),
        ("learners alone", conf([], [1])),
        ("a voter twice", conf([1, 1])),
        ("member 0", conf([0, 1])),
        ("a learner twice", conf([1], [2, 2])),
        ("a leaving voter twice", conf([1], [], [2, 2])),
        ("a learner that votes", conf([1, 2], [2])),
        ("a learner that is a leaving voter", conf([1], [2], [1, 2])),
        ("a coming learner that leaves nothing", conf([1], [], [1], [2])),
        ("a coming learner that stays a voter", conf([1, 2], [], [1, 2], [2])),
        ("a coming learner and nothing to leave", conf([1], [], [], [2])),
        ("to be left, but not joint", conf([1], auto=True)),
        ("17 voters", conf(list(range(1, 18)))),
    ):
        book.bad(f"configuration: {name}", FRAME, data(state), "malformed", "no changes lead there", ["RAFT-11"])


def _log(book: Book) -> None:
    context = pack({"roster": ROSTER, "body": b""})
    book.good("command", "entry:Command", pack(COMMAND), ["RAFT-12"])
    book.good(
        "command at the bounds",
        "entry:Command",
        pack(COMMAND | {"consumer": "a" + "_" * 31, "sequence": TERM_MAX, "low": 0, "command": bytes(65_280)}),
        ["RAFT-12"],
    )
    book.damaged("command", "entry:Command", pack, COMMAND)
    cases: dict[str, Any] = {
        "consumer: empty": "",
        "consumer: in upper case": "Registry",
        "consumer: of 33 characters": "r" * 33,
        "session: of 15 bytes": bytes(15),
        "session: of 17 bytes": bytes(17),
        "sequence: below zero": -1,
        "low: above 2^62": TERM_MAX + 1,
        "command: of 65281 bytes": bytes(65_281),
    }
    book.beyond("command", "entry:Command", pack, COMMAND, "RAFT-12", cases)

    one = {"kind": 0, "member": 4, "context": context}
    for kind, name in enumerate(("add a voter", "remove a member", "update a member", "add a learner")):
        book.good(f"change: {name}", "entry:ConfChange", pack(one | {"kind": kind}), ["RAFT-13"])
    book.damaged("change", "entry:ConfChange", pack, one, optional=["context"])
    cases = {"kind: of 4": 4, "member: below zero": -1, "member: of 2^63": 2**63, "context: too long": bytes(61_441)}
    book.beyond("change", "entry:ConfChange", pack, one, "RAFT-13", cases)
    book.bad("change of nothing", "entry:ConfChange", b"", "malformed", "only CONF_CHANGE_V2 may be", ["RAFT-13"])

    two = {"transition": 0, "changes": [{"kind": 0, "member": 4}, {"kind": 1, "member": 3}], "context": context}
    for transition, name in enumerate(("automatic", "joint, left by itself", "joint until it is left")):
        data = pack(two | {"transition": transition})
        book.good(f"changes: {name}", "entry:ConfChangeV2", data, ["RAFT-13"])
    none = {"transition": 0, "changes": [], "context": b""}
    book.good("changes: leave the joint configuration", "entry:ConfChangeV2", b"", ["RAFT-13"], none)
    told = none | {"context": context}
    book.good("changes: leave it, with a context", "entry:ConfChangeV2", pack(told), ["RAFT-13"])
    book.damaged("changes", "entry:ConfChangeV2", pack, two, optional=["transition", "changes", "context"])
    cases = {
        "transition: of 3": 3,
        "changes: of 33": [{"kind": 0, "member": 4}] * 33,
        "changes: of a kind 4": [{"kind": 4, "member": 4}],
        "changes: with a context each": [{"kind": 0, "member": 4, "context": b""}],
        "context: too long": bytes(61_441),
    }
    book.beyond("changes", "entry:ConfChangeV2", pack, two, "RAFT-13", cases)

    body = {"roster": ROSTER, "body": b"\x01"}
    book.good("context of a change", "entry:ChangeContext", pack(body), ["RAFT-14"])
    book.damaged("context of a change", "entry:ChangeContext", pack, body, optional=["roster", "body"])
    cases = {
        "roster: of 65": ROSTER[:1] * 65,
        "roster: with member 0": [{"member": 0, "peer": FOUNDER.peer_id}],
        "roster: with a short PeerId": [{"member": 1, "peer": "1" * 45}],
        "body: of 48 KiB and a byte": bytes(48 * 1024 + 1),
    }
    book.beyond("context of a change", "entry:ChangeContext", pack, body, "RAFT-14", cases)
    for key in (FOUNDER, OTHER):
        session = _session(key, CLIENT)
        book.good(f"session of {key.seed[0]:02d}", "command-session", CLIENT, ["RAFT-27"], session, peer=key.peer_id)


def _session(key: Key, client: bytes) -> bytes:
    return hashlib.sha256(key.peer_id.encode() + b"\0" + client).digest()[:16]


def _calls(book: Book) -> None:
    fetch, roster, submit = (call(f"raft.{name}/1") for name in ("snapshot", "roster", "submit"))
    name = "call:raft.snapshot/1"
    body: dict[str, Any] = {"digest": DIGEST, "offset": 0}
    book.good("fetch", name, fetch(body), ["RAFT-24"])
    book.good("fetch from the last offset", name, fetch(body | {"offset": 64 << 20}), ["RAFT-24"])
    book.damaged("fetch", name, fetch, body)
    cases: dict[str, Any] = {
        "digest: empty": "",
        "digest: of 63 digits": DIGEST[1:],
        "offset: below zero": -1,
        "offset: above 64 MiB": (64 << 20) + 1,
    }
    book.beyond("fetch", name, fetch, body, "RAFT-24", cases)
    name = "reply:raft.snapshot/1"
    book.good("chunk", name, reply({"data": b"state"}), ["RAFT-24"])
    book.good("chunk of 512 KiB", name, reply({"data": bytes(1 << 19)}), ["RAFT-24"])
    book.damaged("chunk", name, reply, {"data": b"state"})
    book.beyond("chunk", name, reply, {"data": b""}, "RAFT-24", {"data: of 512 KiB and a byte": bytes((1 << 19) + 1)})

    name = "call:raft.roster/1"
    book.good("roster asked for", name, roster({}), ["RAFT-15"])
    book.damaged("roster asked for", name, roster, {})
    name = "reply:raft.roster/1"
    body = {"epoch": 0, "roster": ROSTER}
    book.good("roster", name, reply(body), ["RAFT-15"])
    most = [{"member": ID_MAX - place, "peer": OTHER.peer_id} for place in range(64)]
    book.good("roster of 64", name, reply(body | {"roster": most}), ["RAFT-15"])
    book.damaged("roster", name, reply, body)
    cases = {
        "epoch: of 2^32": 2**32,
        "roster: of 65": ROSTER[:1] * 65,
        "roster: with member 0": [{"member": 0, "peer": OTHER.peer_id}],
        "roster: with member 2^63": [{"member": 2**63, "peer": OTHER.peer_id}],
    }
    book.beyond("roster", name, reply, body, "RAFT-15", cases)

    name = "call:raft.submit/1"
    body = {"consumer": "registry", "client": CLIENT, "sequence": 7, "low": 3, "command": b"\x81\xa1a\x01"}
    book.good("submission", name, submit(body), ["RAFT-26"])
    upper = {"consumer": "c" * 32, "sequence": TERM_MAX, "low": TERM_MAX, "command": bytes(65_280)}
    book.good("submission at the upper bounds", name, submit(body | upper), ["RAFT-26"])
    book.damaged("submission", name, submit, body)
    cases = {
        "consumer: empty": "",
        "consumer: with a digit": "r1",
        "client: of 15 bytes": bytes(15),
        "client: of 17 bytes": bytes(17),
        "sequence: below zero": -1,
        "sequence: above 2^62": TERM_MAX + 1,
        "low: above 2^62": TERM_MAX + 1,
        "command: of 65281 bytes": bytes(65_281),
    }
    book.beyond("submission", name, submit, body, "RAFT-26", cases)
    large = submit(body | {"zz": bytes(65 * 1024)})
    book.bad("submission above its limit", name, large, "too_large", "65 KiB at most", ["ENC-9"])
    name = "reply:raft.submit/1"
    body = {"index": 9, "term": 5, "duplicate": False}
    book.good("committed", name, reply(body), ["RAFT-26"])
    book.good("committed before", name, reply({"index": 0, "term": 0, "duplicate": True}), ["RAFT-26"])
    book.damaged("committed", name, reply, body, optional=["duplicate"])
    book.beyond("committed", name, reply, body, "RAFT-26", {"index: below zero": -1, "term: above 2^62": TERM_MAX + 1})
