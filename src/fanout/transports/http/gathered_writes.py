"""Requests of one turn of the event loop, written together at its end.

Each write wakes the other end, which on a busy machine takes the processor away in the middle of the
turn. So only the first request of a turn is written at once; those that follow wait until the turn is
over, or until there are some dozens of them.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

_MOST = 32  # that wait; it bounds how long the first of them does


class Writer(Protocol):
    """A connection."""

    def write_request(self, data: bytes) -> None:
        """Write a request, unless the connection has ended. Raises nothing."""


class GatheredWrites:
    """A loop whose clock goes on within a turn (asyncio's own) has each request written at once."""

    __slots__ = ("_loop", "_turn_s", "_waiting")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._turn_s = -1.0  # the loop's time in the turn of the last request
        self._waiting: list[tuple[Writer, bytes]] = []

    def add(self, writer: Writer, data: bytes, now_s: float) -> None:
        """Write a request now or soon. ``now_s`` is the loop's time."""
        if now_s != self._turn_s:
            self._turn_s = now_s
            writer.write_request(data)
            return
        waiting = self._waiting
        waiting.append((writer, data))
        if len(waiting) == 1:
            self._loop.call_soon(self._write)
        elif len(waiting) >= _MOST:
            self._write()

    def _write(self) -> None:
        waiting, self._waiting = self._waiting, []
        for writer, data in waiting:
            writer.write_request(data)
