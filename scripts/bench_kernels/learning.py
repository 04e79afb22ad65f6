"""Rows of the learning kernels: one adapter step at 256 x 256, batches, Fisher information, the replay tree."""

from __future__ import annotations

from typing import Any

import numpy as np

from edgenet_node.kernels.learning import adapters, ewc, fisher, lora, replay, reservoir, storage, sum_tree
from edgenet_node.kernels.learning.workspace import Workspace

from .case import Case, Factory, Run

WIDTH = 256
CALLS_US = 3 * 0.35  # three small calls of numpy


def _data(rows: int, rank: int) -> tuple[Any, ...]:
    generator = np.random.default_rng(rank)
    shape = (rows, WIDTH) if rows > 1 else (WIDTH,)
    x, base = generator.standard_normal(shape, np.float32), generator.standard_normal(shape, np.float32)
    down, up = (generator.standard_normal((rank, WIDTH), np.float32) for _ in range(2))
    return x, base, down, up


def _forward(rows: int, rank: int) -> Factory:
    def build() -> Run:
        x, base, down, up = _data(rows, rank)
        out, workspace = np.empty_like(base), Workspace()
        return lambda: lora.forward(x, base, down, up, out=out, workspace=workspace)

    return build


def _forward_fast(rows: int, rank: int) -> Factory:
    def build() -> Run:
        from edgenet_node.kernels.compiled import learning as compiled

        x, base, down, up = _data(rows, rank)
        out, workspace = np.empty_like(base), Workspace()
        return lambda: compiled.forward(x, base, down, up, out=out, workspace=workspace)

    return build


def _forward_torch(rows: int, rank: int) -> Factory:
    def build() -> Run:
        import torch

        x, base, down, up = (torch.from_numpy(part) for part in _data(rows, rank))
        down = down.T.contiguous()

        def run() -> Any:
            with torch.inference_mode():
                hidden = x @ down
                return torch.addmm(base, hidden, up) if rows > 1 else base + hidden @ up

        return run

    return build


def _adapter(rank: int, seed: int = 1) -> lora.Adapter:
    generator = np.random.default_rng(seed)
    down, up = (generator.standard_normal((rank, WIDTH), np.float32) for _ in range(2))
    return lora.Adapter(down=down, up=up)


def _batched() -> Run:
    x, base, _, _ = _data(32, 2)
    held = [lora.loaded(_adapter(2, seed)) for seed in range(4)]
    groups = lora.group(np.arange(32) % 4, 4)
    out, workspace = np.empty_like(base), Workspace()
    return lambda: lora.batched(x, base, groups, held, out=out, workspace=workspace)


def _batched_torch() -> Run:
    import torch

    x, base, _, _ = (torch.from_numpy(part) for part in _data(32, 2))
    down = torch.stack([torch.from_numpy(_adapter(2, seed).down) for seed in range(4)])
    up = torch.stack([torch.from_numpy(_adapter(2, seed).up) for seed in range(4)])
    which = torch.arange(32) % 4

    def run() -> Any:
        with torch.inference_mode():
            hidden = torch.bmm(down[which], x[:, :, None])
            return base + torch.bmm(hidden.transpose(1, 2), up[which])[:, 0]

    return run


def _gradients() -> Run:
    x, grad, _, _ = _data(32, 2)
    one, workspace = _adapter(2), Workspace()
    return lambda: lora.gradients(x, grad, one, workspace=workspace)


def _gradients_torch() -> Run:
    import torch

    x, grad, down, up = (torch.from_numpy(part) for part in _data(32, 2))
    down.requires_grad_()
    up.requires_grad_()
    return lambda: torch.autograd.grad(0.1 * (x @ down.T) @ up, (down, up), grad)


def _merge() -> Run:
    parts = [(0.25, _adapter(8, seed)) for seed in range(4)]
    return lambda: adapters.merge(parts, 8)


def _merge_torch() -> Run:
    import torch

    parts = [_adapter(8, seed) for seed in range(4)]
    total = sum(0.025 * torch.from_numpy(one.down).T @ torch.from_numpy(one.up) for one in parts)
    return lambda: torch.linalg.svd(total)


def _quantise() -> Run:
    matrix = _adapter(16).down
    return lambda: storage.quantise(matrix, 8)


def _fisher_layer() -> Run:
    generator = np.random.default_rng(2)
    x, logits = generator.standard_normal((1000, 1000), np.float32), generator.standard_normal((1000, 1000), np.float32)
    return lambda: fisher.softmax_layer(x, logits)


def _fisher_layer_torch() -> Run:
    import torch

    x, logits = torch.randn(1000, 1000), torch.randn(1000, 1000)

    def run() -> Any:
        with torch.inference_mode():
            p = torch.softmax(logits, 1)
            return x.square().T @ (p * (1 - p)) / 1000

    return run


def _fisher_adapter(kind: str) -> Factory:
    def build() -> Run:
        x, logits, _, _ = _data(64, 2)
        one = _adapter(2)
        if kind == "softmax":
            return lambda: fisher.softmax_adapter(x, logits, one)
        return lambda: fisher.gaussian_adapter(x, one, 0.5)

    return build


def _ewc(slope: bool) -> Factory:
    def build() -> Run:
        weights, anchor, information = np.random.default_rng(3).random((3, 100_000)).astype(np.float32)
        out = np.empty_like(weights)
        if slope:
            return lambda: ewc.gradient(weights, anchor, information, 2000.0, out=out)
        return lambda: ewc.penalty(weights, anchor, information, 2000.0)

    return build


def _ewc_torch() -> Run:
    import torch

    weights, anchor, information = torch.rand(3, 100_000)
    return lambda: (weights - anchor) * information * 2000.0


def _tree() -> tuple[Any, ...]:
    generator, tree = np.random.default_rng(4), sum_tree.empty(10_000)
    sum_tree.refresh(tree, np.arange(10_000), generator.random(10_000))
    return tree, generator.random(32) * tree[1], generator.integers(0, 10_000, 32), generator.random(32)


def _find() -> Run:
    tree, targets, _, _ = _tree()
    return lambda: sum_tree.find(tree, targets)


def _find_fast() -> Run:
    from edgenet_node.kernels.compiled import learning as compiled

    tree, targets, _, _ = _tree()
    return lambda: compiled.find(tree, targets)


def _find_torch() -> Run:
    import torch

    tree, _, _, _ = _tree()
    weights = torch.from_numpy(tree[tree.size // 2 :])
    return lambda: torch.multinomial(weights, 32, replacement=True)


def _refresh() -> Run:
    tree, _, slots, weights = _tree()
    return lambda: sum_tree.refresh(tree, slots, weights)


def _refresh_fast() -> Run:
    from edgenet_node.kernels.compiled import learning as compiled

    tree, _, slots, weights = _tree()
    return lambda: compiled.refresh(tree, slots, weights)


def _importance() -> Run:
    weights = np.random.default_rng(5).random(32)
    return lambda: replay.importance(weights, 5000.0, 10_000, 0.4)


def _reservoir() -> Run:
    generator, state = np.random.default_rng(6), reservoir.empty(100)
    for _ in range(10_000):
        state, _ = reservoir.offer(state, generator)
    return lambda: reservoir.offer(state, generator)


def _lora_case(rows: int, rank: int, seed_target: str, ratio: float) -> Case:
    return Case(
        "learning.lora_forward/1",
        f"{rows} x {WIDTH}, rank {rank}",
        _forward(rows, rank),
        _forward_fast(rows, rank),
        _forward_torch(rows, rank),
        CALLS_US,
        seed_target,
        ratio,
    )


CASES: list[Case] = [
    _lora_case(1, 1, "<50 µs", 1.0 / 6.0),
    _lora_case(1, 2, "<100 µs", 1.3 / 6.0),
    _lora_case(1, 16, "<100 µs", 1.4 / 6.0),
    _lora_case(32, 2, "2,236/s", 5.6 / 14.0),
    Case("learning.lora_batched/1", "32 x 256, 4 adapters, rank 2", _batched, torch=_batched_torch),
    Case("learning.lora_gradients/1", "32 x 256, rank 2", _gradients, torch=_gradients_torch),
    Case("learning.lora_merge/1", "4 of rank 8 at 256 x 256", _merge, torch=_merge_torch),
    Case("learning.lora_quantise/1", "16 x 256, int8", _quantise),
    Case(
        "learning.fisher_softmax_layer/1",
        "1000 examples, 10^6 weights",
        _fisher_layer,
        torch=_fisher_layer_torch,
        limit_us=lambda roof: roof.flops_us(2e9),
        seed_target="<2 s",
    ),
    Case("learning.fisher_softmax_adapter/1", "64 x 256, rank 2", _fisher_adapter("softmax")),
    Case("learning.fisher_gaussian_adapter/1", "64 x 256, rank 2", _fisher_adapter("gaussian")),
    Case("learning.ewc_penalty/1", "100k weights", _ewc(slope=False)),
    Case("learning.ewc_gradient/1", "100k weights", _ewc(slope=True), torch=_ewc_torch),
    Case("learning.sum_tree_find/1", "10k leaves, 32 draws", _find, _find_fast, _find_torch),
    Case("learning.sum_tree_refresh/1", "10k leaves, 32 changed", _refresh, _refresh_fast),
    Case("learning.replay_importance/1", "32 draws", _importance),
    Case("learning.reservoir/1", "one item, 10k seen", _reservoir),
]
