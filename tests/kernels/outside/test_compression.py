"""Quantisers, bits and rotations beside torch, scikit-learn, scipy and faiss."""

from __future__ import annotations

import numpy as np
import pytest

from edgenet_node.kernels import compression
from edgenet_node.kernels.search import normalise

RNG = np.random.default_rng(6)


def test_int8_is_torch_s_symmetric_quantisation() -> None:
    torch = pytest.importorskip("torch")
    x = RNG.standard_normal((40, 64)).astype(np.float32)
    codes, scales = compression.quantise_int8(x, 64)
    theirs = torch.quantize_per_channel(
        torch.from_numpy(x),
        torch.from_numpy(scales.astype(np.float64)),
        torch.zeros(40, dtype=torch.int64),
        0,
        torch.qint8,
    )
    np.testing.assert_array_equal(codes.reshape(40, 64), theirs.int_repr().numpy())
    np.testing.assert_allclose(
        compression.dequantise_int8(codes, scales, 64).reshape(40, 64), theirs.dequantize().numpy()
    )


def test_top_k_is_torch_s() -> None:
    torch = pytest.importorskip("torch")
    x = RNG.standard_normal(100_000).astype(np.float32)
    theirs = torch.from_numpy(x).abs().topk(10_000).indices.numpy()
    np.testing.assert_array_equal(compression.largest(x, 10_000), np.sort(theirs))


def test_affine_distances_are_scikit_learn_s_on_the_decoded_rows() -> None:
    pairwise = pytest.importorskip("sklearn.metrics.pairwise")
    rows, query = RNG.standard_normal((200, 32)).astype(np.float32), RNG.standard_normal(32).astype(np.float32)
    codes, minima, scales = compression.quantise_affine(rows, 32)
    decoded = compression.dequantise_affine(codes, minima, scales, 32).reshape(200, 32)
    theirs = pairwise.euclidean_distances(decoded.astype(np.float64), query[None, :], squared=True)[:, 0]
    np.testing.assert_allclose(compression.l2_affine(codes.reshape(200, 32), minima, scales, query), theirs, rtol=1e-4)


def test_hamming_is_scipy_s() -> None:
    distance = pytest.importorskip("scipy.spatial.distance")
    signs = RNG.standard_normal((60, 72)).astype(np.float32)
    bits = compression.sign_rows(signs)
    theirs = distance.cdist(signs >= 0, signs[:1] >= 0, "hamming")[:, 0] * 72
    np.testing.assert_allclose(compression.hamming(bits, bits[0]), theirs)


def test_the_rotation_is_scipy_s_hadamard_matrix() -> None:
    linalg = pytest.importorskip("scipy.linalg")
    x, signs = RNG.standard_normal((3, 256)).astype(np.float32), RNG.choice(np.array([-1, 1], np.float32), 256)
    theirs = (x * signs) @ linalg.hadamard(256) / 16
    np.testing.assert_allclose(compression.rotate(x, signs), theirs, atol=1e-5)


def test_bits_and_candidates_are_faiss_s() -> None:
    faiss = pytest.importorskip("faiss")
    rows = normalise(RNG.standard_normal((2000, 64)).astype(np.float32))
    bits = compression.sign_rows(rows)
    packed = np.empty_like(bits)
    faiss.fvecs2bitvecs(faiss.swig_ptr(rows), faiss.swig_ptr(packed), 64, 2000)
    np.testing.assert_array_equal(bits, packed)
    index = faiss.IndexBinaryFlat(64)
    index.add(bits)
    distances, _ = index.search(bits[:1], 50)
    found = compression.nearest_bits(bits, bits[0], 50)
    np.testing.assert_array_equal(np.sort(compression.hamming(bits, bits[0])[found]), distances[0])


def test_payload_beside_zstd() -> None:
    """The ladder's rung top-k + int8: 17.8x as a bitmap, about 24x as Elias-Fano, 26x with zstd-1 behind it."""
    zstandard = pytest.importorskip("zstandard")
    x = RNG.standard_normal(1_000_000).astype(np.float32)
    places, codes, scales, _ = compression.top_k_int8(x, np.zeros_like(x), 100_000, 1024)
    values = compression.Quantised(codes, scales, 1024)
    data = {p: compression.encode_sparse(x.size, places, values, p) for p in compression.POSITIONS}
    assert x.nbytes / len(data["bitmap"]) > 17.7
    assert x.nbytes / len(data["elias_fano"]) > 24
    assert x.nbytes / min(len(zstandard.compress(d, 1)) for d in data.values()) > 25.5
