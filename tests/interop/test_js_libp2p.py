"""A peer of another libp2p implementation, which knows nothing but `protocols/`, joins a real node.

npm cannot be run here; whoever has js-libp2p names its folder:

    mkdir DIR && cp tests/interop/js/package.json DIR && npm --prefix DIR install --no-package-lock
    EDGENET_JS_MODULES=DIR scripts/test tests/interop
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ..e2e.support import WAIT_S, Land, Node, until

MODULES = os.environ.get("EDGENET_JS_MODULES", "")
SOURCES = Path(__file__).parent / "js"
BLAMES_MAX = 20

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(not MODULES, reason="EDGENET_JS_MODULES names no folder with js-libp2p (see this module)"),
    pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed"),
]


class Client:
    """client.mjs at work: `step` waits for its next line, `go_on` lets it do harm."""

    def __init__(self, folder: Path, address: str) -> None:
        modules = Path(MODULES).resolve()
        if modules.name != "node_modules":
            modules /= "node_modules"
        if not (modules / "libp2p").is_dir():
            pytest.fail(f"EDGENET_JS_MODULES: no libp2p in {modules}")
        for source in SOURCES.iterdir():
            shutil.copy(source, folder)
        (folder / "node_modules").symlink_to(modules)  # imports are looked up beside the program
        self._log = folder / "log"
        self._said = folder / "said"
        self._seen = 0
        with self._said.open("wb") as said, self._log.open("wb") as log:
            self._process = subprocess.Popen(  # noqa: S603 - ours
                ["node", "client.mjs", address],  # noqa: S607 - wherever it is installed
                cwd=folder,
                stdin=subprocess.PIPE,
                stdout=said,
                stderr=log,
            )

    def step(self, name: str) -> dict[str, Any]:
        def line() -> str:
            lines = self._said.read_text().splitlines(keepends=True)
            if len(lines) > self._seen and lines[self._seen].endswith("\n"):
                return lines[self._seen]
            assert self._process.poll() is None, f"ended before {name}:\n{self._log.read_text()[-2000:]}"
            return ""

        found: dict[str, Any] = json.loads(until(line, name))
        self._seen += 1
        assert found["step"] == name
        return found

    def go_on(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(b"\n")
        self._process.stdin.flush()

    def end(self) -> int:
        return self._process.wait(WAIT_S)

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()


@pytest.fixture
def node(land: Land) -> Node:
    return land.node("node").start()


@pytest.fixture
def client(node: Node, tmp_path: Path) -> Iterator[Client]:
    made = Client(tmp_path, node.address)
    yield made
    made.close()


def test_js_libp2p_joins_talks_and_is_refused_after_harm(node: Node, client: Client) -> None:
    swarm = node.get("status")["swarm"]
    connected = client.step("connected")
    peer = connected["peer"]
    assert (connected["node"], connected["encryption"], connected["multiplexer"]) == (node.id, "/noise", "/yamux/1.0.0")
    spoken = {"/ipfs/id/1.0.0", "/ipfs/ping/1.0.0", "/meshsub/1.1.0", "/edgenet/hello/1", f"/edgenet/{swarm}/rpc/1"}
    assert spoken <= set(connected["protocols"])

    welcome = client.step("welcome")  # genesis and records were verified over there
    assert (welcome["swarm"], welcome["addresses"]) == (swarm, [node.address])
    until(lambda: node.peers()[peer]["connected"], "admitted")

    presence = client.step("presence")
    status = node.get("status")
    assert [offer["kind"] for offer in presence["capabilities"]] == sorted(
        offer["kind"] for offer in presence["capabilities"]
    )
    assert {"echo", "embedding"} <= {offer["kind"] for offer in presence["capabilities"]}
    assert (presence["workers"], presence["recipients"], status["swarm"]) == (1, [node.id], swarm)
    addresses = until(lambda: node.peers()[peer]["addresses"], "its presence, with its record, arrived")
    assert all(address.endswith(peer) for address in addresses)

    calls = client.step("calls")
    assert calls["peers"] == [peer]
    assert (calls["unknown"], calls["error"]["code"]) == (1, "malformed")
    assert not node.counters().get("gossip_rejected")

    client.go_on()
    assert client.step("garbage")["peers"] == [peer]  # it still answers
    until(lambda: node.counters().get("gossip_rejected") == 2, "both messages counted")
    assert node.counters()["blames"] >= 1
    assert node.peers()[peer]["connected"]

    client.go_on()
    refused = client.step("refused")
    assert set(refused["hellos"]) == {"malformed"}
    assert len(refused["hellos"]) <= BLAMES_MAX
    code, reason, _ = refused["farewell"]
    assert code == "refused"
    assert "too many malformed messages" in reason
    until(lambda: node.peers()[peer]["state"] == "refused", "it is refused")
    assert client.end() == 0

    assert not node.counters().get("faults")
    assert not node.counters().get("host_restarts")
    assert "Traceback" not in node.log()
    assert node.submit("echo", {"data": "still there?"}, local=True)["state"] == "done"
