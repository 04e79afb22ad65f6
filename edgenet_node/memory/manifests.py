"""What a reader knows of somebody else's index: the owner's manifest, checked, remembered for a short while."""

from __future__ import annotations

import math
from collections import OrderedDict

from msgspec import Struct

from ..crypto.fingerprints import peer_id
from ..errors import Malformed
from ..wire.index import Manifest
from .answers import Target
from .grants import open_grant
from .settings import IndexSettings


class Known(Struct, frozen=True):
    owner: bytes
    manifest: Manifest
    fetched_mono: float


class Manifests:
    def __init__(self, settings: IndexSettings) -> None:
        self._settings = settings
        self._known: OrderedDict[tuple[str, str], Known] = OrderedDict()

    def get(self, owner: str, name: str, now_mono: float) -> Known | None:
        """None when it is not known or too old to use without asking."""
        known = self._known.get((owner, name))
        if known is None or known.fetched_mono + self._settings.manifest_ttl_s <= now_mono:
            return None
        return known

    def last(self, owner: str, name: str) -> Known | None:
        """However old."""
        return self._known.get((owner, name))

    def expire(self, owner: str, name: str) -> None:
        """It turned out to be out of date: ask before using it again."""
        known = self._known.get((owner, name))
        if known is not None:
            self._known[owner, name] = Known(known.owner, known.manifest, -math.inf)

    def learn(self, owner: str, name: str, manifest: Manifest, swarm: str, now_mono: float) -> Known:
        """`Malformed` or `Refused` when the owner answered with something impossible."""
        grant = open_grant(manifest.grant, swarm)
        if peer_id(grant.owner) != owner or grant.name != name:
            raise Malformed("a manifest with a grant for another index", peer=owner)
        if len({segment.digest for segment in manifest.segments}) != len(manifest.segments):
            raise Malformed("a manifest that names a segment twice", peer=owner)
        known = Known(grant.owner, manifest, now_mono)
        self._known[owner, name] = known
        self._known.move_to_end((owner, name))
        while len(self._known) > self._settings.manifests_max:
            self._known.popitem(last=False)
        return known


def targets(known: Known, owner: str, here: str) -> dict[str, Target]:
    """The segments as a search wants them: the owner can always be asked, this node itself cannot."""
    found = {}
    for segment in known.manifest.segments:
        nodes = tuple(dict.fromkeys(node for node in (*segment.holders, owner) if node != here))
        found[segment.digest] = Target(segment.digest, segment.version, segment.rows, nodes)
    return found
