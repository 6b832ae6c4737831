"""Keeps the event loop that pytest-asyncio would make, and never close, from coming to be."""

from __future__ import annotations

import asyncio

# On Python 3.11 asyncio makes a loop when the main thread is first asked for one; after this it does not.
asyncio.set_event_loop(None)
