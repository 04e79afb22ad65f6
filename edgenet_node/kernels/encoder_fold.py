"""From the published tensors of all-MiniLM-L6-v2 to the arrays that `transformer` reads: arrays in, arrays out.

Folding is done once, in float64: softmax's scale goes into the queries, the value bias through the output projection,
GELU's scales into the weights around it, the only token type into the positions. The key bias is dropped: it adds the
same number to all scores of a query.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from .tokenise import PIECES_MAX
from .transformer import GELU_SCALE_IN, GELU_SCALE_OUT, HEAD_DIM, HIDDEN, WIDTH, Array, EncoderWeights, LayerWeights

LAYERS = 6
VOCABULARY = 30_522
POSITIONS = 512  # of the published table; the model was trained on the first `PIECES_MAX`
Tensors = Mapping[str, npt.NDArray[np.float32]]


def published_shapes(vocabulary: int = VOCABULARY) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the published tensors that are read, torch layout: (out, in)."""
    shapes: dict[str, tuple[int, ...]] = {
        "embeddings.word_embeddings.weight": (vocabulary, WIDTH),
        "embeddings.position_embeddings.weight": (POSITIONS, WIDTH),
        "embeddings.token_type_embeddings.weight": (2, WIDTH),
        "embeddings.LayerNorm.weight": (WIDTH,),
        "embeddings.LayerNorm.bias": (WIDTH,),
    }
    for number in range(LAYERS):
        at = f"encoder.layer.{number}."
        for name, width in (
            ("attention.self.query", WIDTH),
            ("attention.self.key", WIDTH),
            ("attention.self.value", WIDTH),
            ("attention.output.dense", WIDTH),
            ("intermediate.dense", WIDTH),
            ("output.dense", HIDDEN),
        ):
            out = HIDDEN if name == "intermediate.dense" else WIDTH
            shapes |= {f"{at}{name}.weight": (out, width), f"{at}{name}.bias": (out,)}
        for name in ("attention.output.LayerNorm", "output.LayerNorm"):
            shapes |= {f"{at}{name}.weight": (WIDTH,), f"{at}{name}.bias": (WIDTH,)}
    return shapes


def _layer_shapes() -> dict[str, tuple[int, ...]]:
    vector = (WIDTH,)
    return {
        "query_value": (WIDTH, 2 * WIDTH),
        "query_bias": vector,
        "key": (WIDTH, WIDTH),
        "mix": (WIDTH, WIDTH),
        "mix_bias": vector,
        "mix_gain": vector,
        "mix_shift": vector,
        "expand": (HIDDEN, WIDTH),
        "expand_bias": (HIDDEN,),
        "contract": (HIDDEN, WIDTH),
        "contract_bias": vector,
        "contract_gain": vector,
        "contract_shift": vector,
    }


def prepared_shapes() -> dict[str, tuple[int, ...]]:
    """Names and shapes of the prepared arrays, in file order."""
    shapes: dict[str, tuple[int, ...]] = {
        "words": (VOCABULARY, WIDTH),
        "positions": (PIECES_MAX, WIDTH),
        "gain": (WIDTH,),
        "shift": (WIDTH,),
    }
    for layer in range(LAYERS):
        shapes |= {f"{layer}.{name}": shape for name, shape in _layer_shapes().items()}
    return shapes


def fold(tensors: Tensors) -> dict[str, Array]:
    """The prepared arrays, by the names of `prepared_shapes`, C-contiguous."""

    def get(name: str) -> npt.NDArray[np.float64]:
        return tensors[name].astype(np.float64)

    def norm(name: str) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        return get(name + ".LayerNorm.weight"), get(name + ".LayerNorm.bias")

    folded = {"words": get("embeddings.word_embeddings.weight")}
    kinds = get("embeddings.token_type_embeddings.weight")
    folded["positions"] = get("embeddings.position_embeddings.weight")[:PIECES_MAX] + kinds[0]
    folded["gain"], folded["shift"] = norm("embeddings")
    scale = 1.0 / math.sqrt(HEAD_DIM)
    for number in range(LAYERS):
        at, to = f"encoder.layer.{number}.", f"{number}."
        own = at + "attention.self."
        mix = get(at + "attention.output.dense.weight")
        folded[to + "query_value"] = np.hstack([get(own + "query.weight").T * scale, get(own + "value.weight").T])
        folded[to + "query_bias"] = get(own + "query.bias") * scale
        folded[to + "key"] = get(own + "key.weight")
        folded[to + "mix"] = mix.T
        folded[to + "mix_bias"] = get(at + "attention.output.dense.bias") + mix @ get(own + "value.bias")
        folded[to + "mix_gain"], folded[to + "mix_shift"] = norm(at + "attention.output")
        folded[to + "expand"] = get(at + "intermediate.dense.weight") * GELU_SCALE_IN
        folded[to + "expand_bias"] = get(at + "intermediate.dense.bias") * GELU_SCALE_IN
        folded[to + "contract"] = get(at + "output.dense.weight").T * GELU_SCALE_OUT
        folded[to + "contract_bias"] = get(at + "output.dense.bias")
        folded[to + "contract_gain"], folded[to + "contract_shift"] = norm(at + "output")
    return {name: np.ascontiguousarray(array, np.float32) for name, array in folded.items()}


def assemble(arrays: Mapping[str, Array]) -> EncoderWeights:
    """The prepared arrays as the structure that `transformer.forward` takes; copies nothing."""
    layers = tuple(
        LayerWeights(**{name: arrays[f"{number}.{name}"] for name in _layer_shapes()}) for number in range(LAYERS)
    )
    return EncoderWeights(
        words=arrays["words"],
        positions=arrays["positions"],
        gain=arrays["gain"],
        shift=arrays["shift"],
        layers=layers,
    )
