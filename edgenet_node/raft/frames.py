"""Messages of one flush, packed into frames for each peer."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from msgspec import structs

from ..wire.raft import FRAME_BYTES_MAX, MESSAGES_PER_FRAME_MAX, Message, RaftFrame

_MESSAGE_BYTES = 320
"""Upper bound of a message's fields besides entries and context."""
_ENTRY_BYTES = 64
_BYTES_MAX = FRAME_BYTES_MAX - 4096


def frames(epoch: int, messages: Iterable[Message]) -> Iterator[RaftFrame]:
    """In order. Data of snapshots stays here: the receiver fetches it."""
    batch: list[Message] = []
    size = 0
    for message in messages:
        one = message
        if message.snapshot is not None and message.snapshot.data:
            one = structs.replace(message, snapshot=structs.replace(message.snapshot, data=b""))
        weight = _MESSAGE_BYTES + len(one.context) + sum(len(entry.data) + _ENTRY_BYTES for entry in one.entries)
        if batch and (size + weight > _BYTES_MAX or len(batch) == MESSAGES_PER_FRAME_MAX):
            yield RaftFrame(epoch, tuple(batch))
            batch, size = [], 0
        batch.append(one)
        size += weight
    if batch:
        yield RaftFrame(epoch, tuple(batch))
