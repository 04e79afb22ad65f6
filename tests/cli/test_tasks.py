"""Tasks from the command line: what is asked, what is shown, how a stream is followed."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from edgenet_node.cli import door as door_module
from edgenet_node.cli.tasks import event_line

from .fixtures import OWN, PEER_A, PEER_B, Daemon, Shell, error

VERIFIED = {"checked": 1, "total": 1, "mismatches": 0, "error_bound": 0.0}


def task(state: str = "done", **fields: Any) -> dict[str, Any]:
    result = {"embedding": [0.5, 0.25], "model": "m"} if state == "done" else None
    return {
        "task": "t_1",
        "kind": "embedding",
        "state": state,
        "created_wall": 100.0,
        "items": 1,
        "done": 1 if state == "done" else 0,
        "executors": {PEER_A: 1},
        "verified": VERIFIED,
        "reason": "" if state == "done" else "because",
        "result": result,
        **fields,
    }


def event(seq: int, name: str, **data: Any) -> bytes:
    body = json.dumps({"seq": seq, "wall": 100.0 + seq, "name": name, "data": data})
    return f"id: {seq}\nevent: {name}\ndata: {body}\n\n".encode()


def peers(daemon: Daemon) -> None:
    daemon.routes["GET /api/peers"] = (200, [{"peer_id": PEER_A}, {"peer_id": PEER_B}])
    daemon.routes["GET /api/status"] = (200, {"peer_id": OWN})


def test_submit_prints_the_fields_of_the_contract(daemon: Daemon, shell: Shell) -> None:
    daemon.routes["POST /api/tasks"] = (200, task())
    ran = shell("submit", "embedding", "--text", "hallo wörld", json=True)
    assert ran.code == 0
    assert {"state": "done", "task": "t_1", "executors": {PEER_A: 1}, "verified": VERIFIED}.items() <= ran.json.items()
    assert ran.json["result"]["embedding"] == [0.5, 0.25]
    (body,) = daemon.bodies("POST", "/api/tasks")
    assert body["payload"] == {"text": "hallo wörld"}
    assert (body["wait"], body["local"], body["only"]) == (True, False, [])


def test_submit_for_people_keeps_the_result_apart(daemon: Daemon, shell: Shell) -> None:
    daemon.routes["POST /api/tasks"] = (200, task())
    ran = shell("submit", "embedding", "--text", "x")
    assert json.loads(ran.out) == {"embedding": [0.5, 0.25], "model": "m"}
    assert "verified 1 of 1" in ran.err


@pytest.mark.parametrize(("state", "code"), [("failed", 1), ("cancelled", 1), ("rejected", 4), ("timed_out", 5)])
def test_a_task_that_is_not_done_says_why(state: str, code: int, daemon: Daemon, shell: Shell) -> None:
    daemon.routes["POST /api/tasks"] = (200, task(state))
    ran = shell("submit", "embedding", "--text", "x")
    assert (ran.code, ran.out) == (code, "")
    assert "because" in ran.err


def test_payloads(daemon: Daemon, shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    daemon.routes["POST /api/tasks"] = (200, task())
    file = tmp_path / "texts"
    file.write_text("one\n\ntwo\n")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"from a pipe\n")))
    for words, payload in (
        (["--text", "a", "--text", "b"], {"texts": ["a", "b"]}),
        (["--file", str(file)], {"texts": ["one", "two"]}),
        (["--file", "-"], {"text": "from a pipe"}),
        (["--payload", '{"text": "x", "model": "m"}'], {"text": "x", "model": "m"}),
    ):
        assert shell("submit", "embedding", *words).code == 0
        assert daemon.asked[-1].body["payload"] == payload


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], "--text"),
        (["--payload", "{"], "--payload"),
        (["--payload", "[1]"], "--payload"),
        (["--payload", "{}", "--text", "x"], "--payload"),
        (["--file", "/no/such/file"], "/no/such/file"),
        (["--text", "x", "--follow", "--detach"], "--follow"),
        (["--text", "\udcff"], "UTF-8"),
    ],
)
def test_unusable_input_is_refused_before_anything_is_sent(
    words: list[str], told: str, daemon: Daemon, shell: Shell
) -> None:
    ran = shell("submit", "embedding", *words)
    assert ran.code == 2
    assert told in ran.err
    assert daemon.bodies("POST", "/api/tasks") == []


def test_files_that_are_no_text_or_too_large(daemon: Daemon, shell: Shell, tmp_path: Path) -> None:
    binary, large = tmp_path / "binary", tmp_path / "large"
    binary.write_bytes(b"ok\xff")
    with large.open("wb") as file:
        file.truncate(9 << 20)
    assert "byte 2" in shell("submit", "embedding", "--file", str(binary)).err
    assert "8 MiB" in shell("submit", "embedding", "--file", str(large)).err


@pytest.mark.parametrize(
    ("typed", "sent"),
    [
        (["A11"], [PEER_A]),
        (["…" + PEER_B[-8:]], [PEER_B]),
        ([PEER_A, "22"], [PEER_A, OWN]),
        (["12D3KooW" + "z" * 44], ["12D3KooW" + "z" * 44]),
    ],
)
def test_only_takes_the_end_of_a_peer(typed: list[str], sent: list[str], daemon: Daemon, shell: Shell) -> None:
    peers(daemon)
    daemon.routes["POST /api/tasks"] = (200, task())
    assert shell("submit", "embedding", "--text", "x", *(w for one in typed for w in ("--only", one))).code == 0
    assert daemon.asked[-1].body["only"] == sent


@pytest.mark.parametrize(("typed", "told"), [("11", PEER_A), ("zz", "zz"), ("…", "nothing")])
def test_only_refuses_what_fits_several_or_none(typed: str, told: str, daemon: Daemon, shell: Shell) -> None:
    peers(daemon)
    ran = shell("submit", "embedding", "--text", "x", "--only", typed)
    assert ran.code == 2
    assert told in ran.err
    assert daemon.bodies("POST", "/api/tasks") == []


def test_detach_returns_at_once(daemon: Daemon, shell: Shell) -> None:
    daemon.routes["POST /api/tasks"] = (202, task("queued"))
    ran = shell("submit", "embedding", "--text", "x", "--detach", json=True)
    assert (ran.code, ran.json["state"]) == (0, "queued")
    assert daemon.asked[-1].body["wait"] is False


def test_follow_shows_what_happens_and_the_result(daemon: Daemon, shell: Shell) -> None:
    daemon.routes["POST /api/tasks"] = (202, task("queued"))
    daemon.routes["GET /api/tasks/t_1"] = (200, task())
    stream = (
        event(1, "queued")
        + b": waiting\n\n"
        + event(2, "running", peer=PEER_A, items=1)
        + event(3, "done", executors={PEER_A: 1})
    )
    daemon.routes["GET /api/tasks/t_1/events"] = (200, stream)
    ran = shell("submit", "embedding", "--text", "x", "--follow")
    assert ran.code == 0
    shown = ran.err.splitlines()[:3]
    assert [line.split()[1] for line in shown] == ["queued", "running", "done"]
    assert "2.00s" in shown[1]
    assert "peer …" + PEER_A[-8:] in shown[1]
    assert f"executors …{PEER_A[-8:]} 1" in shown[2]


def test_task_follow_as_json_is_one_event_a_line(daemon: Daemon, shell: Shell) -> None:
    daemon.routes["GET /api/tasks/t_1"] = (200, task("timed_out"))
    daemon.routes["GET /api/tasks/t_1/events"] = (200, event(1, "queued") + event(2, "timed_out", reason="late"))
    ran = shell("task", "follow", "t_1", json=True)
    assert ran.code == 5
    assert [json.loads(line)["seq"] for line in ran.out.splitlines()] == [1, 2]


def test_a_broken_stream_is_resumed_without_loss_or_repeats(
    daemon: Daemon, shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(door_module, "RECONNECT_PAUSE_S", 0.0)
    daemon.routes["GET /api/tasks/t_1"] = (200, task())
    streams = [b"", event(1, "queued"), event(2, "running"), event(3, "done")]
    left = list(streams)
    raw = door_module.Door._stream

    def breaking(self: door_module.Door, name: str, after: int) -> Any:
        daemon.routes["GET /api/tasks/t_1/events"] = (200, left.pop(0))
        yield from raw(self, name, after)
        if left:
            raise ConnectionResetError

    monkeypatch.setattr(door_module.Door, "_stream", breaking)
    ran = shell("task", "follow", "t_1", json=True)
    assert ran.code == 0
    assert [json.loads(line)["seq"] for line in ran.out.splitlines()] == [1, 2, 3]
    assert [one.query for one in daemon.asked if one.path.endswith("events")] == [
        "after=0",
        "after=0",
        "after=1",
        "after=2",
    ]


def test_a_stream_that_only_breaks_ends(daemon: Daemon, shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door_module, "RECONNECT_PAUSE_S", 0.0)

    def broken(self: door_module.Door, name: str, after: int) -> Any:
        raise ConnectionResetError("reset")

    monkeypatch.setattr(door_module.Door, "_stream", broken)
    daemon.routes["GET /api/tasks/t_1"] = (200, task("running"))
    ran = shell("task", "follow", "t_1")
    assert ran.code == 3
    assert "reset" in ran.err


def test_an_error_inside_a_stream_has_its_exit_code(daemon: Daemon, shell: Shell) -> None:
    daemon.routes["GET /api/tasks/t_1"] = (200, task("running"))
    inner = json.dumps(error(503, "overloaded", "too busy: try later")[1]).encode()
    daemon.routes["GET /api/tasks/t_1/events"] = (200, event(1, "queued") + b"event: error\ndata: " + inner + b"\n\n")
    ran = shell("task", "follow", "t_1")
    assert ran.code == 4
    assert ran.err == "edgenet-node: too busy: try later\n"


def test_list_show_and_cancel(daemon: Daemon, shell: Shell) -> None:
    daemon.routes["GET /api/tasks"] = (200, [task(), task("failed")])
    daemon.routes["GET /api/tasks/t_1"] = (200, task())
    daemon.routes["POST /api/tasks/t_1/cancel"] = (200, task("cancelled"))
    listed = shell("task", "list", "--limit", "7")
    assert daemon.asked[-1].query == "limit=7"
    assert [line.split()[2] for line in listed.out.splitlines()] == ["STATE", "done", "failed"]
    assert shell("task", "list", json=True).json[1]["state"] == "failed"
    assert shell("task", "show", "t_1", json=True).json["result"]["model"] == "m"
    assert shell("task", "cancel", "t_1").out == "t_1 cancelled\n"
    assert shell("task", "show", "a/../b?x").code == 1
    assert daemon.asked[-1].path == "/api/tasks/a%2F..%2Fb%3Fx"


def test_events_show_peers_by_their_ends_wherever_they_stand() -> None:
    peer = "12D3KooW" + "A" * 36 + "BCDEFGHJ"
    data = {
        "peer": peer,
        "why": f"no stream to {peer}: gone",
        "rate": 0.123456,
        "executors": [{"peer": peer}],
        "n": {peer: 2},
    }
    line = event_line({"seq": 1, "wall": 12.5, "name": "lost", "data": data}, 10.0)
    assert line == (
        "   2.50s  lost        peer …BCDEFGHJ, why no stream to …BCDEFGHJ: gone, rate 0.123, "
        "executors …BCDEFGHJ, n …BCDEFGHJ 2"
    )
