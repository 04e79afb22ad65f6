"""all-MiniLM-L6-v2 as an ONNX graph, made from the published weights, and run by onnxruntime with one thread.

The graph is what an exporter and onnxruntime's own transformer optimiser arrive at: fused attention, GELU with bias and
layer norms with the residual (operators of `com.microsoft`), mean pooling and normalisation at the end. For
`bench_encoder.py`; needs numpy, onnx, onnxruntime, safetensors and tokenizers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

HEADS, LAYERS, WIDTH = 12, 6, 384
TOKENS_MAX = 256
BATCH_TEXTS = 4  # of like length: what is quickest for it at 120 words, and as quick as 8 below


def graph(weights: Path) -> bytes:
    """The model: ids and mask (n, t) int32 to vectors (n, 384)."""
    import numpy as np
    import onnx
    from onnx import TensorProto, helper, numpy_helper
    from safetensors.numpy import load_file

    tensors = load_file(weights)
    nodes: list[Any] = []
    constants: dict[str, Any] = {}

    def constant(name: str, value: Any) -> str:
        constants[name] = numpy_helper.from_array(np.ascontiguousarray(value), name)
        return name

    def tensor(name: str) -> Any:
        return tensors[name].astype(np.float32)

    def node(kind: str, inputs: Sequence[str], output: str, domain: str = "", **attributes: Any) -> str:
        nodes.append(helper.make_node(kind, list(inputs), [output], domain=domain, **attributes))
        return output

    def linear(x: str, at: str) -> str:
        return node("MatMul", [x, constant(at + ".w", tensor(at + ".weight").T)], at + ".product")

    def norm(x: str, y: str, bias: str, at: str) -> str:
        gain, shift = constant(at + ".gain", tensor(at + ".weight")), constant(at + ".shift", tensor(at + ".bias"))
        inputs = [x, y, gain, shift, constant(at + ".bias_before", tensor(bias))]
        return node("SkipLayerNormalization", inputs, at, "com.microsoft", epsilon=1e-12)

    words = node("Gather", [constant("words", tensor("embeddings.word_embeddings.weight")), "ids"], "looked_up")
    kinds = tensor("embeddings.token_type_embeddings.weight")[0]
    positions = constant("positions", tensor("embeddings.position_embeddings.weight")[:TOKENS_MAX] + kinds)
    length = node("Slice", [node("Shape", ["ids"], "shape"), *_ints(constant, "one", 1, "two", 2)], "length")
    some = node("Slice", [positions, constant("zero", np.array([0])), length], "some_positions")
    at = "embeddings.LayerNorm"
    gain, shift = constant(at + ".gain", tensor(at + ".weight")), constant(at + ".shift", tensor(at + ".bias"))
    added = node("Add", [words, some], "embedded")
    x = node("LayerNormalization", [added, gain, shift], at, epsilon=1e-12, axis=-1)
    for number in range(LAYERS):
        at = f"encoder.layer.{number}."
        parts = [linear(x, at + f"attention.self.{name}") for name in ("query", "key", "value")]
        biases = np.concatenate([tensor(at + f"attention.self.{name}.bias") for name in ("query", "key", "value")])
        inputs = [*parts, constant(at + "biases", biases), "mask"]
        mixed = node("MultiHeadAttention", inputs, at + "mixed", "com.microsoft", num_heads=HEADS)
        out = at + "attention.output."
        x = norm(x, linear(mixed, out + "dense"), out + "dense.bias", out + "LayerNorm")
        wide = at + "intermediate.dense"
        bias = constant(wide + ".b", tensor(wide + ".bias"))
        hidden = node("BiasGelu", [linear(x, wide), bias], at + "hidden", "com.microsoft")
        out = at + "output."
        x = norm(x, linear(hidden, out + "dense"), out + "dense.bias", out + "LayerNorm")
    weighted = node("Cast", ["mask"], "mask_float", to=TensorProto.FLOAT)
    column = node("Unsqueeze", [weighted, constant("last", np.array([2]))], "mask_column")
    kept = node("Mul", [x, column], "kept")
    total = node("ReduceSum", [kept, constant("over_tokens", np.array([1]))], "total", keepdims=0)
    # The mean's divisor drops out when vectors are brought to unit length.
    node("LpNormalization", [total], "vectors", axis=-1, p=2)
    made = helper.make_graph(
        nodes,
        "all-MiniLM-L6-v2",
        [helper.make_tensor_value_info(name, TensorProto.INT32, ["n", "t"]) for name in ("ids", "mask")],
        [helper.make_tensor_value_info("vectors", TensorProto.FLOAT, ["n", WIDTH])],
        list(constants.values()),
    )
    versions = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(made, opset_imports=versions, ir_version=8)
    data: bytes = onnx.ModelProto.SerializeToString(model)
    return data


def _ints(constant: Callable[[str, Any], str], *pairs: Any) -> list[str]:
    import numpy as np

    return [constant(name, np.array([value])) for name, value in zip(pairs[::2], pairs[1::2], strict=True)]


def encoder(folder: Path) -> Callable[[list[str]], Any]:
    """Texts to vectors in their order, from `model.safetensors` and `tokenizer.json` in `folder`."""
    import numpy as np
    import onnxruntime
    from tokenizers import Tokenizer

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    session = onnxruntime.InferenceSession(
        graph(folder / "model.safetensors"), options, providers=["CPUExecutionProvider"]
    )
    pieces = Tokenizer.from_file(str(folder / "tokenizer.json"))
    pieces.no_padding()
    pieces.enable_truncation(TOKENS_MAX)

    def encode(texts: list[str]) -> Any:
        ids = [one.ids for one in pieces.encode_batch(texts)]
        order = sorted(range(len(ids)), key=lambda i: len(ids[i]))
        out = np.empty((len(ids), WIDTH), np.float32)
        for first in range(0, len(order), BATCH_TEXTS):
            batch = order[first : first + BATCH_TEXTS]
            longest = len(ids[batch[-1]])
            padded, mask = np.zeros((2, len(batch), longest), np.int32)
            for row, i in enumerate(batch):
                padded[row, : len(ids[i])] = ids[i]
                mask[row, : len(ids[i])] = 1
            out[batch] = session.run(None, {"ids": padded, "mask": mask})[0]
        return out

    return encode
