"""Fewer bytes for vectors: what a link, a store or a cache can save, and what that costs.

| module | what it does |
| --- | --- |
| `integers` | 8 and 4 bits with a scale a block, 8 bits with a minimum and a scale |
| `binary` | sign bits with a scale; the randomised Hadamard rotation |
| `sparsify` | top-k with error feedback: sent + residual = total, bit for bit |
| `payload` | sparse vectors as bytes (bitmap, gaps, Elias-Fano) and back, refusing anything malformed |
| `nearest` | distances on quantised rows; Hamming candidates with exact rescoring |
| `workspace` | scratch memory, owned by the caller |

Lossy formats are for gradients, caches and search, never for anything signed or counted.

Limits. Byte order is little-endian (the packing reads patterns as integers). Sign bits are the one rung of the ladder
whose residual, `total - scale * sign`, is rounded to float32; int8 and top-k conserve exactly. Top-k, payloads and
searches allocate their results and masks; the quantisers allocate nothing when given `out` and `workspace`.
"""

from .binary import dequantise_binary, quantise_binary, rotate, rotate_back, sign_rows
from .integers import (
    dequantise_affine,
    dequantise_int4,
    dequantise_int8,
    quantise_affine,
    quantise_int4,
    quantise_int8,
)
from .nearest import cosine_estimate, dot_int8, hamming, hamming_top_k, l2_affine, nearest_bits
from .payload import POSITIONS, Positions, Quantised, Sparse, decode_sparse, encode_sparse, encode_top_int8
from .sparsify import densify, largest, top_k, top_k_int8
from .workspace import Workspace

__all__ = [
    "POSITIONS",
    "Positions",
    "Quantised",
    "Sparse",
    "Workspace",
    "cosine_estimate",
    "decode_sparse",
    "densify",
    "dequantise_affine",
    "dequantise_binary",
    "dequantise_int4",
    "dequantise_int8",
    "dot_int8",
    "encode_sparse",
    "encode_top_int8",
    "hamming",
    "hamming_top_k",
    "l2_affine",
    "largest",
    "nearest_bits",
    "quantise_affine",
    "quantise_binary",
    "quantise_int4",
    "quantise_int8",
    "rotate",
    "rotate_back",
    "sign_rows",
    "top_k",
    "top_k_int8",
]
