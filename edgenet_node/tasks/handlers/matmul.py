"""`matmul`: the product of two matrices, float32.

Payload: `a` (m, k) and `b` (k, n), each as nested lists or base64 of a .npy file, or both in one .npz or .safetensors
file as base64 in `arrays`. Result: `shape`, and `npy`, base64 of a .npy file.

The product is cut into partial products (`kernels.linear.tiles`): rows of A by columns of B over a part of the depth.
Where B is small, blocks are plain runs of rows; a product of cubes of 240 is what fits one chunk. Partial products
are added here, in the order of depth, so that the result does not depend on who computed what.

Verification: `confirm` is Freivalds' check (`kernels.verify.freivalds`), 16 random signs a column, drawn after the
answer is here: a wrong row passes with a probability of 2^-16 unless it is off by no more than rounding could do.

Limits: the blocks of one task together have at most 32 MiB, which a product of 1000 by 1000 by 1000 reaches, and no
number may exceed 1e15, so that no sum overflows.
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

    from ...kernels.linear import Tile
    from .arrays import Array

DEPTH_MAX: Final = 240
"""Of one block: near a cube, where the fewest numbers travel for each multiplication."""

SIDE_MAX: Final = 448
"""Rows and columns of a block whose depth is small: what comes back then is what is large."""

MAGNITUDE_MAX: Final = 1e15
Length = Annotated[int, Meta(ge=1, le=1 << 24)]


class MatmulSpec(Wire):
    """(m, k) by (k, n)."""

    m: Length
    k: Length
    n: Length


class MatmulItem(Wire):
    """.npy frames of one block of A and one of B."""

    a: bytes
    b: bytes


def block_shape(spec: MatmulSpec) -> tuple[int, int, int]:
    """Rows, depth and columns of every block."""
    depth = even(spec.k, DEPTH_MAX)
    columns = even(spec.n, min(SIDE_MAX, BLOCK_FLOATS // (2 * depth)))
    rows = even(spec.m, min(BLOCK_FLOATS // depth - columns, RESULT_FLOATS_MAX // columns))
    return rows, depth, columns


def read_spec(spec: bytes) -> MatmulSpec:
    found: MatmulSpec = decode(spec, MatmulSpec, bytes_max=SPEC_BYTES_MAX)
    return found


def read_item(spec: bytes, item: bytes) -> tuple[Array, Array]:
    """The two blocks, checked. `Malformed`, `ValueError`."""
    from .arrays import read_frame

    rows, depth, columns = block_shape(read_spec(spec))
    read: MatmulItem = decode(item, MatmulItem, bytes_max=INPUT_BYTES_MAX)
    return read_frame(read.a, (rows, depth), MAGNITUDE_MAX), read_frame(read.b, (depth, columns), MAGNITUDE_MAX)


class MatmulHandler(ArrayKind):
    kind = "matmul"
    names = ("a", "b")

    def _cut(self, arrays: Mapping[str, Array], payload: Mapping[str, Any]) -> tuple[bytes, list[bytes]]:
        from .arrays import check_finite, frame

        if set(arrays) != {"a", "b"} or any(array.ndim != 2 for array in arrays.values()):
            raise ValueError("give two matrices, a and b")
        a, b = arrays["a"], arrays["b"]
        if a.shape[1] != b.shape[0] or 0 in (*a.shape, *b.shape):
            raise ValueError(f"a has the shape {a.shape} and b {b.shape}: no product, or an empty one")
        for array in (a, b):
            check_finite(array, MAGNITUDE_MAX)
        spec = MatmulSpec(a.shape[0], a.shape[1], b.shape[1])
        rows, depth, columns = block_shape(spec)
        items = [
            encode(
                MatmulItem(
                    frame(padded(a[one.i : one.i_end, one.k : one.k_end], (rows, depth))),
                    frame(padded(b[one.k : one.k_end, one.j : one.j_end], (depth, columns))),
                )
            )
            for one in _tiles(spec)
        ]
        return encode(spec), items

    def _check_item(self, spec: bytes, item: bytes) -> None:
        read_item(spec, item)

    def _shape(self, spec: bytes) -> tuple[int, int]:
        rows, _, columns = block_shape(read_spec(spec))
        return rows, columns

    def _join(self, spec: bytes, blocks: npt.NDArray[np.float32]) -> Array:
        import numpy as np

        read = read_spec(spec)
        out = np.zeros((read.m, read.n), np.float32)
        for one, block in zip(_tiles(read), blocks, strict=True):
            out[one.i : one.i_end, one.j : one.j_end] += block[: one.i_end - one.i, : one.j_end - one.j]
        return out


def _tiles(spec: MatmulSpec) -> list[Tile]:
    from ...kernels.linear import tiles

    return tiles(spec.m, spec.k, spec.n, block_shape(spec))


def make(environment: Environment) -> MatmulHandler:
    """The entry point."""
    return MatmulHandler()
