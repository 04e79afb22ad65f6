"""Where the test data of other projects lies: EDGENET_CONFORMANCE, or `../shared/conformance` beside the repository."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(os.environ.get("EDGENET_CONFORMANCE") or Path(__file__).parents[2] / ".." / "shared" / "conformance")


def wycheproof(name: str) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Each (group, test) of a Wycheproof file; skips the test when it is not there."""
    path = ROOT / "wycheproof" / name
    if not path.is_file():
        pytest.skip(f"no conformance data at {path}: set EDGENET_CONFORMANCE to its folder")
    document = json.loads(path.read_text())
    tests = [(group, test) for group in document["testGroups"] for test in group["tests"]]
    assert len(tests) == document["numberOfTests"] > 0
    yield from tests
