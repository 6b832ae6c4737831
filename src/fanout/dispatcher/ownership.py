"""The owner of a dispatcher: one process and one event loop. Used elsewhere it would hang."""

from __future__ import annotations

import asyncio
import os

from fanout.errors import FanoutError


def check_process(pid: int) -> None:
    """Raise FanoutError in any process but the one with this number."""
    if pid != os.getpid():
        raise FanoutError(
            "this dispatcher was opened before the process forked, and is its parent's: "
            "open one in each process, after the fork"
        )


def check_loop(loop: asyncio.AbstractEventLoop) -> None:
    """Raise FanoutError unless this event loop runs here."""
    try:
        is_here = asyncio.get_running_loop() is loop
    except RuntimeError:  # a thread without any
        is_here = False
    if not is_here:
        raise FanoutError("this dispatcher belongs to another event loop: use it where it was opened")
