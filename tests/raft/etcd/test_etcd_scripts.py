"""One test for each script of etcd's that is there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from .algebra import Configurations, quorum
from .environment import Environment
from .script import Command, parse, scripts, without_log


def _scripts(folder: str) -> list[object]:
    """A parameter for each; one that skips without the data."""
    found = scripts(folder)
    reason = f"no etcd-raft/{folder} scripts: set EDGENET_CONFORMANCE to the folder of other projects' test data"
    if not found:
        return [pytest.param(None, id="absent", marks=pytest.mark.skip(reason=reason))]
    return [pytest.param(path, id=path.stem) for path in found]


def _run(path: Path, run: Callable[[Command], str]) -> None:
    commands = list(parse(path.read_text(encoding="utf-8")))
    assert commands, "a script has commands"
    for command in commands:
        where = f"{path.name}:{command.line}: {command.name}"
        assert f"{where}\n{without_log(run(command))}" == f"{where}\n{without_log(command.expected)}"


@pytest.mark.parametrize("path", _scripts("interaction"))
def test_etcd_interaction(path: Path) -> None:
    _run(path, Environment().run)


@pytest.mark.parametrize("path", _scripts("quorum"))
def test_etcd_quorum(path: Path) -> None:
    _run(path, quorum)


@pytest.mark.parametrize("path", _scripts("confchange"))
def test_etcd_confchange(path: Path) -> None:
    _run(path, Configurations().run)
