"""Rows of the graph kernels: 1000 nodes and 10,000 edges of 64 features, cuts and flows of sparse graphs.

torch has its fastest operation for each: a sparse matrix for GCN, `index_add_` and `scatter_reduce` for GAT.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from edgenet_node.kernels.graphs import attention, convolution, rows, sampling
from edgenet_node.kernels.graphs.cut import min_cut, tension
from edgenet_node.kernels.graphs.flow import max_flow, vertex_disjoint_paths

from .case import Case, Factory, Run

NODES, EDGES, WIDTH, HEADS = 1000, 10_000, 64, 4
SIZE = "1k nodes, 10k edges, 64 features"


def random_edges(nodes: int, edges: int) -> tuple[Any, Any]:
    rng = np.random.default_rng(nodes + edges)
    return rng.integers(0, nodes, edges), rng.integers(0, nodes, edges)


def features() -> tuple[Any, Any]:
    rng = np.random.default_rng(1)
    x, weight = rng.standard_normal((NODES, WIDTH), np.float32), rng.standard_normal((WIDTH, WIDTH), np.float32)
    return x, 0.1 * weight


def looped() -> rows.Rows:
    return rows.from_edges(NODES, *random_edges(NODES, EDGES), self_loops=True)


def compiled(name: str, plain: Callable[..., Any], fast: bool) -> Callable[..., Any]:
    if not fast:
        return plain
    from edgenet_node.kernels.compiled import graphs

    function: Callable[..., Any] = getattr(graphs, name)
    return function


def gcn(*, fast: bool) -> Factory:
    def build() -> Run:
        x, weight = features()
        function = compiled("gcn", convolution.gcn, fast)
        plan, workspace, out = convolution.plan(looped()), convolution.Workspace(NODES, WIDTH), np.empty_like(x)
        return lambda: function(x, plan, weight, out=out, workspace=workspace)

    return build


def gcn_torch() -> Run:
    import torch

    x, weight = (torch.from_numpy(part) for part in features())
    normalised = convolution.plan(looped()).rows
    parts = (torch.from_numpy(part) for part in (normalised.starts, normalised.sources, normalised.weights))
    matrix = torch.sparse_csr_tensor(*parts, size=(NODES, NODES))
    return lambda: matrix @ (x @ weight)


def gat_weights(weight: Any) -> attention.Weights:
    halves = 0.1 * np.random.default_rng(2).standard_normal((2, HEADS, WIDTH // HEADS), np.float32)
    return attention.Weights(projection=weight, source=halves[0], target=halves[1])


def gat(*, fast: bool) -> Factory:
    def build() -> Run:
        x, weight = features()
        graph = looped()
        weights, function, plan = gat_weights(weight), compiled("gat", attention.gat, fast), attention.plan(graph)
        workspace = attention.Workspace(NODES, graph.sources.size, HEADS, WIDTH // HEADS)
        out = np.empty_like(x)
        return lambda: function(x, plan, weights, out=out, workspace=workspace)

    return build


def gat_torch() -> Run:
    import torch

    x, weight = features()
    weights, graph = gat_weights(weight), looped()
    given, projection = torch.from_numpy(x), torch.from_numpy(weight)
    one, other = torch.from_numpy(weights.source), torch.from_numpy(weights.target)
    sources, targets = torch.from_numpy(graph.sources), torch.from_numpy(graph.targets)
    places = targets[:, None].expand(-1, HEADS)

    def run() -> Any:
        projected = (given @ projection).view(NODES, HEADS, -1)
        logits = (projected * one).sum(2)[sources] + (projected * other).sum(2)[targets]
        logits = torch.nn.functional.leaky_relu(logits, attention.SLOPE)
        peaks = torch.full((NODES, HEADS), -torch.inf).scatter_reduce_(0, places, logits, "amax")
        powers = torch.exp(logits - peaks[targets])
        alpha = powers / torch.zeros(NODES, HEADS).index_add_(0, targets, powers)[targets]
        return torch.zeros(NODES, HEADS, WIDTH // HEADS).index_add_(0, targets, alpha[..., None] * projected[sources])

    return run


def sage(*, fast: bool) -> Factory:
    """With a new sample of 10 each time, as a node that learns of new peers takes it."""

    def build() -> Run:
        x, weight = features()
        function = compiled("sage", sampling.sage, fast)
        plain = rows.from_edges(NODES, *random_edges(NODES, EDGES))
        uniforms = np.random.default_rng(3).random((NODES, 10))
        workspace, out = sampling.Workspace(NODES, WIDTH, WIDTH), np.empty_like(x)
        return lambda: function(x, sampling.sample(plain, 10, uniforms), weight, weight, out=out, workspace=workspace)

    return build


def sample() -> Run:
    plain = rows.from_edges(NODES, *random_edges(NODES, EDGES))
    uniforms = np.random.default_rng(3).random((NODES, 10))
    return lambda: sampling.sample(plain, 10, uniforms)


def cut(nodes: int) -> Factory:
    def build() -> Run:
        sources, targets = random_edges(nodes, 5 * nodes)
        weights = np.random.default_rng(4).random(5 * nodes)
        return lambda: min_cut(nodes, sources, targets, weights)

    return build


def cut_regular() -> Run:
    """The slow case: all degrees and weights equal."""
    nodes = np.arange(500)
    targets = np.concatenate([(nodes + 1) % 500, (nodes + 37) % 500])
    return lambda: min_cut(500, np.tile(nodes, 2), targets)


def flow() -> Run:
    sources, targets = random_edges(500, 2500)
    capacities = np.random.default_rng(5).random(2500)
    return lambda: max_flow(500, sources, targets, capacities, 0, 1)


def disjoint() -> Run:
    sources, targets = random_edges(500, 2500)
    both = np.concatenate([sources, targets]), np.concatenate([targets, sources])
    return lambda: vertex_disjoint_paths(500, *both, 0, 1)


CASES = [
    Case(
        kernel="graphs.gcn/1",
        size=SIZE,
        numpy=gcn(fast=False),
        fast=gcn(fast=True),
        torch=gcn_torch,
        limit_us=lambda machine: machine.flops_us(2.0 * NODES * WIDTH * WIDTH + 2.0 * EDGES * WIDTH),
        seed_target="<15 ms",
        asked_ratio=0.59,
    ),
    Case(
        kernel="graphs.gat/1",
        size=f"{SIZE}, {HEADS} heads",
        numpy=gat(fast=False),
        fast=gat(fast=True),
        torch=gat_torch,
        seed_target="<15 ms",
        asked_ratio=0.33,
    ),
    Case("graphs.sage/1", f"{SIZE}, k 10", sage(fast=False), sage(fast=True), seed_target="<15 ms"),
    Case("graphs.sample/1", "1k nodes, 10k edges, k 10", sample),
    Case("graphs.min_cut/1", "50 nodes, 250 edges", cut(50), seed_target="O(n^0.12)"),
    Case("graphs.min_cut/1", "500 nodes, 2500 edges", cut(500), seed_target="O(n^0.12)"),
    Case("graphs.min_cut/1", "1000 nodes, 5000 edges", cut(1000), seed_target="O(n^0.12)"),
    Case("graphs.min_cut/1", "500 nodes, each of degree 4", cut_regular, seed_target="O(n^0.12)"),
    Case("graphs.tension/1", "one", lambda: lambda: tension(1.0, 3.0)),
    Case("graphs.max_flow/1", "500 nodes, 2500 edges", flow),
    Case("graphs.vertex_disjoint_paths/1", "500 nodes, 5000 edges", disjoint),
]
