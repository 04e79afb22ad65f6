"""What a reader knows of somebody else's index: the owner's manifest, checked, remembered for a short while."""

from __future__ import annotations

from collections import OrderedDict

from msgspec import Struct

from ..crypto.fingerprints import peer_id
from ..errors import Malformed
from ..wire.index import SEGMENTS_MAX, Manifest
from .answers import Target
from .grants import open_grant
from .settings import IndexSettings

DIMENSION_MAX = 4096
HOLDERS_MAX = 64
DIGEST_CHARS = 64
_HEX = frozenset("0123456789abcdef")


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

    def forget(self, owner: str, name: str) -> None:
        self._known.pop((owner, name), None)

    def learn(self, owner: str, name: str, manifest: Manifest, swarm: str, now_mono: float) -> Known:
        """`Malformed` or `Refused` when the owner answered with something impossible."""
        grant = open_grant(manifest.grant, swarm)
        if peer_id(grant.owner) != owner or grant.name != name:
            raise Malformed("a manifest with a grant for another index", peer=owner)
        if not 0 < manifest.dimension <= DIMENSION_MAX or len(manifest.segments) > SEGMENTS_MAX:
            raise Malformed("a manifest with an impossible dimension or too many segments", peer=owner)
        digests = {segment.digest for segment in manifest.segments}
        if len(digests) != len(manifest.segments) or not all(valid_digest(digest) for digest in digests):
            raise Malformed("a manifest with impossible digests", peer=owner)
        for segment in manifest.segments:
            if segment.rows < 1 or segment.version < 0 or len(segment.holders) > HOLDERS_MAX:
                raise Malformed("a manifest with an impossible segment", peer=owner)
        known = Known(grant.owner, manifest, now_mono)
        self._known[owner, name] = known
        self._known.move_to_end((owner, name))
        while len(self._known) > self._settings.manifests_max:
            self._known.popitem(last=False)
        return known


def valid_digest(digest: str) -> bool:
    """SHA-256 in lower-case hex."""
    return len(digest) == DIGEST_CHARS and _HEX.issuperset(digest)


def targets(known: Known, owner: str, here: str) -> dict[str, Target]:
    """The segments as a search wants them: the owner can always be asked, this node itself cannot."""
    found = {}
    for segment in known.manifest.segments:
        nodes = tuple(dict.fromkeys(node for node in (*segment.holders, owner) if node != here))
        found[segment.digest] = Target(segment.digest, segment.version, segment.rows, nodes)
    return found
