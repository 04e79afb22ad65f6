"""A place for real nodes, and the model in this process to hold their answers against."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from edgenet_node.kernels import bootstrap

bootstrap.apply()  # as the daemon and its workers do, before numpy is loaded

from edgenet_node.kernels import encoder_weights  # noqa: E402
from edgenet_node.kernels.encoder import Encoder  # noqa: E402

from .support import Land, Node  # noqa: E402

Swarm = tuple[Node, Node, Node]


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model, prepared once; without it nearly nothing here could be tested."""
    try:
        files = encoder_weights.locate()
    except encoder_weights.WeightsMissing as missing:
        pytest.skip(missing.message)
    folder = tmp_path_factory.mktemp("weights")
    encoder_weights.prepare(files, folder)
    return folder


@pytest.fixture(scope="session")
def encoder(weights: Path) -> Encoder:
    return Encoder.open(weights)


@pytest.fixture(scope="module")
def land(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Land]:
    made = Land(tmp_path_factory.mktemp("land"), weights)
    yield made
    made.close()


@pytest.fixture(scope="session")
def swarm(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Swarm]:
    """Three nodes for all tests that harm nobody."""
    made = Land(tmp_path_factory.mktemp("swarm"), weights)
    try:
        a, b, c = made.swarm("abc")
        yield a, b, c
    finally:
        made.close()
