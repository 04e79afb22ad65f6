"""`encoder.minilm_l6/1` with the real model: against float64, against published behaviour, and at its edges."""

from __future__ import annotations

import random

import numpy as np
import pytest
from safetensors.numpy import load_file

from edgenet_node.errors import Cancelled, CorruptData
from edgenet_node.kernels import encoder as encoder_module
from edgenet_node.kernels import reference
from edgenet_node.kernels.encoder import Encoder
from edgenet_node.kernels.encoder_weights import ModelFiles
from edgenet_node.kernels.tokenise import PIECES_MAX, WordPieces
from edgenet_node.kernels.transformer import Workspace

SENTENCES = [
    "The quick brown fox jumps over the lazy dog.",
    "How did we fix the leak in the connection pool?",
    "",
    "Größenwahn, naïveté, 東京タワー, Привет мир! 🙂",
    "x",
    "def f(x: int) -> int:\n    return x ** 2  # a comment",
    "A node announces what it can do, bids on tasks that it can run in time, and is paid once a sample was checked.",
]
# Cosines of sentence-transformers 6.2 with the same weights (torch, float32).
KNOWN_PAIRS = [
    ("The cat sat on the mat.", "A kitten rests on a rug", 0.616438),
    ("How do I reset my password?", "I forgot my login credentials", 0.677621),
    ("The stock market fell sharply today.", "Bananas are rich in potassium.", 0.003866),
]


def test_vectors_are_the_float64_reference(encoder: Encoder, model_files: ModelFiles) -> None:
    tensors = load_file(model_files.weights)
    pieces = WordPieces.from_file(model_files.tokenizer).split(SENTENCES)
    encoded = encoder.encode(SENTENCES)
    assert encoded.vectors.dtype == np.float32
    assert encoded.tokens.tolist() == [ids.size for ids in pieces.ids]
    assert encoded.truncated == 0
    for ids, vector in zip(pieces.ids, encoded.vectors, strict=True):
        np.testing.assert_allclose(vector, reference.encode(tensors, ids.tolist()), atol=1e-6)


@pytest.mark.parametrize(("left", "right", "cosine"), KNOWN_PAIRS)
def test_known_similarities(encoder: Encoder, left: str, right: str, cosine: float) -> None:
    assert float(encoder.encode_one(left) @ encoder.encode_one(right)) == pytest.approx(cosine, abs=2e-6)


def test_order_and_company_change_nothing_but_rounding(encoder: Encoder) -> None:
    rng = random.Random(4)
    texts = [" ".join(rng.choices(SENTENCES[0].split(), k=rng.randint(1, 60))) for _ in range(60)]
    together = encoder.encode(texts).vectors
    order = rng.sample(range(60), 60)
    np.testing.assert_allclose(encoder.encode([texts[i] for i in order]).vectors, together[order], atol=1e-6)
    np.testing.assert_allclose(np.stack([encoder.encode_one(text) for text in texts[:8]]), together[:8], atol=1e-6)


def test_the_same_call_gives_the_same_bits(encoder: Encoder) -> None:
    workspace = Workspace()
    first = encoder.encode(SENTENCES, workspace=workspace).vectors
    np.testing.assert_array_equal(encoder.encode(SENTENCES, workspace=workspace).vectors, first)
    np.testing.assert_array_equal(encoder.encode(SENTENCES).vectors, first)


def test_windows_and_chunks_do_not_show(encoder: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = encoder.encode(SENTENCES)
    monkeypatch.setattr(encoder_module, "WINDOW_TEXTS", 3)
    monkeypatch.setattr(encoder_module, "CHUNK_TOKENS", 12)
    parts = encoder.encode(SENTENCES)
    np.testing.assert_allclose(parts.vectors, whole.vectors, atol=1e-6)
    np.testing.assert_array_equal(parts.tokens, whole.tokens)


def test_a_long_text_is_cut_and_counted(encoder: Encoder) -> None:
    long, longer = "swarm " * 300, "swarm " * 3000
    encoded = encoder.encode([long, "short", longer, "swarm " * (PIECES_MAX - 2)])
    assert encoded.truncated == 2
    assert encoded.tokens.tolist() == [PIECES_MAX, 3, PIECES_MAX, PIECES_MAX]
    np.testing.assert_allclose(encoded.vectors[0], encoded.vectors[2], atol=1e-6)
    np.testing.assert_allclose(encoded.vectors[0], encoded.vectors[3], atol=1e-6)


def test_nothing_gives_nothing(encoder: Encoder) -> None:
    encoded = encoder.encode([])
    assert encoded.vectors.shape == (0, encoder_module.DIMENSIONS)
    assert encoded.tokens.shape == (0,)


def test_every_text_gets_a_unit_vector(encoder: Encoder) -> None:
    odd = [
        "",
        " ",
        "\x00",
        "\ud800",
        "\u202e\u200b",
        "a" * 500,
        "🙂" * 300,
        "\n".join("ab"),
        "[CLS] [SEP] [PAD] [MASK]",
    ]
    encoded = encoder.encode(odd)
    np.testing.assert_allclose(np.linalg.norm(encoded.vectors, axis=1), 1.0, atol=1e-6)
    # Nothing is left of the first five but [CLS] [SEP].
    np.testing.assert_allclose(encoded.vectors[1:5], encoded.vectors[:1].repeat(4, axis=0), atol=1e-6)


def test_it_stops_between_chunks(encoder: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoder_module, "CHUNK_TOKENS", 1)
    polls = []

    def stop() -> bool:
        polls.append(1)
        return len(polls) == 3

    with pytest.raises(Cancelled, match=f"of {len(SENTENCES)}"):
        encoder.encode(SENTENCES, should_stop=stop)
    assert len(polls) == 3


def test_a_broken_tokeniser_is_corrupt_data() -> None:
    with pytest.raises(CorruptData, match=r"tokenizer\.json cannot be read"):
        WordPieces(b"{}")
