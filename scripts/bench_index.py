#!/usr/bin/env python3
"""Exact search over the segments of one node, against bare numpy on one matrix.

Both answer the same queries over the same vectors in one process with one BLAS thread, in pairs whose order alternates:
each evicts the other's matrix from the cache. Figures are medians of CPU time, the ratio is the median of the pairs'
ratios. The worker function also finds, decodes and encodes the texts of its hits, which bare numpy does not.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from edgenet_node.kernels import bootstrap

bootstrap.apply()

import numpy as np

from edgenet_node.memory import search_worker
from edgenet_node.memory.rows import Document
from edgenet_node.wire.codec import encode

Run = Callable[[Any], Any]


class Context:
    """What a worker hands to functions."""

    def __init__(self) -> None:
        self._kept: dict[str, Any] = {}

    def resident(self, name: str, load: Any, *, size_bytes: int = 0) -> Any:
        if name not in self._kept:
            self._kept[name] = load()
        return self._kept[name]


def main(argv: Sequence[str]) -> dict[str, Any]:
    """Medians in milliseconds and ratios to bare numpy: plain, with a filter, with deleted rows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--dimension", type=int, default=384)
    parser.add_argument("--segment-rows", type=int, default=4096)
    parser.add_argument("-k", type=int, default=10)
    parser.add_argument("--queries", type=int, default=200)
    options = parser.parse_args(argv)
    rng = np.random.default_rng(1)
    vectors = rng.standard_normal((options.rows, options.dimension)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    queries = rng.standard_normal((options.queries, options.dimension)).astype(np.float32)
    queries /= np.linalg.norm(queries, axis=1, keepdims=True)
    with tempfile.TemporaryDirectory() as folder:
        return measure(vectors, queries, options.k, stored(Path(folder), vectors, options.segment_rows))


def stored(folder: Path, vectors: Any, segment_rows: int) -> list[list[Any]]:
    segments = []
    for first in range(0, len(vectors), segment_rows):
        part = vectors[first : first + segment_rows]
        documents = [
            Document(f"{row:06d}", f"passage {row} " * 20, {"lang": "en" if row % 2 else "de"})
            for row in range(first, first + len(part))
        ]
        salt = first.to_bytes(16, "little")
        data = search_worker.build_segment(
            Context(), part.tobytes(), encode(documents), vectors.shape[1], "bench", salt
        )
        path = folder / str(first)
        path.write_bytes(data)
        segments.append([str(path), path.name, b""])
    return segments


def measure(vectors: Any, queries: Any, k: int, segments: list[list[Any]]) -> dict[str, Any]:
    context = Context()
    deleted = [[path, digest, b"\x11" * 64] for path, digest, _ in segments]

    def bare(query: Any) -> Any:
        scores = vectors @ query
        best = np.argpartition(scores, len(scores) - k)[-k:]
        return best[np.argsort(-scores[best])]

    contestants = {
        "search": lambda query: search_worker.search(context, segments, query.tobytes(), k, {}),
        "filtered": lambda query: search_worker.search(context, segments, query.tobytes(), k, {"lang": "de"}),
        "deleted": lambda query: search_worker.search(context, deleted, query.tobytes(), k, {}),
    }
    pairs = {name: paired(run, bare, queries) for name, run in contestants.items()}
    return {
        "rows": len(vectors),
        "dimension": vectors.shape[1],
        "numpy_ms": {name: round(statistics.median(b for _, b in times) * 1e3, 3) for name, times in pairs.items()},
        "median_ms": {name: round(statistics.median(a for a, _ in times) * 1e3, 3) for name, times in pairs.items()},
        "ratio": {name: round(statistics.median(a / b for a, b in times), 3) for name, times in pairs.items()},
    }


def paired(run: Run, other: Run, queries: Any) -> list[tuple[float, float]]:
    """CPU seconds of both on each query."""
    run(queries[0])
    other(queries[0])
    times = []
    for at, query in enumerate(queries):
        seconds = {}
        for contestant in (run, other) if at % 2 else (other, run):
            start = time.thread_time()
            contestant(query)
            seconds[contestant] = time.thread_time() - start
        times.append((seconds[run], seconds[other]))
    return times


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1:]), indent=2))
