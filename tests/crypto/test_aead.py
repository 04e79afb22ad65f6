"""AES-256-GCM: Wycheproof, nonce discipline, order and replay."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgenet_node.crypto.aead import MESSAGES_MAX, Opener, Sealer, nonce_of, seal, unseal
from edgenet_node.errors import Conflict, InvariantError, Malformed, Refused

from .conformance import wycheproof

KEY = bytes(range(32))


def test_nist_gcm_256_case_16() -> None:
    """Test case 16 of the GCM specification by McGrew and Viega, which NIST SP 800-38D adopted."""
    key = bytes.fromhex("feffe9928665731c6d6a8f9467308308" * 2)
    nonce = bytes.fromhex("cafebabefacedbaddecaf888")
    plaintext = bytes.fromhex(
        "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a721c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de6"
        "57ba637b39"
    )
    aad = bytes.fromhex("feedfacedeadbeeffeedfacedeadbeefabaddad2")
    sealed = seal(key, nonce, plaintext, aad)
    assert sealed[-16:].hex() == "76fc6ece0f4e1768cddf8853bb2d551b"
    assert sealed[:8].hex() == "522dc1f099567d07"
    assert unseal(key, nonce, sealed, aad) == plaintext


def test_wycheproof() -> None:
    used = 0
    for group, test in wycheproof("aes_gcm.json"):
        key, nonce, aad = (bytes.fromhex(test[name]) for name in ("key", "iv", "aad"))
        sealed = bytes.fromhex(test["ct"] + test["tag"])
        if (group["keySize"], group["ivSize"], group["tagSize"]) != (256, 96, 128):
            with pytest.raises((InvariantError, Malformed)):
                unseal(key, nonce, sealed, aad)
        elif test["result"] == "valid":
            used += 1
            assert unseal(key, nonce, sealed, aad) == bytes.fromhex(test["msg"]), test
            assert seal(key, nonce, bytes.fromhex(test["msg"]), aad) == sealed, test
        else:
            used += 1
            with pytest.raises(Malformed):
                unseal(key, nonce, sealed, aad)
    assert used > 50


@given(st.binary(max_size=100), st.binary(max_size=40), st.data())
def test_any_changed_bit_is_refused(plaintext: bytes, aad: bytes, data: st.DataObject) -> None:
    message = Sealer(KEY).seal(plaintext, aad)
    assert Opener(KEY).open(message, aad) == plaintext
    bit = data.draw(st.integers(0, 8 * len(message) - 1))
    changed = bytearray(message)
    changed[bit // 8] ^= 1 << bit % 8
    for wrong_message, wrong_aad in ((bytes(changed), aad), (message, aad + b"x"), (message[:-1], aad)):
        with pytest.raises((Malformed, Refused)):
            Opener(KEY).open(wrong_message, wrong_aad)


def test_every_nonce_is_used_once_and_the_limit_holds() -> None:
    sealer = Sealer(KEY, messages_max=300)
    messages = [sealer.seal(b"same", b"") for _ in range(300)]
    assert [message[:8] for message in messages] == [nonce_of(count)[4:] for count in range(300)]
    assert len({message[8:] for message in messages}) == 300
    for _ in range(2):
        with pytest.raises(Conflict, match="new session"):
            sealer.seal(b"same", b"")


def test_blocks_are_counted_with_associated_data_and_tag() -> None:
    sealer = Sealer(KEY, blocks_max=10)
    sealer.seal(bytes(33), bytes(17))  # 3 + 2 + 1 of 10
    with pytest.raises(Conflict, match="limit"):
        sealer.seal(bytes(64), b"")  # 5 more
    assert Opener(KEY, window=0).open(Sealer(KEY).seal(b"", b""), b"") == b""
    sealer.seal(bytes(48), b"")  # the refused one took neither blocks nor a nonce
    with pytest.raises(Conflict, match="2 messages"):
        sealer.seal(b"", b"")


@given(st.permutations(range(40)), st.lists(st.integers(0, 39), max_size=20))
def test_within_the_window_each_message_opens_once_in_any_order(order: list[int], repeats: list[int]) -> None:
    sealer, opener = Sealer(KEY), Opener(KEY)
    messages = [sealer.seal(bytes([count]), b"") for count in range(40)]
    assert [opener.open(messages[count], b"")[0] for count in order] == list(order)
    for count in repeats:
        with pytest.raises(Refused, match="seen before"):
            opener.open(messages[count], b"")


def test_what_is_older_than_the_window_is_refused() -> None:
    sealer, opener = Sealer(KEY), Opener(KEY, window=8)
    messages = [sealer.seal(b"", b"") for _ in range(100)]
    opener.open(messages[50], b"")
    assert opener.open(messages[43], b"") == b""
    with pytest.raises(Refused, match="too old"):
        opener.open(messages[42], b"")
    opener.open(messages[99], b"")
    with pytest.raises(Refused, match="too old"):
        opener.open(messages[50], b"")


def test_with_no_window_a_missing_message_shows() -> None:
    sealer, opener = Sealer(KEY), Opener(KEY, window=0)
    first, second, third = (sealer.seal(bytes([count]), b"") for count in range(3))
    with pytest.raises(Refused, match="1 where 0"):
        opener.open(second, b"")
    opener.open(first, b"")
    for wrong in (first, third):
        with pytest.raises(Refused, match="where 1 was due"):
            opener.open(wrong, b"")
    assert opener.open(second, b"") == b"\x01"


def test_a_forgery_does_not_shut_out_what_is_genuine() -> None:
    sealer, opener = Sealer(KEY), Opener(KEY)
    genuine = sealer.seal(b"genuine", b"")
    for counter in (0, 1, 1000, MESSAGES_MAX - 1):
        with pytest.raises(Malformed):
            opener.open(nonce_of(counter)[4:] + bytes(40), b"")
    with pytest.raises(Refused, match="limit"):
        opener.open(b"\xff" * 40, b"")
    assert opener.open(genuine, b"") == b"genuine"


@pytest.mark.parametrize(("key", "nonce"), [(bytes(16), bytes(12)), (bytes(32), bytes(11)), (b"", b"")])
def test_lengths_are_fixed(key: bytes, nonce: bytes) -> None:
    with pytest.raises(InvariantError, match="takes a key of 32"):
        seal(key, nonce, b"", b"")
