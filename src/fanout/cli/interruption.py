"""The end of a command by a signal outside its work: one line, the command that goes on, the exit code."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import click

from fanout import exit_codes
from fanout.commands.signals import Signals
from fanout.early_signals import end_words, pass_over_one

_Result = TypeVar("_Result")
_CODES = {"SIGHUP": exit_codes.SIGHUP, "SIGINT": exit_codes.SIGINT, "SIGTERM": exit_codes.SIGTERM}


class Interruption:
    """Ends a ``verb`` that a signal has stopped. ``run_dir``: of the run that it goes on with, if any."""

    def __init__(self, say: Callable[[str], None], *, verb: str = "run", run_dir: Path | None = None) -> None:
        self.signals = Signals(say, leave=self._leave_at_once)
        self._verb = verb
        self._run_dir = run_dir

    async def heed(self, work: Coroutine[Any, Any, _Result]) -> _Result:
        """Do the work of the command, and heed signals from its first step to its last."""
        self.signals.begin()
        try:
            return await work
        finally:
            with _blocked_signals():
                self.signals.close()
                pass_over_one(lambda number: self._leave_at_once(signal.Signals(number).name))

    def leave(self, name: str) -> NoReturn:
        """End after the signal of this name, all that was open being closed."""
        self._explain(name)
        sys.exit(_CODES[name])

    def _leave_at_once(self, name: str) -> NoReturn:
        try:
            self._explain(name)
        finally:
            os._exit(_CODES[name])

    def _explain(self, name: str) -> None:
        click.echo(f"fanout: {end_words(name)}", err=True)
        command = self._next_command(self.signals.run_dir or self._run_dir)
        if command is not None:
            click.echo(f"go on with: {command}", err=True)

    def _next_command(self, run_dir: Path | None) -> str | None:
        from fanout.errors import FanoutError
        from fanout.journal import RunDir, shell_word

        if run_dir is None:
            return None
        try:
            state = RunDir.open(run_dir).state
        except FanoutError:
            return None
        if state.get("redrive") or (state.get("state") != "finished" and self._verb != "redrive"):
            return f"fanout resume {shell_word(run_dir)}"
        again = self._verb in ("redrive", "collect")
        return f"fanout {self._verb} {shell_word(run_dir)}" if again else None


@contextmanager
def interruptible() -> Iterator[None]:
    """While a person is asked, in the event loop: a signal ends the question, and with it the command."""

    def end(number: int, _: object) -> None:
        raise SystemExit(128 + number)

    before = {signal.SIGINT: signal.signal(signal.SIGINT, signal.default_int_handler)}
    for name in ("SIGTERM", "SIGHUP"):
        if (number := getattr(signal, name, None)) is not None:
            before[number] = signal.signal(number, end)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _blocked_signals() -> Iterator[None]:
    """No signal comes between two handlers, where the platform can say so."""
    if sys.platform == "win32":
        yield
        return
    held = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, held)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
