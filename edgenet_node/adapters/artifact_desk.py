"""The artifact store on the bus: pins with names over a store that knows only pinned or not."""

from __future__ import annotations

from ..errors import NotFound
from ..messages.artifacts import PinArtifact, PutArtifact, ReleaseArtifact, Stored
from ..ports.store import ArtifactStore


class ArtifactDesk:
    """Serves `PutArtifact`, `PinArtifact`, `ReleaseArtifact`. The table holds what subsystems pin; they
    bound it."""

    def __init__(self, store: ArtifactStore) -> None:
        self._store = store
        self._pins: dict[str, set[str]] = {}

    async def put(self, query: PutArtifact) -> Stored:
        digest = await self._store.put(query.data, pin=bool(query.pin))
        if query.pin:
            self._pins.setdefault(digest, set()).add(query.pin)
        return self._stored(digest)

    async def pin(self, query: PinArtifact) -> Stored:
        stored = self._stored(query.digest)
        self._store.pin(query.digest, True)
        self._pins.setdefault(query.digest, set()).add(query.pin)
        return stored

    async def release(self, query: ReleaseArtifact) -> None:
        pins = self._pins.get(query.digest)
        if pins is None:
            return
        pins.discard(query.pin)
        if not pins:
            del self._pins[query.digest]
            if self._store.size(query.digest) >= 0:
                self._store.pin(query.digest, False)

    def _stored(self, digest: str) -> Stored:
        size = self._store.size(digest)
        if size < 0:
            raise NotFound(f"artifact {digest[:16]} is not here")
        return Stored(digest, size, str(self._store.path(digest)))
