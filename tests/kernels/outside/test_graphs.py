"""Graph kernels against torch_geometric and networkx."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from edgenet_node.kernels.graphs import attention, convolution, diagonals, rows, sampling
from edgenet_node.kernels.graphs.cut import min_cut
from edgenet_node.kernels.graphs.flow import max_flow, vertex_disjoint_paths

Array = npt.NDArray[np.float32]
NODES = 60


def network(seed: int) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp], Array]:
    rng = np.random.default_rng(seed)
    sources, targets = rng.integers(0, NODES, 400), rng.integers(0, NODES, 400)
    apart = (sources != targets) & (targets > 2)  # some nodes hear nobody
    return sources[apart], targets[apart], rng.standard_normal((NODES, 8)).astype(np.float32)


def tensor(layer: Any) -> Array:
    """A parameter as float32, in our order: inputs first."""
    array: Array = np.ascontiguousarray(layer.detach().numpy().T)
    return array


@pytest.mark.parametrize("weighted", [False, True])
def test_gcn_is_gcnconv(weighted: bool) -> None:
    torch: Any = pytest.importorskip("torch")
    nn: Any = pytest.importorskip("torch_geometric.nn")
    torch.manual_seed(1)
    sources, targets, x = network(1)
    weights = np.random.default_rng(1).random(sources.size).astype(np.float32) if weighted else None
    layer = nn.GCNConv(8, 5)
    layer.bias.data.normal_()
    edges = torch.tensor(np.stack([sources, targets]))
    wanted = layer(torch.tensor(x), edges, None if weights is None else torch.tensor(weights)).detach().numpy()
    plan = convolution.plan(rows.from_edges(NODES, sources, targets, weights, self_loops=True))
    got = convolution.gcn(x, plan, tensor(layer.lin.weight), tensor(layer.bias))
    np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("edged", [False, True])
def test_gat_is_gatconv(edged: bool) -> None:
    torch: Any = pytest.importorskip("torch")
    nn: Any = pytest.importorskip("torch_geometric.nn")
    torch.manual_seed(2)
    sources, targets, x = network(2)
    features = np.random.default_rng(2).standard_normal((sources.size, 3)).astype(np.float32) if edged else None
    layer = nn.GATConv(8, 6, heads=4, edge_dim=3 if edged else None)
    layer.bias.data.normal_()
    edges = torch.tensor(np.stack([sources, targets]))
    wanted = layer(torch.tensor(x), edges, None if features is None else torch.tensor(features)).detach().numpy()
    weights = attention.Weights(
        projection=tensor(layer.lin.weight),
        source=layer.att_src.detach().numpy()[0],
        target=layer.att_dst.detach().numpy()[0],
        bias=tensor(layer.bias),
        edge_projection=tensor(layer.lin_edge.weight) if edged else None,
        edge=layer.att_edge.detach().numpy()[0] if edged else None,
    )
    plan = attention.plan(rows.from_edges(NODES, sources, targets, self_loops=True))
    np.testing.assert_allclose(attention.gat(x, plan, weights, features), wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("aggregator", ["mean", "max"])
def test_sage_is_sageconv(aggregator: sampling.Aggregator) -> None:
    torch: Any = pytest.importorskip("torch")
    nn: Any = pytest.importorskip("torch_geometric.nn")
    torch.manual_seed(3)
    sources, targets, x = network(3)
    layer = nn.SAGEConv(8, 5, aggr=aggregator, normalize=True)
    layer.lin_l.bias.data.normal_()
    wanted = layer(torch.tensor(x), torch.tensor(np.stack([sources, targets]))).detach().numpy()
    plan = diagonals.from_rows(rows.from_edges(NODES, sources, targets))
    got = sampling.sage(
        x, plan, tensor(layer.lin_r.weight), tensor(layer.lin_l.weight), tensor(layer.lin_l.bias), aggregator=aggregator
    )
    np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("seed", range(8))
def test_min_cut_is_networkx(seed: int) -> None:
    networkx: Any = pytest.importorskip("networkx")
    rng = np.random.default_rng(seed)
    graph = networkx.connected_watts_strogatz_graph(40, 4, 0.3, seed=seed)
    for _, _, data in graph.edges(data=True):
        data["weight"] = int(rng.integers(1, 9)) if seed % 2 else float(rng.random())
    edges = list(graph.edges(data="weight"))
    cut = min_cut(40, [a for a, _, _ in edges], [b for _, b, _ in edges], [w for _, _, w in edges])
    assert cut.value == pytest.approx(networkx.stoer_wagner(graph)[0], rel=1e-12)


@pytest.mark.parametrize("seed", range(8))
def test_flow_and_disjoint_paths_are_networkx(seed: int) -> None:
    networkx: Any = pytest.importorskip("networkx")
    rng = np.random.default_rng(seed)
    graph = networkx.gnp_random_graph(30, 0.15, seed=seed, directed=True)
    for _, _, data in graph.edges(data=True):
        data["capacity"] = int(rng.integers(0, 20))
    edges = list(graph.edges(data="capacity"))
    sources, targets = [a for a, _, _ in edges], [b for _, b, _ in edges]
    flow = max_flow(30, sources, targets, [c for _, _, c in edges], 0, 29)
    assert flow.value == networkx.maximum_flow_value(graph, 0, 29)
    try:
        wanted = len(list(networkx.node_disjoint_paths(graph, 0, 29)))
    except networkx.NetworkXNoPath:
        wanted = 0
    assert len(vertex_disjoint_paths(30, sources, targets, 0, 29)) == wanted
