"""Table of the encoder's kernels."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from .. import reference, transformer
from .kernel import Arguments, Example, Kernel

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


def _small(rng: np.random.Generator) -> Arguments:
    """One layer and a vocabulary of ten, with the widths of the model: five words, and twice three."""

    def some(*shape: int) -> transformer.Array:
        return rng.standard_normal(shape, np.float32) * np.float32(0.05)

    width, hidden = transformer.WIDTH, transformer.HIDDEN
    layer = transformer.LayerWeights(
        query_value=some(width, 2 * width),
        query_bias=some(width),
        key=some(width, width),
        mix=some(width, width),
        mix_bias=some(width),
        mix_gain=some(width),
        mix_shift=some(width),
        expand=some(hidden, width),
        expand_bias=some(hidden),
        contract=some(hidden, width),
        contract_bias=some(width),
        contract_gain=some(width),
        contract_shift=some(width),
    )
    weights = transformer.EncoderWeights(some(10, width), some(8, width), 20 * some(width), some(width), (layer,))
    groups = [transformer.Group(0, 1, 5), transformer.Group(5, 2, 3)]
    return (weights, rng.integers(0, 10, 11, np.int32), groups, transformer.Workspace()), {}


EXAMPLES: Mapping[str, Example] = {"encoder.minilm_l6/1": _small}
