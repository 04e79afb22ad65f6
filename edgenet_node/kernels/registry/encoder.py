"""Table of the encoder's kernels."""

from __future__ import annotations

from collections.abc import Mapping

from .. import reference, transformer
from .kernel import Kernel

TABLE: Mapping[str, Kernel] = {
    "encoder.minilm_l6/1": Kernel(
        function=transformer.forward,
        reference=reference.encode,
        shapes="ids (t,) int32, groups -> (n, 384)",
        dtype="float32",
        test="tests/kernels/test_encoder.py",
        benchmark="scripts/bench_encoder.py",
        compiled="encoder:forward",
    ),
}
