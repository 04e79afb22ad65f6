"""What a core may ask of the world.

A core is a synchronous state machine (sans-IO in the sense of h11 and etcd/raft): `step(envelope, now)` takes one
input and returns one ordered list of effects. The runtime (`edgenet_node.runtime`) makes the saves of that list durable
and only then releases its other effects, in program order. Nothing in this module does anything.

* saves: `Put`, `Delete`; one transaction per step.
* outputs, at most once: `Tell`, `Event`, `Publish`, `Send`. What must happen is saved state that `restore` re-issues.
* answers: `Reply` (final, exactly one for each ask that was accepted), `Progress` (any number before it).
* operations: `Ask`, `Call`, `Transfer`, `Compute`; each carries a tag that the core chose and a timeout, and produces
  exactly one `Done(tag)`, unless it is withdrawn with `Cancel(tag)`.
* `Saved(tag)`: exactly one `Done(tag)` once the saves of its step, and of all steps before, are durable.
* `Early(effect)`: released at once, before the saves of its step are durable.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Generic, Literal, Protocol, TypeVar

from msgspec import Struct

R = TypeVar("R")
In = TypeVar("In")

Place = Literal["inline", "thread", "worker"]
"""`inline`: at most 200 us, on the loop. `thread`: native code that releases the GIL. `worker`: everything else."""


class Now(Struct, frozen=True):
    """Monotonic seconds for intervals, Unix seconds for deadlines that are saved."""

    mono: float
    wall: float


class Query(Struct, Generic[R], frozen=True):
    """A message answered by an `R`: `await bus.ask(query)` infers its result. Give subclasses fields only."""


class Envelope(Struct, Generic[In], frozen=True):
    """One input of a core. `reply_to` is 0 when no answer is expected; `sender` is the authenticated peer id, empty
    when the message comes from this node itself."""

    body: In
    reply_to: int = 0
    sender: str = ""


class Done(Struct, frozen=True):
    """The one completion of an operation: `error` is None, or `value` is None."""

    tag: Any
    value: Any = None
    error: Exception | None = None


class Row(Struct, frozen=True):
    """A saved value of this core. Keys are unique within (part, table)."""

    table: str
    key: str
    value: bytes


class Put(Struct, frozen=True):
    table: str
    key: str
    value: bytes


class Delete(Struct, frozen=True):
    table: str
    key: str


class Tell(Struct, frozen=True):
    """To the one owner of the body's type. `wait` blocks this core's releases until there is room (declared in
    `Part.tells`, acyclic); otherwise a full mailbox sheds it, counted."""

    body: Any
    wait: bool = False


class Event(Struct, frozen=True):
    """To every part that hears the body's type. Never blocks; shed where a mailbox is full."""

    body: Any


class Publish(Struct, frozen=True):
    """To the swarm, on the gossip topic registered for the body's type."""

    body: Any


class Send(Struct, frozen=True):
    """To one peer, on the persistent stream registered for the body's type: at most once, in order while the connection
    lasts. Never blocks; shed, counted, where the peer's queue is full or it is not connected."""

    peer: str
    body: Any


class Reply(Struct, frozen=True):
    """The answer to the envelope with this `reply_to`: a value, or an error for the asker. A reply to 0 is dropped."""

    to: int
    value: Any = None
    error: Exception | None = None


class Progress(Struct, frozen=True):
    to: int
    value: Any


class Ask(Struct, frozen=True):
    """A query to the local owner of its type."""

    tag: Any
    query: Any
    timeout_s: float


class Call(Struct, frozen=True):
    """A query to the owner of its type at another peer, over that peer's persistent stream."""

    tag: Any
    peer: str
    query: Any
    timeout_s: float


class Transfer(Struct, frozen=True):
    """Fetch the artifact `digest` (SHA-256, hex) from a peer into the artifact store. Value: its size in bytes."""

    tag: Any
    peer: str
    digest: str
    size_max: int
    timeout_s: float


class Compute(Struct, frozen=True):
    """Run the registered function `fn` on `args`. `affinity` names the resident object it wants to be near."""

    tag: Any
    place: Place
    fn: str
    args: tuple[Any, ...]
    timeout_s: float
    affinity: str = ""


class Cancel(Struct, frozen=True):
    """Withdraw the operation `tag`: no `Done` follows. Unknown tags are ignored (it may have just completed)."""

    tag: Any


class Saved(Struct, frozen=True):
    """Step me with `Done(tag)` when this step's saves and all earlier ones are durable. Takes no slot, is never shed,
    dies with the incarnation."""

    tag: Any


Operation = Ask | Call | Transfer | Compute
Save = Put | Delete


class Early(Struct, frozen=True):
    effect: Tell | Event | Publish | Send | Reply | Progress | Operation | Cancel


Effect = (
    Put
    | Delete
    | Tell
    | Event
    | Publish
    | Send
    | Reply
    | Progress
    | Ask
    | Call
    | Transfer
    | Compute
    | Saved
    | Cancel
    | Early
)


class Core(Protocol):
    """A decision maker. Injected: configuration, `random.Random` (seeded), and an entropy source: the operating
    system's, seeded in simulation."""

    def restore(self, rows: Sequence[Row], now: Now) -> list[Effect]:
        """Rebuild state from saved rows; re-issue what was promised and not yet acknowledged."""
        ...

    def step(self, e: Envelope[Any], now: Now) -> list[Effect]:
        """Take one message, `Done` or `Tick`. Unknown bodies raise; late `Done`s are ignored."""
        ...

    def wake_at(self) -> float:
        """Monotonic time of the next `Tick` wanted, `math.inf` for none. A pure function of state: a `Tick` that does
        not advance it is an error of the core."""
        ...


class Tick(Struct, frozen=True):
    """The time asked for by `wake_at` has come."""


class Limits(Struct, frozen=True):
    """Bounds of one part. `mailbox_max` messages wait (network input and events beyond it are shed, asks refused);
    `operations_max` run at once, further ones queue inside their own deadline up to `operations_queued_max`;
    `batch_max` envelopes are stepped between two commits; `outbox_max` steps wait for their commit."""

    mailbox_max: int = 1024
    operations_max: int = 256
    operations_queued_max: int = 4096
    batch_max: int = 256
    outbox_max: int = 1024


class Part(Struct, frozen=True):
    """One line of `app.py`: a core, what reaches it, what it may wait for."""

    name: str
    make: Callable[[], Core]
    accepts: tuple[type, ...] = ()
    remote: tuple[type, ...] = ()
    hears: tuple[type, ...] = ()
    tells: tuple[type, ...] = ()
    limits: Limits = Limits()
    fail_stop: bool = False
