"""`compression.dot_int8/1`, `compression.l2_affine/1`, `compression.hamming/1`, `compression.hamming_top_k/1`."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgenet_node.kernels import compression
from edgenet_node.kernels.reference import compression as oracle
from edgenet_node.kernels.search import normalise, top_k


@pytest.mark.parametrize(("rows", "width"), [(0, 8), (1, 1), (30, 20), (700, 130)])
def test_distances_on_codes(rng: np.random.Generator, rows: int, width: int) -> None:
    matrix = rng.standard_normal((rows, width)).astype(np.float32) + 3
    query = rng.standard_normal(width).astype(np.float32)
    codes, scales = compression.quantise_int8(matrix, width)
    codes = codes.reshape(rows, width)
    scores = compression.dot_int8(codes, scales, query)
    np.testing.assert_allclose(scores, oracle.dot_int8(codes, scales, query), rtol=1e-5, atol=1e-4)
    assert (np.abs(scores - matrix @ query) <= 0.5001 * scales * np.abs(query).sum() + 1e-4).all()

    bytes_, minima, steps = compression.quantise_affine(matrix, width)
    bytes_ = bytes_.reshape(rows, width)
    distances = compression.l2_affine(bytes_, minima, steps, query)
    np.testing.assert_allclose(distances, oracle.l2_affine(bytes_, minima, steps, query), rtol=1e-4, atol=1e-4)
    true = np.sqrt(np.square(matrix - query).sum(axis=1))
    assert (np.abs(np.sqrt(distances) - true) <= 0.5001 * steps * np.sqrt(width) + 1e-4).all()


def test_offsets_count_in_distances() -> None:
    """Two rows of one shape and different minimum are different rows."""
    rows = np.array([[0, 1, 2], [100, 101, 102]], np.float32)
    codes, minima, scales = compression.quantise_affine(rows, 3)
    found = compression.l2_affine(codes.reshape(2, 3), minima, scales, rows[1])
    np.testing.assert_allclose(found, [30000, 0], rtol=1e-4, atol=1e-3)


@settings(max_examples=40)
@given(st.integers(0, 40), st.sampled_from([1, 3, 8, 16, 40]), st.integers(0, 2**32))
def test_hamming_counts_bits(rows: int, width: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    bits = rng.integers(0, 256, (rows, 2 * width), np.uint8)[:, ::2]
    query = rng.integers(0, 256, width, np.uint8)
    assert compression.hamming(bits, query).tolist() == oracle.hamming(bits, query)


def test_hamming_of_all_and_none() -> None:
    bits = np.vstack([np.zeros(1024, np.uint8), np.full(1024, 255, np.uint8)])
    assert compression.hamming(bits, bits[0]).tolist() == [0, 8192]


@settings(max_examples=60)
@given(st.integers(0, 60), st.integers(0, 70), st.integers(0, 70), st.integers(0, 2**32))
def test_prefilter_and_rescoring_are_the_oracle_s(rows: int, k: int, candidates: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    matrix = rng.standard_normal((rows, 16)).astype(np.float32)
    query = rng.standard_normal(16).astype(np.float32)
    bits, query_bits = compression.sign_rows(matrix), compression.sign_rows(query[None, :])[0]
    scores, found = compression.hamming_top_k(bits, matrix, query_bits, query, k, candidates)
    wanted = oracle.hamming_top_k(bits, matrix, query_bits, query, k, candidates)
    assert found.tolist() == [i for i, _ in wanted]
    np.testing.assert_allclose(scores, [s for _, s in wanted], rtol=1e-5, atol=1e-5)


def test_a_large_table_is_filtered_in_order(rng: np.random.Generator) -> None:
    bits = rng.integers(0, 256, (50_003, 8), np.uint8)
    query = rng.integers(0, 256, 8, np.uint8)
    distances = compression.hamming(bits, query)
    for count in (1, 17, 1000, 40_000, 50_003):
        wanted = np.sort(np.argsort(distances, kind="stable")[:count])
        np.testing.assert_array_equal(compression.nearest_bits(bits, query, count), wanted)


def test_all_candidates_give_exact_search(rng: np.random.Generator) -> None:
    matrix = normalise(rng.standard_normal((300, 64)).astype(np.float32))
    query = normalise(rng.standard_normal((1, 64)).astype(np.float32))
    bits = compression.sign_rows(matrix)
    scores, found = compression.hamming_top_k(bits, matrix, compression.sign_rows(query)[0], query[0], 10, 300)
    wanted_scores, wanted = top_k(matrix, query, 10)
    np.testing.assert_array_equal(found, wanted[0])
    np.testing.assert_allclose(scores, wanted_scores[0], rtol=1e-6)


def test_recall_on_clusters(rng: np.random.Generator) -> None:
    """Sign bits of rotated rows keep nine of ten true neighbours among 2 % candidates."""
    centres = rng.standard_normal((100, 64))
    matrix = normalise((centres[rng.integers(0, 100, 20_000)] + rng.standard_normal((20_000, 64))).astype(np.float32))
    queries = normalise((centres[rng.integers(0, 100, 20)] + rng.standard_normal((20, 64))).astype(np.float32))
    bits, query_bits = compression.sign_rows(matrix), compression.sign_rows(queries)
    _, wanted = top_k(matrix, queries, 10)
    hits = 0
    for query, packed, truth in zip(queries, query_bits, wanted, strict=True):
        found = compression.hamming_top_k(bits, matrix, packed, query, 10, 400)[1]
        hits += np.intersect1d(found, truth).size
    assert hits / 200 > 0.75
    assert hits / 200 < 1.0  # a filter that loses nothing here is not filtering


def test_hamming_estimates_the_angle(rng: np.random.Generator) -> None:
    """E[h/d] = angle/pi after a random rotation: within five standard errors over 64 rotations."""
    width = 256
    pair = normalise(rng.standard_normal((2, width)).astype(np.float32))
    pair[1] = normalise(pair[0] + 0.7 * pair[1])
    pair[0, 0] += 1e-6
    cosine = float(pair[0] @ pair[1])
    shares = []
    for _ in range(64):
        signs = rng.choice(np.array([-1.0, 1.0], np.float32), width)
        bits = compression.sign_rows(compression.rotate(pair, signs))
        shares.append(float(compression.hamming(bits[1:], bits[0])[0]) / width)
    error = 5 * 0.5 / np.sqrt(width * 64)
    assert abs(np.mean(shares) - np.arccos(cosine) / np.pi) < error
    estimate = compression.cosine_estimate(np.array([round(np.mean(shares) * width)], np.uint16), width)
    assert abs(float(estimate[0]) - cosine) < np.pi * (error + 0.5 / width)
