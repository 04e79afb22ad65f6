"""The child: builds the rows of one case and times them on request, one JSON line in, one out.

`{"do": "roofline", "rounds": n}` answers a `Roofline`. `{"do": "cases", "family": name}` answers its rows in words.
`{"do": "open", "family", "case", "variant", "least_s"}` builds and warms a variant and answers how many calls fill a
batch; `{"do": "time", ...}` answers CPU microseconds a call. `{"do": "close"}` forgets all that was built.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import statistics
import sys
import time
from typing import Any

from .case import Case, Roofline, Run

STREAM_FLOATS = 32 << 20  # 128 MiB: no cache holds it
CALLS_MAX = 1 << 20


def cpu_s(run: Run, calls: int) -> float:
    """CPU seconds of `calls` calls."""
    start = time.process_time()
    for _ in range(calls):
        run()
    return time.process_time() - start


def batch(run: Run, least_s: float) -> int:
    """How many calls take `least_s`, as a power of two: the clock's own cost then does not show."""
    calls = 1
    while calls < CALLS_MAX and cpu_s(run, calls) < least_s:
        calls *= 2
    return calls


def roofline(rounds: int) -> Roofline:
    """What one core reaches, each figure the median of `rounds`."""
    import numpy as np

    square = np.ones((1024, 1024), np.float32)
    product = np.empty_like(square)
    source, target = np.ones(STREAM_FLOATS, np.float32), np.zeros(STREAM_FLOATS, np.float32)
    small, powers = np.full(32_768, 0.5, np.float32), np.empty(32_768, np.float32)
    runs: dict[str, tuple[Run, float, int]] = {
        "gflops": (lambda: np.matmul(square, square, out=product), 2.0 * 1024**3, 1),
        "copy_gbs": (lambda: np.copyto(target, source), 2.0 * source.nbytes, 1),
        "read_gbs": (lambda: np.dot(source, source), float(source.nbytes), 1),
        "exp_gs": (lambda: np.exp(small, out=powers), float(small.size), 256),
    }
    taken: dict[str, list[float]] = {name: [] for name in runs}
    for run, _, _ in runs.values():
        run()
    for _ in range(rounds):
        for name, (run, amount, calls) in runs.items():
            taken[name].append(amount * calls / cpu_s(run, calls) / 1e9)
    return Roofline(**{name: statistics.median(values) for name, values in taken.items()})


class Server:
    """Holds what was built for the case being timed."""

    def __init__(self) -> None:
        self._runs: dict[str, Run] = {}
        self._calls: dict[str, int] = {}
        self._roofline: Roofline | None = None

    def answer(self, ask: dict[str, Any]) -> dict[str, Any]:
        match ask["do"]:
            case "roofline":
                self._roofline = roofline(ask["rounds"])
                return {name: getattr(self._roofline, name) for name in Roofline.__slots__}
            case "cases":
                return {"cases": [self._words(case) for case in cases(ask["family"])]}
            case "open":
                return self._open(ask)
            case "time":
                calls = self._calls[ask["variant"]]
                gc.disable()
                taken = cpu_s(self._runs[ask["variant"]], calls)
                gc.enable()
                return {"us": 1e6 * taken / calls}
            case "close":
                self._runs.clear()
                gc.collect()
                return {}
        raise ValueError(f"unknown request {ask['do']}")

    def _words(self, case: Case) -> dict[str, Any]:
        limit = case.limit_us
        if callable(limit):
            limit = None if self._roofline is None else limit(self._roofline)
        return {
            "kernel": case.kernel,
            "size": case.size,
            "variants": [name for name in ("numpy", "fast", "torch") if getattr(case, name) is not None],
            "limit_us": limit,
            "seed_target": case.seed_target,
            "asked_ratio": case.asked_ratio,
        }

    def _open(self, ask: dict[str, Any]) -> dict[str, Any]:
        variant: str = ask["variant"]
        if variant == "torch":
            import torch

            torch.set_num_threads(1)
        run: Run = getattr(cases(ask["family"])[ask["case"]], variant)()
        run()
        self._runs[variant] = run
        self._calls[variant] = batch(run, ask["least_s"])
        return {"calls": self._calls[variant]}


def cases(family: str) -> list[Case]:
    found: list[Case] = importlib.import_module(f"{__package__}.{family}").CASES
    return found


def serve() -> None:
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # libraries that print must not disturb the replies
    server = Server()
    for line in sys.stdin:
        try:
            reply = server.answer(json.loads(line))
        except ImportError as error:
            reply = {"absent": str(error.name or error)}
        except Exception as error:  # noqa: BLE001 - a broken row is a line of the report, not its end
            reply = {"failed": f"{type(error).__name__}: {error}"[:200]}
        print(json.dumps(reply), file=replies, flush=True)
