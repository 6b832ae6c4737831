"""Ctrl-C in a blocking call, wherever nobody else listens to it."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

_Result = TypeVar("_Result")


class CtrlC:
    """Ctrl-C where nobody listens: it cancels the work, and is raised once the loop has closed.

    Where asyncio's own handler raises while uvloop begins or ends to turn, the loop stays open and another
    error is what the caller sees. Like that one, this raises at once when pressed again.
    """

    def __init__(self) -> None:
        self._count = 0
        self._task: asyncio.Task[Any] | None = None

    @contextmanager
    def heeded(self) -> Iterator[None]:
        """While this is open. Raises KeyboardInterrupt at its end if Ctrl-C came."""
        is_ours = (
            threading.current_thread() is threading.main_thread()
            and signal.getsignal(signal.SIGINT) is signal.default_int_handler
        )
        if not is_ours:
            yield
            return
        signal.signal(signal.SIGINT, self._on_press)
        try:
            yield
        except (asyncio.CancelledError, RuntimeError):
            if not self._count:
                raise
        finally:
            if signal.getsignal(signal.SIGINT) == self._on_press:
                signal.signal(signal.SIGINT, signal.default_int_handler)
        if self._count:
            raise KeyboardInterrupt

    async def cancels(self, main: Callable[[], Coroutine[Any, Any, _Result]]) -> _Result:
        """The work, which the first Ctrl-C cancels."""
        self._task = asyncio.current_task()
        if self._count:
            raise asyncio.CancelledError
        try:
            return await main()
        finally:
            self._task = None

    def _on_press(self, *_: object) -> None:
        self._count += 1
        if self._count > 1:
            raise KeyboardInterrupt
        if self._task is not None:
            self._task.cancel()
            self._task.get_loop().call_soon_threadsafe(lambda: None)  # it may be waiting for a socket
