"""The data folder: where everything of one node lies, and the lock that keeps a second node out of it.

Layout (folder 0700, files 0600):
    lock            held with flock(2) while a node runs; holds its pid; never deleted, as that would race
    identity.key    the node's key
    node.toml       its configuration
    store.sqlite    state
    raft.sqlite     the committee's log, if this node is a member
    artifacts/      content-addressed files
    cache/          what can be built again
    api.token       what a client of the HTTP API has to show
    run.json        where the running node answers; written when it is ready, removed when it ends

`run.json` outlives a kill. It counts only while the lock is held, which the kernel drops with the process: no pid has
to be probed, and a reused one cannot mislead. Imports nothing heavy: every command of the command line looks here.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import secrets
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec
from msgspec import Struct

from ..errors import Conflict, LocalError, NotFound, StoreError

TOKEN_BYTES = 32
"""Of entropy: 256 bits, beyond guessing."""

RUN_BYTES_MAX = 64 << 10


class RunInfo(Struct, frozen=True, forbid_unknown_fields=False):
    """What a client needs to reach the running node. `api` is the base URL."""

    pid: int
    api: str
    peer_id: str
    version: str


class Layout(Struct, frozen=True):
    """The paths. Creates and locks nothing; for clients of a running node."""

    root: Path

    @property
    def lock(self) -> Path:
        return self.root / "lock"

    @property
    def identity_key(self) -> Path:
        return self.root / "identity.key"

    @property
    def config(self) -> Path:
        return self.root / "node.toml"

    @property
    def store(self) -> Path:
        return self.root / "store.sqlite"

    @property
    def raft(self) -> Path:
        return self.root / "raft.sqlite"

    @property
    def artifacts(self) -> Path:
        return self.root / "artifacts"

    @property
    def cache(self) -> Path:
        return self.root / "cache"

    @property
    def api_token(self) -> Path:
        return self.root / "api.token"

    @property
    def run(self) -> Path:
        return self.root / "run.json"

    def running(self) -> RunInfo | None:
        """The node that runs on this folder and is ready; None when none is. `StoreError`: the folder is unreadable."""
        try:
            if not _held(self.lock):
                return None
            with self.run.open("rb") as file:
                return msgspec.json.decode(file.read(RUN_BYTES_MAX), type=RunInfo)
        except FileNotFoundError:
            return None
        except msgspec.DecodeError as error:
            raise StoreError(f"{self.run} is damaged ({error}): restart the node") from None
        except OSError as error:
            raise _unusable(self.root, error) from error

    def read_token(self, path: Path | None = None) -> str:
        """The API token, from another file if one is configured. `NotFound` when there is none yet; `StoreError`: it
        is malformed, or others can read it."""
        path = path or self.api_token
        try:
            with path.open("rb") as file:
                mode = os.fstat(file.fileno()).st_mode
                text = file.read(4096).decode("ascii", "replace").strip()
        except FileNotFoundError:
            raise NotFound(f"{path} does not exist: run `edgenet-node init` or start the node") from None
        except OSError as error:
            raise _unusable(path, error) from error
        if mode & 0o077:
            raise StoreError(f"{path} can be read by others (mode {mode & 0o777:04o}): delete it and restart the node")
        if not re.fullmatch(r"[\w\-]{22,512}", text):
            raise StoreError(f"{path} holds no token: delete it and restart the node")
        return text


def prepare(root: Path) -> Layout:
    """Create what is missing, without the lock. `StoreError` when it cannot be made, written, or is open to others."""
    layout = Layout(root)
    try:
        if not root.is_dir():
            root.mkdir(mode=0o700, parents=True, exist_ok=True)
        elif root.stat().st_mode & 0o022:
            raise StoreError(
                f"{root} can be written by others: chmod go-w it, or choose another folder with --data-dir"
            )
        for folder in (layout.artifacts, layout.cache):
            folder.mkdir(mode=0o700, exist_ok=True)
        if not os.access(root, os.R_OK | os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        raise _unusable(root, error) from error
    return layout


class DataDir:
    """The locked folder of a running node. Use as a context manager, or call `close`."""

    def __init__(self, layout: Layout, lock: int) -> None:
        self.layout = layout
        self._lock = lock

    @classmethod
    def claim(cls, root: Path) -> DataDir:
        """Prepare and lock. `Conflict` names the process that has it; `StoreError` as `prepare`."""
        layout = prepare(root)
        try:
            lock = os.open(layout.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise _unusable(layout.lock, error) from error
        try:
            _lock(lock)
            os.ftruncate(lock, 0)
            os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
            layout.run.unlink(missing_ok=True)  # of a node that was killed
        except BlockingIOError:
            pid = os.pread(lock, 32, 0).decode("ascii", "replace").strip()
            os.close(lock)
            raise Conflict(
                f"{root} is in use by another node (process {pid or 'unknown'}): stop it, or choose another --data-dir"
            ) from None
        except OSError as error:
            os.close(lock)
            raise _unusable(layout.lock, error) from error
        return cls(layout, lock)

    def token(self) -> str:
        """The API token, made at the first call."""
        with suppress(NotFound):
            return self.layout.read_token()
        with suppress(FileExistsError):
            _write_private(self.layout.api_token, secrets.token_urlsafe(TOKEN_BYTES).encode() + b"\n", replace=False)
        return self.layout.read_token()

    def announce(self, info: RunInfo) -> None:
        """Write `run.json`: from here on clients find the node."""
        _write_private(self.layout.run, msgspec.json.encode(info), replace=True)

    def close(self) -> None:
        """Withdraw `run.json` and release the lock. Safe to repeat."""
        if self._lock >= 0:
            with suppress(OSError):
                self.layout.run.unlink(missing_ok=True)
            os.close(self._lock)
            self._lock = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _lock(handle: int) -> None:
    """Tries for 0.1 s in all: a client that looks whether a node runs holds the lock for a moment."""
    for _ in range(10):
        with suppress(BlockingIOError):
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        time.sleep(0.01)
    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _held(lock: Path) -> bool:
    """Whether a process holds the lock: probed with a shared one, for some microseconds."""
    handle = os.open(lock, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(handle)
    return False


def _write_private(path: Path, data: bytes, *, replace: bool) -> None:
    """Whole or not at all: written aside, fsynced, then given its name."""
    aside = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        handle = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if replace:
            aside.replace(path)
        else:
            path.hardlink_to(aside)
    except FileExistsError:
        raise
    except OSError as error:
        raise _unusable(path, error) from error
    finally:
        aside.unlink(missing_ok=True)


def _unusable(path: Path, error: OSError) -> LocalError:
    return StoreError(f"{path} cannot be used: {error.strerror or error}: choose another folder with --data-dir")
