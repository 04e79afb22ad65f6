"""Handlers: what a task kind means.

A handler splits a payload into items, packs items into the input of a chunk, names the function that computes a chunk
in a worker process, and checks, compares and merges outputs. It holds no state, never computes in this process what
takes more than a millisecond, and imports its heavy modules inside the functions that need them.

A kind is added by an installed package with an entry point in the group `edgenet_node.handlers` that names a function
`make(environment: Environment) -> Handler`; see `edgenet_node.tasks.registry`.

Whose fault: `parse` and `check_items` raise `UsageError` (the owner), `check_input` raises `Malformed` (the buyer),
`check_output` raises `InvalidResult` (the executor).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

from msgspec import Struct

from ...effects import Place
from ...errors import Malformed, UsageError
from ...wire.codec import decode, encode
from ...wire.task import INPUT_BYTES_MAX
from ..settings import Rng

Verification = Literal["exact", "tolerance"]
"""How two outputs are compared: by equality, or within a tolerance that the handler states."""

PACK_ITEM_BYTES = 5
"""What packing adds to an item, at most."""


class Environment(Struct, frozen=True):
    """What a handler may know of this node. `cache_folder`: prepared models, private to this node. `model_folder`:
    where published model files lie; None for those that came with an installed package."""

    cache_folder: Path
    model_folder: Path | None = None


class Parsed(Struct, frozen=True):
    """A payload, understood. `spec` is what all chunks need to know, `items` what is split among them."""

    spec: bytes
    items: tuple[bytes, ...]


class Handler(Protocol):
    """One task kind. `functions` are all functions that the executor may run for it (name to "module:attr"),
    `function` the one that computes a chunk: `fn(context, *args(spec, data)) -> bytes`."""

    @property
    def kind(self) -> str: ...

    @property
    def model(self) -> str: ...

    @property
    def verification(self) -> Verification: ...

    @property
    def place(self) -> Place: ...

    @property
    def function(self) -> str: ...

    @property
    def confirm(self) -> str:
        """The function with which this node judges what another executor claims: `fn(context, *args(spec, data), claim,
        seed) -> bytes` answers, item by item, with the claim where it stands and with its own result where it does not;
        `seed` is drawn once the claim is here. Empty: this node computes anew, and `same` alone decides."""
        ...

    @property
    def functions(self) -> Mapping[str, str]: ...

    @property
    def chunk_items_max(self) -> int: ...

    def unavailable(self) -> str:
        """Why this node cannot compute it, with the remedy; empty if it can. Quick, and free of heavy imports."""
        ...

    def parse(self, payload: Mapping[str, Any]) -> Parsed: ...

    def check_items(self, spec: bytes, items: Sequence[bytes]) -> None: ...

    def units(self, item: bytes) -> int:
        """What an item costs, at least 1: a pure function of the item, the same at buyer and seller."""
        ...

    def pack(self, items: Sequence[bytes]) -> bytes: ...

    def check_input(self, spec: bytes, data: bytes, count: int) -> int:
        """The units of this chunk, once it is known to be well-formed."""
        ...

    def args(self, spec: bytes, data: bytes) -> tuple[Any, ...]: ...

    def check_output(self, spec: bytes, output: bytes, count: int) -> None: ...

    def take(self, output: bytes, indices: Sequence[int]) -> bytes:
        """The output of these items of a chunk, as if only they had been asked for."""
        ...

    def same(self, ours: bytes, theirs: bytes) -> list[bool]:
        """Item by item, two checked outputs of the same items."""
        ...

    def merge(self, spec: bytes, outputs: Sequence[bytes]) -> bytes: ...

    def result(self, output: bytes) -> dict[str, Any]:
        """A merged output as the owner sees it: plain values for JSON."""
        ...

    def falsify(self, output: bytes, rng: Rng) -> bytes:
        """A wrong output that `check_output` passes, for demonstrations and tests of verification."""
        ...


def pack_items(items: Sequence[bytes]) -> bytes:
    """The items as one canonical MessagePack array of byte strings."""
    return encode(list(items))


def unpack_items(data: bytes, count: int) -> list[bytes]:
    """Inverse of `pack_items`. `Malformed` unless there are exactly `count`."""
    items: list[bytes] = decode(data, list[bytes], bytes_max=INPUT_BYTES_MAX)
    if len(items) != count:
        raise Malformed(f"the input has {len(items)} items in place of {count}")
    return items


def refuse_unknown(kind: str, payload: Mapping[str, Any], known: tuple[str, ...]) -> None:
    """`UsageError` that names what is unknown and what would be known."""
    unknown = sorted(str(key)[:40] for key in payload if key not in known)
    if unknown:
        raise UsageError(f"{kind}: unknown field {', '.join(unknown[:5])}; known are {', '.join(known)}")
