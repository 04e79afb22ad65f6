"""Dense linear algebra that is cut into parts: products by tiles, sums by segments, steps by ranges.

Each mechanism comes as a part and a way to join parts, so that one large job may be spread over workers or peers:
`tiles` and `matmul` for products, `dot_partial` and `join_dots` for inner products, `summarise` and `join_summaries`
for sums, extremes and weighted means, `moments` and `join_moments` for variances. `elementwise` and `normalise` have
the steps between products.

`tasks.handlers.matmul` decides with `tiles` what travels, and computes with `matmul`; `kernels.verify.freivalds` checks
it. What numpy does in one call (copies, transposes) has no kernel here.
"""

from .elementwise import gelu, silu, vector_op
from .normalise import cosine, layer_norm, rms_norm, softmax
from .products import Tile, dot, dot_partial, join_dots, matmul, tiles
from .summaries import Moments, Summary, join_moments, join_summaries, moments, summarise
from .workspace import Workspace

__all__ = [
    "Moments",
    "Summary",
    "Tile",
    "Workspace",
    "cosine",
    "dot",
    "dot_partial",
    "gelu",
    "join_dots",
    "join_moments",
    "join_summaries",
    "layer_norm",
    "matmul",
    "moments",
    "rms_norm",
    "silu",
    "softmax",
    "summarise",
    "tiles",
    "vector_op",
]
