"""Examples take as long as the machine's other work lets them: a deadline would be a timed test."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("no-deadline", deadline=None)
settings.load_profile("no-deadline")
