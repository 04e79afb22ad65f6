"""`lora_inference`: y = x W + alpha (x A) B, a frozen layer with low-rank adapters (Hu et al. 2021, "LoRA"), float32.

Payload: inputs `x` (n, d), base weights `w` (d, e), and an adapter `a` (d, r), `b` (r, e) of rank 1 to 16; or several,
`a` (g, d, r), `b` (g, r, e) and `which` (n,), the number from 0 of the adapter of each input. Nested lists or base64 of
.npy files, or all in one .npz or .safetensors file as base64 in `arrays`. `alpha` is 0.1 unless it is given. Result:
`shape`, and `npy`, base64 of a .npy file, in the order of `x`.

Inputs are sorted by adapter, so that a block is one product: a run of inputs of one adapter by a run of columns of W.

Verification: `confirm` computes the block in float64 and accepts what rounding of float32 can explain.

Limits: up to 255 adapters and 8,192 inputs of several in one task, no number above 1e8, |alpha| up to 1e4.
"""

from __future__ import annotations

import math
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

RANK_MAX: Final = 16
ADAPTERS_MAX: Final = 255
WHICH_MAX: Final = 8192
"""Inputs that choose among adapters: a byte of the spec each."""

ALPHA: Final = 0.1
ALPHA_MAX: Final = 1e4
MAGNITUDE_MAX: Final = 1e8
UP_MAX: Final = 1e12
"""Of an adapter's `b` with alpha inside."""

Length = Annotated[int, Meta(ge=1, le=1 << 24)]


class LoraSpec(Wire):
    """`rows` (n, width) to (n, columns). `rows_max`: of one adapter. `which`: a byte for each row; empty for one
    adapter."""

    rows: Length
    rows_max: Length
    width: Length
    columns: Length
    rank: Annotated[int, Meta(ge=1, le=RANK_MAX)]
    which: Annotated[bytes, Meta(max_length=WHICH_MAX)]


class LoraItem(Wire):
    """.npy frames: inputs, base weights, and the adapter by rank with alpha in `up`."""

    x: bytes
    w: bytes
    down: bytes
    up: bytes


def block_shape(spec: LoraSpec) -> tuple[int, int]:
    """Rows and columns of every block. `ValueError` if the width leaves no room."""
    free = BLOCK_FLOATS - spec.rank * spec.width
    columns_max, per_column = free // (2 * (spec.width + spec.rank)), spec.width + spec.rank
    if columns_max < 1:
        raise ValueError(f"inputs of {spec.width} numbers with adapters of rank {spec.rank} do not fit one chunk")
    columns = even(spec.columns, columns_max)
    rows = even(spec.rows_max, min((free - columns * per_column) // spec.width, RESULT_FLOATS_MAX // columns))
    return rows, columns


def read_spec(spec: bytes) -> LoraSpec:
    found: LoraSpec = decode(spec, LoraSpec, bytes_max=SPEC_BYTES_MAX)
    return found


def read_item(spec: bytes, item: bytes) -> tuple[Array, Array, Array, Array]:
    """Inputs, base weights, down and up of one block, checked. `Malformed`, `ValueError`."""
    from .arrays import read_frame

    read, one = read_spec(spec), decode(item, LoraItem, bytes_max=INPUT_BYTES_MAX)
    rows, columns = block_shape(read)
    return (
        read_frame(one.x, (rows, read.width), MAGNITUDE_MAX),
        read_frame(one.w, (read.width, columns), MAGNITUDE_MAX),
        read_frame(one.down, (read.rank, read.width), MAGNITUDE_MAX),
        read_frame(one.up, (read.rank, columns), UP_MAX),
    )


def runs(spec: LoraSpec) -> list[tuple[int, npt.NDArray[np.intp]]]:
    """Adapter and rows of each block, by adapter."""
    import numpy as np

    rows, _ = block_shape(spec)
    which = np.frombuffer(spec.which, np.uint8) if spec.which else np.zeros(spec.rows, np.uint8)
    found = []
    for adapter in np.unique(which).tolist():
        chosen = np.flatnonzero(which == adapter)
        found += [(adapter, chosen[first : first + rows]) for first in range(0, chosen.size, rows)]
    return found


class LoraInferenceHandler(ArrayKind):
    kind = "lora_inference"
    names = ("x", "w", "a", "b", "which")
    options = ("alpha",)

    def _cut(self, arrays: Mapping[str, Array], payload: Mapping[str, Any]) -> tuple[bytes, list[bytes]]:
        import numpy as np

        from .arrays import frame

        x, w, a, b, which = _checked(arrays)
        alpha = _alpha(payload)
        most = int(np.bincount(np.frombuffer(which, np.uint8)).max()) if which else len(x)
        spec = LoraSpec(len(x), most, x.shape[1], w.shape[1], a.shape[2], which)
        rows, columns = block_shape(spec)
        ups = np.multiply(b, np.float32(alpha))
        downs = [frame(np.ascontiguousarray(one.T)) for one in a]
        bases = [
            (frame(padded(w[:, j : j + columns], (spec.width, columns))), slice(j, j + columns))
            for j in range(0, spec.columns, columns)
        ]
        items = []
        for adapter, chosen in runs(spec):
            inputs = frame(padded(x[chosen], (rows, spec.width)))
            for base, some in bases:
                up = frame(padded(ups[adapter][:, some], (spec.rank, columns)))
                items.append(encode(LoraItem(inputs, base, downs[adapter], up)))
        return encode(spec), items

    def _check_item(self, spec: bytes, item: bytes) -> None:
        read_item(spec, item)

    def _shape(self, spec: bytes) -> tuple[int, int]:
        return block_shape(read_spec(spec))

    def _join(self, spec: bytes, blocks: npt.NDArray[np.float32]) -> Array:
        import numpy as np

        read = read_spec(spec)
        _, columns = block_shape(read)
        out = np.empty((read.rows, read.columns), np.float32)
        ordered = iter(blocks)
        for _, chosen in runs(read):
            for j in range(0, read.columns, columns):
                width = min(columns, read.columns - j)
                out[chosen, j : j + width] = next(ordered)[: chosen.size, :width]
        return out


def _checked(arrays: Mapping[str, Array]) -> tuple[Array, Array, Array, Array, bytes]:
    """x, w, and adapters (g, d, r), (g, r, e), and a byte for each row; `ValueError` where they do not fit."""
    from .arrays import check_finite

    lacking = [name for name in ("x", "w", "a", "b") if name not in arrays]
    if lacking:
        raise ValueError(f"give x, w, a and b: {lacking[0]} is missing")
    x, w, a, b = (arrays[name] for name in ("x", "w", "a", "b"))
    shapes = f"x has the shape {x.shape}, w {w.shape}, a {a.shape}, b {b.shape}"
    if a.ndim == b.ndim == 2:
        a, b = a[None], b[None]
    if not (x.ndim == w.ndim == 2 and a.ndim == b.ndim == 3) or 0 in (*x.shape, *w.shape, *a.shape, *b.shape):
        raise ValueError(f"{shapes}: wrong numbers of dimensions, or empty")
    if (x.shape[1], w.shape, a.shape[0]) != (a.shape[1], (a.shape[1], b.shape[2]), b.shape[0]) or (
        a.shape[2] != b.shape[1]
    ):
        raise ValueError(f"{shapes}: they do not fit together")
    if a.shape[2] > RANK_MAX or a.shape[0] > ADAPTERS_MAX:
        raise ValueError(f"{a.shape[0]} adapters of rank {a.shape[2]}: at most {ADAPTERS_MAX}, of rank {RANK_MAX}")
    for array in (x, w, a, b):
        check_finite(array, MAGNITUDE_MAX)
    return x, w, a, b, _which(arrays.get("which"), len(x), len(a))


def _which(which: Array | None, rows: int, adapters: int) -> bytes:
    import numpy as np

    if which is None:
        if adapters > 1:
            raise ValueError("several adapters: say in which, for each input, which one")
        return b""
    if which.shape != (rows,) or rows > WHICH_MAX:
        raise ValueError(f"which has the shape {which.shape} for {rows} inputs, of which there may be {WHICH_MAX}")
    if not np.isin(which, np.arange(adapters)).all():
        raise ValueError(f"which has something else than 0 to {adapters - 1}")
    return which.astype(np.uint8).tobytes()


def _alpha(payload: Mapping[str, Any]) -> float:
    alpha = payload.get("alpha", ALPHA)
    if not isinstance(alpha, int | float) or isinstance(alpha, bool) or not math.fabs(alpha) <= ALPHA_MAX:
        raise ValueError(f"alpha must be a number up to {ALPHA_MAX:g} in size")
    return float(alpha)


def make(environment: Environment) -> LoraInferenceHandler:
    """The entry point."""
    return LoraInferenceHandler()
