"""`search.top_k/1`, `search.merge_top_k/1`, `search.normalise/1` against their oracles."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edgenet_node.errors import UsageError
from edgenet_node.kernels import reference, search

Array = npt.NDArray[np.float32]
FLOATS = st.floats(-1e3, 1e3, width=32, allow_subnormal=False)


@st.composite
def problems(draw: st.DrawFn) -> tuple[Array, Array, int, npt.NDArray[np.bool_] | None]:
    n, d, q = draw(st.integers(0, 30)), draw(st.integers(1, 12)), draw(st.integers(1, 4))
    matrix = draw(hnp.arrays(np.float32, (n, d), elements=FLOATS))
    queries = draw(hnp.arrays(np.float32, (q, d), elements=FLOATS))
    mask = draw(st.none() | hnp.arrays(np.bool_, n))
    return matrix, queries, draw(st.integers(-1, 35)), mask


@pytest.mark.parametrize("metric", search.METRICS)
@given(problem=problems())
def test_top_k_is_the_sorted_truth(
    metric: search.Metric, problem: tuple[Array, Array, int, npt.NDArray[np.bool_] | None]
) -> None:
    matrix, queries, k, mask = problem
    matrix = search.normalise(matrix) if metric == "cosine" else matrix
    kept = [matrix.copy(), queries.copy()]
    scores, rows = search.top_k(matrix, queries, k, metric=metric, mask=mask)
    allowed = list(range(len(matrix))) if mask is None else np.flatnonzero(mask).tolist()
    assert scores.shape == rows.shape == (len(queries), max(0, min(k, len(allowed))))
    for query, got, where in zip(queries, scores, rows, strict=True):
        wanted = reference.top_k(matrix, query, k, metric, allowed)
        size = float(
            (matrix.astype(np.float64) ** 2).sum(axis=1).max(initial=1.0) + (query.astype(np.float64) ** 2).sum()
        )
        tolerance = 1e-5 * (1.0 if metric == "cosine" else size)
        np.testing.assert_allclose(got, [s for s, _ in wanted], atol=tolerance)
        # Rounding may swap near-equal rows, but each returned row has its own true score, once, and is allowed.
        truth = [reference.score(matrix[i].astype(np.float64), query.astype(np.float64), metric) for i in where]
        np.testing.assert_allclose(got, truth, atol=tolerance)
        assert len(set(where.tolist())) == len(where)
        assert set(where.tolist()) <= set(allowed)
        assert (np.diff(got) <= 0).all()
    np.testing.assert_array_equal(kept[0], matrix)
    np.testing.assert_array_equal(kept[1], queries)


@given(
    values=st.lists(st.integers(-3, 3), min_size=1, max_size=60),
    k=st.integers(1, 60),
    mask_bits=st.integers(0, 2**60 - 1),
)
def test_ties_go_to_the_lower_index(values: list[int], k: int, mask_bits: int) -> None:
    matrix = np.array(values, np.float32)[:, None]
    mask = np.array([bool(mask_bits >> i & 1) for i in range(len(values))])
    scores, rows = search.top_k(matrix, np.ones((1, 1), np.float32), k, metric="dot", mask=mask)
    wanted = reference.top_k(matrix, [1.0], k, "dot", np.flatnonzero(mask).tolist())
    assert list(zip(scores[0].tolist(), rows[0].tolist(), strict=True)) == wanted


@pytest.mark.parametrize("metric", search.METRICS)
def test_extremes_never_raise_and_rank_last_what_is_not_a_number(metric: search.Metric) -> None:
    big = np.finfo(np.float32).max
    matrix = np.array([[big, -big], [0, 0], [1e-45, 0], [big, big], [1, 0]], np.float32)
    scores, rows = search.top_k(matrix, np.array([[big, big], [0, 0]], np.float32), 5, metric=metric)
    assert not np.isnan(scores).any()
    assert sorted(rows[0].tolist()) == sorted(rows[1].tolist()) == [0, 1, 2, 3, 4]


def test_zero_query_and_zero_rows_score_zero_under_cosine() -> None:
    matrix = np.array([[0, 0], [1, 0]], np.float32)
    scores, rows = search.top_k(matrix, np.array([[0, 0], [2, 0]], np.float32), 2)
    assert scores.tolist() == [[0, 0], [1, 0]]
    assert rows.tolist() == [[0, 1], [1, 0]]


def test_many_queries_in_blocks_equal_single_queries(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(7)
    matrix, queries = (
        search.normalise(rng.standard_normal((200, 16), np.float32)),
        rng.standard_normal((9, 16), np.float32),
    )
    monkeypatch.setattr(search, "SCORES_BLOCK_BYTES", 2 * 4 * 200)
    scores, rows = search.top_k(matrix, queries, 5)
    for i, query in enumerate(queries):
        alone_scores, alone_rows = search.top_k(matrix, query[None], 5)
        np.testing.assert_array_equal(rows[i], alone_rows[0])
        np.testing.assert_allclose(scores[i], alone_scores[0], atol=1e-6)


def test_unknown_metric_is_the_callers_mistake() -> None:
    with pytest.raises(UsageError, match="unknown metric 'hamming'"):
        search.top_k(np.ones((1, 1), np.float32), np.ones((1, 1), np.float32), 1, metric="hamming")  # type: ignore[arg-type]


@given(
    rows=hnp.arrays(
        np.float32,
        st.tuples(st.integers(0, 8), st.integers(1, 9)),
        elements=st.floats(width=32, allow_nan=False, allow_infinity=False),
    )
)
def test_normalise_gives_unit_or_zero_rows_at_any_magnitude(rows: Array) -> None:
    np.testing.assert_allclose(search.normalise(rows), reference.normalise(rows), atol=3e-7)


PARTS = st.lists(st.lists(st.tuples(st.integers(-4, 4).map(float), st.integers(0, 9)), max_size=6), max_size=5)


@given(parts=PARTS, k=st.integers(0, 12))
def test_merge_keeps_each_id_once_with_its_best_score(parts: list[list[tuple[float, int]]], k: int) -> None:
    split = [([s for s, _ in part], [i for _, i in part]) for part in parts]
    assert search.merge_top_k(split, k) == reference.merge_top_k(split, k)


def test_merging_shards_equals_searching_the_whole() -> None:
    rng = np.random.default_rng(3)
    matrix, query = (
        search.normalise(rng.standard_normal((300, 32), np.float32)),
        rng.standard_normal((1, 32), np.float32),
    )
    whole_scores, whole_rows = search.top_k(matrix, query, 10)
    parts = []
    for start in (0, 100, 200):
        scores, rows = search.top_k(matrix[start : start + 100], query, 10)
        parts.append((scores[0], (rows[0] + start).tolist()))
    merged = search.merge_top_k(parts, 10)
    assert [i for _, i in merged] == whole_rows[0].tolist()
    np.testing.assert_allclose([s for s, _ in merged], whole_scores[0], atol=1e-6)


def test_merge_leaves_out_what_is_not_a_number() -> None:
    assert search.merge_top_k([([float("nan"), 1.0], ["a", "b"]), ([float("-inf")], ["c"])], 5) == [
        (1.0, "b"),
        (float("-inf"), "c"),
    ]
