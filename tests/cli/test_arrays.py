"""Arrays from files and into a file, as the command line sends and writes them."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgenet_node.tasks.handlers import Environment
from edgenet_node.tasks.handlers.matmul import make
from edgenet_node.tasks.handlers.matmul_worker import run

from .fixtures import Daemon, Reply, Shell
from .test_tasks import task

A, B = np.arange(6, dtype=np.float32).reshape(2, 3), np.arange(12, dtype=np.float32).reshape(3, 4)


class Context:
    """Of a worker with the numpy backend."""

    def kernel(self, name: str) -> Any:
        return np.matmul


def multiplied(body: Any) -> Reply:
    """What a node answers: by the real handler."""
    handler = make(Environment(Path()))
    parsed = handler.parse(body["payload"])
    output = run(Context(), parsed.spec, handler.pack(parsed.items))
    return 200, task(kind="matmul", result=handler.result(handler.merge(parsed.spec, [output])))


@pytest.fixture
def files(tmp_path: Path) -> Path:
    np.save(tmp_path / "a.npy", A)
    np.save(tmp_path / "b.npy", B)
    np.savez(tmp_path / "both.npz", a=A, b=B)
    (tmp_path / "texts").write_text("one\n")
    return tmp_path


def test_a_product_of_files_is_written_to_a_file(daemon: Daemon, shell: Shell, files: Path) -> None:
    daemon.routes["POST /api/tasks"] = multiplied
    for words in ([f"{files}/a.npy", "--file", f"{files}/b.npy"], [f"{files}/both.npz"]):
        target = files / "product.npy"
        ran = shell("submit", "matmul", "--file", *words, "--output", str(target), json=True)
        assert ran.code == 0
        assert ran.json["result"] == {"shape": [2, 4], "dtype": "float32", "file": str(target)}
        np.testing.assert_array_equal(np.load(target), A @ B)
        target.unlink()
    ran = shell("submit", "matmul", "--file", f"{files}/both.npz", json=True)
    np.testing.assert_array_equal(np.load(io.BytesIO(base64.b64decode(ran.json["result"]["npy"]))), A @ B)


def test_a_payload_holds_the_rest(daemon: Daemon, shell: Shell, files: Path) -> None:
    daemon.routes["POST /api/tasks"] = (200, task())
    ran = shell("submit", "lora_inference", "--file", f"{files}/both.npz", "--payload", '{"alpha": 2}')
    assert ran.code == 0
    payload = daemon.asked[-1].body["payload"]
    assert payload == {"alpha": 2, "arrays": base64.b64encode((files / "both.npz").read_bytes()).decode()}


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--file", "both.npz", "--file", "both.npz"], "arrays is given twice"),
        (["--file", "a.npy", "--payload", '{"a": [[1]]}'], "a is given twice"),
        (["--file", "a.npy", "--file", "texts"], "either texts or files of arrays"),
        (["--file", "a.npy", "--text", "x"], "either texts or files of arrays"),
        (["--file", "none.npy"], "cannot read none.npy: No such file"),
        (["--file", "both.npz", "--output", "c.npy", "--detach"], "--detach waits for no --output"),
    ],
)
def test_what_does_not_go_together_is_one_line(
    words: list[str], told: str, shell: Shell, files: Path, daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(files)
    ran = shell("submit", "matmul", *words)
    assert ran.code != 0
    assert told in ran.err
    assert not daemon.asked


def test_a_result_that_is_no_array_or_no_place_for_it(daemon: Daemon, shell: Shell, files: Path) -> None:
    daemon.routes["POST /api/tasks"] = (200, task())
    assert "no array" in shell("submit", "embedding", "--text", "x", "--output", f"{files}/x.npy").err
    daemon.routes["POST /api/tasks"] = multiplied
    ran = shell("submit", "matmul", "--file", f"{files}/both.npz", "--output", f"{files}/none/x.npy")
    assert "cannot write" in ran.err
