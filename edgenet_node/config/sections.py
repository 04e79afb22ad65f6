"""Every key of the configuration: one line each, with what it is for, its bounds and unit, and its default."""

import functools
import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal, get_type_hints

from msgspec import Struct, structs


class Key(Struct, frozen=True):
    """What a key is for, and what it may hold: numbers from `low` to `high` in `unit`, text that matches `pattern`."""

    why: str
    unit: str = ""
    low: float = -math.inf
    high: float = math.inf
    pattern: str = ""
    shape: str = ""


def _number(low: float, high: float, unit: str, why: str) -> Key:
    return Key(why, unit, low, high)


def _text(why: str, pattern: str = "", shape: str = "") -> Key:
    return Key(why, pattern=pattern, shape=shape)


_LISTEN = (r"/(ip4|ip6|dns|dns4|dns6)/[^/]+/tcp/\d{1,5}(/p2p/\w+)?", "such as /ip4/0.0.0.0/tcp/4001")
_PEER = (
    r"/(ip4|ip6|dns|dns4|dns6)/[^/]+/tcp/\d{1,5}/p2p/\w{20,100}",
    "such as /dns4/boot.example/tcp/4001/p2p/12D3...",
)
_MIB = 1 << 20
_GIB = 1 << 30


class Section(Struct, frozen=True, kw_only=True):
    pass


class Node(Section, frozen=True):
    data_dir: Annotated[str, _text("where keys, state and artifacts live; empty: the platform's data folder")] = ""
    log_level: Annotated[Literal["debug", "info", "warning", "error"], _text("least severe line that is written")] = (
        "info"
    )
    log_format: Annotated[Literal["auto", "console", "json"], _text("auto: console on a terminal, else JSON lines")] = (
        "auto"
    )
    grace_s: Annotated[
        float, _number(1, 300, "s", "time to drain on shutdown; service managers kill after 30 or 90")
    ] = 10.0


class Network(Section, frozen=True):
    listen: Annotated[tuple[str, ...], _text("addresses to listen on; port 0 picks a free one", *_LISTEN)] = (
        "/ip4/0.0.0.0/tcp/4001",
    )
    announce: Annotated[tuple[str, ...], _text("addresses to tell others instead, e.g. behind a NAT", *_LISTEN)] = ()
    bootstrap: Annotated[tuple[str, ...], _text("peers to join through; redialled for ever", *_PEER)] = ()
    static_peers: Annotated[tuple[str, ...], _text("peers to stay connected to, redialled for ever", *_PEER)] = ()
    swarm: Annotated[
        str, _text("genesis to belong to; empty: that of the first peer", r"([0-9a-f]{42})?", "42 hexadecimal digits")
    ] = ""
    peers_max: Annotated[int, _number(1, 1024, "peers", "each costs about 1 MiB and two streams")] = 64
    streams_per_peer_max: Annotated[int, _number(4, 4096, "streams", "inbound; 32 of them may be half open")] = 64
    publish_rate_per_s: Annotated[float, _number(0.1, 150, "messages/s", "gossip drops bursts silently: pace it")] = (
        30.0
    )
    publish_queue_max: Annotated[int, _number(1, 65536, "messages", "beyond it publishing is refused, not delayed")] = (
        1024
    )
    dial_timeout_s: Annotated[float, _number(1, 120, "s", "TCP, Noise and Yamux together take 0.3 s on a good day")] = (
        10.0
    )
    admission_wait_s: Annotated[float, _number(0.5, 60, "s", "an undecided peer is dropped after this")] = 5.0
    presence_interval_s: Annotated[float, _number(0.5, 600, "s", "own announcement; peers are stale after three")] = 5.0


class Api(Section, frozen=True):
    host: Annotated[str, _text("address of the owner's HTTP API; keep it local", r"[\w.:\-]{1,253}", "a host")] = (
        "127.0.0.1"
    )
    port: Annotated[int, _number(0, 65535, "", "0 picks a free one")] = 8787
    body_bytes_max: Annotated[int, _number(64 << 10, _GIB, "bytes", "one request; larger files are sent in parts")] = (
        16 * _MIB
    )
    requests_max: Annotated[int, _number(1, 4096, "requests", "at once; each may hold one body")] = 64


class Workers(Section, frozen=True):
    count: Annotated[int, _number(0, 256, "processes", "0: one per core but one, at most 16")] = 0
    memory_bytes_max: Annotated[int, _number(256 * _MIB, 1 << 40, "bytes", "each; one above it is killed")] = 2 * _GIB
    nice: Annotated[int, _number(0, 19, "", "keeps the loop and its owner's programs ahead of lent work")] = 10
    task_time_max_s: Annotated[float, _number(1, 86400, "s", "one computation; its worker is killed beyond it")] = 300.0
    queue_max: Annotated[
        int, _number(1, 65536, "computations", "that wait for a worker; beyond it they are refused")
    ] = 1024
    backend: Annotated[
        Literal["auto", "numpy", "fast"], _text("fast: compiled by numba, which must be there; auto: if it is there")
    ] = "auto"


class Artifacts(Section, frozen=True):
    budget_bytes: Annotated[int, _number(16 * _MIB, 1 << 44, "bytes", "of disk; least recently used go first")] = (
        2 * _GIB
    )
    artifact_bytes_max: Annotated[int, _number(_MIB, 64 * _GIB, "bytes", "one artifact; the model has 91 MB")] = (
        256 * _MIB
    )
    partials_max: Annotated[int, _number(1, 4096, "transfers", "received at once, or kept to be resumed")] = 64
    partial_age_s: Annotated[float, _number(60, 1e7, "s", "an interrupted transfer is forgotten after this")] = 86400.0


class Tasks(Section, frozen=True):
    chunks_max: Annotated[int, _number(1, 4096, "chunks", "of others, run or queued here at once")] = 64
    jobs_max: Annotated[int, _number(1, 65536, "jobs", "own ones that are not finished; further ones are refused")] = (
        1024
    )
    history_max: Annotated[int, _number(1, 10000, "jobs", "finished ones that can still be looked at")] = 200
    self_share: Annotated[float, _number(0, 1, "share", "of this node's workers for its own jobs")] = 1.0


class Market(Section, frozen=True):
    price_micro_ruv: Annotated[int, _number(0, 10**9, "millionths of a rUv per unit", "asked for lent work")] = 10
    reserve_micro_ruv: Annotated[int, _number(1, 10**9, "millionths of a rUv per unit", "paid at most")] = 100
    bid_window_s: Annotated[float, _number(0.02, 30, "s", "time to offer; three round trips of a slow link")] = 0.4
    lease_s: Annotated[float, _number(10, 3600, "s", "how long a lease holds without a new auction")] = 120.0
    lease_units_max: Annotated[int, _number(1, 10**9, "units", "of work in one lease")] = 1_000_000


class Verification(Section, frozen=True):
    newcomer_items: Annotated[int, _number(1, 10**6, "items", "of a new executor that are all checked")] = 16
    rate_min: Annotated[float, _number(0, 1, "share", "of a proven executor's items that are still checked")] = 0.05
    avoid_s: Annotated[float, _number(1, 1e7, "s", "without work after a wrong result; doubles each time")] = 3600.0


class Index(Section, frozen=True):
    segment_rows_max: Annotated[int, _number(64, 16384, "vectors", "per segment; 4096 of 384 floats are 6 MiB")] = 4096
    replicas: Annotated[int, _number(1, 16, "nodes", "that hold each segment; one may be lost if there are two")] = 2
    repair_after_s: Annotated[float, _number(1, 86400, "s", "a holder is silent this long before it is replaced")] = (
        30.0
    )
    held_bytes_max: Annotated[int, _number(_MIB, 1 << 44, "bytes", "of segments that are held for others")] = 2 * _GIB


class Committee(Section, frozen=True):
    serve: Annotated[bool, Key("let this node be made a member when the committee asks")] = True
    profile: Annotated[
        Literal["wan", "lan"], _text("pauses: wan elects within 1 to 2 s, lan within 150 to 300 ms; same for all")
    ] = "wan"
    certified_by_min: Annotated[
        int, _number(1, 7, "members", "heads of smaller committees are not followed; 4: one may lie")
    ] = 1
    accepted_epochs: Annotated[
        tuple[str, ...], _text("new epochs after a lost majority, by digest", r"[0-9a-f]{64}", "64 hexadecimal digits")
    ] = ()


class Faults(Section, frozen=True):
    lie: Annotated[bool, Key("return wrong results: for demonstrations of verification only")] = False


class Config(Struct, frozen=True):
    node: Node = Node()
    network: Network = Network()
    api: Api = Api()
    workers: Workers = Workers()
    artifacts: Artifacts = Artifacts()
    tasks: Tasks = Tasks()
    market: Market = Market()
    verification: Verification = Verification()
    index: Index = Index()
    committee: Committee = Committee()
    faults: Faults = Faults()


class Field(Struct, frozen=True):
    """One row of the table of all keys, by `section.key`."""

    name: str
    type: Any
    default: Any
    key: Key


@functools.cache
def table() -> Mapping[str, Field]:
    rows = {}
    for section in structs.fields(Config):
        hints = get_type_hints(section.type, include_extras=True)
        for item in structs.fields(section.type):
            name = f"{section.name}.{item.name}"
            annotation = hints[item.name]
            rows[name] = Field(name, annotation.__origin__, item.default, annotation.__metadata__[0])
    return rows
