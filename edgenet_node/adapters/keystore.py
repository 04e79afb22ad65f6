"""Key files: the node's seed, and the genesis record of a swarm that it founded.

    "EDGENKEY" || version (1) || protection (1) || [ Argon2id memory KiB (4), passes (4), lanes (4), salt 16, nonce 12 ]
    || contents

Numbers are big-endian. The contents are `seed (32) || genesis record (130, or none)`. Protection 0: the contents as
they are, followed by the SHA-256 of all before them, which finds damage but not malice. Protection 1: the contents
sealed with AES-256-GCM under the Argon2id key of the password, with the whole header as associated data, so that no
byte of the file can be changed unnoticed. A wrong password and a tampered file cannot be told apart.

A file is created whole or not at all, never over another one, mode 0600 from its first byte, in a folder that is made
0700 if it is not there; it is synced before success is said. A file that others may access is not used. Backups have
the same form, always with a password. Other versions, among them unsalted ones of older programs, are refused. A crash
may leave a file `.<name>.*.new` beside a key file, also 0600; it can be deleted.

All functions block (Argon2id: some tenths of a second, 64 MiB) and raise `KeystoreError`, saying which file and what to
do.
"""

from __future__ import annotations

import contextlib
import errno
import hmac
import os
import secrets
import shlex
import stat
import struct
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from msgspec import Struct

from ..crypto import aead, kdf
from ..crypto.fingerprints import GENESIS_RECORD_BYTES, Genesis
from ..crypto.hashing import DIGEST_BYTES, sha256
from ..crypto.signing import SEED_BYTES
from ..errors import InvariantError, KeystoreError, LocalError, Malformed
from ..identity.keys import Identity

VERSION: Final = 1
PASSWORD_CHARS_MIN: Final = 8
PASSWORD_CHARS_MAX: Final = 1024
"""Longer ones are a file given by mistake."""

FILE_BYTES_MAX: Final = 4096
"""A key file has at most 232 bytes."""

_MAGIC: Final = b"EDGENKEY"
_PLAIN: Final = 0
_PASSWORD: Final = 1
_HEAD: Final = struct.Struct(">8sBB")
_PARAMETERS: Final = struct.Struct(">III16s12s")
_CONTENTS_BYTES: Final = (SEED_BYTES, SEED_BYTES + GENESIS_RECORD_BYTES)
_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO


class Contents(Struct, frozen=True):
    """What a key file holds: `genesis` is None unless this node founded its swarm."""

    identity: Identity
    genesis: Genesis | None


def generate_seed() -> bytes:
    """A new secret from the operating system's generator."""
    return secrets.token_bytes(SEED_BYTES)


def create(path: Path, seed: bytes, password: str | None = None, *, genesis: Genesis | None = None) -> Identity:
    """Write a new key file; an existing one is never touched."""
    identity = Identity(seed)
    _write_new(path, _encode(Contents(identity, genesis), password, path))
    return identity


def load(path: Path, password: str | None = None) -> Identity:
    """The identity in a key file."""
    return unlock(path, password).identity


def unlock(path: Path, password: str | None = None) -> Contents:
    """All that a key file holds. A password for a file without one is refused too: the file may have been swapped."""
    return _decode(_read(path, private=True), password, path)


def needs_password(path: Path) -> bool:
    """Whether a password must be asked for."""
    return _protection(_read(path, private=True), path) == _PASSWORD


def set_genesis(path: Path, genesis: Genesis, password: str | None = None) -> None:
    """Add the record of the swarm that this node founded. Replaces the file atomically; refuses a second, other one."""
    old = unlock(path, password)
    if old.genesis == genesis:
        return
    if old.genesis is not None:
        raise KeystoreError(f"{path} holds the genesis of swarm {old.genesis.name}: a node founds one swarm only")
    data = _encode(Contents(old.identity, genesis), password, path)
    with _reporting(path, "be replaced"):
        fresh = _write_beside(path, data)
        try:
            fresh.replace(path)
        except OSError:
            fresh.unlink()
            raise
        _sync_folder(path.parent)


def export_backup(path: Path, backup: Path, backup_password: str, password: str | None = None) -> Identity:
    """Copy a key file, with the genesis, to a new file under a password of its own."""
    contents = unlock(path, password)
    _write_new(backup, _encode(contents, backup_password, backup))
    return contents.identity


def import_backup(backup: Path, path: Path, backup_password: str, password: str | None = None) -> Identity:
    """Restore a backup to a new key file. The permissions of the backup do not matter: it is sealed."""
    data = _read(backup, private=False)
    if _protection(data, backup) != _PASSWORD:
        raise KeystoreError(f"{backup} is a plain key file, not a backup: move it into place and run chmod 600 on it")
    contents = _decode(data, backup_password, backup)
    _write_new(path, _encode(contents, password, path))
    return contents.identity


def _encode(contents: Contents, password: str | None, path: Path) -> bytes:
    record = contents.genesis.to_bytes() if contents.genesis is not None else b""
    secret = contents.identity.reveal_seed() + record
    if password is None:
        plain = _HEAD.pack(_MAGIC, VERSION, _PLAIN) + secret
        return plain + sha256(plain)
    salt, nonce = secrets.token_bytes(kdf.SALT_BYTES), secrets.token_bytes(aead.NONCE_BYTES)
    parameters = _PARAMETERS.pack(kdf.ARGON2_MEMORY_KIB, kdf.ARGON2_PASSES, kdf.ARGON2_LANES, salt, nonce)
    header = _HEAD.pack(_MAGIC, VERSION, _PASSWORD) + parameters
    return header + aead.seal(_key(password, header, path, new=True), nonce, secret, header)


def _protection(data: bytes, path: Path) -> int:
    """Plain or password, or `KeystoreError` for what is no key file of this version."""
    if len(data) < _HEAD.size or not data.startswith(_MAGIC):
        raise KeystoreError(f"{path} is not a key file of this program, or is damaged: restore it from a backup")
    _, version, protection = _HEAD.unpack_from(data)
    if version != VERSION or protection not in (_PLAIN, _PASSWORD):
        raise KeystoreError(
            f"{path} has key file version {version}.{protection}, and this program reads {VERSION}.{_PLAIN} and "
            f"{VERSION}.{_PASSWORD}: use the program that wrote it, or restore a backup"
        )
    return int(protection)


def _decode(data: bytes, password: str | None, path: Path) -> Contents:
    if _protection(data, path) == _PLAIN:
        if password is not None:
            raise KeystoreError(f"{path} is not protected, but a password was given: is it the right file?")
        body, digest = data[:-DIGEST_BYTES], data[-DIGEST_BYTES:]
        if len(body) < _HEAD.size or not hmac.compare_digest(sha256(body), digest):
            raise KeystoreError(f"{path} is damaged (its checksum differs): restore it from a backup")
        return _contents(body[_HEAD.size :], path)
    if password is None:
        raise KeystoreError(f"{path} is protected: give its password in EDGENET_KEY_PASSWORD")
    header_bytes = _HEAD.size + _PARAMETERS.size
    header, sealed = data[:header_bytes], data[header_bytes:]
    if len(sealed) - aead.TAG_BYTES not in _CONTENTS_BYTES:
        raise KeystoreError(f"{path} is damaged ({len(data)} bytes): restore it from a backup")
    nonce = header[-aead.NONCE_BYTES :]
    try:
        return _contents(aead.unseal(_key(password, header, path, new=False), nonce, sealed, header), path)
    except Malformed as error:
        raise KeystoreError(
            f"{path} does not open: the password is wrong or the file was changed, which cannot be told apart; "
            "try again, or restore a backup"
        ) from error


def _key(password: str, header: bytes, path: Path, *, new: bool) -> bytes:
    """The key of a password, by the parameters in the header. They are bounded by `kdf` before memory is taken.

    Text is taken in Unicode form NFC, so that the same keys pressed on two systems give the same password.
    """
    if new and not PASSWORD_CHARS_MIN <= len(password) <= PASSWORD_CHARS_MAX:
        raise KeystoreError(
            f"the password for {path} must have {PASSWORD_CHARS_MIN} to {PASSWORD_CHARS_MAX} characters"
        )
    memory_kib, passes, lanes, salt, _ = _PARAMETERS.unpack_from(header, _HEAD.size)
    try:
        text = unicodedata.normalize("NFC", password).encode()
        return kdf.argon2id(text, salt, memory_kib=memory_kib, passes=passes, lanes=lanes)
    except UnicodeEncodeError as error:
        raise KeystoreError(f"the password for {path} is not valid text") from error
    except InvariantError as error:
        raise KeystoreError(f"{path} asks for more than this program allows: {error}; restore a backup") from error
    except LocalError as error:
        raise KeystoreError(f"{path}: {error}; free some memory and try again") from error


def _contents(secret: bytes, path: Path) -> Contents:
    if len(secret) not in _CONTENTS_BYTES:
        raise KeystoreError(f"{path} is damaged ({len(secret)} bytes of contents): restore it from a backup")
    record = secret[SEED_BYTES:]
    try:
        genesis = Genesis.from_bytes(record) if record else None
    except Malformed as error:
        raise KeystoreError(f"{path} is damaged ({error}): restore it from a backup") from error
    return Contents(Identity(secret[:SEED_BYTES]), genesis)


def _read(path: Path, *, private: bool) -> bytes:
    with _reporting(path, "be read"):
        # Non-blocking, so that a named pipe in its place cannot hold up the start.
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            state = os.fstat(handle)
            if not stat.S_ISREG(state.st_mode) or state.st_size > FILE_BYTES_MAX:
                raise KeystoreError(f"{path} is not a key file: move it away, or name another")
            if private and state.st_mode & _OTHERS:
                raise KeystoreError(
                    f"{path} can be accessed by others (mode {stat.S_IMODE(state.st_mode):04o}); "
                    f"type: chmod 600 {shlex.quote(str(path))}"
                )
            return os.read(handle, FILE_BYTES_MAX)
        finally:
            os.close(handle)


def _write_new(path: Path, data: bytes) -> None:
    """The whole file, or none; `KeystoreError` if there is one. A link cannot replace a file, as a rename would."""
    with _reporting(path, "be created"):
        if not path.parent.exists():
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            _sync_folder(path.parent.parent)
        fresh = _write_beside(path, data)
        try:
            os.link(fresh, path)
        except OSError as error:
            if error.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK):
                raise
            _write_exclusively(path, data)  # a file system without links, such as FAT on a stick
        finally:
            fresh.unlink()
        _sync_folder(path.parent)


def _write_beside(path: Path, data: bytes) -> Path:
    fresh = path.with_name(f".{path.name}.{secrets.token_hex(8)}.new")
    _write_exclusively(fresh, data)
    return fresh


def _write_exclusively(path: Path, data: bytes) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(handle)
    except OSError:
        path.unlink()
        raise


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextlib.contextmanager
def _reporting(path: Path, what: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise KeystoreError(f"there is no key file {path}: run edgenet-node init, or restore a backup") from error
    except FileExistsError as error:
        raise KeystoreError(
            f"{path} exists already and is left as it is: name another file, or move it away"
        ) from error
    except OSError as error:
        raise KeystoreError(f"{path} cannot {what}: {error.strerror or error}") from error
