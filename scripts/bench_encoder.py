#!/usr/bin/env python3
"""The encoder against torch sentence-transformers and onnxruntime: same weights, same texts, one thread each.

    python scripts/bench_encoder.py [--peer-python PYTHON] [--core-type NAME] [--rounds N] [--json]

Each side is a process of its own that encodes the same batch on request and answers with its CPU seconds: ours with
numpy, ours with the extra `[fast]`, and the peers. Order alternates from round to round; figures are medians, a ratio
is the median of the rounds' ratios, above 1 where we are quicker. `--peer-python` is an interpreter that has
sentence-transformers, or onnx and onnxruntime, or numba, or all (this one by default); what it lacks is said in a line.
Our sides run with the OpenBLAS core type that a node chooses itself, whatever the environment says, unless
`--core-type` names one.
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
OURS, PEERS = ("ours", "fast"), ("torch", "onnx")
SHORT_TEXT = "How did we fix the leak?"


def prose(rng: random.Random, count: int, low: int, high: int) -> list[str]:
    """`count` runs of words from the language's own documentation: real English, on every machine."""
    from pydoc_data.topics import topics

    text = " ".join(topics[name] for name in sorted(topics))
    words = re.findall(r"(?<![^\s])[A-Za-z]{1,14}[.,;:]?(?![^\s])", text)
    starts = [rng.randrange(len(words) - high) for _ in range(count)]
    return [" ".join(words[start : start + rng.randint(low, high)]) for start in starts]


def our_side(choice: str) -> Callable[[list[str]], Any]:
    sys.path.insert(0, str(ROOT))
    from edgenet_node.kernels import bootstrap

    bootstrap.apply()
    from edgenet_node.kernels.backends import Backends
    from edgenet_node.kernels.encoder import Encoder
    from edgenet_node.kernels.transformer import Workspace

    forward = Backends("fast" if choice == "fast" else "numpy").function("encoder.minilm_l6/1")
    with tempfile.TemporaryDirectory() as folder:
        encoder = Encoder.open(Path(folder), None, forward)
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
    if side == "torch":
        encode = peer_side(model_folder)
    elif side == "onnx":
        from bench_encoder_onnx import encoder

        encode = encoder(Path(model_folder))
    else:
        encode = our_side(side)
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

    def __init__(self, python: str, side: str, model_folder: str, core_type: str = "") -> None:
        environ = os.environ | {"TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
        environ.pop("OPENBLAS_CORETYPE", None)
        if core_type:
            environ["OPENBLAS_CORETYPE"] = core_type
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


def measure(sides: dict[str, Side], texts: list[str], rounds: int) -> dict[str, float]:
    """Texts per CPU second of each side; of ours to each peer, the ratio and the largest difference of a component."""
    times: dict[str, list[float]] = {name: [] for name in sides}
    vectors = {name: side.encode(texts)[1] for name, side in sides.items()}  # warms up, and is compared
    for turn in range(rounds):
        for name in list(sides)[:: 1 if turn % 2 else -1]:
            times[name].append(sides[name].encode(texts)[0])
    row = {f"{name}_per_s": len(texts) / statistics.median(taken) for name, taken in times.items()}
    for mine, peer in ((mine, peer) for mine in OURS for peer in PEERS if {mine, peer} <= set(sides)):
        row[f"{mine}_to_{peer}"] = statistics.median(b / a for a, b in zip(times[mine], times[peer], strict=True))
        row[f"{mine}_{peer}_difference"] = largest_difference(vectors[mine], vectors[peer])
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
    parser.add_argument("--core-type", default="", metavar="NAME", help="OPENBLAS_CORETYPE of our sides")
    parser.add_argument("--quick", action="store_true", help="3 rounds")
    parser.add_argument("--serve", choices=[*OURS, *PEERS], help=argparse.SUPPRESS)
    parser.add_argument("--model-folder", default="", help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.serve:
        serve(args.serve, args.model_folder)
        return {}
    folder, rounds = model_folder(), 3 if args.quick else args.rounds
    sides = {"ours": Side(sys.executable, "ours", folder, args.core_type)}
    if not sides["ours"].alive:
        raise SystemExit(f"our encoder does not start: {sides['ours'].why}")
    sides["fast"] = Side(args.peer_python, "fast", folder, args.core_type)
    sides |= {name: Side(args.peer_python, name, folder) for name in PEERS}
    figures: dict[str, Any] = {"openblas_core": sides["ours"].core}
    figures["missing"] = {name: side.why for name, side in sides.items() if not side.alive}
    sides = {name: side for name, side in sides.items() if side.alive}
    rng = random.Random(20)
    for name, (low, high) in WORKLOADS.items():
        figures[name] = measure(sides, prose(rng, BATCH, low, high), rounds)
    figures["one_short_text"] = measure(sides, [SHORT_TEXT], 5 * rounds)
    for side in sides.values():
        side.close()
    if args.json:
        print(json.dumps(figures))
    else:
        show(figures)
    return figures


def show(figures: dict[str, Any]) -> None:
    for name, why in figures["missing"].items():
        print(f"{name} not measured: {why}")
    print(f"OpenBLAS core: {figures['openblas_core']} (--core-type chooses another)")
    sides = [*OURS, *PEERS]
    pairs = [f"{mine}_to_{peer}" for peer in PEERS for mine in OURS]
    print(f"{'encoder, texts per CPU second':30}{''.join(f'{name:>8}' for name in sides)}  ratios")
    for name in KERNEL_ROWS["encoder.minilm_l6/1"]:
        row = figures[name]
        cells = "".join(f"{row[f'{side}_per_s']:8.1f}" if f"{side}_per_s" in row else f"{'-':>8}" for side in sides)
        ratios = ", ".join(f"{pair.replace('_to_', '/')} {row[pair]:.2f}" for pair in pairs if pair in row)
        differences = [value for key, value in row.items() if key.endswith("_difference")]
        print(f"{name:30}{cells}  {ratios}{f', differ by {max(differences):.0e}' if differences else ''}")


if __name__ == "__main__":
    main()
