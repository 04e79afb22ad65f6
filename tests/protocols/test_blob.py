"""Blob vectors against the real server and fetcher, over a scripted stream."""

from __future__ import annotations

from typing import Any

import msgpack
import pytest

from edgenet_node.adapters.libp2p_network.blobs import BlobFetcher, BlobServer
from edgenet_node.adapters.libp2p_network.limits import NetworkSettings
from edgenet_node.errors import EdgenetError
from edgenet_node.testing.artifacts import MemoryArtifacts

from .corpus import Vector, vectors
from .streams import Blames, ScriptedPipe

SERVED = [vector for vector in vectors() if vector.head == "serve"]
FETCHED = [vector for vector in vectors() if vector.head == "fetch"]
SETTINGS = NetworkSettings()


async def serve(vector: Vector) -> tuple[ScriptedPipe, Blames]:
    store = MemoryArtifacts()
    await store.put(bytes.fromhex(vector.more["content"]))
    pipe, blames = ScriptedPipe(vector.data), Blames()
    server: Any = BlobServer(store, SETTINGS, blames.report)
    await server.serve(pipe)
    return pipe, blames


async def fetch(vector: Vector) -> tuple[ScriptedPipe, MemoryArtifacts, int]:
    digest, partial = vector.more["digest"], bytes.fromhex(vector.more.get("partial", ""))
    store = MemoryArtifacts()
    if partial:
        writer = await store.begin(digest, vector.more["size_max"])
        await writer.write(partial)
    pipe = ScriptedPipe(vector.data)

    async def opened() -> Any:
        return pipe

    size = await BlobFetcher(store, SETTINGS, Blames().report).fetch(digest, vector.more["size_max"], opened)
    return pipe, store, size


@pytest.mark.parametrize("vector", [one for one in SERVED if one.valid], ids=str)
async def test_a_good_request_is_answered_with_these_bytes(vector: Vector) -> None:
    pipe, blames = await serve(vector)
    assert pipe.ended == "close"
    assert not blames.reasons
    value = vector.value
    if "error" in value:
        # The text is the server's own choice; head and code are not.
        assert pipe.sent[4:13] == bytes.fromhex(value["frame"])[4:]
        assert msgpack.unpackb(pipe.sent[13:])[0] == value["error"]
    elif isinstance(value["answer"], dict):
        assert pipe.sent == bytes.fromhex(value["answer"]["head"]) + bytes(value["answer"]["zeros"])
    else:
        assert pipe.sent.hex() == value["answer"]


@pytest.mark.parametrize("vector", [one for one in SERVED if not one.valid], ids=str)
async def test_a_bad_request_is_blamed_and_the_stream_reset(vector: Vector) -> None:
    pipe, blames = await serve(vector)
    assert pipe.ended == "reset"
    assert len(blames.reasons) == 1


@pytest.mark.parametrize("vector", [one for one in FETCHED if one.valid], ids=str)
async def test_a_good_transfer_ends_in_the_store(vector: Vector) -> None:
    pipe, store, size = await fetch(vector)
    assert pipe.sent.hex() == vector.value["sent"]
    assert size == vector.value["size"] == store.size(vector.more["digest"])


@pytest.mark.parametrize("vector", [one for one in FETCHED if not one.valid], ids=str)
async def test_a_bad_transfer_is_refused_with_exactly_its_error(vector: Vector) -> None:
    with pytest.raises(EdgenetError) as raised:
        await fetch(vector)
    assert raised.value.code == vector.error
