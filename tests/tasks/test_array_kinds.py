"""`matmul`, `attention` and `lora_inference`: cut, computed, judged and put together; hostile bytes at every door."""

from __future__ import annotations

import base64
import io
import json
import pickle
import struct
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save

from edgenet_node.adapters.process_executor.context import Residents, WorkerContext, load_function
from edgenet_node.effects import Compute
from edgenet_node.errors import InvalidResult, Malformed, UsageError
from edgenet_node.kernels.reference import linear as reference
from edgenet_node.messages.tasks import Submit
from edgenet_node.tasks.handlers import Environment, attention, lora_inference, matmul, pack_items
from edgenet_node.tasks.handlers.array_kind import ArrayKind
from edgenet_node.tasks.handlers.arrays import frame, read_npy
from edgenet_node.wire.codec import decode, encode
from edgenet_node.wire.task import INPUT_BYTES_MAX, OUTPUT_BYTES_MAX, SPEC_BYTES_MAX

from .array_world import ArrayWorld
from .world import NODE, Peer

F64 = npt.NDArray[np.float64]
HERE = Environment(Path("cache"))
MATMUL, ATTENTION, LORA = matmul.make(HERE), attention.make(HERE), lora_inference.make(HERE)
KINDS: list[ArrayKind] = [MATMUL, ATTENTION, LORA]


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def npy_bytes(array: Any) -> str:
    stream = io.BytesIO()
    np.save(stream, array)
    return b64(stream.getvalue())


def npz_bytes(**arrays: Any) -> str:
    stream = io.BytesIO()
    np.savez_compressed(stream, **arrays)
    return b64(stream.getvalue())


def worker(handler: ArrayKind, name: str, *args: Any) -> bytes:
    """As a worker process runs it."""
    context = WorkerContext(Residents(4, 1 << 20), lambda: False)
    output: bytes = load_function(handler.functions[name])(context, *args)
    return output


def outputs(handler: ArrayKind, payload: Mapping[str, Any]) -> tuple[bytes, list[bytes], list[bytes]]:
    """Spec, items, and the output of each, with all that is checked on the way."""
    parsed = handler.parse(payload)
    assert len(parsed.spec) <= SPEC_BYTES_MAX
    handler.check_items(parsed.spec, parsed.items)
    found = []
    for item in parsed.items:
        data = handler.pack([item])
        assert len(data) <= INPUT_BYTES_MAX
        assert handler.check_input(parsed.spec, data, 1) == handler.units(item) >= 1
        output = worker(handler, handler.function, *handler.args(parsed.spec, data))
        assert len(output) <= OUTPUT_BYTES_MAX
        handler.check_output(parsed.spec, output, 1)
        found.append(output)
    return parsed.spec, list(parsed.items), found


def computed(handler: ArrayKind, payload: Mapping[str, Any]) -> npt.NDArray[np.float32]:
    """What the owner reads."""
    spec, _, found = outputs(handler, payload)
    result = handler.result(handler.merge(spec, found))
    array: npt.NDArray[np.float32] = np.load(io.BytesIO(base64.b64decode(result["npy"])), allow_pickle=False)
    assert list(array.shape) == json.loads(json.dumps(result))["shape"]
    assert array.dtype == np.float32
    return array


def numbers(rng: np.random.Generator, *shape: int) -> npt.NDArray[np.float32]:
    return rng.standard_normal(shape).astype(np.float32)


def true_attention(query: Any, key: Any, value: Any, *, causal: bool) -> F64:
    """One head, by the formula."""
    q, k, v = (np.asarray(part, np.float64) for part in (query, key, value))
    out = np.zeros((len(q), v.shape[1]))
    for i, row in enumerate(q):
        seen = len(k) if not causal else max(0, min(len(k), i + 1 + len(k) - len(q)))
        if seen:
            out[i] = reference.softmax_rows((row @ k[:seen].T)[None] / np.sqrt(q.shape[1]))[0] @ v[:seen]
    return out


def true_lora(x: Any, w: Any, a: Any, b: Any, which: Any, alpha: float) -> F64:
    x, w, a, b = (np.asarray(part, np.float64) for part in (x, w, a, b))
    return np.stack([row @ w + alpha * (row @ a[g]) @ b[g] for row, g in zip(x, which, strict=True)])


# -- right results


@settings(max_examples=30)
@given(*[st.integers(1, 40)] * 3, st.integers(20, 400), st.integers(1, 9), st.integers(0, 2**32))
def test_a_product_does_not_depend_on_how_it_is_cut(m: int, k: int, n: int, floats: int, depth: int, seed: int) -> None:
    """With blocks so small that nothing divides evenly."""
    rng = np.random.default_rng(seed)
    a, b = numbers(rng, m, k), numbers(rng, k, n)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(matmul, "BLOCK_FLOATS", floats)
        patch.setattr(matmul, "DEPTH_MAX", depth)
        got = computed(MATMUL, {"a": a.tolist(), "b": npy_bytes(b)})
    np.testing.assert_allclose(got, a.astype(float) @ b.astype(float), atol=2e-5)


@pytest.mark.parametrize(("m", "k", "n"), [(1, 1, 1), (500, 3, 900), (3, 2000, 5), (300, 301, 299), (1, 400, 1000)])
def test_products_of_real_blocks(m: int, k: int, n: int) -> None:
    rng = np.random.default_rng(m)
    a, b = numbers(rng, m, k), numbers(rng, k, n)
    got = computed(MATMUL, {"arrays": npz_bytes(a=a, b=b)})
    np.testing.assert_allclose(got, a.astype(float) @ b.astype(float), atol=1e-4 * np.sqrt(k))


@settings(max_examples=20)
@given(*[st.integers(1, 20)] * 5, st.integers(1, 3), st.booleans(), st.integers(0, 2**32))
def test_attention_of_blocks_and_heads(
    queries: int, keys: int, width: int, depth: int, rows: int, heads: int, causal: bool, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    query, key, value = (
        numbers(rng, heads, queries, width),
        numbers(rng, heads, keys, width),
        numbers(rng, heads, keys, depth),
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(attention, "RESULT_FLOATS_MAX", rows * depth)
        got = computed(
            ATTENTION, {"query": npy_bytes(query), "key": key.tolist(), "value": value.tolist(), "causal": causal}
        )
    for head, block in enumerate(got if heads > 1 else [got]):
        np.testing.assert_allclose(block, true_attention(query[head], key[head], value[head], causal=causal), atol=2e-6)


@settings(max_examples=20)
@given(*[st.integers(1, 24)] * 4, st.integers(1, 16), st.integers(1, 4), st.integers(900, 2000), st.integers(0, 2**32))
def test_adapters_are_batched_and_rows_come_back_in_order(
    rows: int, width: int, columns: int, limit: int, rank: int, adapters: int, floats: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    x, w = numbers(rng, rows, width), numbers(rng, width, columns)
    a, b = numbers(rng, adapters, width, rank), numbers(rng, adapters, rank, columns)
    which = rng.integers(0, adapters, rows)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lora_inference, "BLOCK_FLOATS", floats)
        patch.setattr(lora_inference, "RESULT_FLOATS_MAX", columns * limit)
        stacked = save({"x": x, "w": w, "a": a, "b": b})
        got = computed(LORA, {"arrays": b64(stacked), "which": which.tolist(), "alpha": 0.5})
        np.testing.assert_allclose(got, true_lora(x, w, a, b, which, 0.5), atol=2e-4)
        alone = computed(LORA, {"x": x.tolist(), "w": w.tolist(), "a": a[0].tolist(), "b": b[0].tolist()})
    np.testing.assert_allclose(alone, true_lora(x, w, a, b, [0] * rows, 0.1), atol=2e-4)


# -- verification


def cases() -> list[tuple[ArrayKind, dict[str, Any]]]:
    rng = np.random.default_rng(5)
    heads = {name: npy_bytes(numbers(rng, 2, 30, 8)) for name in ("query", "key", "value")}
    shapes = {"x": (40, 24), "w": (24, 36), "a": (24, 2), "b": (2, 36)}
    return [
        (MATMUL, {"a": npy_bytes(numbers(rng, 60, 50)), "b": npy_bytes(numbers(rng, 50, 70))}),
        (ATTENTION, {**heads, "causal": True}),
        (LORA, {name: npy_bytes(numbers(rng, *shape)) for name, shape in shapes.items()}),
    ]


@pytest.mark.parametrize(("handler", "payload"), cases(), ids=[kind.kind for kind in KINDS])
def test_what_is_right_is_confirmed_and_what_is_wrong_is_replaced(handler: ArrayKind, payload: Any) -> None:
    spec, items, found = outputs(handler, payload)
    for seed, (item, honest) in enumerate(zip(items, found, strict=True)):
        args = handler.args(spec, handler.pack([item]))
        last_bits = frame(np.nextafter(read_npy(honest), np.float32(np.inf)))
        for claim in (honest, last_bits):
            assert worker(handler, handler.confirm, *args, claim, seed) == claim
        lie = handler.falsify(honest, Random(seed))
        handler.check_output(spec, lie, 1)
        instead = worker(handler, handler.confirm, *args, lie, seed)
        assert handler.same(instead, lie) == [False]
        assert handler.same(instead, honest) == [True]


def test_sums_that_cancel_do_not_condemn() -> None:
    """Compared by size of the result, these honest answers would differ: it is 1e-7 of what was added up."""
    rng = np.random.default_rng(3)
    a = numbers(rng, 8, 100)
    b = np.concatenate([numbers(rng, 50, 8)] * 2)
    a[:, 50:] = -a[:, :50]
    payload = {"a": npy_bytes(a), "b": npy_bytes(b)}
    spec, (item,), (honest,) = outputs(MATMUL, payload)
    one_by_one = np.zeros((8, 8), np.float32)
    for depth in range(100):
        one_by_one += a[:, depth, None] * b[depth]
    other = frame(one_by_one[None])
    assert MATMUL.same(honest, other) == [False]
    assert worker(MATMUL, MATMUL.confirm, *MATMUL.args(spec, MATMUL.pack([item])), other, 1) == other


@pytest.mark.parametrize(("handler", "payload"), cases(), ids=[kind.kind for kind in KINDS])
def test_take_keeps_blocks_and_same_is_block_by_block(handler: ArrayKind, payload: Any) -> None:
    blocks = np.random.default_rng(1).standard_normal((3, 4, 5)).astype(np.float32)
    output = frame(blocks)
    assert handler.take(output, [0, 1, 2]) == output
    np.testing.assert_array_equal(read_npy(handler.take(output, [2, 0])), blocks[[2, 0]])
    changed = blocks.copy()
    changed[1, 0, 0] += 1
    assert handler.same(output, frame(changed)) == [True, False, True]


@pytest.mark.parametrize(("handler", "payload"), cases(), ids=[kind.kind for kind in KINDS])
def test_a_liar_is_found_by_a_check_of_its_claim_and_its_work_is_done_again(handler: ArrayKind, payload: Any) -> None:
    world = ArrayWorld(
        4, [Peer("liar", lie=lambda rng, proven: True), Peer("honest")], handler=handler, payload=payload
    )
    outcome = world.finish(world.ask(Submit(handler.kind, payload, only=("liar", "honest"), durable=False)))
    spec, _, found = outputs(handler, payload)
    np.testing.assert_array_equal(read_npy(outcome.output), read_npy(handler.merge(spec, found)))
    assert outcome.view.executors == {"honest": outcome.view.items}
    checks = [one for one in world.effects if isinstance(one, Compute) and one.fn == handler.confirm]
    assert checks, "this node judges claims, it does not compute anew"
    assert all(len(one.args) == 4 for one in checks)
    assert len({one.args[3] for one in checks}) == len(checks), "each with signs of its own"
    assert not any(isinstance(one, Compute) and one.fn == handler.function for one in world.effects)
    assert NODE not in outcome.view.executors


# -- hostile bytes


class Bomb:
    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return (pytest.fail, ("unpickled",))


def npy_of(header: str, body: bytes = b"", version: bytes = b"\x01\x00") -> str:
    text = header.encode("latin1")
    return b64(b"\x93NUMPY" + version + struct.pack("<H", len(text)) + text + body)


def zip_of(**members: bytes) -> str:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return b64(stream.getvalue())


ONE = [[1.0]]
HEADER = "{'descr': '<f4', 'fortran_order': False, 'shape': %s}"
SPARSE = json.dumps({"a": {"dtype": "F32", "shape": [1 << 20, 1 << 20], "data_offsets": [0, 4]}}).encode()


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (5, "nested lists of numbers, or base64"),
        ("%%%", "a is not base64"),
        (b64(b""), "not a .npy file"),
        (b64(b"\x93NUMPY\x09\x00"), "not a .npy file of version 1.0 or 2.0"),
        (npy_bytes(np.array([Bomb()])), "an array of '|O'"),
        (npy_bytes(np.array(["x"])), "an array of '<U1'"),
        (npy_bytes(np.ones(2, complex)), "an array of '<c16'"),
        (npy_bytes(np.zeros((1, 1, 1, 1))), "4 dimensions, at most 3"),
        (npy_of(HEADER % "(1099511627776,)", bytes(4)), "4 bytes for an array of 1099511627776"),
        (npy_of(HEADER % "(-1, -4)", bytes(16)), "dimensions"),
        (npy_of(HEADER % "(2.0,)", bytes(8)), "a size that is none"),
        (npy_of(HEADER % "2", bytes(8)), "its header does not read"),
        (npy_of("[]"), "its header does not read"),
        (npy_of((HEADER % "(2,)").replace("<f4", "<f4,<f4"), bytes(16)), "an array of '<f4,<f4'"),
        (npy_of((HEADER % "(2,)").replace("'<f4'", "[('x', '<f4')]"), bytes(8)), "where numbers are expected"),
        (npy_of(HEADER % "(True,)", bytes(4)), "a: "),
        (npy_of(HEADER % "__import__('os')"), "not a .npy file"),
        (npy_of(HEADER % ("(" * 400 + ")" * 400)), "not a .npy file"),
        (npy_of(HEADER % "(1,)" + " " * 2000, bytes(4)), "not a .npy file"),
        (npy_of(HEADER % "(2,)", bytes(9)), "9 bytes for an array of 2 float32"),
        ([[1.0], [1.0, 2.0]], "of one length each"),
        ([[None]], "NaN or an infinity"),
        ([["one"]], "of one length each"),
        ([[1e999]], "NaN or an infinity"),
        ([[1e39]], "NaN or an infinity"),
        (npy_bytes(np.array([[np.nan]], np.float32)), "NaN or an infinity"),
        ([[1e16]], "a number above 1e+15"),
        ([[[[1.0]]]], "4 dimensions"),
        ([], "two matrices"),
        ([[]], "no product, or an empty one"),
    ],
)
def test_bad_arrays_are_one_line(value: Any, text: str) -> None:
    with pytest.raises(UsageError) as caught:
        MATMUL.parse({"a": value, "b": ONE})
    assert text in caught.value.message
    assert "\n" not in caught.value.message
    assert len(caught.value.message) < 300


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (5, "arrays must be base64 text"),
        (b64(b"PK\x03\x04 and more"), "not an .npz file"),
        (b64(b"hello"), "neither an .npz nor a .safetensors"),
        (b64(struct.pack("<Q", 1 << 60) + b"{}"), "neither an .npz nor a .safetensors"),
        (b64(struct.pack("<Q", len(SPARSE)) + SPARSE + bytes(4)), "neither an .npz nor a .safetensors"),
        (zip_of(**{"a.npy": bytes(30 << 20)}), "or 24 MiB of them"),
        (zip_of(**{f"{name}.npy": b"" for name in range(17)}), "more than 16 arrays"),
        (zip_of(**{"a.npy": pickle.dumps(Bomb())}), "not a .npy file"),
        (zip_of(**{"c.npy": base64.b64decode(npy_bytes(np.ones((1, 1))))}), "an array 'c'; known are a, b"),
        (npz_bytes(a=np.ones((1, 1)), b=np.ones((1, 1))), "b is given twice"),
        (b64(save({"a": np.ones((1, 1), np.complex64)})), "a: an array of complex64"),
    ],
)
def test_bad_files_are_one_line(value: Any, text: str) -> None:
    with pytest.raises(UsageError) as caught:
        MATMUL.parse({"arrays": value, "b": ONE})
    assert text in caught.value.message
    assert "\n" not in caught.value.message


@pytest.mark.parametrize(
    ("handler", "payload", "text"),
    [
        (MATMUL, {"a": ONE}, "two matrices, a and b"),
        (MATMUL, {"a": ONE, "b": [[1.0], [2.0]]}, "a has the shape (1, 1) and b (2, 1)"),
        (MATMUL, {"a": ONE, "b": ONE, "c": ONE}, "unknown field c; known are a, b, arrays"),
        (ATTENTION, {"query": ONE, "key": ONE}, "query, key and value"),
        (ATTENTION, {"query": ONE, "key": [ONE], "value": ONE}, "all (n, d) or all"),
        (ATTENTION, {"query": ONE, "key": [[1, 2]], "value": ONE}, "do not fit together"),
        (ATTENTION, {"query": ONE, "key": ONE, "value": [[1], [2]]}, "do not fit together"),
        (ATTENTION, {"query": ONE, "key": ONE, "value": ONE, "causal": 1}, "causal must be true or false"),
        (ATTENTION, {"query": ONE, "key": [[1]] * 60_000, "value": [[1]] * 60_000}, "120000 numbers, at most 100000"),
        (LORA, {"x": ONE, "w": ONE, "a": ONE}, "b is missing"),
        (LORA, {"x": ONE, "w": ONE, "a": [[1, 2]], "b": ONE}, "do not fit together"),
        (LORA, {"x": ONE, "w": ONE, "a": [[1] * 17], "b": [[1]] * 17}, "of rank 17: at most 255, of rank 16"),
        (LORA, {"x": ONE, "w": ONE, "a": [ONE] * 2, "b": [ONE] * 2}, "say in which"),
        (LORA, {"x": ONE, "w": ONE, "a": [ONE] * 2, "b": [ONE] * 2, "which": [2]}, "something else than 0 to 1"),
        (LORA, {"x": ONE, "w": ONE, "a": [ONE] * 2, "b": [ONE] * 2, "which": [0.5]}, "something else than 0 to 1"),
        (LORA, {"x": ONE, "w": ONE, "a": [ONE] * 2, "b": [ONE] * 2, "which": [0, 1]}, "shape (2,) for 1 inputs"),
        (LORA, {"x": ONE, "w": ONE, "a": ONE, "b": ONE, "alpha": float("nan")}, "alpha must be a number"),
        (LORA, {"x": ONE, "w": ONE, "a": ONE, "b": ONE, "alpha": True}, "alpha must be a number"),
        (LORA, {"x": [[1e9]], "w": ONE, "a": ONE, "b": ONE}, "a number above 1e+08"),
        (LORA, {"x": [[0.0] * 70_000], "w": [[0.0]] * 70_000, "a": [[0.0]] * 70_000, "b": ONE}, "do not fit one chunk"),
    ],
)
def test_what_does_not_fit_is_one_line(handler: ArrayKind, payload: Any, text: str) -> None:
    with pytest.raises(UsageError) as caught:
        handler.parse(payload)
    assert text in caught.value.message
    assert "\n" not in caught.value.message


def test_other_layouts_and_types_are_converted() -> None:
    a = np.arange(6).reshape(2, 3)
    for given_as in (a.astype(">f8"), np.asfortranarray(a, np.float16), a.astype(np.uint8), a.astype(np.int64)):
        got = computed(MATMUL, {"a": npy_bytes(given_as), "b": np.eye(3).tolist()})
        assert got.tolist() == a.tolist()


@pytest.mark.parametrize(("handler", "payload"), cases(), ids=[kind.kind for kind in KINDS])
@settings(max_examples=60)
@given(data=st.data())
def test_no_bytes_get_past_the_doors_but_good_ones(handler: ArrayKind, payload: Any, data: st.DataObject) -> None:
    """Flipped, cut, extended: refused as the sender's fault, or numbers that a worker can take."""
    parsed = handler.parse(payload)
    good = bytearray(handler.pack(parsed.items[:1]))
    for _ in range(data.draw(st.integers(1, 3))):
        good[data.draw(st.integers(0, min(len(good), 400) - 1))] = data.draw(st.integers(0, 255))
    bad = bytes(good[: len(good) - data.draw(st.sampled_from([0, 0, 1, 100]))]) + data.draw(st.binary(max_size=3))
    try:
        handler.check_input(parsed.spec, bad, 1)
    except Malformed:
        return
    output = worker(handler, handler.function, *handler.args(parsed.spec, bad))
    handler.check_output(parsed.spec, output, 1)


@pytest.mark.parametrize("handler", KINDS, ids=[kind.kind for kind in KINDS])
@pytest.mark.parametrize("spec", [b"", b"\xc1", encode({}), encode({"m": 0, "k": 1, "n": 1}), encode([1, 2, 3])])
def test_hostile_specs_are_malformed(handler: ArrayKind, spec: bytes) -> None:
    with pytest.raises(Malformed):
        handler.check_input(spec, pack_items([b""]), 1)
    with pytest.raises(InvalidResult):
        handler.check_output(spec, b"", 1)


def test_blocks_of_another_shape_or_size_are_malformed() -> None:
    parsed = MATMUL.parse({"a": np.ones((4, 6)).tolist(), "b": np.ones((6, 5)).tolist()})
    item = decode(parsed.items[0], matmul.MatmulItem, bytes_max=INPUT_BYTES_MAX)
    for a in (
        np.ones((4, 5), np.float32), np.ones((24,), np.float32), np.full((4, 6), np.nan, np.float32),
        np.full((4, 6), 2e15, np.float32),
    ):  # fmt: skip
        with pytest.raises(Malformed):
            MATMUL.check_input(parsed.spec, pack_items([encode(matmul.MatmulItem(frame(a), item.b))]), 1)
    doubles = io.BytesIO()
    np.save(doubles, np.ones((4, 6)))
    with pytest.raises(Malformed, match="little-endian float32"):
        MATMUL.check_input(parsed.spec, pack_items([encode(matmul.MatmulItem(doubles.getvalue(), item.b))]), 1)
    with pytest.raises(Malformed):
        MATMUL.check_input(parsed.spec, pack_items(list(parsed.items) * 2), 1)


@pytest.mark.parametrize(("handler", "payload"), cases(), ids=[kind.kind for kind in KINDS])
def test_hostile_outputs_are_invalid(handler: ArrayKind, payload: Any) -> None:
    spec, _, (honest, *_) = outputs(handler, payload)
    blocks = np.array(read_npy(honest))
    nan, infinite = blocks.copy(), blocks.copy()
    nan[0, 0, 0], infinite[0, 0, 0] = np.nan, -np.inf
    doubles, objects = io.BytesIO(), io.BytesIO()
    np.save(doubles, blocks.astype(float))
    np.save(objects, np.array([Bomb()]))
    shapes = (blocks[:, :-1], blocks[0], np.concatenate([blocks] * 2), nan, infinite)
    for bad in (b"", honest[:-1], honest + b"\0", doubles.getvalue(), objects.getvalue(), *map(frame, shapes)):
        with pytest.raises(InvalidResult):
            handler.check_output(spec, bad, 1)
