"""Indexes from the command line, against a daemon that keeps documents as the contract says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from edgenet_node.cli import indexes

from .fixtures import OWN, PEER_A, Daemon, Reply, Shell, error

SEARCHED = {
    "hits": [{"id": "a.md#1", "score": 0.5, "text": "some\n text", "metadata": {}}],
    "rows": 2,
    "holders": {PEER_A: 2},
    "complete": True,
    "seconds": 0.01,
}
VIEW = {
    "name": "notes",
    "documents": 2,
    "pending": 0,
    "readers": ["*"],
    "segments": [{"digest": "ab" * 32, "rows": 2, "deleted": 0, "holders": [PEER_A]}],
    "replicas": 1,
}


class Index:
    """The documents of one index. `fail_at`: the n-th request to add fails, as if the daemon was killed."""

    def __init__(self, daemon: Daemon) -> None:
        self.documents: dict[str, Any] = {}
        self.adds = 0
        self.fail_at = 0
        daemon.routes["POST /api/indexes/notes/documents"] = self.add
        daemon.routes["POST /api/indexes/notes/remove"] = self.remove

    def add(self, body: Any) -> Reply:
        self.adds += 1
        if self.adds == self.fail_at:
            return error(503, "cancelled", "the node is shutting down")
        fresh = [one for one in body["documents"] if self.documents.get(one["id"]) != one]
        self.documents.update({one["id"]: one for one in fresh})
        return 200, {"added": len(fresh), "skipped": len(body["documents"]) - len(fresh), "batch": "b", "task": "t"}

    def remove(self, body: Any) -> Reply:
        assert 0 < len(body["ids"]) <= 4096
        gone = [self.documents.pop(one) for one in body["ids"] if one in self.documents]
        return 200, {"removed": len(gone)}

    @property
    def texts(self) -> list[str]:
        return sorted(one["text"] for one in self.documents.values())


@pytest.fixture
def index(daemon: Daemon) -> Index:
    return Index(daemon)


def page(count: int, word: str = "word") -> str:
    return "\n".join(f"# Part {n}\n{word} {n}\n" for n in range(count))


def test_add_update_and_shorten(index: Index, shell: Shell, tmp_path: Path) -> None:
    file = tmp_path / "a.md"
    file.write_text(page(5))
    total = {"files": 1, "passages": 5, "added": 5, "skipped": 0, "removed": 0}
    assert shell("index", "add", "notes", str(file), json=True).json == total
    assert shell("index", "add", "notes", str(file), json=True).json == {**total, "added": 0, "skipped": 5}
    file.write_text(page(3) + "\n# New\nend\n")
    changed = shell("index", "add", "notes", str(file), json=True).json
    assert changed == {"files": 1, "passages": 4, "added": 1, "skipped": 3, "removed": 1}
    assert index.texts == ["New: end", "Part 0: word 0", "Part 1: word 1", "Part 2: word 2"]
    file.write_text("")
    assert shell("index", "add", "notes", str(file), json=True).json["removed"] == 4
    assert index.texts == []


def test_a_file_that_lost_very_much(
    index: Index, shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(indexes, "STALE_WINDOW", 16)
    file = tmp_path / "a.md"
    file.write_text(page(100))
    shell("index", "add", "notes", str(file))
    file.write_text(page(3))
    assert shell("index", "add", "notes", str(file), json=True).json["removed"] == 97
    assert len(index.texts) == 3


def test_lines_that_went_away(index: Index, shell: Shell, tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_text("one\ntwo\nthree\nfour\n")
    shell("index", "add", "notes", str(file), "--lines")
    file.write_text("one\n\nthree\n")
    assert shell("index", "add", "notes", str(file), "--lines", json=True).json["removed"] == 2
    assert index.texts == ["one", "three"]


def test_an_interrupted_add_resumes(
    index: Index, shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(indexes, "BATCH_DOCUMENTS", 10)
    file = tmp_path / "a.md"
    file.write_text(page(35))
    index.fail_at = 3
    ran = shell("index", "add", "notes", str(file))
    assert ran.code == 1
    assert "20/35 passages" in ran.err
    assert ran.err.endswith("edgenet-node: the node is shutting down\n")
    seen = shell("index", "add", "notes", str(file), json=True).json
    assert (seen["added"], seen["skipped"]) == (15, 20)
    assert len(index.texts) == 35


def test_requests_are_bounded_in_size_too(
    index: Index, daemon: Daemon, shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(indexes, "BATCH_CHARS", 1000)
    file = tmp_path / "a.txt"
    file.write_text("\n".join(f"{n} " + "x" * 400 for n in range(7)))
    assert shell("index", "add", "notes", str(file), "--lines").code == 0
    sizes = [len(body["documents"]) for body in daemon.bodies("POST", "/api/indexes/notes/documents")]
    assert sizes == [2, 2, 2, 1]


def test_folders_give_their_text_files_once(index: Index, shell: Shell, tmp_path: Path) -> None:
    folder = tmp_path / "docs"
    (folder / ".git").mkdir(parents=True)
    (folder / "sub").mkdir()
    (folder / "a.md").write_text("alpha")
    (folder / "sub" / "b.txt").write_text("beta")
    (folder / ".git" / "c.txt").write_text("hidden")
    (folder / "d.bin").write_text("no text")
    (folder / "e.txt").write_bytes(b"\xff\xfe")
    ran = shell("index", "add", "notes", str(folder), str(folder / "a.md"))
    assert ran.code == 0
    assert index.texts == ["alpha", "beta"]
    assert f"left out: {folder / 'e.txt'}" in ran.err
    assert shell("index", "add", "notes", str(folder / "e.txt")).code == 2
    assert shell("index", "add", "notes", str(folder / "none.txt")).code == 2


def test_create_share_show_list_remove_delete(index: Index, daemon: Daemon, shell: Shell) -> None:
    daemon.routes["GET /api/peers"] = (200, [{"peer_id": PEER_A}])
    daemon.routes["GET /api/status"] = (200, {"peer_id": OWN})
    for route in ("POST /api/indexes", "PUT /api/indexes/notes/readers", "GET /api/indexes/notes"):
        daemon.routes[route] = (200, VIEW)
    daemon.routes["GET /api/indexes"] = (200, [VIEW])
    daemon.routes["DELETE /api/indexes/notes"] = (200, {"deleted": "notes"})
    assert shell("index", "create", "notes", "--reader", "A11", "--reader", "*", json=True).json == VIEW
    assert daemon.asked[-1].body == {"name": "notes", "readers": ["*", PEER_A]}
    assert shell("index", "share", "notes").code == 0
    assert daemon.asked[-1].body == {"readers": []}
    shown = shell("index", "show", "notes").out.splitlines()
    assert shown[0] == "notes  2 passages, 0 pending, readers: *"
    assert shown[2].split() == ["ab" * 6, "2", "0", "…" + PEER_A[-8:]]
    assert shell("index", "list").out.splitlines()[1].split() == ["notes", "2", "0", "1", "1"]
    assert shell("index", "remove", "notes", "a#1").out == "0 removed\n"
    assert shell("index", "delete", "notes").out == "deleted notes\n"
    assert shell("index", "show", "other").code == 1


def test_search(daemon: Daemon, shell: Shell) -> None:
    daemon.routes["POST /api/indexes/notes/search"] = (200, SEARCHED)
    ran = shell("search", "notes", "how?", "-k", "3", "--where", "path=a=b", "--owner", PEER_A)
    assert ran.code == 0
    assert ran.out == "0.500  a.md#1\n       some text\n"
    assert f"2 passages searched in 10 ms by …{PEER_A[-8:]} 2" in ran.err
    assert daemon.asked[-1].body == {"text": "how?", "k": 3, "where": {"path": "a=b"}, "owner": PEER_A}
    assert shell("search", "notes", "how?", json=True).json == SEARCHED


def test_an_incomplete_search_says_so(daemon: Daemon, shell: Shell) -> None:
    daemon.routes["POST /api/indexes/notes/search"] = (200, {**SEARCHED, "complete": False})
    ran = shell("search", "notes", "how?", json=True)
    assert ran.code == 1
    assert ran.json["complete"] is False
    assert "incomplete" in ran.err


@pytest.mark.parametrize("where", ["path", "=x", ""])
def test_conditions_have_a_key(where: str, shell: Shell) -> None:
    ran = shell("search", "notes", "how?", "--where", where)
    assert ran.code == 2
    assert "KEY=VALUE" in ran.err
