"""The files of the artifact store. Blocking, stateless, called in threads; `artifact_files` decides what is kept."""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import stat
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from msgspec import Struct

_DIGEST = re.compile(r"[0-9a-f]{64}")
_READ_BYTES = 1 << 20


def is_digest(text: str) -> bool:
    """SHA-256 in lower-case hex: the only names that ever become part of a path."""
    return _DIGEST.fullmatch(text) is not None


class Found(Struct, frozen=True):
    """(digest, bytes) of what a scan found, least recently used first."""

    published: list[tuple[str, int]]
    partials: list[tuple[str, int]]


class ArtifactFolder:
    def __init__(self, root: Path) -> None:
        self.root = root
        self._partial = root / "partial"
        self._aside = root / "tmp"
        self._quarantine = root / "quarantine"

    def path(self, digest: str) -> Path:
        return self.root / digest[:2] / digest

    def scan(self, partial_age_s: float) -> Found:
        """Create what is missing, delete interrupted puts and old partial files, list the rest. Files that are not ours
        are left alone and not counted."""
        self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        for folder in (self._partial, self._aside, self._quarantine):
            folder.mkdir(mode=0o700, exist_ok=True)
        for leftover in self._aside.iterdir():
            leftover.unlink()
        published = []
        for shelf in self.root.iterdir():
            if re.fullmatch(r"[0-9a-f]{2}", shelf.name) and shelf.is_dir():
                published += [row for row in _files(shelf) if is_digest(row[2]) and row[2].startswith(shelf.name)]
        oldest = time.time() - partial_age_s
        partials = []
        for used_at, size, name in _files(self._partial):
            if used_at < oldest:
                self.drop_partial(name.removesuffix(".part"))
            elif name.endswith(".part") and is_digest(name.removesuffix(".part")):
                partials.append((used_at, size, name.removesuffix(".part")))
        return Found(
            [(digest, size) for _, size, digest in sorted(published)],
            [(digest, size) for _, size, digest in sorted(partials)],
        )

    def write_aside(self, data: bytes) -> Path:
        """A complete, fsynced file that has no name yet."""
        aside = self._aside / secrets.token_hex(16)
        try:
            with _create(aside) as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        except BaseException:
            aside.unlink(missing_ok=True)
            raise
        return aside

    def publish(self, aside: Path, digest: str) -> None:
        """Give a complete, fsynced file its name; on failure it is gone."""
        path = self.path(digest)
        try:
            if not path.parent.is_dir():
                path.parent.mkdir(mode=0o700)
                _sync_folder(self.root)
            aside.replace(path)
            _sync_folder(path.parent)
        except BaseException:
            aside.unlink(missing_ok=True)
            raise

    def touch(self, digest: str) -> None:
        """The file's time is its place in the order of use after a restart."""
        with suppress(OSError):
            os.utime(self.path(digest))

    def read(self, digest: str, start: int, count: int) -> bytes | None:
        """Up to `count` bytes; None when the file is gone."""
        try:
            with self.path(digest).open("rb", buffering=0) as file:
                file.seek(start)
                data = file.read(count)
        except FileNotFoundError:
            return None
        self.touch(digest)
        return data

    def hash_file(self, digest: str, size: int) -> str | None:
        """SHA-256 in hex of a file that has this size; None when it is gone; "" when its size differs."""
        try:
            with self.path(digest).open("rb", buffering=0) as file:
                if os.fstat(file.fileno()).st_size != size:
                    return ""
                return hashlib.file_digest(file, "sha256").hexdigest()
        except FileNotFoundError:
            return None

    def remove(self, digest: str) -> None:
        self.path(digest).unlink(missing_ok=True)

    def quarantine(self, digest: str, count_max: int, bytes_max: int) -> bool:
        """Set the file aside and delete the oldest beyond the bounds. False when it was too large to keep."""
        path = self.path(digest)
        with suppress(FileNotFoundError):
            path.replace(self._quarantine / digest)
            os.utime(self._quarantine / digest)
        kept_bytes = 0
        kept = True
        for place, (_, size, name) in enumerate(sorted(_files(self._quarantine), reverse=True)):
            kept_bytes += size
            if place >= count_max or kept_bytes > bytes_max:
                (self._quarantine / name).unlink()
                kept = kept and name != digest
        return kept

    def partial(self, digest: str) -> Path:
        return self._partial / f"{digest}.part"

    def resume(self, digest: str, size: int) -> tuple[int, Any]:
        """Bytes kept of an earlier attempt, and their running SHA-256. What is longer than announced is discarded."""
        path = self.partial(digest)
        hasher = hashlib.sha256()
        try:
            with path.open("rb", buffering=0) as file:
                if os.fstat(file.fileno()).st_size <= size:
                    received = 0
                    while block := file.read(_READ_BYTES):
                        hasher.update(block)
                        received += len(block)
                    return received, hasher
        except FileNotFoundError:
            pass
        with _create(path, replace=True):
            return 0, hasher

    def append(self, digest: str, start: int, chunk: bytes) -> None:
        """Write at `start`; after a failure the file ends there again."""
        with self.partial(digest).open("r+b", buffering=0) as file:
            try:
                file.seek(start)
                rest = memoryview(chunk)
                while rest:
                    rest = rest[file.write(rest) :]
            except BaseException:
                file.truncate(start)
                raise

    def sync_partial(self, digest: str) -> None:
        with self.partial(digest).open("r+b", buffering=0) as file:
            os.fsync(file.fileno())

    def drop_partial(self, digest: str) -> None:
        self.partial(digest).unlink(missing_ok=True)


def _create(path: Path, *, replace: bool = False) -> Any:
    flags = os.O_WRONLY | os.O_CREAT | (os.O_TRUNC if replace else os.O_EXCL)
    return os.fdopen(os.open(path, flags, 0o600), "wb")


def _files(folder: Path) -> list[tuple[float, int, str]]:
    """(time of use, bytes, name) of the regular files."""
    rows = []
    for path in folder.iterdir():
        with suppress(FileNotFoundError):
            info = path.lstat()
            if stat.S_ISREG(info.st_mode):
                rows.append((info.st_mtime, info.st_size, path.name))
    return rows


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
