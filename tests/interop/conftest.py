"""Real nodes, as in the end-to-end tests."""

from __future__ import annotations

from ..e2e.conftest import land, weights

__all__ = ["land", "weights"]
