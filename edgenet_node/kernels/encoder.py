"""all-MiniLM-L6-v2: texts to unit vectors of 384 floats, on one core, without torch.

`Encoder` joins the tokeniser and the weights (both immutable, both shared) with `transformer.forward`. Texts are taken
in windows of `WINDOW_TEXTS`, sorted by length within one, and packed without padding into chunks of about
`CHUNK_TOKENS` tokens; vectors come back in the order of the texts. Packing only groups the arithmetic: a text's vector
depends on its neighbours by rounding alone (below 1e-6).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from pathlib import Path

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from ..errors import Cancelled
from . import encoder_weights
from .tokenise import WordPieces
from .transformer import WIDTH, Array, EncoderWeights, Group, Workspace, forward

MODEL_ID = encoder_weights.MODEL_ID
DIMENSIONS = WIDTH
WINDOW_TEXTS = 4096  # bounds the memory for token ids; sorting over more gains nothing
CHUNK_TOKENS = 1024  # about 0.12 s of one core, hence the longest wait for `should_stop`; 16 MiB of workspace


Forward = Callable[[EncoderWeights, npt.NDArray[np.int32], Sequence[Group], Workspace], Array]
"""As `transformer.forward`."""


class Encoded(Struct, frozen=True, eq=False):
    """`vectors` float32 (texts, 384), unit length; `tokens` int32 (texts,), word pieces used; `truncated`: texts cut
    at 256 word pieces, whose vectors describe their beginning only."""

    vectors: Array
    tokens: npt.NDArray[np.int32]
    truncated: int


class Encoder:
    """Immutable: weights and tokeniser. May be shared by threads that each bring their own `Workspace`."""

    def __init__(self, weights: EncoderWeights, pieces: WordPieces, forward: Forward = forward) -> None:
        self._weights = weights
        self._pieces = pieces
        self._forward = forward

    @classmethod
    def open(cls, cache_folder: Path, model_folder: Path | None = None, forward: Forward = forward) -> Encoder:
        """From the published files in `model_folder` (the installed package by default), prepared in `cache_folder`.
        `forward` is that of `encoder.minilm_l6/1` in the caller's backend.

        `WeightsMissing`, `CorruptData` or `StoreError` say what to do; about 0.1 s, and 0.5 s the first time.
        """
        files = encoder_weights.locate(model_folder)
        tokenizer_json = encoder_weights.read_verified(
            files.tokenizer, encoder_weights.TOKENIZER_BYTES, encoder_weights.TOKENIZER_SHA256
        )
        return cls(encoder_weights.prepare(files, cache_folder), WordPieces(tokenizer_json), forward)

    def encode(
        self,
        texts: Sequence[str],
        *,
        should_stop: Callable[[], bool] | None = None,
        workspace: Workspace | None = None,
    ) -> Encoded:
        """Embed every text; `Cancelled` as soon as `should_stop` says so between two chunks."""
        workspace = Workspace() if workspace is None else workspace
        vectors = np.empty((len(texts), WIDTH), np.float32)
        tokens = np.empty(len(texts), np.int32)
        truncated = 0
        for first in range(0, len(texts), WINDOW_TEXTS):
            pieces = self._pieces.split(texts[first : first + WINDOW_TEXTS])
            truncated += pieces.truncated
            lengths = np.array([ids.size for ids in pieces.ids], np.int32)
            tokens[first : first + lengths.size] = lengths
            for members in _chunks(lengths):
                if should_stop is not None and should_stop():
                    raise Cancelled(f"encoding stopped before text {first + int(members.min())} of {len(texts)}")
                ids = np.concatenate([pieces.ids[i] for i in members])
                vectors[first + members] = self._forward(self._weights, ids, _groups(lengths[members]), workspace)
        return Encoded(vectors=vectors, tokens=tokens, truncated=truncated)

    def encode_one(self, text: str, *, workspace: Workspace | None = None) -> Array:
        """The unit vector (384,) of one text."""
        vector: Array = self.encode([text], workspace=workspace).vectors[0]
        return vector


def _chunks(lengths: npt.NDArray[np.int32]) -> Iterator[npt.NDArray[np.intp]]:
    """Positions of the texts of each chunk: shortest first, equal lengths together, earlier texts first."""
    order = np.argsort(lengths, kind="stable")
    start = total = 0
    for stop, position in enumerate(order):
        total += int(lengths[position])
        if total > CHUNK_TOKENS and stop > start:
            yield order[start:stop]
            start, total = stop, int(lengths[position])
    if start < order.size:
        yield order[start:]


def _groups(lengths: npt.NDArray[np.int32]) -> list[Group]:
    """Runs of equal length among the sorted `lengths` of one chunk."""
    groups, row = [], 0
    for length, run in groupby(lengths.tolist()):
        count = sum(1 for _ in run)
        groups.append(Group(start=row, count=count, length=length))
        row += count * length
    return groups
