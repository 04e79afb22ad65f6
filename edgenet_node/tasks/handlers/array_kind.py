"""What the kinds that compute with arrays share: one block of the result is an item, and a chunk.

An item is self-contained: MessagePack of .npy frames, at most `BLOCK_FLOATS` numbers in, as a frame of the wire has
room for. All blocks of a task have one shape, which follows from its spec, so that the form of an answer can be judged
without its item: sizes along an axis differ by at most one, and shorter blocks are filled up with zeros.

Verification is by `confirm`: this node holds another's answer against the inputs, within what rounding can do to it,
and answers with the claim if it stands and its own result if not. Two executors that no third can judge are compared by
`same`, relative to the largest number of the block; inputs that cancel to far less than their size can make honest ones
differ there.

A payload holds the arrays themselves; to name an artifact of the swarm in their place is not possible. Reading one of
12 MiB and cutting it up takes the node's own process about 50 ms.
"""

from __future__ import annotations

import base64
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Final, Protocol

from ...effects import Place
from ...errors import InvalidResult, Malformed, UsageError
from ..settings import Rng
from . import Parsed, Verification, pack_items, refuse_unknown, unpack_items

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from .arrays import Array

BLOCK_FLOATS: Final = 126_000
"""Numbers that go into one block: 504 kB, and with headers below the 512 KiB of a chunk's input."""

RESULT_FLOATS_MAX: Final = 220_000
"""Numbers that come out of one block: 880 kB, below the 900 KiB of a chunk's output."""

ITEM_UNIT_BYTES: Final = 64 * 1024
"""A unit of price: moving a block costs as much as computing it."""

TOLERANCE: Final = 1e-3
"""Of the largest number in a block, between two executors. Honest ones differ by 1e-5 where nothing cancels."""


class KernelContext(Protocol):
    """What the executor gives every function, as far as these need it."""

    def kernel(self, name: str) -> Any: ...


class ArrayKind(ABC):
    """Base of the handlers. A subclass says how arrays become blocks (`_cut`) and blocks the result (`_join`)."""

    kind: ClassVar[str]
    names: ClassVar[tuple[str, ...]]
    """Arrays of the payload."""
    options: ClassVar[tuple[str, ...]] = ()
    """Other fields of the payload."""
    model = ""
    verification: Verification = "tolerance"
    place: Place = "worker"
    chunk_items_max = 1

    @property
    def function(self) -> str:
        return f"{self.kind}.run"

    @property
    def confirm(self) -> str:
        return f"{self.kind}.confirm"

    @property
    def functions(self) -> Mapping[str, str]:
        module = f"{__package__}.{self.kind}_worker"
        return {self.function: f"{module}:run", self.confirm: f"{module}:confirm"}

    # -- for subclasses

    @abstractmethod
    def _cut(self, arrays: Mapping[str, Array], payload: Mapping[str, Any]) -> tuple[bytes, list[bytes]]:
        """Spec and items. `ValueError` for arrays that do not fit together."""

    @abstractmethod
    def _check_item(self, spec: bytes, item: bytes) -> None:
        """`ValueError` or `Malformed`."""

    @abstractmethod
    def _shape(self, spec: bytes) -> tuple[int, int]:
        """Of each block of the result. `Malformed` for a bad spec."""

    @abstractmethod
    def _join(self, spec: bytes, blocks: npt.NDArray[np.float32]) -> Array:
        """The whole result of its blocks, in order."""

    # -- Handler

    def unavailable(self) -> str:
        return ""

    def parse(self, payload: Mapping[str, Any]) -> Parsed:
        from .arrays import read_payload

        refuse_unknown(self.kind, payload, (*self.names, "arrays", *self.options))
        try:
            arrays = read_payload(payload, self.names)
            spec, items = self._cut(arrays, payload)
        except ValueError as error:
            raise UsageError(f"{self.kind}: {error}") from None
        return Parsed(spec, tuple(items))

    def check_items(self, spec: bytes, items: Sequence[bytes]) -> None:
        try:
            for item in items:
                self._check_item(spec, item)
        except (ValueError, Malformed) as error:
            raise UsageError(f"{self.kind}: {error}") from None

    def units(self, item: bytes) -> int:
        return 1 + len(item) // ITEM_UNIT_BYTES

    def pack(self, items: Sequence[bytes]) -> bytes:
        return pack_items(items)

    def check_input(self, spec: bytes, data: bytes, count: int) -> int:
        items = unpack_items(data, count)
        try:
            for item in items:
                self._check_item(spec, item)
        except ValueError as error:
            raise Malformed(f"{self.kind}: {error}") from None
        return sum(map(self.units, items))

    def args(self, spec: bytes, data: bytes) -> tuple[Any, ...]:
        return (spec, data)

    def check_output(self, spec: bytes, output: bytes, count: int) -> None:
        from .arrays import read_frame

        try:
            read_frame(output, (count, *self._shape(spec)))
        except (ValueError, Malformed) as error:
            raise InvalidResult(f"{self.kind}: {error}") from None

    def take(self, output: bytes, indices: Sequence[int]) -> bytes:
        from .arrays import frame, read_npy

        blocks = read_npy(output)
        return output if list(indices) == list(range(len(blocks))) else frame(blocks[list(indices)])

    def same(self, ours: bytes, theirs: bytes) -> list[bool]:
        import numpy as np

        from .arrays import read_npy

        mine, other = (read_npy(output).astype(np.float64) for output in (ours, theirs))
        largest = np.maximum(np.abs(mine).max(axis=(1, 2), initial=0.0), np.abs(other).max(axis=(1, 2), initial=0.0))
        found: list[bool] = (np.abs(mine - other).max(axis=(1, 2), initial=0.0) <= TOLERANCE * largest).tolist()
        return found

    def merge(self, spec: bytes, outputs: Sequence[bytes]) -> bytes:
        import numpy as np

        from .arrays import frame, read_npy

        return frame(self._join(spec, np.concatenate([read_npy(output) for output in outputs])))

    def result(self, output: bytes) -> dict[str, Any]:
        from .arrays import read_npy

        found = read_npy(output)
        return {"shape": list(found.shape), "dtype": "float32", "npy": base64.b64encode(output).decode()}

    def falsify(self, output: bytes, rng: Rng) -> bytes:
        """One number of each block is replaced by one that is larger than any."""
        import numpy as np

        from .arrays import frame, read_npy

        blocks = np.array(read_npy(output))
        for block in blocks.reshape(len(blocks), -1):
            block[rng.randrange(block.size)] = 1.0 + 2.0 * np.abs(block).max()
        return frame(blocks)


def even(length: int, most: int) -> int:
    """The longest part when `length` is cut into the fewest even parts of at most `most`."""
    return -(-length // -(-length // most))


def padded(block: Array, shape: tuple[int, ...]) -> Array:
    """`block` with zeros behind it along each axis."""
    import numpy as np

    if block.shape == shape:
        return block
    out = np.zeros(shape, np.float32)
    out[tuple(slice(0, size) for size in block.shape)] = block
    return out
