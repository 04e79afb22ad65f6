#!/usr/bin/env python3
"""Search and verification kernels against bare numpy, interleaved in one process with one BLAS thread.

    python scripts/bench_search.py [--rows N] [--rounds N] [--json]

Bare numpy for search is the least that anyone writes: `matrix @ query` and `argpartition`, without masks, ties or
checks. Figures are medians of CPU time; the overhead is the median of the rounds' quotients, ours over bare.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
DIMENSIONS = 384
# Row of the table to the kernel id it stands for.
KERNEL_ROWS = {
    "one_query": "search.top_k/1",
    "one_query_filtered": "search.top_k/1",
    "batch_of_32_queries": "search.top_k/1",
    "merge_5_parts": "search.merge_top_k/1",
    "normalise": "search.normalise/1",
    "agreement": "verify.agreement/1",
}


def pairs(rows: int) -> dict[str, tuple[Callable[[], Any], Callable[[], Any]]]:
    """Ours and the bare version of each row."""
    import numpy as np

    from edgenet_node.kernels.search import merge_top_k, normalise, top_k
    from edgenet_node.kernels.verify import agreement

    rng = np.random.default_rng(8)
    matrix = normalise(rng.standard_normal((rows, DIMENSIONS), np.float32))
    queries = normalise(rng.standard_normal((32, DIMENSIONS), np.float32))
    mask = rng.random(rows) < 0.5
    parts = [(scores[0], found[0].tolist()) for scores, found in (top_k(matrix, queries[:1], 10) for _ in range(5))]
    some, other = matrix[:256].copy(), matrix[:256] * np.float32(1.0000001)

    def bare(found: Any) -> Any:
        best = np.argpartition(found, -10, axis=-1)[..., -10:]
        return best, np.take_along_axis(found, best, axis=-1)

    def flat_merge() -> Any:
        return sorted(((-s, i) for scores, ids in parts for s, i in zip(scores.tolist(), ids, strict=True)))[:10]

    def cosines() -> Any:
        norms = np.linalg.norm(some, axis=1) * np.linalg.norm(other, axis=1)
        return (some * other).sum(axis=1) / norms >= 0.9999

    return {
        "one_query": (lambda: top_k(matrix, queries[:1], 10), lambda: bare(matrix @ queries[0])),
        "one_query_filtered": (
            lambda: top_k(matrix, queries[:1], 10, mask=mask),
            lambda: bare(np.where(mask, matrix @ queries[0], -np.inf)),
        ),
        "batch_of_32_queries": (lambda: top_k(matrix, queries, 10), lambda: bare(queries @ matrix.T)),
        "merge_5_parts": (lambda: merge_top_k(parts, 10), flat_merge),
        "normalise": (lambda: normalise(matrix), lambda: matrix / np.linalg.norm(matrix, axis=1, keepdims=True)),
        "agreement": (lambda: agreement(some, other, 1e-4), cosines),
    }


def cpu_time(call: Callable[[], Any], least_s: float = 0.01) -> float:
    """CPU seconds a call, over as many calls as fill `least_s`."""
    calls, start = 0, time.process_time()
    while (spent := time.process_time() - start) < least_s or not calls:
        call()
        calls += 1
    return spent / calls


def measure(rows: int, rounds: int) -> dict[str, dict[str, float]]:
    figures = {}
    for name, (ours, bare) in pairs(rows).items():
        ours(), bare()
        taken = []
        for turn in range(rounds):
            first, second = (ours, bare) if turn % 2 else (bare, ours)
            one, two = cpu_time(first), cpu_time(second)
            taken.append((one, two) if turn % 2 else (two, one))
        figures[name] = {
            "ours_ms": 1e3 * statistics.median(a for a, _ in taken),
            "bare_ms": 1e3 * statistics.median(b for _, b in taken),
            "overhead": statistics.median(a / b for a, b in taken),
        }
    return figures


def main(argv: list[str] | None = None) -> dict[str, Any]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    sys.path.insert(0, str(ROOT))
    if args.serve:
        print(json.dumps(measure(args.rows, args.rounds)))
        return {}
    from edgenet_node.kernels import bootstrap

    environ = dict(os.environ)
    bootstrap.apply(environ)  # in a child: the caller may have loaded numpy with other settings
    command = [sys.executable, __file__, "--serve", "--rows", str(args.rows), "--rounds", str(args.rounds)]
    done = subprocess.run(command, env=environ, check=True, stdout=subprocess.PIPE, text=True)
    figures: dict[str, Any] = json.loads(done.stdout)
    if args.json:
        print(json.dumps(figures))
        return figures
    print(f"{f'{args.rows} x {DIMENSIONS}, one thread':28}{'ours ms':>10}{'bare ms':>10}{'ours/bare':>11}")
    for name, row in figures.items():
        print(f"{name:28}{row['ours_ms']:10.3f}{row['bare_ms']:10.3f}{row['overhead']:11.2f}")
    return figures


if __name__ == "__main__":
    main()
