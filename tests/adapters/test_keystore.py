"""Key files on a real file system: private, whole, and refused when anything about them is wrong."""

from __future__ import annotations

import errno
import os
import stat
import struct
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgenet_node.adapters import keystore
from edgenet_node.crypto import kdf
from edgenet_node.crypto.fingerprints import Genesis, found_swarm
from edgenet_node.errors import KeystoreError, LocalError
from edgenet_node.identity.keys import Identity

SEED = bytes(range(32))
PASSWORD = "correct horse"
HEADER_BYTES = 10 + 40


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "identity.key"


@pytest.fixture
def quick_argon2(monkeypatch: pytest.MonkeyPatch) -> None:
    """Written with 64 KiB instead of 64 MiB; the parameters are read back from the file."""
    monkeypatch.setattr(kdf, "ARGON2_MEMORY_KIB", 64)
    monkeypatch.setattr(kdf, "ARGON2_PASSES", 1)


def genesis_of(seed: bytes) -> Genesis:
    return found_swarm(Identity(seed), epoch=1, created_ms=1_700_000_000_000)


def test_a_plain_file_comes_back(path: Path) -> None:
    assert keystore.create(path, SEED) == Identity(SEED)
    assert keystore.load(path).reveal_seed() == SEED
    assert not keystore.needs_password(path)
    assert keystore.unlock(path).genesis is None


def test_a_protected_file_has_the_promised_parameters(path: Path) -> None:
    keystore.create(path, SEED, PASSWORD)
    data = path.read_bytes()
    assert data[:10] == b"EDGENKEY\x01\x01"
    assert struct.unpack(">III", data[10:22]) == (65_536, 3, 1)
    assert len(data) == HEADER_BYTES + 32 + 16
    assert SEED not in data
    assert keystore.needs_password(path)
    assert keystore.load(path, PASSWORD).reveal_seed() == SEED
    with pytest.raises(
        KeystoreError, match=r"identity.key does not open: the password is wrong or the file was changed"
    ):
        keystore.load(path, PASSWORD + "x")


@pytest.mark.usefixtures("quick_argon2")
def test_salt_and_nonce_are_new_each_time(tmp_path: Path) -> None:
    keystore.create(tmp_path / "a", SEED, PASSWORD)
    keystore.create(tmp_path / "b", SEED, PASSWORD)
    a, b = ((tmp_path / name).read_bytes() for name in "ab")
    assert a[:22] == b[:22]
    assert a[22:38] != b[22:38]
    assert a[38:50] != b[38:50]
    assert a[50:] != b[50:]


def test_files_are_private_from_birth_whatever_the_umask(path: Path) -> None:
    old = os.umask(0)
    try:
        keystore.create(path, SEED)
    finally:
        os.umask(old)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert [entry.name for entry in path.parent.iterdir()] == ["identity.key"]


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o666, 0o610, 0o601, 0o777])
def test_files_that_others_may_access_are_refused_with_the_remedy(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "my keys.key"
    keystore.create(path, SEED)
    path.chmod(mode)
    for use in (keystore.load, keystore.needs_password):
        with pytest.raises(KeystoreError) as caught:
            use(path)
        assert f"type: chmod 600 '{path}'" in caught.value.message
        assert f"{mode:04o}" in caught.value.message


def test_an_existing_file_is_never_replaced(path: Path) -> None:
    keystore.create(path, SEED)
    with pytest.raises(KeystoreError, match="exists already"):
        keystore.create(path, bytes(32))
    assert keystore.load(path).reveal_seed() == SEED
    assert [entry.name for entry in path.parent.iterdir()] == ["identity.key"]


def test_a_file_system_without_links(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(source: Path, target: Path) -> None:
        raise OSError(errno.EPERM, "Operation not permitted", str(target))

    monkeypatch.setattr(os, "link", refuse)
    keystore.create(path, SEED)
    assert keystore.load(path).reveal_seed() == SEED
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with pytest.raises(KeystoreError, match="exists already"):
        keystore.create(path, bytes(32))


def test_a_failing_disk_leaves_nothing_behind(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(handle: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    path.parent.mkdir(mode=0o700)
    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(KeystoreError, match=r"identity.key cannot be created: Input/output error"):
        keystore.create(path, SEED)
    assert list(path.parent.iterdir()) == []


def test_a_missing_file_says_what_to_do(path: Path) -> None:
    with pytest.raises(KeystoreError, match=r"no key file .*identity.key: run edgenet-node init"):
        keystore.load(path)


def test_what_is_no_file_does_not_hold_up_the_start(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo, 0o600)
    big = tmp_path / "big"
    big.write_bytes(bytes(keystore.FILE_BYTES_MAX + 1))
    for wrong in (fifo, big, tmp_path):
        with pytest.raises(KeystoreError, match="not a key file"):
            keystore.load(wrong)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "not a key file of this program"),
        (b"\x01\x01" + bytes(60), "not a key file of this program"),  # the unsalted first form of older programs
        (b"\x02\x01" + bytes(76), "not a key file of this program"),  # their second, whose header is not authenticated
        (b"EDGENKEY", "not a key file of this program"),
        (b"EDGENKEY\x00\x00" + bytes(64), r"version 0.0, and this program reads 1.0 and 1.1"),
        (b"EDGENKEY\x02\x01" + bytes(88), r"version 2.1"),
        (b"EDGENKEY\x01\x02" + bytes(88), r"version 1.2"),
        (b"EDGENKEY\x01\x00", "checksum"),
        (b"EDGENKEY\x01\x00" + bytes(64), "checksum"),
    ],
)
def test_legacy_unknown_and_broken_files_are_refused(tmp_path: Path, data: bytes, why: str) -> None:
    path = tmp_path / "identity.key"
    path.touch(mode=0o600)
    path.write_bytes(data)
    with pytest.raises(KeystoreError, match=why) as caught:
        keystore.load(path)
    assert str(path) in caught.value.message


@given(st.data())
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_damage_to_a_plain_file_is_found(tmp_path: Path, data: st.DataObject) -> None:
    path = tmp_path / f"key{len(list(tmp_path.iterdir()))}"
    keystore.create(path, SEED, genesis=genesis_of(SEED))
    _damage(path, data)
    with pytest.raises(KeystoreError):
        keystore.load(path)


@pytest.mark.usefixtures("quick_argon2")
@given(st.data())
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_any_changed_bit_of_a_protected_file_is_found(tmp_path: Path, data: st.DataObject) -> None:
    """Also in the header: it is authenticated. Memory and passes stay small here, so that a flipped bit is quick."""
    path = tmp_path / f"key{len(list(tmp_path.iterdir()))}"
    keystore.create(path, SEED, PASSWORD, genesis=genesis_of(SEED))
    _damage(path, data)
    with pytest.raises(KeystoreError):
        keystore.load(path, PASSWORD)


def _damage(path: Path, data: st.DataObject) -> None:
    content = bytearray(path.read_bytes())
    if data.draw(st.booleans()):
        bit = data.draw(st.integers(0, 8 * len(content) - 1))
        content[bit // 8] ^= 1 << bit % 8
    else:
        del content[data.draw(st.integers(0, len(content) - 1)) :]
    path.write_bytes(content)


@pytest.mark.usefixtures("quick_argon2")
@pytest.mark.parametrize("parameters", [(100 * 2**20, 3, 1), (2**32 - 1,) * 3, (64, 2**32 - 1, 1), (2**20, 1, 2**20)])
def test_a_hostile_header_takes_no_memory(tmp_path: Path, parameters: tuple[int, int, int]) -> None:
    path = tmp_path / "identity.key"
    keystore.create(path, SEED, PASSWORD)
    data = bytearray(path.read_bytes())
    data[10:22] = struct.pack(">III", *parameters)
    path.write_bytes(data)
    tracemalloc.start()
    try:
        with pytest.raises(KeystoreError, match="asks for more than this program allows"):
            keystore.load(path, PASSWORD)
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("password", ["", "1234567", "x" * 1025, "\ud800abcdefgh"])
def test_bad_passwords_are_refused_before_anything_is_written(path: Path, password: str) -> None:
    with pytest.raises(KeystoreError, match="password for"):
        keystore.create(path, SEED, password)
    assert not path.exists()


@pytest.mark.usefixtures("quick_argon2")
def test_a_password_where_none_is_due_and_none_where_one_is(tmp_path: Path) -> None:
    keystore.create(tmp_path / "plain", SEED)
    keystore.create(tmp_path / "protected", SEED, PASSWORD)
    with pytest.raises(KeystoreError, match="not protected, but a password was given"):
        keystore.load(tmp_path / "plain", PASSWORD)
    with pytest.raises(KeystoreError, match="give its password"):
        keystore.load(tmp_path / "protected")
    with pytest.raises(KeystoreError, match="does not open"):
        keystore.load(tmp_path / "protected", "")


@pytest.mark.usefixtures("quick_argon2")
def test_the_same_password_typed_on_another_system(path: Path) -> None:
    keystore.create(path, SEED, "caf\u00e9 au lait")
    assert keystore.load(path, "cafe\u0301 au lait") == Identity(SEED)


@pytest.mark.usefixtures("quick_argon2")
@pytest.mark.parametrize("password", [None, PASSWORD])
def test_the_genesis_survives_backup_and_restore(tmp_path: Path, password: str | None) -> None:
    path, backup, restored = tmp_path / "identity.key", tmp_path / "my.bak", tmp_path / "new" / "identity.key"
    keystore.create(path, SEED, password)
    genesis = genesis_of(SEED)
    keystore.set_genesis(path, genesis, password)
    keystore.set_genesis(path, genesis, password)  # again is no harm
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with pytest.raises(KeystoreError, match="one swarm only"):
        keystore.set_genesis(path, found_swarm(Identity(SEED), epoch=2, created_ms=1), password)

    assert keystore.export_backup(path, backup, "backup password", password) == Identity(SEED)
    assert SEED not in backup.read_bytes()
    backup.chmod(0o644)  # as on a stick without permissions
    with pytest.raises(KeystoreError, match="does not open"):
        keystore.import_backup(backup, restored, "another password", password)
    assert not restored.exists()
    assert keystore.import_backup(backup, restored, "backup password", password) == Identity(SEED)
    assert keystore.unlock(restored, password).genesis == genesis
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["identity.key", "my.bak", "new"]


@pytest.mark.usefixtures("quick_argon2")
def test_backups_always_have_a_password(tmp_path: Path) -> None:
    keystore.create(tmp_path / "plain", SEED)
    with pytest.raises(KeystoreError, match="8 to 1024 characters"):
        keystore.export_backup(tmp_path / "plain", tmp_path / "backup", "short")
    with pytest.raises(KeystoreError, match="not a backup"):
        keystore.import_backup(tmp_path / "plain", tmp_path / "new", "backup password")
    assert [entry.name for entry in tmp_path.iterdir()] == ["plain"]


def test_not_enough_memory_is_said(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> bytes:
        raise LocalError("Memory allocation error")

    monkeypatch.setattr(kdf, "argon2id", fail)
    with pytest.raises(KeystoreError, match="free some memory"):
        keystore.create(path, SEED, PASSWORD)


def test_seeds_are_random() -> None:
    assert len({keystore.generate_seed() for _ in range(100)}) == 100
    assert len(keystore.generate_seed()) == 32
