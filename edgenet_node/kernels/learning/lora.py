"""MicroLoRA on the hot path: `y = base + scale (x A) B` for frozen `base = x W` (Hu et al. 2021, "LoRA", eq. 3).

Both factors are stored by rank, each row one direction: `down` = A^T (r, d) reads, `up` = B (r, e) writes, so both
products of a single input run along contiguous memory. `Adapter` is what learns; `Loaded` is what serves: its `up`
already holds the scale, which saves a call of the three that a step is made of.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from ...errors import UsageError
from .workspace import Array, Workspace

RANK_MAX = 16  # of an adapter that learns or travels; a blend of two may serve with twice as many
SCALE = 0.1


class Adapter(Struct, frozen=True, eq=False):
    """`down` (r, d), `up` (r, e), float32, C-contiguous; the change of weights is `scale down^T up`, rank at most r."""

    down: Array
    up: Array
    scale: float = SCALE

    @property
    def rank(self) -> int:
        return int(self.down.shape[0])

    @property
    def parameters(self) -> int:
        """r (d + e): 512 for rank 1 and 1,024 for rank 2 at d = e = 256."""
        return self.down.size + self.up.size


class Loaded(Struct, frozen=True, eq=False):
    """An adapter ready to serve: `down` (r, d), `up` (r, e) with the scale inside."""

    down: Array
    up: Array


class Gradients(Struct, frozen=True, eq=False):
    """dL/d`down` (r, d) and dL/d`up` (r, e)."""

    down: Array
    up: Array


class Groups(Struct, frozen=True, eq=False):
    """Rows of a batch by adapter: `order` (n,) lists the rows, adapter by adapter, earlier rows first; adapter `i` has
    `order[starts[i]:starts[i + 1]]`."""

    order: npt.NDArray[np.intp]
    starts: tuple[int, ...]


def loaded(adapter: Adapter) -> Loaded:
    """Fold the scale into `up`, once."""
    return Loaded(down=adapter.down, up=np.multiply(adapter.up, np.float32(adapter.scale)))


def forward(
    x: Array, base: Array, down: Array, up: Array, *, out: Array | None = None, workspace: Workspace | None = None
) -> Array:
    """`base + (x down^T) up`, with the scale inside `up` (`loaded`).

    x (d,) or (n, d), base (e,) or (n, e), down (r, d), up (r, e) -> as base, float32. `out`: C-contiguous, and memory
    of its own (`UsageError` if it is `base` itself). O(n r (d + e)); no array is allocated with `out` and `workspace`.
    """
    if out is None:
        out = np.empty(base.shape, np.float32)
    elif out is base:
        raise UsageError("the result of an adapter cannot be written over the base it is added to")
    if x.ndim == 1:
        hidden = np.empty(down.shape[0], np.float32) if workspace is None else workspace.vector(down.shape[0])
        np.dot(down, x, out=hidden)
    else:
        workspace = Workspace() if workspace is None else workspace
        hidden = workspace.matrix("hidden", x.shape[0], down.shape[0])
        np.dot(x, down.T, out=hidden)
    np.dot(hidden, up, out=out)
    return np.add(out, base, out=out)


def group(which: npt.NDArray[np.intp], adapters: int) -> Groups:
    """Sort the rows of a batch by the adapter `which` (n,) that each uses, all in [0, adapters). O(n log n)."""
    order = np.argsort(which, kind="stable")
    starts = np.searchsorted(which[order], np.arange(adapters + 1))
    return Groups(order=order, starts=tuple(starts.tolist()))


def batched(
    x: Array,
    base: Array,
    groups: Groups,
    adapters: Sequence[Loaded],
    *,
    out: Array | None = None,
    workspace: Workspace | None = None,
) -> Array:
    """`forward` of each row by its own adapter: one product for each adapter present instead of one for each row.

    x (n, d), base (n, e), `groups` of the n rows over `adapters` (ranks may differ) -> (n, e) in the order of x.
    `out` as in `forward`. O(n (r (d + e) + d + e)).
    """
    workspace = Workspace() if workspace is None else workspace
    if out is None:
        out = np.empty(base.shape, np.float32)
    elif out is base:
        raise UsageError("the result of an adapter cannot be written over the base it is added to")
    if x.shape[0] == 0:
        return out
    gathered = workspace.matrix("gathered", x.shape[0], x.shape[1])
    written = workspace.matrix("written", base.shape[0], base.shape[1])
    # Any mode but "raise" lets numpy write straight into `out`; the indices of a group are in range by construction.
    np.take(x, groups.order, axis=0, out=gathered, mode="clip")
    for adapter, first, last in zip(adapters, groups.starts, groups.starts[1:], strict=False):
        if first < last:
            hidden = workspace.matrix("hidden", last - first, adapter.down.shape[0])
            np.dot(gathered[first:last], adapter.down.T, out=hidden)
            np.dot(hidden, adapter.up, out=written[first:last])
    out[groups.order] = written
    return np.add(out, base, out=out)


def gradients(x: Array, grad: Array, adapter: Adapter, *, workspace: Workspace | None = None) -> Gradients:
    """Exact gradients of a loss by the factors, given `grad` = dL/dy.

    With y = base + scale (x A) B: dL/dA = scale x^T (grad B^T), dL/dB = scale (x A)^T grad. x (n, d) or (d,), grad
    (n, e) or (e,), summed over the rows. O(n r (d + e)).
    """
    workspace = Workspace() if workspace is None else workspace
    rows, slopes = np.atleast_2d(x), np.atleast_2d(grad)
    scale = np.float32(adapter.scale)
    back = np.matmul(slopes, adapter.up.T, out=workspace.matrix("back", rows.shape[0], adapter.rank))
    hidden = np.matmul(rows, adapter.down.T, out=workspace.matrix("hidden", rows.shape[0], adapter.rank))
    back *= scale
    hidden *= scale
    return Gradients(down=np.dot(back.T, rows), up=np.dot(hidden.T, slopes))
