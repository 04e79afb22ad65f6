"""Indexes over the command line and between nodes: exact, shared with whom the owner names, repaired."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgenet_node.kernels.encoder import Encoder

from .conftest import Swarm
from .support import Land, Node, until

pytestmark = pytest.mark.e2e

SUBJECTS = ("volcanoes", "bread", "compilers", "whales", "taxes", "violins", "glaciers", "chess")
TEXTS = [f"Remark {n} on {SUBJECTS[n % 8]}, part {n // 8}: it depends" for n in range(80)]
QUERIES = ("who plays music?", "baking at home", "ice and snow")


class Truth:
    """Brute force with the same model in this process."""

    def __init__(self, encoder: Encoder, texts: Mapping[str, str]) -> None:
        self._encoder = encoder
        self._ids = list(texts)
        self._texts = texts
        self._vectors = encoder.encode(list(texts.values())).vectors

    def holds(self, query: str, found: dict[str, Any], k: int) -> bool:
        """Whether these are the `k` best: scores, ids and texts."""
        scores = self._vectors @ self._encoder.encode_one(query)
        own = dict(zip(self._ids, scores.tolist(), strict=True))
        best = np.sort(scores)[::-1][:k]
        hits = found["hits"]
        assert found["complete"] is True
        assert len(hits) == min(k, len(self._ids))
        assert np.allclose([hit["score"] for hit in hits], best, atol=1e-4)
        assert all(abs(own[hit["id"]] - hit["score"]) < 1e-4 for hit in hits)
        assert all(self._texts[hit["id"]] == hit["text"] for hit in hits)
        return True


def replicated(owner: Node, name: str) -> dict[str, Any] | None:
    view: dict[str, Any] = owner.get("indexes", name)
    return view if view["replicas"] >= 2 and view["pending"] == 0 else None


def test_files_are_added_searched_updated_and_removed(swarm: Swarm, encoder: Encoder, tmp_path: Path) -> None:
    a, b, c = swarm
    path = tmp_path / "remarks.txt"
    path.write_text("\n".join(TEXTS) + "\n")
    assert a.cli("index", "create", "remarks", "--json").json["documents"] == 0
    added = a.cli("index", "add", "remarks", path, "--lines", "--json")
    assert (added.code, added.json["added"], added.json["skipped"]) == (0, len(TEXTS), 0)
    texts = {f"{path}#{n}": text for n, text in enumerate(TEXTS, 1)}
    view = until(lambda: replicated(a, "remarks"), "each segment is on two other nodes")
    assert (view["documents"], view["pending"]) == (len(TEXTS), 0)
    assert all(set(one["holders"]) == {b.id, c.id} for one in view["segments"])
    truth = Truth(encoder, texts)
    for query in QUERIES:
        assert truth.holds(query, a.cli("search", "remarks", query, "-k", "7", "--json").json, 7)
    # The same again changes nothing; a changed line replaces, a filter narrows, a removal takes out.
    repeated = a.cli("index", "add", "remarks", path, "--lines", "--json").json
    assert (repeated["added"], repeated["skipped"]) == (0, len(TEXTS))
    texts[f"{path}#1"] = "A violin concerto in D"
    path.write_text("\n".join(texts.values()) + "\n")
    changed = a.cli("index", "add", "remarks", path, "--lines", "--json").json
    assert (changed["added"], changed["skipped"]) == (1, len(TEXTS) - 1)
    assert Truth(encoder, texts).holds("concerto", a.cli("search", "remarks", "concerto", "--json").json, 5)
    narrowed = a.cli("search", "remarks", "concerto", "--where", "line=2", "--json").json
    assert [hit["id"] for hit in narrowed["hits"]] == [f"{path}#2"]
    assert a.cli("index", "remove", "remarks", f"{path}#1", f"{path}#999", "--json").json == {"removed": 1}
    del texts[f"{path}#1"]
    assert Truth(encoder, texts).holds("concerto", a.cli("search", "remarks", "concerto", "--json").json, 5)
    assert {one["name"] for one in a.cli("index", "list", "--json").json} >= {"remarks"}
    assert a.cli("index", "delete", "remarks", "--json").json == {"deleted": "remarks"}
    assert "remarks" in a.cli("search", "remarks", "x").refused(1)


def test_metadata_filters_are_exact(swarm: Swarm, encoder: Encoder) -> None:
    _, b, _ = swarm
    b.post("indexes", body={"name": "shelf", "readers": []})
    documents: list[dict[str, Any]] = [
        {"id": f"s{n}", "text": text, "metadata": {"subject": SUBJECTS[n % 8], "part": str(n // 8)}}
        for n, text in enumerate(TEXTS)
    ]
    b.post("indexes", "shelf", "documents", body={"documents": documents})
    for where in ({"subject": "whales"}, {"subject": "bread", "part": "3"}, {"subject": "nothing"}):
        allowed = {one["id"]: one["text"] for one in documents if where.items() <= one["metadata"].items()}
        found = b.post("indexes", "shelf", "search", body={"text": QUERIES[0], "k": 20, "where": where})
        assert {hit["id"] for hit in found["hits"]} == allowed.keys()
        if allowed:
            assert Truth(encoder, allowed).holds(QUERIES[0], found, 20)


def test_only_named_readers_may_search(swarm: Swarm, encoder: Encoder) -> None:
    a, b, c = swarm
    texts = {f"r{n}": text for n, text in enumerate(TEXTS[:16])}
    assert a.cli("index", "create", "diary", "--reader", b.id, "--json").json["readers"] == [b.id]
    a.post("indexes", "diary", "documents", body={"documents": [{"id": i, "text": t} for i, t in texts.items()]})
    read = b.cli("search", "diary", QUERIES[1], "--owner", a.id, "--json")
    assert read.code == 0, read.err
    assert Truth(encoder, texts).holds(QUERIES[1], read.json, 5)
    assert "reader" in c.cli("search", "diary", QUERIES[1], "--owner", a.id).refused(4)
    a.cli("index", "share", "diary", c.id)
    assert c.cli("search", "diary", QUERIES[1], "--owner", a.id, "--json").code == 0

    def shut_out() -> bool:
        """A reader's manifest is good for some seconds."""
        return b.cli("search", "diary", QUERIES[1], "--owner", a.id, "--json").code == 4

    until(shut_out, "the former reader is refused")


def test_a_lost_holder_is_replaced_while_searches_stay_exact(land: Land, encoder: Encoder) -> None:
    a, *others = land.swarm("abcd", EDGENET_INDEX__REPAIR_AFTER_S="1")
    texts = {f"k{n}": text for n, text in enumerate(TEXTS)}
    a.post("indexes", body={"name": "kept", "readers": []})
    a.post("indexes", "kept", "documents", body={"documents": [{"id": i, "text": t} for i, t in texts.items()]})
    view = until(lambda: replicated(a, "kept"), "each segment is on two other nodes")
    lost = next(node for node in others if node.id == view["segments"][0]["holders"][0])
    truth = Truth(encoder, texts)
    vector = encoder.encode_one(QUERIES[2]).tolist()
    lost.kill()

    def repaired() -> bool:
        found = a.post("indexes", "kept", "search", body={"vector": vector, "k": 9})
        assert truth.holds(QUERIES[2], found, 9)
        seen = replicated(a, "kept")
        return seen is not None and not any(lost.id in one["holders"] for one in seen["segments"])

    until(repaired, "two live holders each again, and every search exact meanwhile")
    spread = [a.post("indexes", "kept", "search", body={"vector": vector})["holders"] for _ in range(5)]
    assert lost.id not in {peer for holders in spread for peer in holders}
    assert json.loads(a.cli("index", "show", "kept", "--json").out)["replicas"] >= 2
