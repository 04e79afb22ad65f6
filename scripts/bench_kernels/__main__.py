#!/usr/bin/env python3
"""Every kernel: numpy, numba and torch with one thread, interleaved in rounds, against this machine's limits.

    python scripts/bench_kernels [--family NAME ...] [--quick] [--rounds N] [--peer-python PYTHON] [--json]

Figures are medians of CPU time in microseconds. The limit comes from rates measured at the start of the same run. A
row is marked `!` where our best time divided by torch's (by the limit where there is no torch variant) is over 1.2
times what was reached when the kernel was designed, and `x` where a variant raised. torch is taken from this
interpreter, or from `--peer-python` (EDGENET_BENCH_PYTHON), which must have numpy and msgspec too.
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
if not __package__:  # started as a folder, where the family `statistics` would hide Python's own module
    sys.path[0] = str(ROOT / "scripts")
    __package__ = "bench_kernels"
sys.path.insert(1, str(ROOT))

import argparse
import contextlib
import json
import os
import statistics
import subprocess
from collections.abc import Iterator
from typing import Any

from .serve import serve

TOLERATED = 1.2
OWN_BENCH = frozenset({"encoder", "search"})  # scripts/bench encoder, scripts/bench search
NO_FAMILY = frozenset({"__init__", "__main__", "case", "serve"})


class Child:
    """A process that times on request."""

    def __init__(self, python: str) -> None:
        from edgenet_node.kernels import bootstrap

        environ = dict(os.environ)
        bootstrap.apply(environ)
        command = [python, str(Path(__file__).parent), "--serve"]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environ, stderr=subprocess.DEVNULL
        )

    def ask(self, what: str, **fields: Any) -> dict[str, Any]:
        """The reply; `{"failed": ...}` where the process is gone."""
        try:
            self.process.stdin.write(json.dumps({"do": what, **fields}) + "\n")
            self.process.stdin.flush()
            line = self.process.stdout.readline()
        except OSError:
            line = ""
        reply: dict[str, Any] = json.loads(line) if line else {"failed": "the process ended"}
        return reply

    def close(self) -> None:
        with contextlib.suppress(OSError):  # it may be gone already
            self.process.stdin.close()
        self.process.wait(timeout=60)


class Bench:
    """One run. `missing` has a line for everything that could not be measured."""

    def __init__(self, rounds: int, least_s: float, peer_python: str) -> None:
        self._rounds = rounds
        self._least_s = least_s
        self._ours = Child(sys.executable)
        self._peer = Child(peer_python) if peer_python else None
        self.missing: list[str] = []
        self.roofline = self._ours.ask("roofline", rounds=rounds)

    def family(self, name: str) -> Iterator[dict[str, Any]]:
        """The rows of one family, each as soon as it is measured."""
        reply = self._ours.ask("cases", family=name)
        if "cases" not in reply:
            self._lacks(f"{name}: {why(reply)}")
            return
        for number, case in enumerate(reply["cases"]):
            variants = case.pop("variants")
            yield case | self._measure({"family": name, "case": number}, variants, case)

    def _measure(self, where: dict[str, Any], variants: list[str], case: dict[str, Any]) -> dict[str, Any]:
        children: dict[str, Child] = {}
        broken = {}
        for variant in variants:
            reply = self._open(where, variant, children)
            if "absent" in reply:
                self._lacks(f"{variant} variants: {why(reply)}")
            elif "failed" in reply:
                broken[variant] = reply["failed"]
        taken: dict[str, list[float]] = {variant: [] for variant in children}
        for turn in range(self._rounds):
            for variant in list(children)[:: 1 if turn % 2 else -1]:
                taken[variant].append(children[variant].ask("time", variant=variant)["us"])
        for child in set(children.values()):
            child.ask("close")
        medians = {variant: statistics.median(values) for variant, values in taken.items()}
        figures = {f"{name}_us": medians.get(name) for name in ("numpy", "fast", "torch")}
        return figures | judge(case, medians, "torch" in variants) | {"broken": broken}

    def _open(self, where: dict[str, Any], variant: str, children: dict[str, Child]) -> dict[str, Any]:
        """Build a variant here, or torch's in the other interpreter; the child that did is put into `children`."""
        reply: dict[str, Any] = {}
        for child in (self._ours, self._peer if variant == "torch" else None):
            if child is not None and "calls" not in reply:
                reply = child.ask("open", variant=variant, least_s=self._least_s, **where)
                if "calls" in reply:
                    children[variant] = child
        return reply

    def _lacks(self, line: str) -> None:
        if line not in self.missing:
            self.missing.append(line)

    def close(self) -> None:
        for child in (self._ours, self._peer):
            if child is not None:
                child.close()


def judge(case: dict[str, Any], medians: dict[str, float], has_torch: bool) -> dict[str, Any]:
    """Our best against torch, or against the limit where the case has no torch variant."""
    ours = [medians[name] for name in ("numpy", "fast") if name in medians]
    against = medians.get("torch") if has_torch else case["limit_us"]
    ratio = min(ours) / against if ours and against else None
    asked = case["asked_ratio"]
    return {"ratio": ratio, "slow": ratio is not None and asked is not None and ratio > TOLERATED * asked}


def why(reply: dict[str, Any]) -> str:
    return f"no {reply['absent']}" if "absent" in reply else str(reply["failed"])


def families() -> list[str]:
    """Those of the registry and those that have a file here; without the ones with a bench of their own."""
    registry = {path.stem for path in (ROOT / "edgenet_node/kernels/registry").glob("*.py")} - {
        "__init__",
        "kernel",
        "examples",
    }
    here = {path.stem for path in Path(__file__).parent.glob("*.py")}
    return sorted((registry | here) - OWN_BENCH - NO_FAMILY)


def show(row: dict[str, Any]) -> None:
    cells = [row[name] for name in ("numpy_us", "fast_us", "torch_us", "limit_us", "ratio", "asked_ratio")]
    figures = "".join(f"{'-':>9}" if cell is None else f"{cell:9.{3 if cell < 100 else 6}g}" for cell in cells)
    mark = "x" if row["broken"] else "!" if row["slow"] else " "
    print(f"{mark} {row['kernel']:37}{row['size']:45}{figures}  {row['seed_target']}", flush=True)
    for variant, error in row["broken"].items():
        print(f"    {variant}: {error}")


def heading(roofline: dict[str, float]) -> None:
    print(
        f"one core: sgemm {roofline['gflops']:.0f} GFLOP/s, copy {roofline['copy_gbs']:.1f} GB/s, "
        f"read {roofline['read_gbs']:.1f} GB/s, exp {roofline['exp_gs']:.2f} G/s"
    )
    columns = ("numpy_us", "fast_us", "torch_us", "limit_us", "ratio", "asked")
    print(f"  {'kernel':37}{'size':45}{''.join(f'{name:>9}' for name in columns)}  seed_target")


def main(argv: list[str] | None = None) -> dict[str, Any]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--family", action="append", metavar="NAME", help=f"of {', '.join(families())}")
    parser.add_argument("--quick", action="store_true", help="3 rounds of 2 ms")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--peer-python", default=os.environ.get("EDGENET_BENCH_PYTHON", ""), metavar="PYTHON")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.serve:
        serve()
        return {}
    rounds, least_s = (3, 0.002) if args.quick else (args.rounds, 0.01)
    bench = Bench(rounds, least_s, args.peer_python)
    if "gflops" not in bench.roofline:
        raise SystemExit(f"the bench does not start: {why(bench.roofline)}")
    if not args.json:
        heading(bench.roofline)
    rows = []
    for family in args.family or families():
        for row in bench.family(family):
            rows.append(row)
            if not args.json:
                show(row)
    bench.close()
    figures = {"roofline": bench.roofline, "rows": rows, "missing": bench.missing}
    if args.json:
        print(json.dumps(figures))
    else:
        print("\n".join(["", *bench.missing, "! over 1.2 times the ratio asked; x a variant raised"]))
    return figures


if __name__ == "__main__":
    main()
