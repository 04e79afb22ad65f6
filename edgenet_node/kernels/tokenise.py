"""Text to word pieces, as all-MiniLM-L6-v2 was trained: uncased WordPiece, `[CLS] ... [SEP]`, at most 256 pieces."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from msgspec import Struct
from tokenizers import Tokenizer

from ..errors import CorruptData

PIECES_MAX = 256  # max_seq_length of the published model; what lies beyond was never trained


class Pieces(Struct, frozen=True, eq=False):
    """`ids`: one int32 array per text, of length 2 to `PIECES_MAX`. `truncated`: how many texts were longer."""

    ids: tuple[npt.NDArray[np.int32], ...]
    truncated: int


class WordPieces:
    """The tokeniser of one `tokenizer.json`, with padding and truncation switched off: both are done here."""

    def __init__(self, tokenizer_json: bytes) -> None:
        try:
            tokenizer = Tokenizer.from_buffer(tokenizer_json)
        except Exception as error:  # the binding raises bare `Exception`
            raise CorruptData(f"tokenizer.json cannot be read: {error}") from error
        tokenizer.no_padding()
        tokenizer.no_truncation()
        self._tokenizer = tokenizer

    @classmethod
    def from_file(cls, path: Path) -> WordPieces:
        return cls(path.read_bytes())

    def split(self, texts: Sequence[str]) -> Pieces:
        """Word pieces of each text. A longer text keeps its first 255 pieces and its closing `[SEP]`.

        Lone surrogates, which UTF-8 cannot carry, become U+FFFD, which the model's normaliser drops.
        """
        ids: list[npt.NDArray[np.int32]] = []
        truncated = 0
        for encoding in self._tokenizer.encode_batch_fast([_utf8(text) for text in texts]):
            pieces = encoding.ids
            if len(pieces) > PIECES_MAX:
                truncated += 1
                pieces = [*pieces[: PIECES_MAX - 1], pieces[-1]]
            ids.append(np.array(pieces, dtype=np.int32))
        return Pieces(ids=tuple(ids), truncated=truncated)


def _utf8(text: str) -> str:
    return text if text.isascii() else text.encode("utf-8", "surrogatepass").decode("utf-8", "replace")
