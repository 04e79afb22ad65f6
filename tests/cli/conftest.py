from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from .fixtures import Daemon, Shell, running


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    with running(tmp_path / "node") as made:
        yield made


@pytest.fixture
def shell(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(tmp_path / "node", capsys)
