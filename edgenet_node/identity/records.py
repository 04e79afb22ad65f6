"""Signed peer records: what is believed, and why."""

from __future__ import annotations

from collections import OrderedDict

from msgspec import Struct

from ..crypto.fingerprints import peer_id, public_from_peer_id, short_id
from ..crypto.signing import verify
from ..errors import EdgenetError, Malformed
from ..wire.codec import decode_canonical
from ..wire.hello import RECORD_BYTES_MAX, PeerRecord, SignedRecord


def short_id_of(peer: str) -> str:
    """For people; `?` for a PeerId of another key type, which a guest may have."""
    try:
        return short_id(public_from_peer_id(peer))
    except Malformed:
        return "?"


class Entry(Struct, frozen=True):
    """A verified record; `fresh` when it is newer than what was known."""

    peer: str
    addresses: tuple[str, ...]
    fresh: bool


class RecordBook:
    """The newest record of each peer, at most `records_max`, least recently renewed dropped first."""

    def __init__(self, records_max: int) -> None:
        self._records_max = records_max
        self._records: OrderedDict[str, tuple[int, tuple[str, ...], SignedRecord]] = OrderedDict()

    def take(self, signed: SignedRecord, swarm: str) -> Entry | None:
        """None for a record that does not verify or is of another swarm."""
        try:
            record = decode_canonical(signed.body, PeerRecord, bytes_max=RECORD_BYTES_MAX)
        except EdgenetError:
            return None
        peer = peer_id(record.public_key)
        known = self._records.get(peer)
        if known is not None and known[2] == signed:
            return Entry(peer, known[1], fresh=False)
        if record.swarm != swarm or not verify(record.public_key, b"peer-record", signed.body, signed.signature):
            return None
        if known is not None and known[0] >= record.seq:
            return Entry(peer, known[1], fresh=False)
        self._records[peer] = (record.seq, tuple(record.addresses), signed)
        self._records.move_to_end(peer)
        while len(self._records) > self._records_max:
            self._records.popitem(last=False)
        return Entry(peer, tuple(record.addresses), fresh=True)

    def get(self, peer: str) -> SignedRecord | None:
        found = self._records.get(peer)
        return None if found is None else found[2]

    def addresses(self, peer: str) -> tuple[str, ...]:
        found = self._records.get(peer)
        return () if found is None else found[1]
