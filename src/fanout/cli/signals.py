"""What a signal does to a run: the first drains it, the second ends it at once."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from contextlib import suppress

from fanout.runs import Run

_NAMES = {"SIGINT": "sigint", "SIGTERM": "sigterm", "SIGHUP": "sighup"}


def attach_signals(run: Run, say: Callable[[str], None]) -> Callable[[], None]:
    """Listen in the running event loop; returns what ends the listening.

    Where the platform has no such handlers (Windows), Ctrl-C ends the program as usual.
    """
    loop = asyncio.get_running_loop()

    def on_signal(name: str) -> None:
        if run.is_stopping:
            say("stopping at once: records in flight may have run")
            run.cut()
            return
        say(f"{name}: no new calls; waiting for those in flight (again to stop at once)")
        run.stop(_NAMES[name])

    attached = []
    for name in _NAMES:
        number = getattr(signal, name, None)
        if number is None:
            continue
        with suppress(NotImplementedError, RuntimeError, ValueError):
            loop.add_signal_handler(number, on_signal, name)
            attached.append(number)

    def detach() -> None:
        for number in attached:
            with suppress(RuntimeError, ValueError):
                loop.remove_signal_handler(number)

    return detach
