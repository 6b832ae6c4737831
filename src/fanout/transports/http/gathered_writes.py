"""Requests of one turn of the event loop, written together at its end.

Each write wakes the other end, which on a busy machine takes the processor away in the middle of the
turn. So only the first request of a turn is written at once; those that follow wait until the turn is
over, or until there are some dozens of them; those that are begun together are written together.
A request that follows a reply on the spot waits as well, for what else came with that reply: the end of
the connection, it may be.
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

    __slots__ = ("_is_due", "_loop", "_turn_s", "_waiting", "is_held")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.is_held = False  # a reply is being told: nothing is written on the spot
        self._is_due = False  # ``_write`` is called at the end of the turn
        self._turn_s = -1.0  # the loop's time in the turn of the last request
        self._waiting: list[tuple[Writer, bytes]] = []

    def add(self, writer: Writer, data: bytes, now_s: float) -> None:
        """Write a request now or soon. ``now_s`` is the loop's time."""
        if now_s != self._turn_s and not self.is_held:
            self._turn_s = now_s
            writer.write_request(data)
            return
        if len(self._waiting) >= _MOST:
            self._write_all()  # but for this one
        self._waiting.append((writer, data))
        if not self._is_due:
            self._is_due = True
            self._loop.call_soon(self._write)

    def add_several(self, requests: list[tuple[Writer, bytes]]) -> None:
        """Write requests that were begun together: now, unless a reply is being told."""
        self._waiting += requests
        if not self.is_held:
            self._write_all()
        elif not self._is_due:
            self._is_due = True
            self._loop.call_soon(self._write)

    def _write(self) -> None:
        self._is_due = False
        self._write_all()

    def _write_all(self) -> None:
        waiting, self._waiting = self._waiting, []
        for writer, data in waiting:
            writer.write_request(data)
