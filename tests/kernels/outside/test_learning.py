"""The learning kernels against torch's automatic differentiation and its linear algebra, and scikit-learn's SVD."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgenet_node.kernels.learning import adapters, ewc, fisher, lora

torch: Any = pytest.importorskip("torch")


def drawn(rank: int, seed: int, inputs: int = 24, outputs: int = 18) -> lora.Adapter:
    generator = np.random.default_rng(seed)
    return lora.Adapter(
        down=generator.standard_normal((rank, inputs), np.float32),
        up=generator.standard_normal((rank, outputs), np.float32),
        scale=0.3,
    )


@pytest.mark.parametrize("rank", [1, 2, 16])
@pytest.mark.parametrize("rows", [1, 5])
def test_forward_and_gradients_are_torchs(rank: int, rows: int) -> None:
    generator, one = np.random.default_rng(rank), drawn(rank, rank)
    x, base = generator.standard_normal((rows, 24), np.float32), generator.standard_normal((rows, 18), np.float32)
    down, up = (torch.tensor(part, requires_grad=True) for part in (one.down, one.up))
    y = torch.tensor(base) + 0.3 * (torch.tensor(x) @ down.T) @ up
    served = lora.loaded(one)
    found = lora.forward(x, base, served.down, served.up)
    np.testing.assert_allclose(found, y.detach().numpy(), rtol=1e-4, atol=1e-4)
    loss = torch.nn.functional.cross_entropy(y, torch.arange(rows) % 18, reduction="sum")
    slope = torch.autograd.grad(loss, y, retain_graph=True)[0].numpy()
    by_torch = torch.autograd.grad(loss, (down, up))
    by_us = lora.gradients(x, slope, one)
    np.testing.assert_allclose(by_us.down, by_torch[0].numpy(), rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(by_us.up, by_torch[1].numpy(), rtol=1e-3, atol=1e-5)


def test_the_fisher_is_that_of_torchs_scores_at_every_label() -> None:
    generator, one, n = np.random.default_rng(1), drawn(2, 7), 4
    x, base = generator.standard_normal((n, 24), np.float32), generator.standard_normal((n, 18), np.float32)
    served = lora.loaded(one)
    logits = lora.forward(x, base, served.down, served.up)
    totals = [np.zeros(one.down.shape), np.zeros(one.up.shape)]
    outputs = [np.zeros(one.down.shape), np.zeros(one.up.shape)]
    for row in range(n):
        down, up = (torch.tensor(part, dtype=torch.float64, requires_grad=True) for part in (one.down, one.up))
        y = torch.tensor(base[row]) + 0.3 * (torch.tensor(x[row], dtype=torch.float64) @ down.T) @ up
        logs = torch.log_softmax(y, 0)
        for label in range(18):
            chance = float(logs[label].exp())
            for place, score in enumerate(torch.autograd.grad(logs[label], (down, up), retain_graph=True)):
                totals[place] += chance * score.numpy() ** 2 / n
            for place, slope in enumerate(torch.autograd.grad(y[label], (down, up), retain_graph=True)):
                outputs[place] += slope.numpy() ** 2 / n / 0.5
    by_softmax, by_gaussian = fisher.softmax_adapter(x, logits, one), fisher.gaussian_adapter(x, one, 0.5)
    for found, expected in zip((by_softmax, by_gaussian), (totals, outputs), strict=True):
        np.testing.assert_allclose(found.down, expected[0], rtol=1e-3, atol=1e-6)
        np.testing.assert_allclose(found.up, expected[1], rtol=1e-3, atol=1e-6)


def test_the_penalty_and_its_gradient_are_torchs() -> None:
    generator = np.random.default_rng(2)
    weights, anchor, information = generator.random((3, 50)).astype(np.float32)
    moving = torch.tensor(weights, requires_grad=True)
    loss = 0.5 * 2000.0 * (torch.tensor(information) * (moving - torch.tensor(anchor)) ** 2).sum()
    loss.backward()
    assert ewc.penalty(weights, anchor, information, 2000.0) == pytest.approx(float(loss), rel=1e-5)
    np.testing.assert_allclose(
        ewc.gradient(weights, anchor, information, 2000.0), moving.grad.numpy(), rtol=1e-5, atol=1e-3
    )


def test_a_merge_is_the_truncated_svd_of_torch_and_of_scikit_learn() -> None:
    decomposition: Any = pytest.importorskip("sklearn.decomposition")
    parts = [(0.7, drawn(4, 1)), (0.3, drawn(8, 2))]
    total = sum(w * one.scale * one.down.T.astype(np.float64) @ one.up for w, one in parts)
    merged = adapters.merge(parts, 5)
    change = merged.adapter.scale * merged.adapter.down.T.astype(np.float64) @ merged.adapter.up
    left, values, right = (part.numpy() for part in torch.linalg.svd(torch.tensor(total), full_matrices=False))
    np.testing.assert_allclose(change, (left[:, :5] * values[:5]) @ right[:5], atol=1e-4)
    np.testing.assert_allclose(merged.dropped, values[5:12], atol=1e-5)
    model = decomposition.TruncatedSVD(5, algorithm="arpack", random_state=0)
    np.testing.assert_allclose(change, model.inverse_transform(model.fit_transform(total)), atol=1e-4)
