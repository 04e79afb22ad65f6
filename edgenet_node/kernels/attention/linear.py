"""Linear attention by positive random features (FAVOR+): softmax attention in time linear in the sequence."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from ...errors import UsageError
from .gate import log_sigmoid
from .workspace import Array, Workspace

LOWEST = np.float32(np.finfo(np.float32).min)


def directions(width: int, features: int, generator: np.random.Generator) -> Array:
    """Orthogonal random directions omega (features, width), float32.

    Rows in blocks of `width`: the rows of a Haar-distributed orthogonal matrix (QR of a Gaussian matrix with the signs
    of R's diagonal, Mezzadri 2007), each as long as an independent Gaussian vector. So every row alone is N(0, I),
    which is all that being unbiased needs, and rows of a block are orthogonal, which lowers the variance (Choromanski
    et al. 2021, section 3.2). O(features width^2); done once, not per call.
    """
    rows = np.empty((features, width), np.float64)
    for start in range(0, features, max(1, width)):
        block = rows[start : start + width]
        q, r = np.linalg.qr(generator.standard_normal((width, width)))
        block[:] = (q * np.copysign(1.0, np.diag(r))).T[: block.shape[0]]
        block *= np.linalg.norm(generator.standard_normal(block.shape), axis=1)[:, None]
    return rows.astype(np.float32)


def positive_features(x: npt.ArrayLike, omega: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """`phi(x) = exp(omega x - |x|^2 / 2) / sqrt m`, float64: x (n, d), omega (m, d) -> (n, m), all positive.

    E[phi(x) . phi(y)] = exp(x . y) for rows of omega ~ N(0, I) (Choromanski et al. 2021, lemma 1). This is the
    definition; `linear` works with its logarithm.
    """
    rows, basis = np.asarray(x, np.float64), np.asarray(omega, np.float64)
    exponent = rows @ basis.T - 0.5 * np.vecdot(rows, rows)[:, None]
    features: npt.NDArray[np.float64] = np.exp(exponent) / math.sqrt(basis.shape[0])
    return features


def linear(
    query: Array,
    key: Array,
    value: Array,
    omega: Array,
    *,
    gate: Array | None = None,
    out: Array | None = None,
    workspace: Workspace | None = None,
) -> Array:
    """`phi(Q') (phi(K')^T V) / (phi(Q') phi(K')^T 1)` with Q' = Q d^(-1/4), K' = K d^(-1/4): softmax attention up to an
    error of order 1/sqrt m (Choromanski et al. 2021, "Rethinking attention with Performers").

    query (n_q, d), key (n_k, d), value (n_k, d_v), omega (m, d) from `directions` -> (n_q, d_v), float32. `gate` (n_k,)
    scales or blocks keys; a gate per edge would need the n_q n_k weights that this kernel never forms (`UsageError`).
    With all keys blocked the answer is zero. O((n_q + n_k) m (d + d_v)), memory O((n_q + n_k) m).

    Nothing overflows or divides by zero while squared norms fit float32 (3e38). What is common to a query's features cancels in the quotient, |q|^2/2 with
    it; what is common to all keys in one feature, c_r, moves to that feature of the queries, so that each feature of
    the keys, and then each query, has a largest factor of exactly 1, and the quotient's denominator is at least 1.
    """
    workspace = Workspace() if workspace is None else workspace
    if gate is not None and gate.shape != (key.shape[0],):
        raise UsageError(f"the gate has shape {gate.shape}; linear attention takes one per key, ({key.shape[0]},)")
    if out is None:
        out = np.empty((query.shape[0], value.shape[1]), np.float32)
    features = omega.shape[0]
    basis = workspace.floats("omega", omega.shape)
    np.multiply(omega, np.float32(max(1, omega.shape[1]) ** -0.25), out=basis)

    phi_key = _key_exponents(key, basis, gate, workspace)
    common = np.maximum.reduce(phi_key, axis=0, initial=LOWEST, out=workspace.floats("common", (features,)))
    np.subtract(phi_key, common, out=phi_key)
    np.exp(phi_key, out=phi_key)
    totals = np.matmul(workspace.ones(key.shape[0]), phi_key, out=workspace.floats("totals", (features,)))
    mixed = np.matmul(phi_key.T, value, out=workspace.floats("mixed", (features, value.shape[1])))

    phi_query = np.matmul(basis, query.T, out=workspace.floats("phi query", (features, query.shape[0])))
    np.add(phi_query, common[:, None], out=phi_query)
    sums = workspace.floats("sums", (query.shape[0],))
    np.maximum.reduce(phi_query, axis=0, initial=LOWEST, out=sums)
    np.subtract(phi_query, sums, out=phi_query)
    np.exp(phi_query, out=phi_query)
    np.matmul(totals, phi_query, out=sums)
    np.maximum(sums, np.finfo(np.float32).tiny, out=sums)
    np.reciprocal(sums, out=sums)
    np.matmul(phi_query.T, mixed, out=out)
    return np.multiply(out, sums[:, None], out=out)


def _key_exponents(key: Array, basis: Array, gate: Array | None, workspace: Workspace) -> Array:
    """`omega k' - |k'|^2 / 2 + log sigma(g)`, (n_k, m)."""
    exponents = np.matmul(key, basis.T, out=workspace.floats("phi key", (key.shape[0], basis.shape[0])))
    norms = np.vecdot(key, key, out=workspace.floats("norms", (key.shape[0],)))
    np.multiply(norms, np.float32(0.5 / math.sqrt(max(1, key.shape[1]))), out=norms)
    if gate is not None:
        work = workspace.floats("gate work", gate.shape)
        np.subtract(norms, log_sigmoid(gate, workspace.floats("gate", gate.shape), work), out=norms)
    return np.subtract(exponents, norms[:, None], out=exponents)
