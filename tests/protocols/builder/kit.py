"""What the builders share: keys, signatures, and a book that vectors are written into."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import msgpack
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

PROTOCOLS: Final = Path(__file__).parents[3] / "protocols"
CREATED_MS: Final = 1_700_000_000_000
RUN_MIN: Final = 256
"""Equal bytes or characters in a row from which on a vector writes them as a repetition."""

ALIKE_MIN: Final = 16
"""The same for equal elements of an array, and for sequences of several bytes."""

_RUN: Final = re.compile(rb"(.)\1{%d,}|(.{2,400}?)\2{%d,}" % (RUN_MIN - 1, ALIKE_MIN - 1), re.DOTALL)

Wrap = Callable[[Any], bytes]


def pack(value: Any) -> bytes:
    data: bytes = msgpack.packb(value, use_bin_type=True)
    return data


def base58(data: bytes) -> str:
    alphabet = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
    number, text = int.from_bytes(data, "big"), ""
    while number:
        number, digit = divmod(number, 58)
        text = alphabet[digit] + text
    return "1" * (len(data) - len(data.lstrip(b"\0"))) + text


class Key:
    """An Ed25519 key from a seed of 32 equal bytes, and its names."""

    def __init__(self, number: int) -> None:
        self.seed = bytes([number]) * 32
        self._private = Ed25519PrivateKey.from_private_bytes(self.seed)
        self.public = self._private.public_key().public_bytes_raw()
        self.peer_id = base58(bytes.fromhex("002408011220") + self.public)
        hashed = hashlib.sha512(bytes.fromhex("3141592653589793") + self.public).digest()[:40]
        mask = bytes.fromhex("31415926")
        self.pi_key = bytes(a ^ b for a, b in zip(hashed[:4], mask, strict=True)) + hashed[4:]

    def sign_raw(self, message: bytes) -> bytes:
        return self._private.sign(message)

    def sign(self, domain: str, message: bytes) -> bytes:
        return self.sign_raw(framed(domain, message))


def framed(domain: str, message: bytes) -> bytes:
    return b"edgenet/sign/1\0" + bytes([len(domain)]) + domain.encode() + message


FOUNDER, OTHER, THIRD = Key(1), Key(2), Key(3)


def genesis(founder: Key, epoch: int = 0, created_ms: int = CREATED_MS) -> dict[str, Any]:
    numbers = epoch.to_bytes(4, "big") + created_ms.to_bytes(8, "big")
    origin = b"GENESIS_ORIGIN:" + bytes.fromhex("16180339") + founder.pi_key + numbers
    name = hashlib.sha256(origin).digest()[:21]
    return {
        "genesis": name,
        "founder": founder.public,
        "epoch": epoch,
        "created_ms": created_ms,
        "signature": founder.sign("genesis", name + founder.public + numbers),
    }


SWARM: Final = genesis(FOUNDER)["genesis"].hex()
OTHER_SWARM: Final = genesis(OTHER)["genesis"].hex()


def peer_record(key: Key, **changes: Any) -> dict[str, Any]:
    return {
        "public_key": key.public,
        "swarm": SWARM,
        "seq": CREATED_MS,
        "addresses": [f"/ip4/192.0.2.{key.seed[0]}/tcp/4001/p2p/{key.peer_id}"],
    } | changes


def signed(key: Key, domain: str, body: bytes) -> dict[str, Any]:
    return {"body": body, "signature": key.sign(domain, body)}


def signed_record(key: Key, **changes: Any) -> dict[str, Any]:
    return signed(key, "peer-record", pack(peer_record(key, **changes)))


class Book:
    """The vectors of one protocol. Names are unique; `must` lists the requirements that a vector is evidence for."""

    def __init__(self, protocol: str) -> None:
        self.protocol = protocol
        self.valid: list[dict[str, Any]] = []
        self.invalid: list[dict[str, Any]] = []

    def good(self, name: str, context: str, data: bytes, must: Iterable[str], value: Any = None, **more: Any) -> None:
        """`value` is what the plain msgpack package reads, unless it is given."""
        read = msgpack.unpackb(data, raw=False) if value is None else value
        self._add(
            self.valid, {"name": name, "context": context, "must": sorted(must), **more}, data, {"value": plain(read)}
        )

    def bad(
        self, name: str, context: str, data: bytes, error: str, reason: str, must: Iterable[str], **more: Any
    ) -> None:
        head = {"name": name, "context": context, "error": error, "reason": reason, "must": sorted(must), **more}
        self._add(self.invalid, head, data, {})

    def _add(self, to: list[dict[str, Any]], head: dict[str, Any], data: bytes, tail: dict[str, Any]) -> None:
        assert head["name"] not in {one["name"] for one in to}, head["name"]
        to.append({**head, "hex": compact(data), **tail})

    def write(self) -> None:
        folder = PROTOCOLS / self.protocol / "vectors"
        folder.mkdir(parents=True, exist_ok=True)
        for kind, vectors in (("valid", self.valid), ("invalid", self.invalid)):
            lines = ",\n".join(json.dumps(vector, ensure_ascii=True) for vector in vectors)
            (folder / f"{kind}.json").write_text(f"[\n{lines}\n]\n", encoding="utf-8")

    # -- the usual ways to be wrong

    def damaged(
        self, what: str, context: str, wrap: Wrap, body: dict[str, Any], *, optional: Iterable[str] = ()
    ) -> None:
        """Each field missing, each of another type, one too many; cut short, followed by a byte, not a map."""
        data = wrap(body)
        left_out = set(optional)
        for field, value in body.items():
            if field not in left_out:
                without = {key: one for key, one in body.items() if key != field}
                self.bad(
                    f"{what} without {field}", context, wrap(without), "malformed", "a field is missing", ["ENC-2"]
                )
            other = of_another_type(value)
            reason = f"{type(value).__name__} expected, {type(other).__name__} found"
            self.bad(
                f"{what} with another type of {field}",
                context,
                wrap(body | {field: other}),
                "malformed",
                reason,
                ["ENC-4"],
            )
        self.bad(
            f"{what} with an unknown field", context, wrap(body | {"zz": 1}), "malformed", "unknown fields", ["ENC-3"]
        )
        self.bad(
            f"{what} as an array", context, wrap(list(body.values())), "malformed", "a message is a map", ["ENC-2"]
        )
        if data[-1:] != b"\x80" or not body:
            self.bad(f"{what} cut short", context, data[:-1], "malformed", "the last byte is missing", ["ENC-1"])
        self.bad(f"{what} with a byte after it", context, data + b"\xc0", "malformed", "trailing bytes", ["ENC-1"])

    def beyond(
        self, what: str, context: str, wrap: Wrap, body: dict[str, Any], must: str, cases: Mapping[str, Any]
    ) -> None:
        """`cases`: `field: note` to a value out of bounds."""
        for case, value in cases.items():
            field, _, note = case.partition(": ")
            name = f"{what} with {field} {note}"
            self.bad(
                name,
                context,
                wrap(body | {field: value}),
                "malformed",
                f"{field} out of bounds: {note}",
                ["ENC-4", must],
            )


def of_another_type(value: Any) -> Any:
    match value:
        case bool():
            return int(value)
        case bytes():
            return "a" * len(value)
        case str():
            return value.encode()
        case int():
            return str(value)
        case float():
            return str(value)
        case list():
            return {}
        case dict():
            return list(value.values())
    raise AssertionError(value)


def call(kind: str) -> Wrap:
    return lambda body: pack([kind, body])


def reply(body: Any) -> bytes:
    return pack([0, body])


def plain(value: Any) -> Any:
    """The value as vectors write it: bytes in hex, long repetitions as such."""
    match value:
        case bytes():
            return _repeated(value.hex(), 2)
        case str():
            return _repeated(value, 1)
        case dict():
            return {key: plain(one) for key, one in value.items()}
        case list() | tuple():
            parts = [plain(one) for one in value]
            alike = len(parts) >= ALIKE_MIN and all(part == parts[0] for part in parts)
            return {"repeat": parts[:1], "times": len(parts)} if alike else parts
        case _:
            return value


def _repeated(text: str, unit: int) -> Any:
    times = len(text) // unit
    return {"repeat": text[:unit], "times": times} if times >= RUN_MIN and text == text[:unit] * times else text


def compact(data: bytes) -> Any:
    """Hex, or a list of hex and `[hex, times]` where bytes repeat."""
    parts: list[Any] = []
    at = 0
    for run in _RUN.finditer(data):
        if run.start() > at:
            parts.append(data[at : run.start()].hex())
        unit = run[1] or run[2]
        parts.append([unit.hex(), len(run[0]) // len(unit)])
        at = run.end()
    if not parts:
        return data.hex()
    return [*parts, data[at:].hex()] if at < len(data) else parts
