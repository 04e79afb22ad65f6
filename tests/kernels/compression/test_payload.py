"""`compression.encode_sparse/1`, `compression.decode_sparse/1`: round trips, sizes, and bytes from strangers."""

from __future__ import annotations

import struct

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from edgenet_node.kernels import compression
from edgenet_node.kernels.compression import POSITIONS, Positions, Quantised
from edgenet_node.kernels.reference import compression as oracle

LENGTH_MAX = 1_000_000


@st.composite
def sparse(draw: st.DrawFn) -> tuple[int, npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    length = draw(st.integers(0, 300) | st.integers(60_000, 200_000))
    count = draw(st.integers(0, min(length, 60)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    indices = np.sort(rng.choice(length, count, replace=False)) if length else np.empty(0, np.int64)
    return length, indices.astype(np.int64), rng.standard_normal(count).astype(np.float32)


@settings(max_examples=80)
@given(sparse(), st.sampled_from(POSITIONS), st.sampled_from([0, 1, 7, 64]))
def test_round_trip(
    case: tuple[int, npt.NDArray[np.int64], npt.NDArray[np.float32]], positions: Positions, block: int
) -> None:
    length, indices, values = case
    sent: npt.NDArray[np.float32] | Quantised = values
    if block:
        codes, scales = compression.quantise_int8(values, block)
        sent, values = Quantised(codes, scales, block), compression.dequantise_int8(codes, scales, block)
    data = compression.encode_sparse(length, indices, sent, positions)
    back = compression.decode_sparse(data, LENGTH_MAX)
    assert back.length == length
    np.testing.assert_array_equal(back.indices, indices)
    np.testing.assert_array_equal(back.values, values)


@settings(max_examples=30)
@given(sparse().filter(lambda case: case[0] < 1000))
def test_the_bitmap_form_is_the_oracle_s(case: tuple[int, npt.NDArray[np.int64], npt.NDArray[np.float32]]) -> None:
    length, indices, values = case
    pairs = list(zip(indices.tolist(), values.tolist(), strict=True))
    data = compression.encode_sparse(length, indices, values, "bitmap")
    assert data == oracle.encode_sparse(length, pairs)
    assert oracle.decode_sparse(data) == (length, pairs)


def test_gradient_payload_sizes(rng: np.random.Generator) -> None:
    """The largest tenth of a million floats: 225 kB as bitmap and int8, less as Elias-Fano and int8."""
    gradient = rng.standard_normal(1_000_000).astype(np.float32)
    indices, values, _ = compression.top_k(gradient, np.zeros_like(gradient), 100_000)
    sizes = {p: len(compression.encode_top_int8(gradient.size, indices, values, 1024, p)) for p in POSITIONS}
    assert sizes["bitmap"] == 16 + 125_000 + 4 * 98 + 100_000
    assert sizes["gaps"] == 16 + 4 + 200_000 + 4 * 98 + 100_000
    assert gradient.nbytes / sizes["elias_fano"] > 24
    with pytest.raises(ValueError, match="at most 999999"):
        compression.decode_sparse(compression.encode_sparse(1_000_000, indices, values, "bitmap"), 999_999)


@settings(max_examples=300)
@given(sparse().filter(lambda case: case[0] < 1000), st.sampled_from(POSITIONS), st.booleans(), st.data())
def test_changed_bytes_are_refused_or_are_another_vector(
    case: tuple[int, npt.NDArray[np.int64], npt.NDArray[np.float32]],
    positions: Positions,
    quantised: bool,
    data: st.DataObject,
) -> None:
    """Whatever is accepted has one encoding, itself: nothing ignored, nothing ambiguous."""
    length, indices, values = case
    sent = Quantised(*compression.quantise_int8(values, 8), 8) if quantised else values
    original = bytearray(compression.encode_sparse(length, indices, sent, positions))
    for _ in range(data.draw(st.integers(1, 3))):
        original[data.draw(st.integers(0, len(original) - 1))] ^= data.draw(st.integers(1, 255))
    changed = bytes(original)
    try:
        back = compression.decode_sparse(changed, 2000)
    except ValueError:
        return
    assert back.indices.size == 0 or (np.diff(back.indices) > 0).all()
    assert (back.indices < back.length).all()
    assert np.isfinite(back.values).all()
    how = POSITIONS[changed[1]]
    body = len(changed) - (16 + 4 * back.indices.size)
    if changed[2] == 0:
        assert compression.encode_sparse(back.length, back.indices, back.values, how) == changed
    else:
        again = compression.encode_sparse(back.length, back.indices, back.values, how)
        positions_size = len(again) - 4 * back.indices.size
        assert changed[16:positions_size] == again[16:positions_size]
        assert body <= positions_size


@settings(max_examples=300)
@given(st.binary(max_size=60))
@example(struct.pack("<BBBBIII", 1, 0, 0, 0, 2**32 - 1, 2**32 - 1, 0))
@example(struct.pack("<BBBBIII", 1, 1, 0, 0, 1000, 1000, 0) + b"\xff" * 4)
@example(struct.pack("<BBBBIII", 1, 2, 1, 0, 1000, 1, 2**32 - 1))
def test_arbitrary_bytes_raise_nothing_else(data: bytes) -> None:
    for body in (data, struct.pack("<BBBB", 1, 0, 0, 0) + data, struct.pack("<BBBB", 1, 2, 1, 0) + data):
        try:
            vector = compression.decode_sparse(body, LENGTH_MAX)
        except ValueError:
            continue
        assert vector.length <= LENGTH_MAX


@pytest.mark.parametrize("positions", POSITIONS)
def test_every_cut_and_every_addition_is_refused(positions: Positions) -> None:
    data = compression.encode_sparse(100, np.array([3, 50, 99]), np.array([1, -2, 3], np.float32), positions)
    for size in range(len(data)):
        with pytest.raises(ValueError, match="sparse vector"):
            compression.decode_sparse(data[:size], 100)
    with pytest.raises(ValueError, match="bytes of values"):
        compression.decode_sparse(data + b"\0", 100)


HEAD = "<BBBBIII"


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (struct.pack(HEAD, 2, 0, 0, 0, 0, 0, 0), "unknown format"),
        (struct.pack(HEAD, 1, 3, 0, 0, 0, 0, 0), "unknown format"),
        (struct.pack(HEAD, 1, 0, 0, 1, 0, 0, 0), "unknown format"),
        (struct.pack(HEAD, 1, 0, 0, 0, 5, 6, 0), "6 entries in 5 places"),
        (struct.pack(HEAD, 1, 0, 0, 0, 5, 0, 1) + b"\0", "in blocks of 1"),
        (struct.pack(HEAD, 1, 0, 1, 0, 5, 0, 0) + b"\0", "in blocks of 0"),
        (struct.pack(HEAD, 1, 0, 0, 0, 5, 1, 0) + b"\x20" + struct.pack("<f", 1), "bits set after"),
        (struct.pack(HEAD, 1, 0, 0, 0, 5, 1, 0) + b"\x03" + struct.pack("<f", 1), "2 entries"),
        (struct.pack(HEAD, 1, 0, 0, 0, 5, 1, 0) + b"\x01" + struct.pack("<f", np.nan), "not finite"),
        (struct.pack(HEAD, 1, 0, 1, 0, 5, 1, 1) + b"\x01" + struct.pack("<fb", 1, -128), "outside -127"),
        (struct.pack(HEAD, 1, 0, 1, 0, 5, 1, 1) + b"\x01" + struct.pack("<fb", -1, 1), "negative scale"),
        (struct.pack(HEAD, 1, 0, 1, 0, 5, 1, 1) + b"\x01" + struct.pack("<fb", 3e38, 100), "not finite"),
        (struct.pack(HEAD, 1, 1, 0, 0, 5, 1, 0) + struct.pack("<IHf", 1, 5, 1), "at 5 of 5"),
        (struct.pack(HEAD, 1, 1, 0, 0, 5, 0, 0) + struct.pack("<IH", 1, 65535), "not 0 entries"),
        (struct.pack(HEAD, 1, 2, 0, 0, 9, 2, 0) + b"\x07" + b"\x03" + struct.pack("<ff", 1, 1), "not in order"),
    ],
)
def test_each_malformation_is_named(data: bytes, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        compression.decode_sparse(data, 100)
