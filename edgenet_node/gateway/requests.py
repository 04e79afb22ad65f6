"""What may be asked: the bodies of requests, strictly typed."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import Meta, Struct

from ..errors import UsageError

T = TypeVar("T")

PeerText = Annotated[str, Meta(min_length=1, max_length=64)]
TaskSeconds = Annotated[float, Meta(gt=0, le=7 * 86_400)]
"""A task may wait a week for executors."""


class SubmitBody(Struct, frozen=True, forbid_unknown_fields=True):
    """`POST /api/tasks`. `price_max` in micro-rUv per unit, 0 for the configured limit."""

    kind: Annotated[str, Meta(min_length=1, max_length=48)]
    payload: dict[str, Any]
    only: Annotated[list[PeerText], Meta(max_length=64)] = []
    local: bool = False
    wait: bool = False
    durable: bool = True
    key: Annotated[str, Meta(max_length=128)] = ""
    price_max: Annotated[int, Meta(ge=0, le=10**9)] = 0
    timeout_s: TaskSeconds = 600.0


class ChangeBody(Struct, frozen=True, forbid_unknown_fields=True):
    """`POST /api/committee/change`: PeerIds."""

    add: Annotated[list[PeerText], Meta(max_length=7)] = []
    remove: Annotated[list[PeerText], Meta(max_length=7)] = []


class PeerBody(Struct, frozen=True, forbid_unknown_fields=True):
    """`POST /api/committee/transfer`."""

    peer: PeerText


class RecoverBody(Struct, frozen=True, forbid_unknown_fields=True):
    """`POST /api/committee/recover`."""

    confirm: bool = False


class AcceptBody(Struct, frozen=True, forbid_unknown_fields=True):
    """`POST /api/committee/accept`: the digest of a new epoch's set, in hex."""

    digest: Annotated[str, Meta(min_length=64, max_length=64)]


class DecideBody(Struct, frozen=True, forbid_unknown_fields=True):
    """`POST /api/registry`: admit or ban `peer`, or set the parameter `name` to `value`."""

    kind: Literal["admit", "ban", "set"]
    peer: Annotated[str, Meta(max_length=64)] = ""
    reason: Annotated[str, Meta(max_length=200)] = ""
    name: Annotated[str, Meta(max_length=48)] = ""
    value: Annotated[str, Meta(max_length=64)] = ""


class CreateIndexBody(Struct, frozen=True, forbid_unknown_fields=True):
    """`POST /api/indexes`."""

    name: str
    readers: Annotated[list[PeerText], Meta(max_length=256)] = []


class ReadersBody(Struct, frozen=True, forbid_unknown_fields=True):
    """`PUT /api/indexes/{name}/readers`."""

    readers: Annotated[list[PeerText], Meta(max_length=256)]


class DocumentBody(Struct, frozen=True, forbid_unknown_fields=True):
    """One passage of `POST /api/indexes/{name}/documents`."""

    id: Annotated[str, Meta(min_length=1, max_length=512)]
    text: Annotated[str, Meta(min_length=1, max_length=8192)]
    metadata: dict[str, str] = {}


class AddBody(Struct, frozen=True, forbid_unknown_fields=True):
    """`POST /api/indexes/{name}/documents`."""

    documents: Annotated[list[DocumentBody], Meta(min_length=1, max_length=4096)]
    wait: bool = True
    only: Annotated[list[PeerText], Meta(max_length=64)] = []
    local: bool = False


class RemoveBody(Struct, frozen=True, forbid_unknown_fields=True):
    """`POST /api/indexes/{name}/remove`."""

    ids: Annotated[list[str], Meta(min_length=1, max_length=4096)]


class SearchBody(Struct, frozen=True, forbid_unknown_fields=True):
    """`POST /api/indexes/{name}/search`: a text, or a vector of the index's dimension."""

    text: Annotated[str, Meta(max_length=8192)] = ""
    vector: Annotated[list[float], Meta(max_length=4096)] = []
    k: Annotated[int, Meta(ge=1, le=256)] = 10
    where: dict[str, str] = {}
    owner: Annotated[str, Meta(max_length=64)] = ""


def read(body: bytes, kind: type[T]) -> T:
    """The body as `kind`; `UsageError` with one line that names the field."""
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UsageError(f"request body: {error}") from None


def number(name: str, text: str, low: int, high: int) -> int:
    """A query parameter. `UsageError` unless it is digits from `low` to `high`."""
    if not (text.isascii() and text.isdigit() and len(text) <= 20 and low <= int(text) <= high):
        raise UsageError(f"{name} must be a number from {low} to {high}")
    return int(text)
