"""The function behind `embedding`, with the real encoder, as a worker calls it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest

from edgenet_node.errors import Cancelled
from edgenet_node.kernels.registry import KERNELS
from edgenet_node.tasks.handlers import Environment
from edgenet_node.tasks.handlers.embedding import EmbeddingHandler, read_vectors
from edgenet_node.tasks.handlers.embedding_worker import embed

T = TypeVar("T")


class WorkerContext:
    def __init__(self) -> None:
        self.kept: dict[str, Any] = {}
        self.stopped = False

    def kernel(self, name: str) -> Any:
        return KERNELS[name].function

    def should_stop(self) -> bool:
        return self.stopped

    def resident(self, name: str, load: Callable[[], T], *, size_bytes: int = 0) -> T:
        found: T = self.kept.setdefault(name, None) or load()
        self.kept[name] = found
        return found


def test_a_chunk_of_texts_becomes_checked_vectors(tmp_path: Path) -> None:
    handler = EmbeddingHandler(Environment(tmp_path))
    if handler.unavailable():
        pytest.skip(handler.unavailable())
    context = WorkerContext()
    parsed = handler.parse({"texts": ["a cat sat on the mat", "", "word " * 300, "a cat was sitting on a mat"]})
    data = handler.pack(parsed.items)
    assert handler.check_input(parsed.spec, data, 4) >= 4
    output = embed(context, *handler.args(parsed.spec, data))
    handler.check_output(parsed.spec, output, 4)
    vectors = read_vectors(output)
    assert np.dot(vectors[0], vectors[3]) > 0.8 > np.dot(vectors[0], vectors[2])
    assert handler.result(handler.merge(parsed.spec, [output]))["truncated"] == 1
    # Another grouping of the same texts, as at another executor, agrees item by item.
    pair = embed(context, *handler.args(parsed.spec, handler.pack([parsed.items[2], parsed.items[0]])))
    assert handler.same(handler.take(output, [2, 0]), pair) == [True, True]
    assert list(context.kept) == ["all-MiniLM-L6-v2"], "loaded once, by the name that tasks are steered by"
    context.stopped = True
    with pytest.raises(Cancelled):
        embed(context, *handler.args(parsed.spec, data))
