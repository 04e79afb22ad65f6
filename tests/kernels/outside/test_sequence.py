"""Hyperbolic, Hopfield and selective state space kernels against geoopt and torch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgenet_node.kernels.attention import hopfield, hyperbolic, selective

torch: Any = pytest.importorskip("torch")


@pytest.mark.parametrize("curvature", [0.3, 1.0, 2.0])
def test_hyperbolic_is_geoopt(curvature: float) -> None:
    geoopt: Any = pytest.importorskip("geoopt")
    manifold = geoopt.PoincareBall(c=curvature)
    rng = np.random.default_rng(1)
    x, y, v = (0.25 * rng.standard_normal((3, 12, 5)) / np.sqrt(curvature)).astype(np.float32)
    x, y = hyperbolic.project(x, curvature), hyperbolic.project(y, curvature)
    tx, ty, tv = (torch.tensor(part, dtype=torch.float64) for part in (x, y, v))
    away = manifold.dist(tx[:, None], ty[None]).numpy()
    np.testing.assert_allclose(hyperbolic.distance(x, y, curvature), away, rtol=1e-4, atol=1e-5)
    there = manifold.expmap(tx, tv).numpy()
    np.testing.assert_allclose(hyperbolic.exp_map(x, v, curvature), there, rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(
        hyperbolic.log_map(x, y, curvature), manifold.logmap(tx, ty).numpy(), rtol=1e-3, atol=1e-5
    )
    moved = manifold.mobius_add(tx, ty).numpy()
    np.testing.assert_allclose(hyperbolic.mobius_add(x, y, curvature), moved, rtol=1e-5, atol=1e-6)
    weights = rng.random((4, 12), np.float32)
    middle = manifold.weighted_midpoint(
        tx[None].expand(4, -1, -1), torch.tensor(weights, dtype=torch.float64), reducedim=[1], keepdim=False
    )
    np.testing.assert_allclose(
        hyperbolic.einstein_midpoint(weights, x, curvature), middle.numpy(), rtol=1e-3, atol=1e-5
    )


def test_hopfield_is_torch_attention_over_the_patterns() -> None:
    rng = np.random.default_rng(2)
    patterns, state = rng.standard_normal((50, 16), np.float32), rng.standard_normal((4, 16), np.float32)
    keys = torch.tensor(patterns)
    found = torch.nn.functional.scaled_dot_product_attention(torch.tensor(state), keys, keys, scale=0.7)
    np.testing.assert_allclose(hopfield.hopfield(patterns, state, 0.7), found.numpy(), rtol=1e-4, atol=1e-5)


def published_scan(x: Any, delta: Any, a: Any, b: Any, c: Any, skip: Any) -> Any:
    """Gu and Dao 2023, algorithm 2 with equations 2 and 4, in the closed form of a linear recurrence: y_t is the sum
    over s <= t of C_t exp(A (delta_(s+1) + ... + delta_t)) delta_s B_s x_s. x, delta (t, d), a (d, n), b, c (t, n)."""
    until = torch.cumsum(delta, dim=0)
    spans = until[:, None] - until[None, :]  # (t, s, d)
    causal = torch.tril(torch.ones(len(x), len(x), dtype=torch.bool))[:, :, None, None]
    decay = torch.where(causal, torch.exp(spans[..., None] * a), 0.0)
    return torch.einsum("tn,tsdn,sd,sn->td", c, decay, delta * x, b) + skip * x


def test_scan_is_the_published_formula() -> None:
    torch.manual_seed(3)
    x, delta = torch.randn(40, 6, dtype=torch.float64), torch.rand(40, 6, dtype=torch.float64) + 0.01
    a, skip = -torch.rand(6, 4, dtype=torch.float64) - 0.1, torch.randn(6, dtype=torch.float64)
    b, c = torch.randn(40, 4, dtype=torch.float64), torch.randn(40, 4, dtype=torch.float64)
    wanted = published_scan(x, delta, a, b, c, skip).numpy()
    single = [part.numpy().astype(np.float32) for part in (x, delta, a.T.contiguous(), b, c, skip)]
    got, _ = selective.selective_scan(*single)
    np.testing.assert_allclose(got, wanted, rtol=1e-3, atol=1e-4)


def test_pieces_of_the_block_are_torch() -> None:
    values = np.linspace(-50, 50, 101, dtype=np.float32)
    ours = torch.tensor(values)
    np.testing.assert_allclose(selective.silu(values), torch.nn.functional.silu(ours).numpy(), atol=1e-6)
    np.testing.assert_allclose(selective.softplus(values), torch.nn.functional.softplus(ours).numpy(), rtol=1e-5)
    rng = np.random.default_rng(4)
    block = selective.initial_block(8, rng, states=3)
    x = rng.standard_normal((20, 8), np.float32)
    channels = block.taps.shape[1]
    both = torch.tensor(x) @ torch.tensor(block.expand)
    taps = torch.tensor(block.taps.T.copy())[:, None]
    mixed = torch.nn.functional.conv1d(
        both[:, :channels].T[None], taps, torch.tensor(block.taps_bias), padding=3, groups=channels
    )[0, :, :20].T
    mixed = torch.nn.functional.silu(mixed).double()
    chosen = mixed @ torch.tensor(block.select).double()
    rank = block.steps.shape[0]
    delta = torch.nn.functional.softplus(
        chosen[:, :rank] @ torch.tensor(block.steps).double() + torch.tensor(block.steps_bias).double()
    )
    a = torch.tensor(block.a.T.copy()).double()
    scanned = published_scan(
        mixed, delta, a, chosen[:, rank : rank + 3], chosen[:, rank + 3 :], torch.tensor(block.skip).double()
    )
    wanted = (scanned * torch.nn.functional.silu(both[:, channels:]).double()) @ torch.tensor(block.contract).double()
    got, _ = selective.mamba(x, block, selective.blank(block))
    np.testing.assert_allclose(got, wanted.numpy(), rtol=1e-3, atol=1e-5)
