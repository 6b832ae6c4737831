"""The event loop of a blocking call: in this thread, or in one of its own where a loop runs already."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from fanout.commands.ctrl_c import CtrlC
from fanout.commands.main_program import check_not_a_child
from fanout.commands.signals import Signals
from fanout.interrupts import raise_soon
from fanout.runs.audience import Stoppable
from fanout.standard_streams import hold_standard_streams

_Result = TypeVar("_Result")

_LOOK_EVERY_S = 0.1
_COLLECT_AFTER = (20_000, 20, 20)  # objects, then generations


class Interrupts:
    """The run that Ctrl-C stops, in whichever thread it works."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._signals = Signals(say)
        self._loop: asyncio.AbstractEventLoop | None = None

    def listen(self, run_dir: Path | None = None) -> None:
        """A run is about to begin, in its own event loop."""
        self._loop = asyncio.get_running_loop()
        self._signals.listen(run_dir)

    def attach(self, run: Stoppable) -> Callable[[], None]:
        """A work begins, in its own event loop; returns what tells its end."""
        self._loop = asyncio.get_running_loop()
        return self._signals.attach(run)

    def close(self) -> None:
        """The last work has ended. In the event loop."""
        self._loop = None
        self._signals.close()

    def interrupt(self) -> bool:
        """Ctrl-C came in another thread. Returns whether there is a run that heeds it."""
        loop = self._loop
        if loop is None or not self._signals.is_listening:
            return False
        with suppress(RuntimeError):  # it has ended by itself
            loop.call_soon_threadsafe(self._signals.on_signal, "SIGINT")
        return True


def run_blocking(
    main: Callable[[], Coroutine[Any, Any, _Result]], interrupts: Interrupts | None = None
) -> _Result:
    """Run in a new event loop, uvloop's where there is one; in a thread where a loop runs already.

    Raises ConfigError in a process that multiprocessing started and that is still importing the program.
    """
    check_not_a_child()
    if not _is_loop_running():
        return _run(main)
    result: list[_Result] = []
    errors: list[BaseException] = []
    cancel: list[Callable[[], object]] = []
    # Not Thread.join: before Python 3.13 one that Ctrl-C breaks off takes the thread for ended.
    has_ended = threading.Event()
    is_to_stop = threading.Event()

    async def cancellable() -> _Result:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None
        cancel.append(lambda: loop.call_soon_threadsafe(task.cancel))
        if is_to_stop.is_set():  # since before there was a task
            task.cancel()
        return await main()

    def work() -> None:
        try:
            result.append(_run(cancellable))
        except BaseException as error:  # noqa: BLE001 - handed to the caller's thread
            errors.append(error)
        finally:
            has_ended.set()

    def stop() -> None:
        is_to_stop.set()
        while cancel:
            with suppress(RuntimeError):  # it has ended by itself
                cancel.pop()()

    # With the caller's context variables: the current span among them.
    thread = threading.Thread(target=contextvars.copy_context().run, args=(work,), name="fanout.run")
    _see_through(thread, has_ended, stop, interrupts)
    thread.join()
    if errors:
        raise errors[0]
    return result[0]


def _see_through(
    thread: threading.Thread,
    has_ended: threading.Event,
    stop: Callable[[], None],
    interrupts: Interrupts | None,
) -> None:
    """Start the thread and wait until it has ended; Ctrl-C is the run's, or stops it and is raised then."""

    def is_heeded() -> bool:
        return interrupts is not None and interrupts.interrupt()

    caller = asyncio.current_task()
    is_begun = is_cancelled = False
    while True:
        try:
            if not is_begun:
                is_begun = True
                thread.start()
            while not has_ended.wait(_LOOK_EVERY_S):
                if caller is not None and caller.cancelling() and not is_cancelled:
                    is_cancelled = True  # asyncio.run makes this of a first Ctrl-C
                    if not is_heeded():
                        stop()
            return
        except BaseException as error:  # this thread is to end, and must not leave the other one at work
            if not isinstance(error, KeyboardInterrupt) or not is_heeded():
                stop()
                has_ended.wait()
                raise


def _is_loop_running() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _run(main: Callable[[], Coroutine[Any, Any, _Result]]) -> _Result:
    hold_standard_streams()
    new_loop: Callable[[], asyncio.AbstractEventLoop] | None = None
    with suppress(ImportError):
        from uvloop import new_event_loop as new_loop
    ctrl_c = CtrlC()
    with _rare_collections(), ctrl_c.heeded(), asyncio.Runner(loop_factory=new_loop) as runner:
        runner.get_loop().set_exception_handler(_raise_interrupts)
        return runner.run(ctrl_c.cancels(main))


def _raise_interrupts(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Raise what a signal's handler raised in a protocol, any library's."""
    error = context.get("exception")
    if "protocol" in context and isinstance(error, KeyboardInterrupt | SystemExit):
        raise_soon(loop, error)
    else:
        loop.default_exception_handler(context)


@contextmanager
def _rare_collections() -> Iterator[None]:
    """Let the garbage collector run seldom: a call in flight is dozens of objects, and none of them garbage.

    At Python's own thresholds it looks through them a hundred times a second, for a tenth of the CPU of a
    run. Whoever has chosen thresholds that are higher, or has switched it off, keeps them.
    """
    before = gc.get_threshold()
    if 0 < before[0] < _COLLECT_AFTER[0]:
        gc.set_threshold(*_COLLECT_AFTER)
    try:
        yield
    finally:
        gc.set_threshold(*before)
