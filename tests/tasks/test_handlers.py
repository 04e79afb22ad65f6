"""Handlers and how they are found: payloads, hostile inputs and outputs, plug-ins."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest

from edgenet_node.errors import ConfigError, InvalidResult, Malformed, UsageError
from edgenet_node.kernels import encoder_weights
from edgenet_node.tasks.handlers import Environment, embedding, pack_items
from edgenet_node.tasks.handlers.echo import EchoHandler
from edgenet_node.tasks.handlers.embedding import DIMENSION, EmbeddingHandler, pack_output, read_vectors
from edgenet_node.tasks.registry import Registry, load
from edgenet_node.wire.task import OUTPUT_BYTES_MAX

EMBEDDING = EmbeddingHandler(Environment(Path("cache")))
ECHO = EchoHandler()


def output(count: int, seed: int = 1) -> bytes:
    vectors = np.random.default_rng(seed).standard_normal((count, DIMENSION)).astype("<f4")
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return pack_output(vectors.tobytes(), [10 + row for row in range(count)])


@pytest.mark.parametrize(
    ("handler", "payload", "text"),
    [
        (EMBEDDING, {}, "either text or texts"),
        (EMBEDDING, {"text": "a", "texts": ["b"]}, "either text or texts"),
        (EMBEDDING, {"text": 5}, "must be text"),
        (EMBEDDING, {"text": None}, "must be text"),
        (EMBEDDING, {"texts": "abc"}, "list"),
        (EMBEDDING, {"texts": []}, "at least one"),
        (EMBEDDING, {"texts": ["a", 5]}, "must be text"),
        (EMBEDDING, {"text": "a", "modle": "x"}, "unknown field modle; known are text, texts, model"),
        (EMBEDDING, {"text": "a", "model": "gpt"}, "unknown model 'gpt'"),
        (EMBEDDING, {"text": "a", "model": ["x"]}, "unknown model"),
        (EMBEDDING, {"texts": ["a", "b" * 32_769]}, "text 2 has 32769 bytes, at most 32768"),
        (EMBEDDING, {"texts": ["a"] * 4097}, "4097 texts, at most 4096"),
        (ECHO, {"data": 5}, "must be text"),
        (ECHO, {}, "must be text"),
        (ECHO, {"data": "x" * 65537}, "at most 65536 bytes"),
        (ECHO, {"data": "x", "more": 1}, "unknown field more"),
    ],
)
def test_bad_payloads_are_one_line(handler: Any, payload: Mapping[str, Any], text: str) -> None:
    with pytest.raises(UsageError) as caught:
        handler.parse(payload)
    assert text in caught.value.message
    assert "\n" not in caught.value.message
    assert len(caught.value.message) < 200


def test_a_text_becomes_one_item_and_one_vector() -> None:
    parsed = EMBEDDING.parse({"text": "gr\u00fc\u00dfe \ud800"})
    assert parsed.items == ("gr\u00fc\u00dfe ?".encode(),)
    result = EMBEDDING.result(EMBEDDING.merge(parsed.spec, [output(1)]))
    assert len(result["embedding"]) == DIMENSION
    assert result["truncated"] == 0
    many = EMBEDDING.parse({"texts": ["one"], "model": "all-MiniLM-L6-v2"})
    assert len(EMBEDDING.result(EMBEDDING.merge(many.spec, [output(1)]))["embeddings"]) == 1


def test_what_fills_the_model_is_reported() -> None:
    vectors = read_vectors(output(3)).tobytes()
    merged = EMBEDDING.merge(b"", [pack_output(vectors, [256, 12, 256])])
    assert EMBEDDING.result(merged)["truncated"] == 2


def test_an_empty_spec_is_the_one_model() -> None:
    EMBEDDING.check_items(b"", [b"text"])
    with pytest.raises(UsageError):
        EMBEDDING.check_items(b"\x80\x80", [b"text"])


@pytest.mark.parametrize(
    ("spec", "data", "count"),
    [
        (b"", b"", 1),
        (b"", b"\x91", 1),
        (b"", pack_items([b"a"]), 2),
        (b"", pack_items([b"a"]) + b"\x00", 1),
        (b"", pack_items([b"\xff\xfe"]), 1),
        (b"", pack_items([b"a" * 32_769]), 1),
        (b"\x81\xa5model\xa3gpt", pack_items([b"a"]), 1),
        (b"\xc1", pack_items([b"a"]), 1),
    ],
)
def test_hostile_inputs_are_malformed(spec: bytes, data: bytes, count: int) -> None:
    with pytest.raises(Malformed):
        EMBEDDING.check_input(spec, data, count)


def test_units_are_the_same_on_both_sides() -> None:
    items = [b"x" * size for size in (0, 1, 255, 256, 700, 8192)]
    assert EMBEDDING.check_input(b"", pack_items(items), 6) == sum(map(EMBEDDING.units, items)) == 1 + 1 + 1 + 2 + 3 + 4
    assert ECHO.check_input(b"", pack_items(items), 6) == sum(map(ECHO.units, items))


@pytest.mark.parametrize("count", [1, 2, 3, 512])
def test_hostile_outputs_are_invalid(count: int) -> None:
    good = output(count)
    assert len(good) <= OUTPUT_BYTES_MAX
    EMBEDDING.check_output(b"", good, count)
    nan = good[:16] + struct.pack("<f", float("nan")) + good[20:]
    infinite = good[:16] + struct.pack("<f", float("inf")) + good[20:]
    long = good[:16] + struct.pack("<f", 2.0) + good[20:]
    for bad in (b"", good[:-1], good + b"\0", b"EMB2" + good[4:], nan, infinite, long, output(count + 1)):
        with pytest.raises(InvalidResult):
            EMBEDDING.check_output(b"", bad, count)
    with pytest.raises(InvalidResult):
        ECHO.check_output(b"", b"\xc1", 1)
    with pytest.raises(InvalidResult):
        ECHO.check_output(b"", pack_items([b"a", b"b"]), 1)


def test_take_and_merge_are_inverse() -> None:
    whole = output(10)
    parts = [EMBEDDING.take(whole, range(start, start + 5)) for start in (0, 5)]
    assert EMBEDDING.merge(b"", parts) == whole
    assert EMBEDDING.take(whole, [7]) == EMBEDDING.take(EMBEDDING.take(whole, [3, 7, 9]), [1])
    items = pack_items([b"a", b"b", b"c"])
    assert ECHO.merge(b"", [ECHO.take(items, [0]), ECHO.take(items, [1, 2])]) == items


def test_agreement_is_item_by_item_within_the_tolerance() -> None:
    ours = output(4)
    vectors = read_vectors(ours).copy()
    vectors += np.float32(1e-6)
    vectors[2] = read_vectors(output(4, seed=2))[2]
    assert EMBEDDING.same(ours, pack_output(vectors.tobytes(), [10, 11, 12, 13])) == [True, True, False, True]
    assert EMBEDDING.same(ours, pack_output(read_vectors(ours).tobytes(), [10, 99, 12, 13]))[1] is False


def test_a_lie_passes_the_form_and_fails_the_check() -> None:
    truth = output(8)
    lie = EMBEDDING.falsify(truth, Random(1))
    EMBEDDING.check_output(b"", lie, 8)
    assert not any(EMBEDDING.same(truth, lie))
    items = pack_items([b"a", b"b"])
    ECHO.check_output(b"", ECHO.falsify(items, Random(1)), 2)
    assert ECHO.same(items, ECHO.falsify(items, Random(1))) == [False, False]


def test_the_model_is_looked_for_where_the_encoder_finds_it(tmp_path: Path) -> None:
    assert embedding.MODEL == encoder_weights.MODEL_ID
    assert embedding.PACKAGE == encoder_weights.PACKAGE
    assert set(embedding.FILES) == {encoder_weights.WEIGHTS_NAME, encoder_weights.TOKENIZER_NAME}
    handler = EmbeddingHandler(Environment(tmp_path, tmp_path))
    assert "model.safetensors" in handler.unavailable()
    for name in embedding.FILES:
        (tmp_path / name).write_bytes(b"")
    assert handler.unavailable() == ""
    assert handler.args(b"", b"data") == (b"", b"data", str(tmp_path), str(tmp_path))


# -- plug-ins


class Unfinished:
    kind = "unfinished"


class Impostor(EchoHandler):
    """A plug-in that takes a built-in kind."""


class Shouting(EchoHandler):
    kind = "Shouting!"


class Inner(EchoHandler):
    kind = "inner"
    function = "inner.run"
    functions: Mapping[str, str] = {"inner.run": "os.system"}


def make_unfinished(environment: Environment) -> Any:
    return Unfinished()


def make_impostor(environment: Environment) -> Any:
    return Impostor()


def make_shouting(environment: Environment) -> Any:
    return Shouting()


def make_inner(environment: Environment) -> Any:
    return Inner()


def make_raising(environment: Environment) -> Any:
    raise RuntimeError("no licence")


def point(name: str, value: str) -> metadata.EntryPoint:
    return metadata.EntryPoint(name, value, "edgenet_node.handlers")


def test_a_broken_plug_in_is_reported_and_skipped() -> None:
    here = "tests.tasks.test_handlers"
    registry = load(
        Environment(Path("cache")),
        [
            point("absent", "no_such_package.handlers:make"),
            point("raising", f"{here}:make_raising"),
            point("unfinished", f"{here}:make_unfinished"),
            point("shouting", f"{here}:make_shouting"),
            point("inner", f"{here}:make_inner"),
            point("a-first", f"{here}:make_impostor"),
            point("echo", "edgenet_node.tasks.handlers.echo:make"),
            point("embedding", "edgenet_node.tasks.handlers.embedding:make"),
        ],
    )
    assert sorted(handler.kind for handler in registry) == ["echo", "embedding"]
    assert type(registry.get("echo")) is EchoHandler
    reasons = {one.name: one.reason for one in registry.broken}
    assert set(reasons) == {"absent", "raising", "unfinished", "shouting", "inner", "a-first"}
    assert "no licence" in reasons["raising"]
    assert "lacks" in reasons["unfinished"]
    assert "two handlers" in reasons["a-first"]
    assert registry.functions() == {
        "echo.run": "edgenet_node.tasks.handlers.echo:run",
        "embedding.run": "edgenet_node.tasks.handlers.embedding_worker:embed",
    }


def test_duplicates_are_refused_and_unknown_kinds_list_the_known() -> None:
    with pytest.raises(ConfigError, match="two handlers for the task kind echo"):
        Registry([EchoHandler(), Impostor()])
    with pytest.raises(UsageError, match="known are: echo, embedding"):
        Registry([ECHO, EMBEDDING]).get("embeding")
