"""Selective state space (Mamba): a memory of fixed size that decides from its input what to remember.

Layouts put the channels last, (n, d) for n states of each of d channels, because then every step is a few operations
over contiguous rows.
"""

from __future__ import annotations

import numpy as np
from msgspec import Struct

from .gate import log_sigmoid
from .workspace import Array, Workspace

STEPS_BLOCK_FLOATS = 32 * 1024  # two buffers of 128 KiB: a block's decays and inputs stay in second-level cache


def selective_scan(
    x: Array,
    delta: Array,
    a: Array,
    b: Array,
    c: Array,
    skip: Array | None = None,
    state: Array | None = None,
    *,
    gate: Array | None = None,
    out: Array | None = None,
    state_out: Array | None = None,
    workspace: Workspace | None = None,
) -> tuple[Array, Array]:
    """`h_t = exp(delta_t A) h_(t-1) + delta_t B_t x_t`, `y_t = C_t h_t + D x_t` (Gu and Dao 2023, algorithm 2).

    x, delta (t, d), delta > 0; a (n, d) below 0, so that every decay lies in (0, 1); b, c (t, n); skip D (d,), state
    h_0 (n, d), zero if absent -> y (t, d) and h_t (n, d), float32. A bounded input keeps
    `|h| <= max |delta B x| / (1 - max exp(delta A))`. Passing the returned state on continues the sequence: chunks give
    what the whole gives. `gate` (t,) are logits, see `gate`: step t keeps the share sigma(g_t) of its input, and the
    state decays as ever. `state_out` may be `state`. O(t n d).
    """
    workspace = Workspace() if workspace is None else workspace
    (count, width), states = x.shape, a.shape[0]
    out = np.empty((count, width), np.float32) if out is None else out
    state_out = np.empty((states, width), np.float32) if state_out is None else state_out
    if state is None:
        state_out[:] = 0.0
    elif state_out is not state:
        np.copyto(state_out, state)
    block = block_steps(states, width)
    held = workspace.floats("held", (states, width))
    for first in range(0, count, block):
        last = min(first + block, count)
        decay, drive = discretise(x, delta, a, b, gate, first, last, workspace)
        before = state_out
        for keep, now in zip(decay, drive, strict=True):
            np.multiply(keep, before, out=held)
            np.add(now, held, out=now)
            before = now
        np.copyto(state_out, before)
        read = c[first:last, None, :]
        np.matmul(read, drive, out=out[first:last, None, :])
    if skip is not None:
        for first in range(0, count, block):
            rows = slice(first, min(first + block, count))
            part = workspace.floats("skipped", x[rows].shape)
            np.add(out[rows], np.multiply(x[rows], skip, out=part), out=out[rows])
    return out, state_out


def block_steps(states: int, width: int) -> int:
    """Steps in one block."""
    return max(1, STEPS_BLOCK_FLOATS // max(1, states * width))


def discretise(
    x: Array, delta: Array, a: Array, b: Array, gate: Array | None, first: int, last: int, workspace: Workspace
) -> tuple[Array, Array]:
    """Decays `exp(delta A)` and inputs `delta B x sigma(gate)` of the steps `first` to `last`, each (steps, n, d)."""
    count, (states, width) = last - first, a.shape
    shape = (count, states, width)
    decay, drive = workspace.floats("decay", shape), workspace.floats("drive", shape)
    np.multiply(delta[first:last, None, :], a, out=decay)
    np.exp(decay, out=decay)
    scaled = workspace.floats("scaled", (count, width))
    np.multiply(delta[first:last], x[first:last], out=scaled)
    if gate is not None:
        share, work = workspace.floats("share", (count,)), workspace.floats("share work", (count,))
        np.exp(log_sigmoid(gate[first:last], share, work), out=share)
        np.multiply(scaled, share[:, None], out=scaled)
    np.multiply(b[first:last, :, None], scaled[:, None, :], out=drive)
    return decay, drive


def softplus(x: Array) -> Array:
    """`log(1 + exp x)` without overflow: what makes a step size positive."""
    soft: Array = np.maximum(x, np.float32(0)) + np.log1p(np.exp(-np.abs(x)))
    return soft


def silu(x: Array) -> Array:
    """`x sigma(x)` for any finite x."""
    gentle: Array = x * (np.float32(0.5) * np.tanh(np.float32(0.5) * x) + np.float32(0.5))
    return gentle


class Block(Struct, frozen=True, eq=False):
    """Weights of one Mamba block: f features in and out, d channels, n states, rank r of the step size, w taps.

    `expand` (f, 2 d), `taps` (w, d) with `taps_bias` (d,), `select` (d, r + 2 n), `steps` (r, d) with `steps_bias`
    (d,), `a` (n, d) below 0, `skip` (d,), `contract` (d, f).
    """

    expand: Array
    taps: Array
    taps_bias: Array
    select: Array
    steps: Array
    steps_bias: Array
    a: Array
    skip: Array
    contract: Array


class Memory(Struct, frozen=True, eq=False):
    """What a block carries from one chunk to the next: `tail` (w - 1, d), its last inputs, and `state` (n, d)."""

    tail: Array
    state: Array


def initial_block(features: int, rng: np.random.Generator, *, states: int = 16, expansion: int = 2, taps: int = 4,
                  step_min: float = 0.001, step_max: float = 0.1) -> Block:  # fmt: skip
    """Untrained weights (Gu and Dao 2023, section 3.6): A = -(1..n) (S4D-real), D = 1, step sizes log-uniform in
    [step_min, step_max], rank ceil(f / 16), the other matrices uniform in +-1/sqrt(inputs), from the caller's `rng`."""
    channels, rank = expansion * features, -(-features // 16)

    def uniform(inputs: int, *shape: int) -> Array:
        bound = 1.0 / np.sqrt(inputs)
        return rng.uniform(-bound, bound, shape).astype(np.float32)

    sizes = np.exp(rng.uniform(np.log(step_min), np.log(step_max), channels))
    return Block(
        expand=uniform(features, features, 2 * channels),
        taps=uniform(taps, taps, channels),
        taps_bias=np.zeros(channels, np.float32),
        select=uniform(channels, channels, rank + 2 * states),
        steps=uniform(rank, rank, channels),
        steps_bias=np.log(np.expm1(sizes)).astype(np.float32),  # softplus of it is the size
        a=np.repeat(-np.arange(1.0, states + 1.0, dtype=np.float32)[:, None], channels, axis=1),
        skip=np.ones(channels, np.float32),
        contract=uniform(channels, channels, features),
    )


def blank(block: Block) -> Memory:
    """The memory before the first chunk."""
    taps, channels = block.taps.shape
    return Memory(tail=np.zeros((taps - 1, channels), np.float32), state=np.zeros_like(block.a))


def mamba(
    x: Array, block: Block, memory: Memory, *, gate: Array | None = None, workspace: Workspace | None = None
) -> tuple[Array, Memory]:
    """`contract(scan(silu(conv(u))) * silu(z))` with (u, z) = x expand (Gu and Dao 2023, figure 3).

    x (t, f) float32 -> (t, f) and the memory after it. The convolution is causal and by channel; the step size is
    `softplus(s steps + bias)` for the first r columns s of the selection, B and C are the others. `gate` as in
    `selective_scan`. Chunks give what the whole gives. O(t (f d + n d)).
    """
    count, (taps, channels), states = x.shape[0], block.taps.shape, block.a.shape[0]
    both: Array = x @ block.expand
    inner, through = both[:, :channels], both[:, channels:]
    padded = np.concatenate([memory.tail, inner])
    mixed: Array = np.tile(block.taps_bias, (count, 1))
    for tap in range(taps):
        mixed += padded[tap : tap + count] * block.taps[tap]
    mixed = silu(mixed)
    chosen: Array = mixed @ block.select
    rank = chosen.shape[1] - 2 * states
    raw: Array = chosen[:, :rank] @ block.steps
    delta = softplus(np.add(raw, block.steps_bias, dtype=np.float32))
    b, c = chosen[:, rank : rank + states], chosen[:, rank + states :]
    scanned, state = selective_scan(
        mixed, delta, block.a, b, c, block.skip, memory.state, gate=gate, workspace=workspace
    )
    tail = padded[padded.shape[0] - (taps - 1) :].copy()
    passed: Array = scanned * silu(through)
    output: Array = passed @ block.contract
    return output, Memory(tail=tail, state=state)
