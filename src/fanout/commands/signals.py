"""Signals and a run: the first one drains it, the second ends it at once."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from fanout.runs.audience import Stoppable

_REASONS = {"SIGINT": "sigint", "SIGTERM": "sigterm", "SIGHUP": "sighup"}


class TwoStepStop:
    """Two steps: the first signal drains the run, the next cuts it off. ``say`` gets one line each time."""

    def __init__(self, run: Stoppable, say: Callable[[str], None]) -> None:
        self._run = run
        self._say = say

    def on_signal(self, name: str) -> None:
        """A signal came. In the run's event loop."""
        if self._run.is_stopping:
            self._say("stopping at once: records in flight may have run")
            self._run.cut()
            return
        self._say(f"{name}: {self._run.draining} (again to stop at once)")
        self._run.stop(_REASONS[name])


def attach_signals(run: Stoppable, say: Callable[[str], None]) -> Callable[[], None]:
    """Listen in the running event loop; returns what ends the listening.

    A signal that was ignored when the process began stays ignored (``nohup``), and one that the program
    handles itself stays the program's. Where the platform has no such handlers (Windows), and in other
    threads than the main one, nothing is attached.
    """
    return on_signals(TwoStepStop(run, say).on_signal)


def on_signals(heed: Callable[[str], None]) -> Callable[[], None]:
    """Call ``heed`` with the name of each signal that comes, as ``attach_signals`` says."""
    if threading.current_thread() is not threading.main_thread():
        return lambda: None
    loop = asyncio.get_running_loop()
    before: dict[int, Any] = {}
    for name in _REASONS:
        number = getattr(signal, name, None)
        if number is None or not _is_free(signal.getsignal(number)):
            continue
        before[number] = signal.getsignal(number)
        with suppress(NotImplementedError, RuntimeError, ValueError):
            loop.add_signal_handler(number, heed, name)

    def detach() -> None:
        for number, handler in before.items():
            with suppress(RuntimeError, ValueError):
                loop.remove_signal_handler(number)
                signal.signal(number, handler)

    return detach


def _is_free(handler: Any) -> bool:
    """Whether nobody but Python, asyncio or this module has asked for the signal."""
    if handler in (signal.SIG_DFL, signal.default_int_handler):
        return True
    function = getattr(handler, "func", handler)
    return getattr(function, "__module__", None) == "asyncio.runners"
