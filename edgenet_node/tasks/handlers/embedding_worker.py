"""The function behind `embedding`, run in worker processes: the only module of `tasks` with heavy imports."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, TypeVar

from ...kernels.encoder import MODEL_ID, Encoder
from ...kernels.transformer import Workspace
from ...wire.codec import decode
from ...wire.task import INPUT_BYTES_MAX
from .embedding import pack_output

T = TypeVar("T")

KERNEL = "encoder.minilm_l6/1"
_RESIDENT_BYTES = 64 * 1024 * 1024
"""Tokeniser and workspace; the weights are mapped, shared by all workers, and not counted."""


class Context(Protocol):
    """What the executor gives every function."""

    def should_stop(self) -> bool: ...

    def kernel(self, name: str) -> Any: ...

    def resident(self, name: str, load: Callable[[], T], *, size_bytes: int = 0) -> T: ...


def embed(context: Context, spec: bytes, data: bytes, cache_folder: str, model_folder: str) -> bytes:
    """The output of a chunk, as `handlers.embedding` lays it out. `spec` was checked before: there is one model.

    `WeightsMissing`, `CorruptData`, `StoreError` from loading; `Cancelled` once nobody waits any more.
    """
    items: list[bytes] = decode(bytes(data), list[bytes], bytes_max=INPUT_BYTES_MAX)

    def load() -> tuple[Encoder, Workspace]:
        folder = Path(model_folder) if model_folder else None
        return Encoder.open(Path(cache_folder), folder, context.kernel(KERNEL)), Workspace()

    encoder, workspace = context.resident(MODEL_ID, load, size_bytes=_RESIDENT_BYTES)
    texts = [item.decode("utf-8", "replace") for item in items]
    encoded = encoder.encode(texts, should_stop=context.should_stop, workspace=workspace)
    vectors: Any = encoded.vectors
    return pack_output(vectors.astype("<f4", copy=False).tobytes(), encoded.tokens.tolist())
