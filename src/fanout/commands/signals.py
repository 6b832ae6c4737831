"""Signals and a run: the first one drains it, the second ends it at once."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from fanout.commands import ctrl_c
from fanout.early_signals import is_of_command
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


class Signals:
    """The signals of one command, from the beginning of its first work to its end.

    One that comes after ``begin`` cancels the task, as nothing is on the disk: ``ended_by`` is its name.
    One that comes after ``listen``, before there is any work, stops the first one as it begins. One that
    comes between two works, or after the last, cuts off nothing that the summary needs: it is the next
    work's. After two in a row there a third ends the process: by ``leave``, or as if nobody listened.
    """

    def __init__(self, say: Callable[[str], None], *, leave: Callable[[str], object] | None = None) -> None:
        self._say = say
        self._leave = leave
        self._starting: asyncio.Task[Any] | None = None
        self.ended_by: str | None = None
        self.run_dir: Path | None = None
        self._work: TwoStepStop | None = None
        self._between: list[str] = []
        self._has_begun = False
        self._detach: Callable[[], None] | None = None

    @property
    def is_listening(self) -> bool:
        """True if a signal is heeded here."""
        return self._detach is not None

    def begin(self) -> None:
        """Heed signals from now on: until ``listen`` the current task can end without a trace."""
        self._starting = asyncio.current_task()
        self._detach = on_signals(self.on_signal)

    def listen(self, run_dir: Path | None = None) -> None:
        """A run is about to be on the disk. In the event loop."""
        self._starting = None
        self.run_dir = run_dir or self.run_dir
        if self._detach is None:
            self._detach = on_signals(self.on_signal)

    def attach(self, run: Stoppable) -> Callable[[], None]:
        """A work begins, in the running event loop; returns what tells its end."""
        self.listen()
        self._has_begun = True
        self._work = work = TwoStepStop(run, self._say)
        between, self._between = self._between, []
        for name in between:
            work.on_signal(name)

        def forget() -> None:
            if self._work is work:
                self._work = None

        return forget

    def on_signal(self, name: str) -> None:
        """A signal came. In the event loop."""
        if self._work is not None:
            self._work.on_signal(name)
            return
        if self._starting is not None and self.ended_by is None:
            self.ended_by = name
            self._starting.cancel()
            return
        self._between.append(name)
        if self._leave is not None and (self._starting is not None or len(self._between) > 2):
            self._leave(name)
        elif len(self._between) == 1 and not self._has_begun:
            self._say(f"{name}: the run stops before its first call")
        elif len(self._between) == 1:
            self._say(f"{name}: no calls are out; the end of the run is written")
        elif not self._has_begun:
            self._say(f"{name}: the run has not begun yet (again to end at once)")
            self._stop_listening()
        else:
            self._say(f"{name}: the end of the run is still being written (again to leave without a summary)")
            self._stop_listening()

    def _stop_listening(self) -> None:
        if self._leave is None:
            self.close()

    def close(self) -> None:
        """Listen no more."""
        detach, self._detach = self._detach, None
        if detach is not None:
            detach()


def on_signals(heed: Callable[[str], None]) -> Callable[[], None]:
    """Call ``heed`` in the running event loop with the name of each signal; returns what ends that.

    A signal that was ignored when the process began stays ignored (``nohup``), and one that the program
    handles itself stays the program's. Where the platform has no such handlers (Windows), and in other
    threads than the main one, nothing is attached.
    """
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
            with suppress(RuntimeError, ValueError):  # a closed loop of uvloop leaves its handler
                loop.remove_signal_handler(number)
            is_over = loop.is_closed() and _is_of_runner(handler)
            with suppress(ValueError):
                signal.signal(number, signal.default_int_handler if is_over else handler)

    return detach


def _is_free(handler: Any) -> bool:
    """True if nobody but Python, asyncio or fanout has asked for the signal."""
    is_of_python = handler in (signal.SIG_DFL, signal.default_int_handler)
    return is_of_python or is_of_command(handler) or _is_of_runner(handler)


def _is_of_runner(handler: Any) -> bool:
    function = getattr(handler, "func", handler)
    return getattr(function, "__module__", None) in ("asyncio.runners", ctrl_c.__name__)
