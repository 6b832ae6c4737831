"""How these tests run: hypothesis unhurried, and no event loop left open."""

from __future__ import annotations

import asyncio

from hypothesis import settings

# On Python 3.11 asyncio makes a loop when the main thread is first asked for one, and pytest-asyncio
# would never close it; after this none is made.
asyncio.set_event_loop(None)

settings.register_profile("unhurried", deadline=None)  # a busy machine is no failure
settings.load_profile("unhurried")
