"""Interrupts that an event loop would swallow: what a signal's handler raises while a protocol is told."""

from __future__ import annotations

import asyncio


def raise_soon(loop: asyncio.AbstractEventLoop, interrupt: BaseException) -> None:
    """Let an interrupt end the loop: uvloop logs what a protocol raises, and goes on."""
    loop.call_soon(_raise, interrupt)


def _raise(interrupt: BaseException) -> None:
    raise interrupt
