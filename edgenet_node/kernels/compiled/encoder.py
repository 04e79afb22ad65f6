"""numba versions of the encoder's element-wise steps: each is one pass where numpy needs up to eleven.

The products stay numpy's, so that both backends agree but for the rounding of these steps (1e-6).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numba
import numpy as np
import numpy.typing as npt

from ..transformer import LAYER_NORM_EPS, Array, EncoderWeights, Group, Steps, Workspace, run
from .linear import ONE, REORDER, one_plus_tanh


@numba.njit(nogil=True, cache=True, fastmath=REORDER, error_model="numpy")
def _residual_norm(x, y, bias, gain, shift):  # type: ignore[no-untyped-def]
    rows, width = x.shape
    share = ONE / np.float32(width)
    for i in range(rows):
        total = np.float32(0)
        for j in range(width):
            y[i, j] += x[i, j] + bias[j]
            total += y[i, j]
        mean = total * share
        squares = np.float32(0)
        for j in range(width):
            away = y[i, j] - mean
            squares += away * away
        scale = ONE / math.sqrt(squares * share + LAYER_NORM_EPS)
        for j in range(width):
            x[i, j] = (y[i, j] - mean) * scale * gain[j] + shift[j]


@numba.njit(nogil=True, cache=True, fastmath=REORDER, error_model="numpy")
def _bias_gelu(hidden, bias):  # type: ignore[no-untyped-def]
    rows, width = hidden.shape
    for i in range(rows):
        for j in range(width):
            u = hidden[i, j] + bias[i]
            hidden[i, j] = u * one_plus_tanh(u)


def residual_norm(x: Array, y: Array, bias: Array, gain: Array, shift: Array, workspace: Workspace) -> None:
    """`transformer.residual_norm`."""
    _residual_norm(x, y, bias, gain, shift)


def bias_gelu(hidden: Array, bias: Array, workspace: Workspace) -> None:
    """`transformer.bias_gelu`."""
    _bias_gelu(hidden, bias)


COMPILED = Steps(residual_norm=residual_norm, bias_gelu=bias_gelu)


def forward(
    weights: EncoderWeights, ids: npt.NDArray[np.int32], groups: Sequence[Group], workspace: Workspace
) -> Array:
    """`encoder.minilm_l6/1`, its element-wise steps compiled."""
    return run(weights, ids, groups, workspace, COMPILED)
