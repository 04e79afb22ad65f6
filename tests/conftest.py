"""For all tests: BLAS as the daemon sets it, before numpy is imported; no deadlines, as machines differ.

Hypothesis takes the same examples in every run of the same code, so that a change is judged by what it changes.
EDGENET_EXPLORE=1 draws new ones.
"""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

from edgenet_node.kernels import bootstrap

bootstrap.apply()
settings.register_profile(
    "edgenet",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    print_blob=True,
    derandomize=not os.environ.get("EDGENET_EXPLORE"),
)
settings.load_profile("edgenet")
