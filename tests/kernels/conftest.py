"""The real model, for tests that need it: prepared once per run, skipped with the reason where it is not installed."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgenet_node.kernels import bootstrap

bootstrap.apply()  # as the daemon and its workers do, before numpy is loaded

from edgenet_node.kernels import encoder_weights  # noqa: E402
from edgenet_node.kernels.encoder import Encoder  # noqa: E402


@pytest.fixture(scope="session")
def model_files() -> encoder_weights.ModelFiles:
    try:
        return encoder_weights.locate()
    except encoder_weights.WeightsMissing as missing:
        pytest.skip(missing.message)


@pytest.fixture(scope="session")
def prepared_folder(model_files: encoder_weights.ModelFiles, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("prepared")
    encoder_weights.prepare(model_files, folder)
    return folder


@pytest.fixture(scope="session")
def encoder(prepared_folder: Path) -> Encoder:
    return Encoder.open(prepared_folder)
