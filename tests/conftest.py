"""For all tests: BLAS as the daemon sets it, before numpy is imported; no deadlines, as machines differ."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

from edgenet_node.kernels import bootstrap

bootstrap.apply()
settings.register_profile("edgenet", deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True)
settings.load_profile("edgenet")
