"""The layers of a BERT encoder over packed tokens, in place, in blocks that stay in the second-level cache.

Sequences lie one after another in a (tokens, 384) matrix without padding, so every linear layer is one product over
all tokens; only attention looks at sequences. What makes it fast on numpy, with OpenBLAS on one thread:

- orientation: each product writes its result in the layout that the next one reads as a plain row-major operand
  (`X W`, never `X W^T` with short rows): keys and hidden units feature-major, everything else token-major;
- steps that vanish: the key bias shifts all scores of a query alike and drops out of softmax; the value bias passes
  through it unchanged and is folded into the output bias; 1/sqrt(d) sits in the query weights; GELU's input and output
  scales sit in the weights around it;
- softmax is normalised after the value product, (L, 32) values in place of (L, L), and subtracts no maximum unless the
  sums say that it must;
- element-wise steps reuse one small workspace: fresh large arrays page-fault.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt
from msgspec import Struct

Array = npt.NDArray[np.float32]

HEADS = 12
HEAD_DIM = 32
WIDTH = HEADS * HEAD_DIM
HIDDEN = 4 * WIDTH
LAYER_NORM_EPS = np.float32(1e-12)
GELU_BLOCK = 32 * HIDDEN  # elements per step: three buffers of 192 KiB stay in a 1 MiB second-level cache

# gelu(x) = x/2 (1 + erf(x/sqrt 2)) and erf(x/sqrt 2) = tanh(x P(x^2)). P is the minimax polynomial of degree 6 for the
# error of gelu on |x| <= 5.6, where float32 erf has become 1. With x = GELU_SCALE_IN^-1 u its leading coefficient is 1.
GELU_COEFFICIENTS = (
    3.7541251561348687,
    3.7846289178805783,
    -0.07640220133452803,
    -2.8198867112872237,
    4.485434499667807,
    -3.3384955147449236,
)
GELU_SCALE_IN = 0.21253532539124526
GELU_SCALE_OUT = 0.5 / GELU_SCALE_IN
SCORES_BLOCK = 64 * 1024  # attention scores per step, 256 KiB: holds one head of the longest sequence, 256 by 256
TOKENS_BLOCK = 1024  # rows per feed-forward block, 6 MiB of hidden units: each product packs its weights once for them
TILES = (128, 64, 32)  # outputs per product for a few rows: OpenBLAS's AVX-512 kernels for small products copy nothing,
TILE_PRODUCT_MAX = 1_000_000  # but take only products of at most this many multiplications,
ROWS_FEW = 16  # and win only while a whole product would mostly copy weights: 2x at 9 rows, 1x at 16
SUMS_MIN, SUMS_MAX = 1e-30, 1e30  # outside of these, exp without the row maximum may have lost digits: subtract it


class LayerWeights(Struct, frozen=True, eq=False):
    """One encoder layer, folded and laid out as the products below read it; `(in, out)` unless it says otherwise."""

    query_value: Array  # (384, 768): queries times 1/sqrt(32), then values
    query_bias: Array  # (384,), scaled alike
    key: Array  # (384, 384), (out, in); has no bias
    mix: Array  # (384, 384), attention output
    mix_bias: Array  # (384,), holds the value bias too
    mix_gain: Array  # (384,), the layer norm after attention
    mix_shift: Array  # (384,)
    expand: Array  # (1536, 384), (out, in), times GELU_SCALE_IN
    expand_bias: Array  # (1536,), scaled alike
    contract: Array  # (1536, 384), times GELU_SCALE_OUT
    contract_bias: Array  # (384,)
    contract_gain: Array  # (384,), the layer norm after the feed-forward
    contract_shift: Array  # (384,)


class EncoderWeights(Struct, frozen=True, eq=False):
    """Embedding tables and layers. `positions` holds the type-0 token type embedding too; its length is the limit."""

    words: Array  # (vocabulary, 384)
    positions: Array  # (256, 384)
    gain: Array  # (384,), the layer norm after the embeddings
    shift: Array  # (384,)
    layers: tuple[LayerWeights, ...]


class Group(Struct, frozen=True):
    """`count` sequences of `length` tokens each, one after another from row `start`."""

    start: int
    count: int
    length: int


class Workspace:
    """Scratch memory of one caller: grows to the largest chunk seen and is reused. Not to be shared between threads."""

    def __init__(self) -> None:
        self._tokens = 0
        self.scores = np.empty(SCORES_BLOCK, np.float32)
        self.gelu = np.empty((2, GELU_BLOCK), np.float32)
        self.mean = np.full(WIDTH, 1.0 / WIDTH, np.float32)
        self.ones = np.ones(SCORES_BLOCK, np.float32)
        self.reserve(64)

    def reserve(self, tokens: int) -> None:
        """Make room for chunks of `tokens` rows."""
        if tokens <= self._tokens:
            return
        self._tokens = tokens
        block = min(tokens, TOKENS_BLOCK)
        self.x = np.empty((tokens, WIDTH), np.float32)
        self.query_value = np.empty((tokens, 2 * WIDTH), np.float32)
        self.key = np.empty(WIDTH * tokens, np.float32)
        self.context = np.empty((tokens, WIDTH), np.float32)
        self.sums = np.empty(tokens * HEADS, np.float32)
        self.hidden = np.empty(HIDDEN * block, np.float32)
        self.y = np.empty((block, WIDTH), np.float32)
        self.row = np.empty((2, tokens), np.float32)


def gelu_scaled(u: Array, scratch: Array) -> None:
    """`u (1 + tanh(u P(u^2)))` in place on a contiguous array: gelu(x) / GELU_SCALE_OUT for u = GELU_SCALE_IN x.
    `scratch` (2, b): elements are taken b at a time.

    Within 2e-7 of gelu(x) relative to max(1, |x|), for every finite float32 (a large u^2 overflows to an infinity
    whose tanh is exact). Source: minimax fit of atanh(erf(x/sqrt 2))/x, weighted by the error of gelu.
    """
    flat = u.reshape(-1)
    block = scratch.shape[1]
    for start in range(0, flat.size, block):
        v = flat[start : start + block]
        t, p = scratch[:, : v.size]
        np.multiply(v, v, out=t)
        np.add(t, GELU_COEFFICIENTS[-1], out=p)
        for coefficient in GELU_COEFFICIENTS[-2::-1]:
            np.multiply(p, t, out=p)
            np.add(p, coefficient, out=p)
        np.multiply(p, v, out=p)
        np.tanh(p, out=p)
        np.add(p, 1.0, out=p)
        np.multiply(p, v, out=v)


def layer_norm(x: Array, gain: Array, shift: Array, workspace: Workspace) -> None:
    """`(x - mean) / sqrt(var + 1e-12) * gain + shift` over the last axis of x (n, 384), in place (Ba et al. 2016)."""
    mean, scale = workspace.row[:, : x.shape[0]]
    np.matmul(x, workspace.mean, out=mean)
    np.subtract(x, mean[:, None], out=x)
    np.vecdot(x, x, out=scale)
    np.multiply(scale, 1.0 / WIDTH, out=scale)
    np.add(scale, LAYER_NORM_EPS, out=scale)
    np.sqrt(scale, out=scale)
    np.reciprocal(scale, out=scale)
    np.multiply(x, scale[:, None], out=x)
    np.multiply(x, gain, out=x)
    np.add(x, shift, out=x)


def residual_norm(x: Array, y: Array, bias: Array, gain: Array, shift: Array, workspace: Workspace) -> None:
    """`x = layer_norm(x + y + bias)` for x, y (n, 384), bias, gain and shift (384,); y is scratch afterwards."""
    np.add(y, bias, out=y)
    np.add(x, y, out=x)
    layer_norm(x, gain, shift, workspace)


def bias_gelu(hidden: Array, bias: Array, workspace: Workspace) -> None:
    """`gelu_scaled(hidden + bias)` in place for hidden (1536, n), contiguous, bias (1536,)."""
    np.add(hidden, bias[:, None], out=hidden)
    gelu_scaled(hidden, workspace.gelu)


class Steps(Struct, frozen=True):
    """The element-wise steps of a layer, which `kernels.compiled.encoder` replaces."""

    residual_norm: Callable[[Array, Array, Array, Array, Array, Workspace], None] = residual_norm
    bias_gelu: Callable[[Array, Array, Workspace], None] = bias_gelu


def _tile(rows: int, depth: int) -> int:
    """How many outputs to compute at once for `rows` input rows of `depth`; 0: all of them."""
    return next((tile for tile in TILES if rows <= ROWS_FEW and rows * depth * tile <= TILE_PRODUCT_MAX), 0)


def product(x: Array, weights: Array, out: Array) -> None:
    """`out = x W`: x (n, in), W (in, m), out (n, m), all row-major."""
    depth, width = weights.shape
    if tile := _tile(x.shape[0], depth):
        weights = weights.reshape(depth, width // tile, tile).transpose(1, 0, 2)
        out = out.reshape(x.shape[0], width // tile, tile).transpose(1, 0, 2)
    np.matmul(x, weights, out=out)


def product_transposed(weights: Array, x: Array, out: Array) -> None:
    """`out = W x^T`: W (m, in), x (n, in), out (m, n), all row-major."""
    width, depth = weights.shape
    if tile := _tile(x.shape[0], depth):
        weights = weights.reshape(width // tile, tile, depth)
        out = out.reshape(width // tile, tile, x.shape[0])
    np.matmul(weights, x.T, out=out)


class _Step(Struct, frozen=True, eq=False):
    """Views for one attention step over (sequences, heads, ...), all into one workspace."""

    query: Array  # (s, h, L, 32)
    key: Array  # (s, h, 32, L)
    value: Array  # (s, h, L, 32)
    context: Array  # (s, h, L, 32)
    scores: Array  # (s, h, L, L)
    rows: Array  # (s h L, L), the same memory
    sums: Array  # (s h L,)
    ones: Array  # (L,)


def _attention_steps(groups: Sequence[Group], tokens: int, workspace: Workspace) -> list[_Step]:
    query_value = workspace.query_value[:tokens].reshape(tokens, 2, HEADS, HEAD_DIM)
    key = workspace.key[: WIDTH * tokens].reshape(HEADS, HEAD_DIM, tokens)
    context = workspace.context[:tokens].reshape(tokens, HEADS, HEAD_DIM)
    steps = []
    done = 0
    for group in groups:
        length = group.length
        heads = min(HEADS, max(1, SCORES_BLOCK // length**2))
        sequences = max(1, SCORES_BLOCK // (HEADS * length**2)) if heads == HEADS else 1
        for first in range(0, group.count, sequences):
            count = min(sequences, group.count - first)
            start = group.start + first * length
            rows = slice(start, start + count * length)
            for head in range(0, HEADS, heads):
                some = slice(head, min(head + heads, HEADS))
                shape = (count, length, some.stop - head, HEAD_DIM)
                size = count * shape[2] * length
                scores = workspace.scores[: size * length]
                steps.append(
                    _Step(
                        query=query_value[rows, 0, some].reshape(shape).transpose(0, 2, 1, 3),
                        value=query_value[rows, 1, some].reshape(shape).transpose(0, 2, 1, 3),
                        key=key[some, :, rows].reshape(shape[2], HEAD_DIM, count, length).transpose(2, 0, 1, 3),
                        context=context[rows, some].reshape(shape).transpose(0, 2, 1, 3),
                        scores=scores.reshape(count, shape[2], length, length),
                        rows=scores.reshape(size, length),
                        sums=workspace.sums[done : done + size],
                        ones=workspace.ones[:length],
                    )
                )
                done += size
    return steps


def _attend(steps: Sequence[_Step], *, subtract_maximum: bool) -> None:
    """Softmax(Q K^T) V per sequence and head; the queries carry the scale."""
    for step in steps:
        np.matmul(step.query, step.key, out=step.scores)
        if subtract_maximum:
            np.subtract(step.rows, step.rows.max(axis=1, keepdims=True), out=step.rows)
        np.exp(step.rows, out=step.rows)
        np.matmul(step.rows, step.ones, out=step.sums)
        np.matmul(step.scores, step.value, out=step.context)
        np.divide(step.context, step.sums.reshape(*step.scores.shape[:3], 1), out=step.context)


def _attention(layer: LayerWeights, steps: Sequence[_Step], tokens: int, workspace: Workspace) -> None:
    """From `workspace.x` to `workspace.context`."""
    x, query_value = workspace.x[:tokens], workspace.query_value[:tokens]
    product(x, layer.query_value, query_value)
    product_transposed(layer.key, x, workspace.key[: WIDTH * tokens].reshape(WIDTH, tokens))
    np.add(query_value[:, :WIDTH], layer.query_bias, out=query_value[:, :WIDTH])
    _attend(steps, subtract_maximum=False)
    sums = workspace.sums[: tokens * HEADS]
    if not (sums.min() > SUMS_MIN and sums.max() < SUMS_MAX):
        _attend(steps, subtract_maximum=True)


def _feed_forward(layer: LayerWeights, x: Array, context: Array, workspace: Workspace, steps: Steps) -> None:
    """Output projection, layer norm, GELU block, layer norm for one block of rows; `x` (n, 384) in place."""
    rows = x.shape[0]
    y = workspace.y[:rows]
    hidden = workspace.hidden[: HIDDEN * rows].reshape(HIDDEN, rows)
    product(context, layer.mix, y)
    steps.residual_norm(x, y, layer.mix_bias, layer.mix_gain, layer.mix_shift, workspace)
    product_transposed(layer.expand, x, hidden)
    steps.bias_gelu(hidden, layer.expand_bias, workspace)
    product(hidden.T, layer.contract, y)
    steps.residual_norm(x, y, layer.contract_bias, layer.contract_gain, layer.contract_shift, workspace)


def forward(
    weights: EncoderWeights, ids: npt.NDArray[np.int32], groups: Sequence[Group], workspace: Workspace
) -> Array:
    """Unit vectors (sequences, 384), in the order of `groups`, for the packed token `ids` (tokens,).

    Each is the mean of its sequence's last-layer tokens divided by its length (Reimers and Gurevych 2019). Every id is
    below the vocabulary size and every length within the position table; a zero mean stays zero.
    """
    return run(weights, ids, groups, workspace, Steps())


def run(
    weights: EncoderWeights,
    ids: npt.NDArray[np.int32],
    groups: Sequence[Group],
    workspace: Workspace,
    elementwise: Steps,
) -> Array:
    """`forward` with these element-wise steps."""
    tokens = ids.size
    workspace.reserve(tokens)
    x, context = workspace.x[:tokens], workspace.context[:tokens]
    np.take(weights.words, ids, axis=0, out=x, mode="clip")
    for group in groups:
        rows = x[group.start : group.start + group.count * group.length].reshape(group.count, group.length, WIDTH)
        np.add(rows, weights.positions[: group.length], out=rows)
    layer_norm(x, weights.gain, weights.shift, workspace)
    steps = _attention_steps(groups, tokens, workspace)
    blocks = -(-tokens // TOKENS_BLOCK)
    bounds = [tokens * i // blocks for i in range(blocks + 1)]
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        for layer in weights.layers:
            _attention(layer, steps, tokens, workspace)
            for start, stop in pairwise(bounds):
                _feed_forward(layer, x[start:stop], context[start:stop], workspace, elementwise)
    return _pool(x, groups)


def _pool(x: Array, groups: Sequence[Group]) -> Array:
    means = [
        x[group.start : group.start + group.count * group.length]
        .reshape(group.count, group.length, WIDTH)
        .mean(axis=1, dtype=np.float32)
        for group in groups
    ]
    vectors = np.concatenate(means)
    norms = np.sqrt(np.vecdot(vectors, vectors))
    np.divide(vectors, np.maximum(norms, np.finfo(np.float32).tiny)[:, None], out=vectors)
    return vectors
