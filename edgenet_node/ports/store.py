"""The store ports: rows in transactions, artifacts by content."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from ..effects import Row, Save


class RowStore(Protocol):
    """Durable rows. One writer; concurrent commits share one fsync (group commit)."""

    async def load(self, part: str) -> list[Row]:
        """All rows of a part, ordered by (table, key)."""
        ...

    async def commit(self, part: str, saves: Sequence[Save]) -> None:
        """Durable and atomic when it returns. `StoreFull`: rolled back, the store goes on. Any other `StoreError`: the
        process must stop without acknowledging anything more."""
        ...

    async def close(self) -> None: ...


class ArtifactStore(Protocol):
    """Content-addressed blobs, named by the SHA-256 of their bytes in hex; chunks of 256 KiB; an LRU byte budget that
    spares pinned ones. Synchronous methods are quick (index lookups); the others run off the loop."""

    async def put(self, data: bytes, *, pin: bool = False) -> str: ...

    async def get(self, digest: str) -> bytes:
        """The whole, verified content; `NotFound`, or `CorruptData` (the file is set aside)."""
        ...

    async def read_chunk(self, digest: str, index: int) -> bytes: ...

    def size(self, digest: str) -> int:
        """Bytes, or -1 when it is not here."""
        ...

    def path(self, digest: str) -> Path:
        """The file, for memory mapping; marks it used. `NotFound` when it is not here."""
        ...

    def pin(self, digest: str, pinned: bool) -> None: ...

    async def begin(self, digest: str, size: int) -> ArtifactWriter:
        """Start or resume receiving; refuses what does not fit in the budget with `StoreFull`."""
        ...


class ArtifactWriter(Protocol):
    """One artifact on its way in. Kept on disk when interrupted, so that a later `begin` resumes at `received`."""

    received: int

    async def write(self, chunk: bytes) -> None: ...

    async def finish(self) -> None:
        """Verify the digest and publish the file atomically; `Malformed` and removal when it does not match."""
        ...

    async def abandon(self) -> None: ...
