"""Naive float64 oracles: one function per mechanism, written to be read. The fast kernels are tested against these.

One module a family. Each function's docstring gives its formula and source.
"""

from .encoder import attention, encode, gelu, layer_norm, softmax
from .search import agrees, merge_top_k, normalise, score, top_k, upper_bound

__all__ = [
    "agrees",
    "attention",
    "encode",
    "gelu",
    "layer_norm",
    "merge_top_k",
    "normalise",
    "score",
    "softmax",
    "top_k",
    "upper_bound",
]
