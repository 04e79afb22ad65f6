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
    kinds = tensors["embeddings.token_type_embeddings.weight"].astype(np.float64)
    positions = tensors["embeddings.position_embeddings.weight"][:PIECES_MAX] + kinds[0]
    folded: dict[str, Array] = {
        "words": np.ascontiguousarray(tensors["embeddings.word_embeddings.weight"], np.float32),
        "positions": positions.astype(np.float32),
        "gain": tensors["embeddings.LayerNorm.weight"],
        "shift": tensors["embeddings.LayerNorm.bias"],
    }
    for number in range(LAYERS):
        for name, array in _fold_layer(tensors, f"encoder.layer.{number}.").items():
            folded[f"{number}.{name}"] = np.ascontiguousarray(array, np.float32)
    return folded


def _fold_layer(tensors: Tensors, prefix: str) -> dict[str, npt.NDArray[np.float64]]:
    def get(name: str) -> npt.NDArray[np.float64]:
        return tensors[prefix + name].astype(np.float64)

    scale = 1.0 / math.sqrt(HEAD_DIM)
    mix = get("attention.output.dense.weight")
    return {
        "query_value": np.hstack([get("attention.self.query.weight").T * scale, get("attention.self.value.weight").T]),
        "query_bias": get("attention.self.query.bias") * scale,
        "key": get("attention.self.key.weight"),
        "mix": mix.T,
        "mix_bias": get("attention.output.dense.bias") + mix @ get("attention.self.value.bias"),
        "mix_gain": get("attention.output.LayerNorm.weight"),
        "mix_shift": get("attention.output.LayerNorm.bias"),
        "expand": get("intermediate.dense.weight") * GELU_SCALE_IN,
        "expand_bias": get("intermediate.dense.bias") * GELU_SCALE_IN,
        "contract": get("output.dense.weight").T * GELU_SCALE_OUT,
        "contract_bias": get("output.dense.bias"),
        "contract_gain": get("output.LayerNorm.weight"),
        "contract_shift": get("output.LayerNorm.bias"),
    }


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
