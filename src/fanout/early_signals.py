"""Signals of the command outside its work: while it is imported, and once its end is decided.

A KeyboardInterrupt will not do there: raised halfway through an import it may be swallowed, or end in a
traceback. All of this is for the process of the command, after ``end_at_once``; elsewhere nothing happens.
"""

from __future__ import annotations

import _signal as signal  # type: ignore[import-not-found]
import atexit
import os

# signal itself, and typing, import more than all of this, while nothing heeds a signal.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_NAMES = {getattr(signal, name): name for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)}
_before: dict[int, Any] = {}


def end_at_once() -> None:
    """From now on a signal ends the process, with one line and the signal's exit code.

    One that is ignored (``nohup``) or that somebody handles stays as it is.
    """
    for number in _NAMES:
        found = signal.getsignal(number)
        if found in (signal.SIG_DFL, signal.default_int_handler):
            _before[number] = found
            signal.signal(number, _end)


def hand_back() -> None:
    """Leave signals to Python and the system again: the verb cleans up as it is interrupted."""
    for number, found in _before.items():
        signal.signal(number, found)
    _before.clear()


def pass_over_one(leave: Callable[[int], object]) -> None:
    """The end is decided, and soon there: one more signal changes nothing, the next calls ``leave``."""

    def wait_once(*_: object) -> None:
        for number in _before:
            signal.signal(number, lambda number, _: leave(number))

    for number in _before:
        signal.signal(number, wait_once)


def leave_with(code: int) -> None:
    """All is said: a signal ends the process with this code, without another word.

    And changes nothing once threads are joined: Python takes its handlers away before the process has ended.
    """
    for number in _before:
        signal.signal(number, lambda *_: os._exit(code))
    atexit.register(_ignore)


def end_words(name: str) -> str:
    """The end by a signal of this name, as it is said."""
    return "interrupted" if name == "SIGINT" else f"ended by {name}"


def is_of_command(handler: object) -> bool:
    """True for the handler of ``end_at_once``."""
    return handler is _end


def _ignore() -> None:
    for number in _before:
        signal.signal(number, signal.SIG_IGN)


def _end(number: int, _: object) -> None:
    try:
        os.write(2, f"fanout: {end_words(_NAMES[number])}\n".encode())
    finally:
        os._exit(128 + number)
