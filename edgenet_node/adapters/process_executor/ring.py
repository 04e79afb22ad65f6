"""Shared-memory slabs: one writer, one reader, used for one task at a time and then over again.

The file has its final size from the start and is sealed there; pages exist only once they are written (sparse), so a
large limit costs address space, not memory. It has no name, so there is nothing to unlink or to leak.
"""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
import sys
import tempfile
from typing import Final

HEADER_BYTES: Final = 64
"""The head of a slab: its first byte is the stop flag, the rest keeps what follows aligned to a cache line."""
ALIGN_BYTES: Final = 64
_PAGE_BYTES: Final = mmap.PAGESIZE
_TOUCHED_AT_START_BYTES: Final = 1024 * 1024
_F_ADD_SEALS: Final = 1033
_F_SEAL_SEAL_SHRINK_GROW: Final = 0x1 | 0x2 | 0x4
_MADV_POPULATE_WRITE: Final = 23


def aligned(size: int) -> int:
    """`size` rounded up to a whole cache line."""
    return -(-size // ALIGN_BYTES) * ALIGN_BYTES


def slab_file(size: int) -> int:
    """An anonymous file of at least `size` bytes in whole pages; the caller owns the descriptor. `OSError`."""
    size = -(-size // _PAGE_BYTES) * _PAGE_BYTES
    if hasattr(os, "memfd_create"):
        fd = os.memfd_create("edgenet-slab", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            os.ftruncate(fd, size)
            fcntl.fcntl(fd, _F_ADD_SEALS, _F_SEAL_SEAL_SHRINK_GROW)
        except OSError:
            os.close(fd)
            raise
        return fd
    with tempfile.TemporaryFile() as file:
        file.truncate(size)
        return os.dup(file.fileno())


class Slab:
    """A mapped slab file. `capacity` counts the bytes touched so far: it grows in powers of two; `trim` cuts it."""

    def __init__(self, fd: int, *, writable: bool) -> None:
        self.size = os.fstat(fd).st_size
        protection = mmap.PROT_READ | (mmap.PROT_WRITE if writable else 0)
        self._map = mmap.mmap(fd, self.size, mmap.MAP_SHARED, protection)
        self.view = memoryview(self._map)
        self.capacity = 0
        self.reused = 0
        if writable:
            self.reserve(min(HEADER_BYTES + _TOUCHED_AT_START_BYTES, self.size), touch=True)

    def reserve(self, end: int, *, touch: bool = False) -> None:
        """Account for use up to `end`; `touch` faults the pages in now (4 ms for 16 MiB: not on the loop).

        Raises `ValueError` beyond the size of the slab."""
        if end > self.size:
            raise ValueError(f"{end} bytes do not fit a slab of {self.size}")
        if end <= self.capacity:
            self.reused += 1
            return
        grown = min(HEADER_BYTES + (1 << (end - HEADER_BYTES - 1).bit_length()), self.size)
        if touch and sys.platform == "linux":
            start = self.capacity // _PAGE_BYTES * _PAGE_BYTES
            with contextlib.suppress(OSError):  # kernels before 5.14: the first write faults the pages in, slower
                self._map.madvise(_MADV_POPULATE_WRITE, start, grown - start)
        self.capacity = grown

    def trim(self, keep: int, step: int) -> bool:
        """Give back up to `step` touched bytes above `keep`; True while more remain."""
        if self.capacity <= keep or sys.platform != "linux":
            return False
        start = max(keep, self.capacity - step) // _PAGE_BYTES * _PAGE_BYTES
        self._map.madvise(mmap.MADV_REMOVE, start, self.capacity - start)
        self.capacity = start
        return self.capacity > keep

    def ask_to_stop(self, stop: bool) -> None:
        self.view[0] = stop

    def stop_asked(self) -> bool:
        return self.view[0] != 0

    def close(self) -> None:
        """No array over this slab may be in use any more; if one is, the memory stays until it is collected."""
        with contextlib.suppress(BufferError):
            self.view.release()
            self._map.close()
