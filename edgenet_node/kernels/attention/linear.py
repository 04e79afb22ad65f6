"""Linear attention by positive random features (FAVOR+): softmax attention in time linear in the sequence."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from ...errors import UsageError
from .gate import log_sigmoid
from .workspace import Array, Workspace

LOWEST = np.float32(np.finfo(np.float32).min)
BLOCK = 240  # rows per step: OpenBLAS has faster kernels for products of up to 10^6 multiplications (64 by 64 by 240)
SUMS_MAX = 1e12  # sums beyond it, or below its inverse, cost range of the values or digits: they may be 1e25


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
    With all keys blocked the answer is zero. O((n_q + n_k) m (d + d_v)), scratch memory O(n_k + m (d + d_v)), or
    O((n_q + n_k) m) where the inputs need the long way.

    Nothing overflows or divides by zero while squared norms fit float32 (3e38). |q|^2/2 is common to a query's features
    and cancels in the quotient. So would what is common to all keys in one feature, c_r, if it moved to that feature of
    the queries: the long way does so, each feature of the keys, and then each query, has a largest factor of exactly 1,
    and the denominator is at least 1. The short way leaves c_r where it is, and is taken while the sums are moderate.
    """
    workspace = Workspace() if workspace is None else workspace
    if gate is not None and gate.shape != (key.shape[0],):
        raise UsageError(f"the gate has shape {gate.shape}; linear attention takes one per key, ({key.shape[0]},)")
    if out is None:
        out = np.empty((query.shape[0], value.shape[1]), np.float32)
    basis = workspace.floats("omega", omega.shape[::-1])
    np.multiply(omega.T, np.float32(max(1, omega.shape[1]) ** -0.25), out=basis)
    norms = _half_norms(key, gate, workspace)
    if not _short(query, key, value, basis, norms, out, workspace):
        _long(query, key, value, basis, norms, out, workspace)
    return out


def _half_norms(key: Array, gate: Array | None, workspace: Workspace) -> Array:
    """`|k'|^2 / 2 - log sigma(g)`, (n_k,): what to take from the exponents of each key."""
    norms = np.vecdot(key, key, out=workspace.floats("norms", (key.shape[0],)))
    np.multiply(norms, np.float32(0.5 / math.sqrt(max(1, key.shape[1]))), out=norms)
    if gate is not None:
        share = log_sigmoid(gate, workspace.floats("gate", gate.shape), workspace.floats("gate work", gate.shape))
        np.subtract(norms, share, out=norms)
    return norms


def _short(
    query: Array, key: Array, value: Array, basis: Array, norms: Array, out: Array, workspace: Workspace
) -> bool:
    """Block by block with c_r = 0; False if the sums say that factors should have been taken out (`out` is then
    worthless). basis (d, m)."""
    features = basis.shape[1]
    totals, more_totals = workspace.floats("totals", (features,)), workspace.floats("more totals", (features,))
    mixed = workspace.floats("mixed", (features, value.shape[1]))
    more_mixed = workspace.floats("more mixed", mixed.shape)
    with np.errstate(all="ignore"):
        for start in range(0, key.shape[0], BLOCK):
            rows = slice(start, min(start + BLOCK, key.shape[0]))
            phi = workspace.floats("phi", (rows.stop - start, features))
            np.dot(key[rows], basis, out=phi)
            np.subtract(phi, norms[rows, None], out=phi)
            np.exp(phi, out=phi)
            np.dot(workspace.ones(phi.shape[0]), phi, out=more_totals if start else totals)
            np.dot(phi.T, value[rows], out=more_mixed if start else mixed)
            if start:
                np.add(totals, more_totals, out=totals)
                np.add(mixed, more_mixed, out=mixed)
        if not (key.shape[0] and _moderate(totals, more_totals)):
            return False
        for start in range(0, query.shape[0], BLOCK):
            rows = slice(start, min(start + BLOCK, query.shape[0]))
            phi = workspace.floats("phi", (rows.stop - start, features))
            sums = workspace.floats("sums", (phi.shape[0],))
            np.dot(query[rows], basis, out=phi)
            np.exp(phi, out=phi)
            np.dot(phi, totals, out=sums)
            inverse = workspace.floats("inverse", sums.shape)
            if not _moderate(sums, inverse):
                return False
            part = np.dot(phi, mixed, out=out[rows])
            np.multiply(part, inverse[:, None], out=part)
    return True


def _moderate(sums: Array, inverse: Array) -> bool:
    """Whether all sums are within 1/SUMS_MAX and SUMS_MAX; `inverse` gets one over them."""
    np.reciprocal(sums, out=inverse)
    return bool(np.dot(sums, sums) < SUMS_MAX**2 and np.dot(inverse, inverse) < SUMS_MAX**2)


def _long(query: Array, key: Array, value: Array, basis: Array, norms: Array, out: Array, workspace: Workspace) -> None:
    """All at once with the factors taken out, right for inputs of any size; 1.6 times the time."""
    features = basis.shape[1]
    phi_key = np.matmul(key, basis, out=workspace.floats("phi key", (key.shape[0], features)))
    np.subtract(phi_key, norms[:, None], out=phi_key)
    common = np.maximum.reduce(phi_key, axis=0, initial=LOWEST, out=workspace.floats("common", (features,)))
    np.subtract(phi_key, common, out=phi_key)
    np.exp(phi_key, out=phi_key)
    totals = np.matmul(workspace.ones(key.shape[0]), phi_key, out=workspace.floats("totals", (features,)))
    mixed = np.matmul(phi_key.T, value, out=workspace.floats("mixed", (features, value.shape[1])))

    phi_query = np.matmul(basis.T, query.T, out=workspace.floats("phi query", (features, query.shape[0])))
    np.add(phi_query, common[:, None], out=phi_query)
    sums = workspace.floats("all sums", (query.shape[0],))
    np.maximum.reduce(phi_query, axis=0, initial=LOWEST, out=sums)
    np.subtract(phi_query, sums, out=phi_query)
    np.exp(phi_query, out=phi_query)
    np.matmul(totals, phi_query, out=sums)
    np.maximum(sums, np.finfo(np.float32).tiny, out=sums)
    np.reciprocal(sums, out=sums)
    np.matmul(phi_query.T, mixed, out=out)
    np.multiply(out, sums[:, None], out=out)
