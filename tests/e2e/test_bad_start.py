"""A node that cannot start says why in one line, with the remedy, and leaves everything as it was."""

from __future__ import annotations

import http.client
import os
from pathlib import Path

import pytest

from edgenet_node.app.initialise import initialise
from edgenet_node.cli.door import Door
from edgenet_node.cli.exits import Answered

from .conftest import Swarm
from .support import LOOPBACK, Land, Node, Ran

pytestmark = pytest.mark.e2e


@pytest.fixture
def fresh(land: Land) -> Node:
    """A folder with key and configuration."""
    node = land.node(f"fresh{len(land.nodes)}")
    initialise(node.home)
    return node


@pytest.fixture(scope="module")
def used_store(land: Land) -> bytes:
    """The store of a node that has run."""
    node = land.node("used").start()
    assert node.terminate() == 0
    return (node.home / "store.sqlite").read_bytes()


def start(land: Land, node: Node, *args: object, env: dict[str, str] | None = None) -> Ran:
    """`run` that is expected to end by itself."""
    options = ["--data-dir", node.home, "--listen", LOOPBACK, "--api", "127.0.0.1:0", "--workers", 1]
    return land.execute("run", *options, *args, env=env)


def test_a_second_node_on_the_same_folder(land: Land, swarm: Swarm) -> None:
    a = swarm[0]
    said = start(land, a).refused(1)
    assert str(a.home) in said
    assert f"process {a.pid}" in said
    assert a.get("status")["state"] == "ready"


def test_a_taken_port(land: Land, swarm: Swarm, fresh: Node) -> None:
    port = swarm[0].address.split("/tcp/")[1].split("/")[0]
    said = start(land, fresh, "--listen", f"/ip4/127.0.0.1/tcp/{port}").refused(2)
    assert port in said
    assert swarm[0].get("status")["state"] == "ready"


def test_a_taken_api_port(land: Land, swarm: Swarm, fresh: Node) -> None:
    api = swarm[0].ready["api"].removeprefix("http://")
    said = start(land, fresh, "--api", api).refused(2)
    assert api in said
    assert "--api" in said


@pytest.mark.parametrize("first", [0, 4096])
def test_a_corrupt_store(land: Land, fresh: Node, used_store: bytes, first: int) -> None:
    """Its header, and a page of it."""
    path = fresh.home / "store.sqlite"
    damaged = used_store[:first] + os.urandom(2048) + used_store[first + 2048 :]
    path.write_bytes(damaged)
    assert str(path) in start(land, fresh).refused(1)
    assert path.read_bytes() == damaged


def test_a_protected_key_needs_its_password(land: Land) -> None:
    node = land.node("protected", EDGENET_KEY_PASSWORD="correct horse battery")
    made = initialise(node.home, password="correct horse battery")
    assert "EDGENET_KEY_PASSWORD" in start(land, node).refused(1)
    assert "password is wrong" in start(land, node, env={"EDGENET_KEY_PASSWORD": "incorrect horse"}).refused(1)
    assert node.start().id == made["peer_id"]


@pytest.mark.parametrize("damage", ["flip", "cut", "replace"])
def test_a_corrupt_key(land: Land, fresh: Node, damage: str) -> None:
    path = fresh.home / "identity.key"
    data = path.read_bytes()
    flipped = data[:-3] + bytes([data[-3] ^ 1]) + data[-2:]
    path.write_bytes({"flip": flipped, "cut": data[:-1], "replace": b"hello"}[damage])
    said = start(land, fresh).refused(1)
    assert str(path) in said
    assert "backup" in said


def test_a_key_that_others_can_read(land: Land, fresh: Node) -> None:
    path = fresh.home / "identity.key"
    path.chmod(0o644)
    assert f"chmod 600 {path}" in start(land, fresh).refused(1)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[network]\nlisten_adr = []\n", "did you mean network.listen?"),
        ("[network]\npeers_max = 0\n", "1 to 1024 peers"),
        ("[network\n", "is not TOML"),
    ],
)
def test_a_bad_configuration(land: Land, fresh: Node, text: str, said: str) -> None:
    path = fresh.home / "node.toml"
    path.write_text(text)
    line = start(land, fresh).refused(2)
    assert str(path) in line
    assert said in line


def test_a_bad_environment(land: Land, fresh: Node) -> None:
    line = start(land, fresh, env={"EDGENET_NETWORK__PEER_MAX": "3"}).refused(2)
    assert "EDGENET_NETWORK__PEERS_MAX" in line


@pytest.mark.parametrize(
    "address", ["/ip4/127.0.0.1/tcp/4001", "127.0.0.1:4001", "/ip4/127.0.0.1/tcp/4001/p2p/" + "1" * 50]
)
def test_a_bad_bootstrap_address(land: Land, fresh: Node, address: str) -> None:
    assert address[:30] in start(land, fresh, "--bootstrap", address).refused(2)


def test_a_folder_that_cannot_be_used(land: Land, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("not a folder")
    for home in (file, file / "below", Path("/proc/edgenet-node")):
        said = land.execute("run", "--data-dir", home, "--listen", LOOPBACK, "--api", "127.0.0.1:0").refused(1)
        assert str(home) in said
        assert "--data-dir" in said


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written(land: Land, tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    said = land.execute("run", "--data-dir", tmp_path / "node", "--listen", LOOPBACK).refused(1)
    assert "Permission denied" in said


def test_the_wrong_token(swarm: Swarm) -> None:
    a = swarm[0]
    for token in ("", "wrong", "x" * 43):
        with pytest.raises(Answered) as caught:
            Door(a.ready["api"], token).request("GET", "/api/status")
        assert caught.value.remote_code == "unauthorized"
    connection = http.client.HTTPConnection(a.ready["api"].removeprefix("http://"), timeout=30)
    connection.request("GET", "/api/status")
    assert connection.getresponse().status == 401


def test_a_body_over_the_limit(swarm: Swarm) -> None:
    a = swarm[0]
    api, token = a.ready["api"].removeprefix("http://"), (a.home / "api.token").read_text().strip()
    large = bytes(1 << 20)
    headers = {"Authorization": f"Bearer {token}"}
    for body in (large * 17, (large for _ in range(17))):
        connection = http.client.HTTPConnection(api, timeout=60)
        connection.request("POST", "/api/tasks", body=body, headers=headers)
        assert connection.getresponse().status == 413
        connection.close()
    assert a.get("status")["state"] == "ready"


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"kind": "embedding", "payload": {"text": "x"}, "colour": 1}, "colour"),
        ({"kind": "embedding"}, "payload"),
        ({"kind": 7, "payload": {}}, "kind"),
        ({"kind": "embedding", "payload": {"text": "x"}, "timeout_s": -1}, "timeout_s"),
    ],
)
def test_a_request_that_is_not_understood(swarm: Swarm, body: dict[str, object], said: str) -> None:
    with pytest.raises(Answered, match=said) as caught:
        swarm[0].post("tasks", body=body)
    assert caught.value.remote_code == "usage"
    assert "\n" not in caught.value.message
