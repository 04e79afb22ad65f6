"""The worker functions against brute force: any documents, deletions, filters, merges, ties."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgenet_node.errors import Malformed, UsageError
from edgenet_node.kernels.reference import top_k as reference_top_k
from edgenet_node.memory import search_worker
from edgenet_node.memory.catalog import OwnSegment
from edgenet_node.memory.rows import Document, SegmentRow
from edgenet_node.wire.codec import decode, encode
from edgenet_node.wire.index import Hit

from .oracle import DIMENSION, PlainContext, brute_force, vector_of

SALT = bytes(16)


def hits_of(answer: dict[str, Any]) -> list[Hit]:
    return decode(answer["hits"], list[Hit], bytes_max=1 << 24)


class Shelf:
    """Segments in a folder, as a node keeps them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.context = PlainContext()
        self.segments: list[OwnSegment] = []

    def store(self, data: bytes, ids: list[str]) -> None:
        number = len(self.segments)
        path = self.folder / f"{random.Random(data).random()}-{number}"
        path.write_bytes(data)
        self.segments.append(OwnSegment(number, SegmentRow(path.name, len(data), ids, b""), str(path)))

    def build(self, documents: list[Document]) -> None:
        documents = sorted(documents, key=lambda one: one.id)
        vectors = b"".join(vector_of(one.text) for one in documents)
        data = search_worker.build_segment(self.context, vectors, encode(documents), DIMENSION, "m", SALT)
        self.store(data, [one.id for one in documents])

    def merge(self, parts: list[OwnSegment]) -> None:
        alive = [(one, sorted(set(range(one.rows)) - set(one.deleted_rows()))) for one in parts]
        args = [[one.path, one.digest, np.asarray(rows, "<u4").tobytes()] for one, rows in alive]
        ids = sorted(one.ids[row] for one, rows in alive for row in rows)
        self.segments = [one for one in self.segments if one not in parts]
        self.store(search_worker.merge_segments(self.context, args, SALT), ids)

    def delete(self, name: str) -> None:
        for one in self.segments:
            if name in one.ids and one.ids.index(name) not in one.deleted_rows():
                one.delete([one.ids.index(name)])

    def search(self, query: bytes, k: int, where: dict[str, str]) -> dict[str, Any]:
        segments = [[one.path, one.digest, one.bitmap] for one in self.segments]
        return search_worker.search(self.context, segments, query, k, where)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32))
def test_any_history_gives_what_brute_force_gives(tmp_path_factory: pytest.TempPathFactory, seed: int) -> None:
    rng = random.Random(seed)
    shelf = Shelf(tmp_path_factory.mktemp("shelf"))
    truth: dict[str, tuple[str, dict[str, str]]] = {}
    for _ in range(12):
        action = rng.random()
        if action < 0.5 or not shelf.segments:
            fresh = {f"d{rng.randrange(60)}": f"t{rng.randrange(40)}" for _ in range(rng.randrange(1, 25))}
            tags = {name: {"lang": rng.choice("ab")} if rng.random() < 0.7 else {} for name in fresh}
            for name in fresh:
                shelf.delete(name)
            shelf.build([Document(name, content, tags[name]) for name, content in fresh.items()])
            truth |= {name: (content, tags[name]) for name, content in fresh.items()}
        elif action < 0.75 and truth:
            for name in rng.sample(sorted(truth), rng.randrange(1, len(truth) + 1)):
                shelf.delete(name)
                del truth[name]
        else:
            parts = rng.sample(shelf.segments, rng.randrange(1, len(shelf.segments) + 1))
            if any(part.living for part in parts):
                shelf.merge(parts)
        where = {"lang": rng.choice("abc")} if rng.random() < 0.5 else {}
        k, query = rng.choice((1, 2, 5, 200)), vector_of(f"q{rng.randrange(40)}")
        answer = shelf.search(query, k, where)
        assert hits_of(answer) == brute_force(truth, query, k, where)
        assert answer["rows"] == len(truth)


def test_real_vectors_agree_with_the_reference(tmp_path: Path) -> None:
    rng = np.random.default_rng(7)
    vectors = rng.standard_normal((300, 384)).astype(np.float32)
    query = rng.standard_normal(384).astype(np.float32)
    context, segments = PlainContext(), []
    for at in range(0, 300, 128):
        part = vectors[at : at + 128]
        documents = encode([Document(f"{at + row:03d}", "text", {}) for row in range(len(part))])
        path = tmp_path / str(at)
        path.write_bytes(search_worker.build_segment(context, part.tobytes(), documents, 384, "m", SALT))
        segments.append([str(path), str(at), b""])
    hits = hits_of(search_worker.search(context, segments, query.tobytes(), 20, {}))
    unit = vectors / np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)
    best = reference_top_k(unit, query, 20, "cosine")
    assert [hit.id for hit in hits] == [f"{row:03d}" for _, row in best]
    assert np.allclose([hit.score for hit in hits], [score for score, _ in best], atol=1e-6)
    picked = [[path, digest, np.asarray([0, 5], "<u4").tobytes()] for path, digest, _ in segments]
    again = search_worker.score(context, picked, query.tobytes())
    expected = unit @ (query / np.linalg.norm(query))
    assert np.allclose(again, [[expected[at], expected[at + 5]] for at in range(0, 300, 128)], atol=1e-6)


def test_a_zero_query_and_zero_rows_score_zero(tmp_path: Path) -> None:
    context = PlainContext()
    vectors = np.asarray([[0, 0], [1, 0], [-1, 0]], np.float32)
    documents = encode([Document(name, name, {}) for name in "abc"])
    path = tmp_path / "segment"
    path.write_bytes(search_worker.build_segment(context, vectors.tobytes(), documents, 2, "m", SALT))
    segments = [[str(path), "digest", b""]]
    zero = hits_of(search_worker.search(context, segments, bytes(8), 2, {}))
    assert [(hit.id, hit.score) for hit in zero] == [("a", 0.0), ("b", 0.0)]
    one = hits_of(search_worker.search(context, segments, vectors[1].tobytes(), 3, {}))
    assert [(hit.id, hit.score) for hit in one] == [("b", 1.0), ("a", 0.0), ("c", -1.0)]


def test_a_deletion_is_seen_at_once_and_undone_by_an_older_bitmap(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path)
    shelf.build([Document(name, name, {}) for name in "abc"])
    one = shelf.segments[0]
    for bitmap, left in ((b"", "abc"), (b"\x02", "ac"), (b"\x03", "c"), (b"\x02", "ac"), (b"\x07", "")):
        answer = search_worker.search(shelf.context, [[one.path, one.digest, bitmap]], vector_of("a"), 9, {})
        assert sorted(hit.id for hit in hits_of(answer)) == list(left)
        assert answer["rows"] == len(left)


def test_queries_that_do_not_fit_are_malformed(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path)
    shelf.build([Document("a", "a", {})])
    for vector in (b"", b"abc", bytes(4), np.full(DIMENSION, np.nan, "<f4").tobytes()):
        with pytest.raises(Malformed):
            shelf.search(vector, 3, {})


def test_documents_that_do_not_fit_their_vectors_are_refused() -> None:
    documents = encode([Document("a", "a", {})])
    with pytest.raises(UsageError):
        search_worker.build_segment(PlainContext(), bytes(8), documents, DIMENSION, "m", SALT)
