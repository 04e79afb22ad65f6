"""Base58 in Bitcoin's alphabet, as libp2p writes PeerIds: big-endian number, one leading `1` for each zero byte."""

from __future__ import annotations

from typing import Final

from ..errors import Malformed

ALPHABET: Final = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"

TEXT_CHARS_MAX: Final = 128
"""Decoding takes time in the square of the length; a PeerId has 52 characters."""

_VALUES: Final = {character: value for value, character in enumerate(ALPHABET)}


def b58encode(data: bytes) -> str:
    number = int.from_bytes(data, "big")
    digits = []
    while number:
        number, digit = divmod(number, 58)
        digits.append(ALPHABET[digit])
    zeros = len(data) - len(data.lstrip(b"\x00"))
    return "1" * zeros + "".join(reversed(digits))


def b58decode(text: str) -> bytes:
    """The bytes whose `b58encode` is `text`. `Malformed` for other characters and above `TEXT_CHARS_MAX`."""
    if len(text) > TEXT_CHARS_MAX:
        raise Malformed(f"base58 text of {len(text)} characters, at most {TEXT_CHARS_MAX} allowed")
    number = 0
    for character in text:
        value = _VALUES.get(character, -1)
        if value < 0:
            raise Malformed("a character that is not in the base58 alphabet")
        number = number * 58 + value
    zeros = len(text) - len(text.lstrip("1"))
    return bytes(zeros) + number.to_bytes((number.bit_length() + 7) // 8, "big")
