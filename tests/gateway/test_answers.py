"""Answers in pieces are the same answers."""

from __future__ import annotations

import json
import struct
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from edgenet_node.errors import EdgenetError
from edgenet_node.gateway.answers import PIECE_BYTES, SLICE_VALUES, STATUS, json_parts

scalars = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False)
values = st.recursive(
    scalars | st.text(),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(), inner, max_size=5),
    max_leaves=30,
)


@given(values)
def test_joined_parts_are_the_json_of_the_value(value: Any) -> None:
    assert json.loads(b"".join(json_parts(value))) == value


def test_long_lists_come_in_slices_without_loss() -> None:
    flat = [float(n) for n in range(3 * SLICE_VALUES + 1)]
    rows = [[float(n), 0.5] * 192 for n in range(100)]
    value = {"embeddings": rows, "flat": flat, "model": "m"}
    parts = list(json_parts(value))
    assert json.loads(b"".join(parts)) == value
    assert max(map(len, parts)) < 4 * PIECE_BYTES


def test_every_error_has_a_status() -> None:
    kinds = [EdgenetError]
    for kind in kinds:
        kinds += kind.__subclasses__()
    codes = {kind.code for kind in kinds}
    assert {"usage", "not_found", "conflict", "overloaded", "timeout", "refused", "too_large"} <= codes
    assert all(400 <= STATUS.get(code, 500) < 600 for code in codes)
    assert set(STATUS) <= codes


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), max_size=50))
def test_floats_survive_exactly(floats: list[float]) -> None:
    seen = json.loads(b"".join(json_parts(floats)))
    assert struct.pack(f"<{len(seen)}f", *seen) == struct.pack(f"<{len(floats)}f", *floats)
