"""MicroLoRA: `learning.lora_forward/1`, `learning.lora_batched/1`, `learning.lora_gradients/1`, `learning.lora_merge/1`
and `learning.lora_quantise/1`, against their oracles and their theorems."""

from __future__ import annotations

import tracemalloc
from collections import OrderedDict

import msgspec
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgenet_node.errors import NotFound, Overloaded, UsageError
from edgenet_node.kernels.learning import adapters, lora, operators, storage
from edgenet_node.kernels.learning.workspace import Workspace
from edgenet_node.kernels.reference import learning as reference

Array = npt.NDArray[np.float32]
RANKS = (1, 2, 4, 8, 16)


def normals(generator: np.random.Generator, *shape: int) -> Array:
    return generator.standard_normal(shape, np.float32)


def adapter(generator: np.random.Generator, rank: int, inputs: int, outputs: int, scale: float = 0.1) -> lora.Adapter:
    return lora.Adapter(normals(generator, rank, inputs), normals(generator, rank, outputs), scale)


def dense(one: lora.Adapter) -> npt.NDArray[np.float64]:
    product: npt.NDArray[np.float64] = one.scale * one.down.T.astype(np.float64) @ one.up
    return product


@given(
    st.integers(0, 9), st.sampled_from(RANKS), st.integers(1, 70), st.integers(1, 70), st.integers(-12, 12),
    st.integers(0, 999),
)  # fmt: skip
@settings(max_examples=60)
def test_forward_is_the_dense_change(rows: int, rank: int, inputs: int, outputs: int, power: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    size = np.float32(10.0**power)
    wide = normals(generator, rows, 2 * inputs) * size
    x, base = wide[:, ::2], normals(generator, rows, outputs)  # x is not contiguous
    down, up = normals(generator, rank, inputs), normals(generator, rank, outputs)
    before = x.copy(), base.copy(), down.copy(), up.copy()
    expected = reference.lora_forward(x, base, down, up)
    # Rounding is relative to the sums of magnitudes, not to what is left of them.
    room = 1e-5 * reference.lora_forward(abs(x), abs(base), abs(down), abs(up))
    found = lora.forward(x, base, down, up)
    assert found.dtype == np.float32
    assert (abs(found - expected) <= room).all()
    for row in range(rows):
        single = lora.forward(x[row], base[row], down, up)
        assert (abs(single - expected[row]) <= room[row]).all()
    for kept, now in zip(before, (x, base, down, up), strict=True):
        np.testing.assert_array_equal(kept, now)


@pytest.mark.parametrize("rows", [0, 1, 5, 32])
@pytest.mark.parametrize("rank", RANKS)
def test_compiled_forward_agrees(rows: int, rank: int) -> None:
    pytest.importorskip("numba")
    from edgenet_node.kernels.compiled import learning as compiled

    generator = np.random.default_rng(rank)
    x, base = normals(generator, rows, 514)[:, ::2], normals(generator, rows, 96)
    down, up = normals(generator, rank, 257), normals(generator, rank, 96)
    expected = reference.lora_forward(x, base, down, up)
    room = 1e-5 * reference.lora_forward(abs(x), abs(base), abs(down), abs(up))
    assert (abs(compiled.forward(x, base, down, up) - expected) <= room).all()
    for row in range(rows):
        assert (abs(compiled.forward(x[row], base[row], down, up) - expected[row]) <= room[row]).all()
    if rows:
        with pytest.raises(UsageError, match="over the base"):
            compiled.forward(x, base, down, up, out=base)


def test_a_new_adapter_changes_nothing_and_has_the_parameters_of_its_rank() -> None:
    generator = np.random.default_rng(1)
    for rank in RANKS:
        new = adapters.start(256, 256, rank, generator)
        x, base = normals(generator, 256), normals(generator, 256)
        served = lora.loaded(new)
        np.testing.assert_array_equal(lora.forward(x, base, served.down, served.up), base)
        assert new.parameters == 512 * rank
        assert np.linalg.matrix_rank(dense(adapter(generator, rank, 40, 30))) == rank
    for rank in (0, 17):
        with pytest.raises(UsageError, match="rank"):
            adapters.start(4, 4, rank, generator)


def test_the_base_cannot_be_overwritten() -> None:
    generator = np.random.default_rng(2)
    base = normals(generator, 2, 4)
    one = lora.Loaded(normals(generator, 1, 4), normals(generator, 1, 4))
    with pytest.raises(UsageError, match="over the base"):
        lora.forward(base, base, one.down, one.up, out=base)
    with pytest.raises(UsageError, match="over the base"):
        lora.batched(base, base, lora.group(np.zeros(2, np.intp), 1), [one], out=base)


@pytest.mark.parametrize("rows", [0, 1, 32])
@pytest.mark.parametrize("rank", [1, 2, 16])
def test_the_steady_state_allocates_no_array(rows: int, rank: int) -> None:
    generator = np.random.default_rng(3)
    shape = (rows, 256) if rows else (256,)
    x, base, out = normals(generator, *shape), normals(generator, *shape), np.empty(shape, np.float32)
    one = lora.loaded(adapter(generator, rank, 256, 256))
    workspace = Workspace()

    def run() -> None:
        lora.forward(x, base, one.down, one.up, out=out, workspace=workspace)
        if rows > 1:
            lora.batched(x, base, groups, [one, one], out=out, workspace=workspace)

    groups = lora.group(np.arange(rows) % 2, 2)
    run()
    tracemalloc.start()
    try:
        run()
        before, _ = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        run()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak - before < (4096 if rows > 1 else 1024)  # views and an iterator; an array of 32 rows has 32 KiB
    assert workspace.bytes_held <= 4 * (rows * (2 * 256 + rank) + rank)


@given(st.integers(0, 12), st.integers(1, 5), st.integers(0, 999))
@settings(max_examples=40)
def test_a_batch_equals_its_rows_one_by_one(rows: int, count: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    held = [adapter(generator, int(generator.choice(RANKS)), 20, 30, 1.0) for _ in range(count)]
    served = [lora.loaded(one) for one in held]
    which = generator.integers(0, count, rows)
    x, base = normals(generator, rows, 20), normals(generator, rows, 30)
    found = lora.batched(x, base, lora.group(which, count), served)
    expected = reference.lora_batched(x, base, which.tolist(), [(one.down, one.up) for one in served])
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-3)
    for row in range(rows):
        one = served[which[row]]
        np.testing.assert_allclose(found[row], lora.forward(x[row], base[row], one.down, one.up), rtol=1e-4, atol=1e-3)


@given(st.integers(1, 6), st.sampled_from(RANKS), st.integers(0, 999))
@settings(max_examples=30)
def test_gradients_by_the_chain_rule_and_by_finite_differences(rows: int, rank: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    one = adapter(generator, rank, 9, 7, 0.3)
    x, target = normals(generator, rows, 9), normals(generator, rows, 7)

    def loss(down: npt.ArrayLike, up: npt.ArrayLike) -> float:
        y = reference.lora_forward(x, np.zeros((rows, 7)), down, 0.3 * np.asarray(up, np.float64))
        return 0.5 * float(((y - target) ** 2).sum())

    grad = (x @ dense(one) - target).astype(np.float32)
    found = lora.gradients(x, grad, one)
    by_rule = reference.lora_gradients(x, grad, one.down, one.up, 0.3)
    for part, expected in zip((found.down, found.up), by_rule, strict=True):
        np.testing.assert_allclose(part, expected, rtol=1e-3, atol=1e-3 * (1 + abs(expected).max()))
    # A central difference of a quadratic along one factor is exact but for rounding.
    move_down, move_up = generator.standard_normal((rank, 9)), generator.standard_normal((rank, 7))
    step = 1e-4
    along_down = (loss(one.down + step * move_down, one.up) - loss(one.down - step * move_down, one.up)) / (2 * step)
    along_up = (loss(one.down, one.up + step * move_up) - loss(one.down, one.up - step * move_up)) / (2 * step)
    size = 1e-4 * (1 + float(abs(found.down).sum() + abs(found.up).sum()))
    assert abs(along_down - float((found.down * move_down).sum())) < size
    assert abs(along_up - float((found.up * move_up).sum())) < size
    single = lora.gradients(x[0], grad[0], one)
    np.testing.assert_allclose(single.down, lora.gradients(x[:1], grad[:1], one).down)


def test_steps_descend_and_use_every_rank() -> None:
    generator = np.random.default_rng(4)
    x = normals(generator, 64, 12)
    target = x @ dense(adapter(generator, 3, 12, 10, 1.0)).astype(np.float32)
    one, losses = adapters.start(12, 10, 4, generator, 1.0), []
    for _ in range(400):
        residual = np.asarray((x @ one.down.T) @ one.up - target, np.float32)
        losses.append(float(np.square(residual).mean()))
        one = adapters.step(one, lora.gradients(x, residual / np.float32(64), one), 0.02)
    assert losses[-1] < 1e-3 * losses[0]
    assert (np.diff(losses) <= 1e-6 * losses[0]).all()
    assert np.linalg.matrix_rank(dense(one), tol=1e-2 * float(np.linalg.norm(dense(one)))) == 3


def merged_case(seed: int) -> tuple[list[tuple[float, lora.Adapter]], npt.NDArray[np.float64]]:
    generator = np.random.default_rng(seed)
    parts = [(float(w), adapter(generator, r, 24, 18, 0.5)) for w, r in zip((0.5, 0.3, -0.2), (2, 4, 8), strict=True)]
    return parts, np.sum([w * dense(one) for w, one in parts], axis=0)


@pytest.mark.parametrize("rank", [1, 2, 5, 13, 16])
def test_a_merge_is_optimal(rank: int) -> None:
    parts, total = merged_case(rank)
    merged = adapters.merge(parts, rank)
    best, tail = reference.lora_merge([(w, one.down, one.up, one.scale) for w, one in parts], rank)
    result = dense(merged.adapter)
    assert merged.adapter.rank <= rank
    np.testing.assert_allclose(result, best, atol=1e-5)
    distance = float(np.linalg.norm(result - total))
    scale = float(np.linalg.norm(total))
    assert distance == pytest.approx(float(np.sqrt((tail**2).sum())), abs=1e-6 * scale)
    assert merged.error == pytest.approx(float(np.sqrt((tail**2).sum())), abs=1e-6 * scale)
    generator = np.random.default_rng(99)
    for spread in (1e-3, 1e-2, 0.1, 1.0):
        for _ in range(25):  # competitors near and far
            down = merged.adapter.down + spread * normals(generator, *merged.adapter.down.shape)
            up = merged.adapter.up + spread * normals(generator, *merged.adapter.up.shape)
            rival = down.T.astype(np.float64) @ up
            assert float(np.linalg.norm(rival - total)) >= distance - 1e-6 * scale
    averaged = np.mean([one.down[:1] for _, one in parts], axis=0).T @ np.sum([w * o.up[:1] for w, o in parts], axis=0)
    assert float(np.linalg.norm(averaged - total)) > distance


def test_a_blend_is_exact_and_a_merge_refuses_nonsense() -> None:
    parts, total = merged_case(7)
    np.testing.assert_allclose(dense(adapters.blend(parts)), total, atol=1e-5)
    with pytest.raises(UsageError, match="blend"):
        adapters.blend([])
    with pytest.raises(UsageError, match="rank"):
        adapters.merge(parts, 17)


@given(st.sampled_from([4, 8]), st.integers(1, 4), st.integers(1, 200), st.integers(-30, 30), st.integers(0, 99))
@settings(max_examples=60)
def test_stored_weights_move_by_half_a_scale_at_most(
    bits: storage.Bits, rows: int, columns: int, power: int, seed: int
) -> None:
    generator = np.random.default_rng(seed)
    matrix = normals(generator, rows, columns) * np.float32(10.0**power)
    matrix[0] = 0.0
    codes, scales = storage.quantise(matrix, bits)
    wide = storage.dequantise(codes, scales, columns)
    moved = abs(wide.astype(np.float64) - matrix)
    room = np.repeat(scales, storage.BLOCK, axis=1)[:, :columns].astype(np.float64)
    assert (moved <= room * (0.5 + 1e-4) + 1e-45).all()
    assert (wide[0] == 0.0).all()
    np.testing.assert_allclose(
        wide, reference.quantise(matrix, bits, storage.BLOCK), atol=float(room.max(initial=0.0)), rtol=0
    )
    one = lora.Adapter(matrix, matrix, 0.25)
    stored = msgspec.msgpack.decode(msgspec.msgpack.encode(storage.store(one, bits)), type=storage.Stored)
    np.testing.assert_array_equal(storage.load(stored).down, wide)
    assert storage.load(stored).scale == 0.25


@pytest.mark.parametrize(("bits", "low", "high"), [(8, 0.002, 0.03), (4, 0.05, 0.25)])
def test_what_precision_costs(bits: storage.Bits, low: float, high: float) -> None:
    generator = np.random.default_rng(5)
    one = adapter(generator, 2, 256, 256)
    kept = storage.load(storage.store(one, bits))
    change = float(np.linalg.norm(dense(kept) - dense(one)) / np.linalg.norm(dense(one)))
    assert low < change < high
    size = len(storage.store(one, bits).down.codes) + len(storage.store(one, bits).down.scales)
    assert size == one.down.size * (bits + 0.5) / 8


def test_a_stored_adapter_that_does_not_fit_together_is_refused() -> None:
    generator = np.random.default_rng(6)
    whole = storage.store(adapter(generator, 2, 70, 64))
    infinite = np.full(4, np.inf, "<f4").tobytes()
    bad = [
        msgspec.structs.replace(whole, down=msgspec.structs.replace(whole.down, rows=3)),
        msgspec.structs.replace(whole, down=msgspec.structs.replace(whole.down, rows=17)),
        msgspec.structs.replace(whole, down=msgspec.structs.replace(whole.down, columns=1 << 40)),
        msgspec.structs.replace(whole, down=msgspec.structs.replace(whole.down, codes=whole.down.codes[1:])),
        msgspec.structs.replace(whole, down=msgspec.structs.replace(whole.down, scales=infinite)),
        msgspec.structs.replace(whole, up=storage.store(adapter(generator, 1, 64, 64)).up),
        msgspec.structs.replace(whole, scale=float("nan")),
    ]
    for one in bad:
        with pytest.raises(UsageError):
            storage.load(one)


def test_what_one_operator_learns_leaves_the_others_alone() -> None:
    generator = np.random.default_rng(8)
    bank = operators.Bank(inputs=16, outputs=16, rank=2)
    with pytest.raises(NotFound):
        operators.select(bank, "scan", "read")
    names = OrderedDict(scan="read", seek="read", insert="write")
    for name, category in names.items():
        for _ in range(operators.STEPS_FULL):
            bank = operators.learn(bank, name, category, normals(generator, 16), normals(generator, 16), 0.1, generator)
    before = {name: operators.select(bank, name, category) for name, category in names.items()}
    after = operators.learn(bank, "scan", "read", normals(generator, 16), normals(generator, 16), 0.1, generator)
    for name, category in names.items():
        now = operators.select(after, name, category)
        assert (name != "scan") == np.array_equal(before[name].up, now.up)
    # A newcomer of a known category starts from what the category knows; its share grows with its own steps.
    newcomer = operators.select(after, "skip", "read")
    np.testing.assert_array_equal(newcomer.up, lora.loaded(after.categories["read"].adapter).up)
    young = operators.learn(after, "skip", "read", normals(generator, 16), normals(generator, 16), 0.1, generator)
    blended = operators.select(young, "skip", "read")
    expected = 0.1 * dense(young.operators["skip"].adapter) + 0.9 * dense(young.categories["read"].adapter)
    np.testing.assert_allclose(blended.down.T @ blended.up, expected, atol=1e-5)
    filled = operators.Bank(16, 16, 2, dict.fromkeys(map(str, range(63)), bank.operators["scan"]), bank.categories)
    with pytest.raises(Overloaded):
        operators.learn(filled, "one more", "read", normals(generator, 16), normals(generator, 16), 0.1, generator)
