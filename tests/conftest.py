"""One setting for every random test: no deadline, for a busy machine is slow and not wrong; a failure prints what repeats it."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("agentos", deadline=None, print_blob=True)
settings.load_profile("agentos")
