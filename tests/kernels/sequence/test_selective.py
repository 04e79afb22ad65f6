"""`sequence.selective_scan/1`, `sequence.mamba/1`: oracles, streaming, stability, what a selection can do."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgenet_node.kernels.attention import selective
from edgenet_node.kernels.attention.workspace import Workspace
from edgenet_node.kernels.reference import sequence as reference

Array = npt.NDArray[np.float32]


def problem(seed: int, count: int, width: int, states: int) -> dict[str, Any]:
    rng = np.random.default_rng(seed)

    def normal(*shape: int) -> Array:
        return rng.standard_normal(shape, np.float32)

    return {
        "x": normal(count, width),
        "delta": selective.softplus(normal(count, width)),
        "a": -np.exp(normal(states, width)),
        "b": normal(count, states),
        "c": normal(count, states),
        "skip": normal(width),
        "state": normal(states, width),
    }


def scans() -> list[Any]:
    """numpy's and, with numba, the compiled one."""

    def compiled(*args: Any, **kwargs: Any) -> Any:
        pytest.importorskip("numba")
        from edgenet_node.kernels.compiled import sequence

        return sequence.selective_scan(*args, **kwargs)

    return [pytest.param(selective.selective_scan, id="numpy"), pytest.param(compiled, id="numba")]


@pytest.mark.parametrize("scan", scans())
@given(st.integers(0, 2**32), st.integers(0, 12), st.integers(1, 5), st.integers(1, 6), st.booleans(), st.booleans())
def test_scan_is_the_loop(
    scan: Any, seed: int, count: int, width: int, states: int, gated: bool, strided: bool
) -> None:
    parts = problem(seed, count, width, states)
    gate = np.random.default_rng(seed).choice([-np.inf, 0.0, 3.0, np.inf], count).astype(np.float32) if gated else None
    if strided:
        parts = {name: np.repeat(part, 2, axis=-1)[..., ::2] for name, part in parts.items()}
    kept = {name: part.copy() for name, part in parts.items()}
    y, state = scan(**parts, gate=gate)
    wanted_y, wanted_state = reference.selective_scan(**parts, gate=gate)
    np.testing.assert_allclose(y, wanted_y, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(state, wanted_state, rtol=1e-4, atol=1e-4)
    for name, part in parts.items():
        np.testing.assert_array_equal(part, kept[name])


@pytest.mark.parametrize("scan", scans())
def test_chunks_give_what_the_whole_gives(scan: Any) -> None:
    parts = problem(1, 300, 64, 16)  # several blocks
    y, state = scan(**parts)
    for sizes in ([300], [1] * 300, [7, 100, 0, 193]):
        held, outputs, first = parts["state"].copy(), [], 0
        for size in sizes:
            rows = slice(first, first + size)
            chunk = {name: parts[name][rows] for name in ("x", "delta", "b", "c")}
            part, held = scan(**chunk, a=parts["a"], skip=parts["skip"], state=held, state_out=held)
            outputs.append(part)
            first += size
        np.testing.assert_allclose(np.concatenate(outputs), y, rtol=1e-5, atol=1e-4)
        np.testing.assert_allclose(held, state, rtol=1e-5, atol=1e-4)


@given(st.integers(0, 2**32))
def test_bounded_input_keeps_a_bounded_state(seed: int) -> None:
    parts = problem(seed, 200, 3, 4) | {"state": np.zeros((4, 3), np.float32)}
    drive = np.abs(parts["delta"] * parts["x"])[:, None, :] * np.abs(parts["b"])[:, :, None]
    decay = np.exp(parts["delta"][:, None, :].astype(np.float64) * parts["a"])
    assert (decay < 1).all()
    bound = drive.max(axis=0) / (1 - decay.max(axis=0))
    for count in (1, 10, 200):
        chunk = {name: parts[name][:count] for name in ("x", "delta", "b", "c")}
        _, state = selective.selective_scan(**chunk, a=parts["a"])
        assert (np.abs(state) <= bound * (1 + 1e-5)).all()


def test_extreme_steps_forget_or_keep_all() -> None:
    """A step of 1e4 wipes the state to its own input; one of 1e-30 leaves it as it was."""
    ones = np.ones((1, 1), np.float32)
    held = np.full((1, 1), 5.0, np.float32)
    _, wiped = selective.selective_scan(ones, 1e4 * ones, -ones, ones, ones, state=held)
    _, kept = selective.selective_scan(ones, 1e-30 * ones, -ones, ones, ones, state=held)
    assert wiped[0, 0] == np.float32(1e4)
    assert kept[0, 0] == 5.0


def test_impulse_response_is_a_power_of_the_decay() -> None:
    count = 40
    x = np.zeros((count, 1), np.float32)
    x[0] = 1.0
    ones = np.ones((count, 1), np.float32)
    a = np.full((1, 1), np.log(0.95), np.float32)
    y, _ = selective.selective_scan(x, ones, a, ones, ones)
    np.testing.assert_allclose(y[:, 0], 0.95 ** np.arange(count), rtol=1e-5)


def test_selection_remembers_the_marked_and_ignores_the_rest() -> None:
    """Selective copying: a step near zero keeps the state, a long one replaces it. No fixed decay can do both."""
    rng = np.random.default_rng(2)
    x = rng.standard_normal((200, 1)).astype(np.float32)
    marked = 17
    delta = np.full((200, 1), 1e-6, np.float32)
    delta[marked] = 20.0
    ones = np.ones((200, 1), np.float32)
    y, _ = selective.selective_scan(x, delta, -np.ones((1, 1), np.float32), ones, ones)
    np.testing.assert_allclose(y[-1], 20.0 * x[marked], rtol=1e-3, atol=1e-3)


def test_gate_blocks_input_and_lets_the_state_decay() -> None:
    parts = problem(3, 20, 3, 4)
    quiet = parts | {"x": np.zeros_like(parts["x"])}
    _, blocked = selective.selective_scan(**parts, gate=np.full(20, -np.inf, np.float32))
    _, silent = selective.selective_scan(**quiet)
    np.testing.assert_array_equal(blocked, silent)
    plain, _ = selective.selective_scan(**parts)
    opened, _ = selective.selective_scan(**parts, gate=np.full(20, np.inf, np.float32))
    np.testing.assert_array_equal(plain, opened)


@given(st.integers(0, 2**32), st.integers(0, 9), st.integers(1, 20))
def test_block_is_its_reference_and_streams(seed: int, cut: int, features: int) -> None:
    rng = np.random.default_rng(seed)
    block = selective.initial_block(features, rng, states=4)
    x = rng.standard_normal((9, features), np.float32)
    y, memory = selective.mamba(x, block, selective.blank(block))
    tensors = {name: getattr(block, name).astype(np.float64) for name in block.__struct_fields__}
    np.testing.assert_allclose(y, reference.mamba(x, tensors), rtol=1e-3, atol=1e-4)
    first, between = selective.mamba(x[:cut], block, selective.blank(block))
    second, after = selective.mamba(x[cut:], block, between)
    np.testing.assert_allclose(np.concatenate([first, second]), y, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(after.state, memory.state, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(after.tail, memory.tail, rtol=1e-4, atol=1e-6)


def test_initial_steps_lie_in_their_range() -> None:
    block = selective.initial_block(32, np.random.default_rng(4))
    sizes = selective.softplus(block.steps_bias)
    assert 0.00099 < sizes.min() <= sizes.max() < 0.101
    np.testing.assert_array_equal(block.a[:, 0], -np.arange(1.0, 17.0))


@pytest.mark.parametrize("scan", scans())
def test_nothing_is_allocated(scan: Any) -> None:
    parts = problem(5, 512, 64, 16)
    workspace, out, state = Workspace(), np.empty((512, 64), np.float32), np.empty((16, 64), np.float32)
    gate = np.zeros(512, np.float32)
    for _ in range(3):
        scan(**parts, gate=gate, out=out, state_out=state, workspace=workspace)
    tracemalloc.start()
    scan(**parts, gate=gate, out=out, state_out=state, workspace=workspace)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < out.nbytes  # numpy buffers a broadcast in pieces of at most 70 kB, whatever the size
