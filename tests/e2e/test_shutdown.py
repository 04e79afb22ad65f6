"""The end of a node: gracefully on SIGTERM, and nothing left behind by kill -9."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from .support import Land, Node, until

pytestmark = pytest.mark.e2e


@pytest.fixture
def land(weights: Path, tmp_path: Path) -> Iterator[Land]:
    """One for each test: what is left of a node is looked for everywhere."""
    made = Land(tmp_path, weights)
    yield made
    made.close()


def busy(land: Land, name: str) -> tuple[Node, str]:
    """A node in the middle of a task of its own, that does not end by itself."""
    node = land.node(name, EDGENET_NODE__GRACE_S="2").start()
    node.hold()
    task = str(node.submit("gate", {"items": ["held"]}, wait=False)["task"])
    until(lambda: node.waiting, "it works")
    assert node.workers()
    return node, task


def gone(pids: list[int]) -> bool:
    return not any(psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE for pid in pids)


def test_sigterm_during_work_ends_in_order_and_the_task_goes_on_later(land: Land) -> None:
    node, task = busy(land, "terminated")
    workers = node.workers()
    assert node.terminate() == 0
    assert gone(workers)
    assert not (node.home / "run.json").exists()
    assert "Traceback" not in node.log()
    node.release()
    node.start()
    assert node.wait_task(task)["state"] == "done"


def test_stop_over_the_api_drains_what_is_nearly_done(land: Land) -> None:
    node, task = busy(land, "stopped")
    assert node.cli("stop", "--json").json == {"state": "stopping"}
    node.release()
    assert node.process.wait(60) == 0
    assert "no daemon is running" in node.cli("status").refused(3)
    node.start()
    assert node.wait_task(task)["state"] == "done"


def test_kill_leaves_no_worker_and_a_folder_that_works(land: Land) -> None:
    node, task = busy(land, "killed")
    workers = node.workers()
    node.kill()
    until(lambda: gone(workers), "the workers die with their parent")
    assert "no daemon is running" in node.cli("status").refused(3)
    node.release()
    node.start()
    assert node.wait_task(task)["state"] == "done"
    assert node.terminate() == 0
    until(lambda: not land.processes(), "nothing of it is left")


def test_a_signal_before_it_is_ready_ends_it_too(land: Land) -> None:
    node = land.node("early")
    node.launch()
    until((node.home / "lock").exists, "it has begun")
    node.process.terminate()
    assert node.process.wait(60) in (0, -15, 130, 143)
    until(lambda: not land.processes(), "nothing of it is left")
    assert node.start().get("status")["state"] == "ready"
