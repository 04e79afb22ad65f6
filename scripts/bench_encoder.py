#!/usr/bin/env python3
"""The encoder against torch sentence-transformers: same weights, same texts, one thread each, interleaved rounds.

    python scripts/bench_encoder.py [--peer-python PYTHON] [--rounds N] [--json]

Each side is a process of its own that encodes the same batch on request and answers with its CPU seconds. Order
alternates from round to round; figures are medians, the ratio is the median of the rounds' ratios. `--peer-python` is
an interpreter that has sentence-transformers (this one by default); without it our figures stand alone.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import random
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
BATCH = 32
# Workload to shortest and longest sentence in words; the rows that stand for each kernel id.
WORKLOADS = {"sentences_8_to_40_words": (8, 40), "sentences_of_120_words": (120, 120)}
KERNEL_ROWS = {"encoder.minilm_l6/1": (*WORKLOADS, "one_short_text")}
SHORT_TEXT = "How did we fix the leak?"


def prose(rng: random.Random, count: int, low: int, high: int) -> list[str]:
    """`count` runs of words from the language's own documentation: real English, on every machine."""
    from pydoc_data.topics import topics

    text = " ".join(topics[name] for name in sorted(topics))
    words = re.findall(r"(?<![^\s])[A-Za-z]{1,14}[.,;:]?(?![^\s])", text)
    starts = [rng.randrange(len(words) - high) for _ in range(count)]
    return [" ".join(words[start : start + rng.randint(low, high)]) for start in starts]


def our_side() -> Callable[[list[str]], Any]:
    sys.path.insert(0, str(ROOT))
    from edgenet_node.kernels import bootstrap

    bootstrap.apply()
    from edgenet_node.kernels.encoder import Encoder
    from edgenet_node.kernels.transformer import Workspace

    with tempfile.TemporaryDirectory() as folder:
        encoder = Encoder.open(Path(folder))
    workspace = Workspace()
    return lambda texts: encoder.encode(texts, workspace=workspace).vectors


def peer_side(model_folder: str) -> Callable[[list[str]], Any]:
    import torch
    from sentence_transformers import SentenceTransformer

    torch.set_num_threads(1)
    model = SentenceTransformer(model_folder, device="cpu")
    return lambda texts: model.encode(texts, batch_size=BATCH, show_progress_bar=False)


def serve(side: str, model_folder: str) -> None:
    """One JSON line in (texts), one out (CPU seconds, vectors)."""
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # libraries that print must not disturb the replies
    encode = our_side() if side == "ours" else peer_side(model_folder)
    print(json.dumps({"core": os.environ.get("OPENBLAS_CORETYPE", "its own choice")}), file=replies, flush=True)
    for line in sys.stdin:
        texts = json.loads(line)
        start = time.process_time()
        vectors = encode(texts)
        seconds = time.process_time() - start
        raw = base64.b64encode(vectors.astype("<f4").tobytes()).decode()
        print(json.dumps({"seconds": seconds, "vectors": raw}), file=replies, flush=True)


class Side:
    """A process that encodes on request. `alive` is False where it could not start; `why` says so."""

    def __init__(self, python: str, side: str, model_folder: str) -> None:
        environ = os.environ | {"TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
        command = [python, __file__, "--serve", side, "--model-folder", model_folder]
        self.errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 - lives as long as the process
        self.why = ""
        try:
            self.process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors, text=True, env=environ
            )
        except OSError as error:
            self.alive, self.why = False, str(error)
            return
        ready = self._line()
        self.alive = bool(ready)
        self.core = str(json.loads(ready)["core"]) if ready else ""
        if not self.alive:
            self.errors.seek(0)
            self.why = (self.errors.read().strip().splitlines() or ["no reply"])[-1]

    def _line(self) -> str:
        return self.process.stdout.readline()

    def encode(self, texts: list[str]) -> tuple[float, bytes]:
        self.process.stdin.write(json.dumps(texts) + "\n")
        self.process.stdin.flush()
        reply = json.loads(self._line())
        return float(reply["seconds"]), base64.b64decode(reply["vectors"])

    def close(self) -> None:
        if self.process.stdin is not None:
            self.process.stdin.close()
        self.process.wait(timeout=30)


def largest_difference(left: bytes, right: bytes) -> float:
    a, b = memoryview(left).cast("f"), memoryview(right).cast("f")
    return max(abs(x - y) for x, y in zip(a, b, strict=True))


def measure(ours: Side, peer: Side | None, texts: list[str], rounds: int) -> dict[str, float]:
    """Texts per CPU second of each side, their ratio, the largest difference of any vector component."""
    sides = [ours] if peer is None else [ours, peer]
    times: dict[Side, list[float]] = {side: [] for side in sides}
    vectors = {side: side.encode(texts)[1] for side in sides}  # warms up, and is compared
    for turn in range(rounds):
        for side in sides if turn % 2 else sides[::-1]:
            times[side].append(side.encode(texts)[0])
    row = {"ours_per_s": len(texts) / statistics.median(times[ours])}
    if peer is not None:
        row["peer_per_s"] = len(texts) / statistics.median(times[peer])
        row["ratio"] = statistics.median(b / a for a, b in zip(times[ours], times[peer], strict=True))
        row["largest_difference"] = largest_difference(vectors[ours], vectors[peer])
    return row


def model_folder() -> str:
    sys.path.insert(0, str(ROOT))
    from edgenet_node.kernels import encoder_weights

    return str(encoder_weights.locate().weights.parent)


def main(argv: list[str] | None = None) -> dict[str, Any]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer-python", default=sys.executable, metavar="PYTHON")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--serve", choices=["ours", "peer"], help=argparse.SUPPRESS)
    parser.add_argument("--model-folder", default="", help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.serve:
        serve(args.serve, args.model_folder)
        return {}
    folder = model_folder()
    ours, peer = Side(sys.executable, "ours", folder), Side(args.peer_python, "peer", folder)
    if not ours.alive:
        raise SystemExit(f"our encoder does not start: {ours.why}")
    rng = random.Random(20)
    figures: dict[str, Any] = {"openblas_core": ours.core}
    if not peer.alive:
        figures["peer_missing"] = f"sentence-transformers: {peer.why}"
    for name, (low, high) in WORKLOADS.items():
        figures[name] = measure(ours, peer if peer.alive else None, prose(rng, BATCH, low, high), args.rounds)
    figures["one_short_text"] = measure(ours, peer if peer.alive else None, [SHORT_TEXT], 5 * args.rounds)
    for side in (ours, peer):
        if side.alive:
            side.close()
    if args.json:
        print(json.dumps(figures))
    else:
        show(figures)
    return figures


def show(figures: dict[str, Any]) -> None:
    if "peer_missing" in figures:
        print(f"peer not measured: {figures['peer_missing']}")
    print(f"OpenBLAS core: {figures['openblas_core']} (set OPENBLAS_CORETYPE to choose another)")
    print(f"{'encoder, one thread each':28}{'ours/s':>9}{'torch/s':>9}{'ratio':>7}{'max diff':>10}")
    for name in KERNEL_ROWS["encoder.minilm_l6/1"]:
        row = figures[name]
        cells = [f"{row['ours_per_s']:9.1f}"]
        if "ratio" in row:
            cells += [f"{row['peer_per_s']:9.1f}", f"{row['ratio']:7.2f}", f"{row['largest_difference']:10.1e}"]
        print(f"{name:28}{''.join(cells)}")


if __name__ == "__main__":
    main()
