"""`attention`: softmax(Q K^T / sqrt d) V for one head or several, exact, float32.

Payload: `query` (n, d) or (h, n, d), `key` and `value` alike with their own n and the same h; as nested lists or base64
of .npy files, or all in one .npz or .safetensors file as base64 in `arrays`. `causal` true: query i sees the keys
j <= i + n_k - n_q, so that the last query sees all; a query that sees none gets zeros. Result: `shape`, and `npy`,
base64 of a .npy file.

Blocks are runs of queries of one head, each with all its keys and values.

Verification: `confirm` computes the block in float64 and accepts what rounding of float32 can explain.

Limits: keys and values of one head together have at most 100,000 numbers, 780 keys of d = 64: longer contexts would
need partial softmaxes, which are not done here. No number may exceed 1e15.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Final

from msgspec import Meta

from ...wire.codec import Wire, decode, encode
from ...wire.task import INPUT_BYTES_MAX, SPEC_BYTES_MAX
from . import Environment
from .array_kind import BLOCK_FLOATS, RESULT_FLOATS_MAX, ArrayKind, even, padded

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from .arrays import Array

CONTEXT_FLOATS_MAX: Final = 100_000
"""Keys and values of one head; what is left of a block is for queries."""

MAGNITUDE_MAX: Final = 1e15
Length = Annotated[int, Meta(ge=1, le=1 << 24)]


class AttentionSpec(Wire):
    """`heads` of `queries` (n_q, width) over `keys` (n_k, width) and values (n_k, depth)."""

    heads: Length
    queries: Length
    keys: Length
    width: Length
    depth: Length
    causal: bool


class AttentionItem(Wire):
    """`first`: number of the first query. The rest: .npy frames."""

    first: Annotated[int, Meta(ge=0, le=1 << 24)]
    query: bytes
    key: bytes
    value: bytes


class Block(Wire):
    """What `read_item` found besides the arrays. `offset`: query i of the block sees keys j <= i + offset."""

    causal: bool
    offset: int


def block_rows(spec: AttentionSpec) -> int:
    """Queries in each block. `ValueError` if keys and values leave no room."""
    context = spec.keys * (spec.width + spec.depth)
    if context > CONTEXT_FLOATS_MAX:
        raise ValueError(f"keys and values of a head have {context} numbers, at most {CONTEXT_FLOATS_MAX}")
    return even(spec.queries, max(1, min((BLOCK_FLOATS - context) // spec.width, RESULT_FLOATS_MAX // spec.depth)))


def read_spec(spec: bytes) -> AttentionSpec:
    found: AttentionSpec = decode(spec, AttentionSpec, bytes_max=SPEC_BYTES_MAX)
    return found


def read_item(spec: bytes, item: bytes) -> tuple[Array, Array, Array, Block]:
    """Queries, keys and values of one block, checked. `Malformed`, `ValueError`."""
    from .arrays import read_frame

    read, one = read_spec(spec), decode(item, AttentionItem, bytes_max=INPUT_BYTES_MAX)
    if one.first >= read.queries:
        raise ValueError(f"a block that starts at query {one.first} of {read.queries}")
    return (
        read_frame(one.query, (block_rows(read), read.width), MAGNITUDE_MAX),
        read_frame(one.key, (read.keys, read.width), MAGNITUDE_MAX),
        read_frame(one.value, (read.keys, read.depth), MAGNITUDE_MAX),
        Block(read.causal, one.first + read.keys - read.queries),
    )


class AttentionHandler(ArrayKind):
    kind = "attention"
    names = ("query", "key", "value")
    options = ("causal",)

    def _cut(self, arrays: Mapping[str, Array], payload: Mapping[str, Any]) -> tuple[bytes, list[bytes]]:
        from .arrays import check_finite, frame

        causal = payload.get("causal", False)
        if not isinstance(causal, bool):
            raise ValueError("causal must be true or false")  # noqa: TRY004 - mapped by `parse`
        if set(arrays) != set(self.names) or {array.ndim for array in arrays.values()} not in ({2}, {3}):
            raise ValueError("give query, key and value, all (n, d) or all (heads, n, d)")
        query, key, value = (arrays[name].reshape(-1, *arrays[name].shape[-2:]) for name in self.names)
        shapes = f"query has the shape {query.shape}, key {key.shape}, value {value.shape}"
        if not query.shape[0] == key.shape[0] == value.shape[0] or 0 in (*query.shape, *key.shape, *value.shape):
            raise ValueError(f"{shapes}: not as many heads each, or empty")
        if query.shape[2] != key.shape[2] or key.shape[1] != value.shape[1]:
            raise ValueError(f"{shapes}: they do not fit together")
        for array in (query, key, value):
            check_finite(array, MAGNITUDE_MAX)
        heads, queries, width = query.shape
        spec = AttentionSpec(heads, queries, key.shape[1], width, value.shape[2], causal)
        rows = block_rows(spec)
        items = []
        for head in range(spec.heads):
            both = frame(key[head]), frame(value[head])
            for first in range(0, spec.queries, rows):
                block = padded(query[head, first : first + rows], (rows, spec.width))
                items.append(encode(AttentionItem(first, frame(block), *both)))
        return encode(spec), items

    def _check_item(self, spec: bytes, item: bytes) -> None:
        read_item(spec, item)

    def _shape(self, spec: bytes) -> tuple[int, int]:
        read = read_spec(spec)
        return block_rows(read), read.depth

    def _join(self, spec: bytes, blocks: npt.NDArray[np.float32]) -> Array:
        read = read_spec(spec)
        by_head = blocks.reshape(read.heads, -1, read.depth)[:, : read.queries]
        return by_head[0] if read.heads == 1 else by_head


def make(environment: Environment) -> AttentionHandler:
    """The entry point."""
    return AttentionHandler()
