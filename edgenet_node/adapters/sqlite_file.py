"""The SQLite file of the row store: opening, checking, writing groups of commits. Blocking; owned by one thread.

Journal mode WAL with synchronous=FULL: a transaction counts once its log frames were fsynced
(https://sqlite.org/wal.html, https://sqlite.org/pragma.html#pragma_synchronous). The lock is exclusive: another process
cannot open the file. Flipped bits inside a value are not seen by SQLite's structural check; values that matter carry
their own digest.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import ClassVar

from msgspec import Struct

from ..effects import Put, Row, Save
from ..errors import CorruptData, StoreError, StoreFull

APPLICATION_ID = 0x45444745
"""`EDGE`, in the file's header (`file`(1) and other programs see whose it is)."""

SCHEMA_VERSION = 1
SCHEMA = """
CREATE TABLE rows (
  part TEXT NOT NULL, tbl TEXT NOT NULL, key TEXT NOT NULL, value BLOB NOT NULL,
  PRIMARY KEY (part, tbl, key)
) WITHOUT ROWID
"""
MAGIC = b"SQLite format 3\x00"

Connect = Callable[[str], sqlite3.Connection]


class CommitFailed(StoreError):
    """A commit broke in a way that leaves its outcome unknown: the process must stop and acknowledge nothing more."""

    fatal: ClassVar[bool] = True


class StoreLimits(Struct, frozen=True):
    """Bounds of the store, in bytes and counts.

    `value_bytes_max`: rows are state; bulk data belongs to the artifact store. `key_bytes_max` holds for part, table
    and key each. `pending_*`: commits that wait; further ones wait outside, first come first served. `group_*`: one
    transaction, so that a late comer never waits for more than that. `wal_bytes_max`: the log is folded into the file
    beyond this, about 10 ms of work. `check_bytes_max`: files up to this are checked whole on open (about 0.1 s).
    `file_bytes_max`: 0 for no bound but the disk.
    """

    value_bytes_max: int = 16 << 20
    key_bytes_max: int = 1024
    pending_max: int = 1024
    pending_bytes_max: int = 64 << 20
    group_max: int = 256
    group_bytes_max: int = 32 << 20
    wal_bytes_max: int = 4 << 20
    check_bytes_max: int = 64 << 20
    file_bytes_max: int = 0


class PendingCommit:
    """One commit on its way. `epoch`: refusals of its part that its asker knew of; `error`: its outcome."""

    __slots__ = ("epoch", "error", "part", "saves", "size")

    def __init__(self, part: str, saves: tuple[Save, ...], size: int) -> None:
        self.part = part
        self.saves = saves
        self.size = size
        self.epoch = 0
        self.error: StoreError | None = None


class SqliteFile:
    """One open connection. Made and used in a single thread."""

    def __init__(self, path: Path, limits: StoreLimits, connect: Connect = sqlite3.connect) -> None:
        """Opens or creates; `StoreError` or `CorruptData` as `SqliteStore.open` says."""
        self._path = path
        self._wal = path.with_name(path.name + "-wal")
        self._limits = limits
        self._refusals: dict[str, int] = {}
        self.transactions = 0
        try:
            if not path.exists():
                _create(path)
            _check_header(path)
            path.chmod(0o600)
            self._db = connect(str(path))
        except (sqlite3.Error, OSError) as error:
            raise _mapped(path, error) from error
        try:
            self._db.isolation_level = None
            self._configure()
            self.check(whole=path.stat().st_size <= limits.check_bytes_max)
        except (sqlite3.Error, OSError, StoreError) as error:
            self._db.close()
            raise _mapped(path, error) from error

    def _configure(self) -> None:
        for pragma in (
            "busy_timeout=200",  # ms; the lock is held for as long as a node runs, so waiting longer is in vain
            "locking_mode=EXCLUSIVE",  # before WAL is touched: then the log's index lives in our heap, not in a file
            "journal_mode=WAL",
            "synchronous=FULL",
            "wal_autocheckpoint=0",  # SQLite ignores errors of its own checkpoints; `fold_log` does not
            f"journal_size_limit={self._limits.wal_bytes_max}",
            "cache_spill=OFF",  # nothing reaches the log before COMMIT, so a full disk is met there or not at all
            "cache_size=-8192",
            "trusted_schema=OFF",
        ):
            self._db.execute(f"PRAGMA {pragma}")
        if self._limits.file_bytes_max:
            page = self._number("page_size")
            self._db.execute(f"PRAGMA max_page_count={max(1, self._limits.file_bytes_max // page)}")

    def _number(self, pragma: str) -> int:
        return int(self._db.execute(f"PRAGMA {pragma}").fetchone()[0])

    def check(self, *, whole: bool) -> None:
        """Owner, schema version, tables and the last rows; `whole`: SQLite's structural check of every page besides."""
        if self._number("application_id") != APPLICATION_ID:
            raise CorruptData(
                f"{self._path} is an SQLite file of another program: move it away or choose another folder"
            )
        version = self._number("user_version")
        if version > SCHEMA_VERSION:
            raise StoreError(
                f"{self._path} was written by a newer edgenet-node (schema {version}, "
                f"this one knows {SCHEMA_VERSION}): upgrade, or restore the backup made before the upgrade"
            )
        tables = {name for (name,) in self._db.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
        if version != SCHEMA_VERSION or tables != {"rows"}:
            raise _corrupt(self._path, f"schema {version} with tables {sorted(tables)}")
        if whole:
            finding = self._db.execute("PRAGMA quick_check(1)").fetchone()[0]
            if finding != "ok":
                raise _corrupt(self._path, str(finding).splitlines()[-1])
        # The tail: where a file that was cut off or half copied is bad.
        self._db.execute("SELECT length(value) FROM rows ORDER BY part DESC, tbl DESC, key DESC LIMIT 64").fetchall()

    def load(self, part: str) -> list[Row]:
        """All rows of a part, ordered by (table, key)."""
        try:
            found = self._db.execute("SELECT tbl, key, value FROM rows WHERE part = ? ORDER BY tbl, key", (part,))
            return [Row(table, key, value) for table, key, value in found]
        except sqlite3.Error as error:
            raise _mapped(self._path, error) from error

    def check_all(self) -> None:
        try:
            self.check(whole=True)
        except sqlite3.Error as error:
            raise _mapped(self._path, error) from error

    def write(self, group: Sequence[PendingCommit]) -> None:
        """Commit all, or mark single ones refused for space. `CommitFailed`: the outcome of all of them is unknown."""
        group = [commit for commit in group if not self._refused_before(commit)]
        if not group:
            return
        if self._transact(group):
            return
        for commit in group:
            if self._refused_before(commit):
                continue
            if len(group) == 1 or not self._transact([commit]):
                commit.error = self._full()
                self._refusals[commit.part] = self._refusals.get(commit.part, 0) + 1

    def _refused_before(self, commit: PendingCommit) -> bool:
        if commit.epoch < self._refusals.get(commit.part, 0):
            commit.error = self._full()
        return commit.error is not None

    def _full(self) -> StoreFull:
        return StoreFull(f"{self._path}: no space left: free some and try again; nothing of this request was saved")

    def _transact(self, group: Sequence[PendingCommit]) -> bool:
        """One transaction; False when it found no space and was rolled back."""
        last: dict[tuple[str, str, str], bytes | None] = {}
        for commit in group:
            for save in commit.saves:
                last[commit.part, save.table, save.key] = save.value if isinstance(save, Put) else None
        puts = [(*name, value) for name, value in last.items() if value is not None]
        deletes = [name for name, value in last.items() if value is None]
        try:
            self._db.execute("BEGIN IMMEDIATE")
            # Deletes first: they may free the very pages that the new rows need.
            self._db.executemany("DELETE FROM rows WHERE part = ? AND tbl = ? AND key = ?", deletes)
            self._db.executemany("INSERT OR REPLACE INTO rows(part, tbl, key, value) VALUES (?, ?, ?, ?)", puts)
            self._db.execute("COMMIT")
        except Exception as error:  # whatever broke, the outcome is unknown and must end the process
            if _is_full(error) and self._rolled_back():
                return False
            raise CommitFailed(
                f"{self._path}: commit failed: {error}: check the disk, then start the node again"
            ) from error
        self.transactions += 1
        return True

    def _rolled_back(self) -> bool:
        try:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
        except sqlite3.Error:
            return False
        return True

    def fold_log(self) -> None:
        """Checkpoint a log above its bound. A full disk is no failure: the log stays the truth and is tried again."""
        with suppress(FileNotFoundError):
            if self._wal.stat().st_size <= self._limits.wal_bytes_max:
                return
        self._checkpoint("PASSIVE")

    def _checkpoint(self, mode: str) -> None:
        try:
            self._db.execute(f"PRAGMA wal_checkpoint({mode})").fetchall()
        except sqlite3.Error as error:
            if not _is_full(error):
                raise CommitFailed(f"{self._path}: checkpoint failed: {error}: check the disk") from error

    def close(self, *, fold: bool) -> None:
        """What was committed is safe in the log whether or not this succeeds."""
        with suppress(StoreError):
            if fold:
                self._checkpoint("TRUNCATE")
        with suppress(sqlite3.Error):
            self._db.close()


def _create(path: Path) -> None:
    """Build the empty store aside and rename it, so that an empty or half-made file is always damage, never a crash."""
    new = path.with_name(path.name + ".new")
    new.unlink(missing_ok=True)
    os.close(os.open(new, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    db = sqlite3.connect(str(new), isolation_level=None)
    try:
        db.execute("PRAGMA synchronous=FULL")
        db.execute("BEGIN")
        db.execute(f"PRAGMA application_id={APPLICATION_ID}")
        db.execute(f"PRAGMA user_version={SCHEMA_VERSION}")
        db.execute(SCHEMA)
        db.execute("COMMIT")
    finally:
        db.close()
    new.replace(path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _check_header(path: Path) -> None:
    with path.open("rb") as file:
        header = file.read(100)
    if len(header) < 100 or not header.startswith(MAGIC):
        raise _corrupt(path, "it does not begin like an SQLite file")


def _corrupt(path: Path, finding: str) -> CorruptData:
    return CorruptData(f"{path} is damaged ({finding}): move it away (with its -wal file) or restore a backup")


def _is_full(error: BaseException) -> bool:
    return isinstance(error, sqlite3.Error) and getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_FULL


def _mapped(path: Path, error: sqlite3.Error | OSError | StoreError) -> StoreError:
    if isinstance(error, sqlite3.Error):
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            return _corrupt(path, str(error))
        if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            return StoreError(f"{path} is open in another process: stop it first")
        if code == sqlite3.SQLITE_FULL:
            return StoreFull(f"{path}: no space left on the disk: free some and start again")
        return StoreError(f"{path}: {error}")
    if isinstance(error, StoreError):
        return error
    return StoreError(f"{path}: {error.strerror or error}")
