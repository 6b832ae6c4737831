"""``fanout.run``: a batch from a script or a notebook, blocking until every record has its outcome."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import logging
import os
import sys
import threading
from collections.abc import AsyncIterable, Callable, Coroutine, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, Unpack

from fanout import exit_codes
from fanout.commands.options import Given, RunKeywords, RunOptions
from fanout.commands.request import Request
from fanout.commands.signals import TwoStepStop, attach_signals
from fanout.errors import ConfigError, FatalRefusal
from fanout.inputs import Input, locations_of
from fanout.model import Outcome
from fanout.progress import progress_display
from fanout.runs.audience import Audience, Stoppable
from fanout.standard_streams import hold_standard_streams
from fanout.stats import Snapshot

if TYPE_CHECKING:
    from fanout.commands.dry_run_report import DryRunReport
    from fanout.report.summary import RunReport
    from fanout.transports import Transport

_Result = TypeVar("_Result")

_log = logging.getLogger("fanout")

_LOOK_EVERY_S = 0.1
_COLLECT_AFTER = (20_000, 20, 20)  # objects, then generations


def run(
    function: str,
    payloads: Iterable[Any] | AsyncIterable[Any] | str | os.PathLike[str] | Input,
    *,
    out: str | os.PathLike[str] | None = None,
    resume: bool = False,
    on_outcome: Callable[[Outcome], None] | None = None,
    on_progress: Callable[[Snapshot], None] | None = None,
    progress: bool = False,
    dashboard: int | None = None,
    dry_run: bool = False,
    transport: str | Transport = "direct",
    **options: Unpack[RunKeywords],
) -> RunReport:
    """Invoke ``function`` once for each payload; returns when every record has its outcome.

    ``payloads``: any iterable or async iterable, or the location of an input as the command takes it: a
    string or a path, ``fanout.Input`` for several (a list of strings is payloads, and refused where they
    name files). ``bytes`` are JSON already, anything else is encoded, ``fanout.Record`` names one. With
    ``out``, the run is kept in that directory, journal and report. With ``resume``, a run that the
    directory holds goes on with the records that have no outcome; ``payloads`` must be the same again.

    ``on_outcome`` is called with each outcome once it is written, ``on_progress`` five times a second;
    both between calls, so they must be quick. ``progress`` shows a bar on a terminal, one live line in a
    notebook, elsewhere a line on stderr now and then and one at the end. ``dashboard`` opens a live page
    at that port of this machine (0: a free one) and prints its address on stderr. Other options have the
    command's names.

    A record's failure is an outcome, and what stops a run stands in ``report.state`` and
    ``report.halted_by``: a refusal that befalls every record alike too (``fatal``, exit code 4). Raises
    ConfigError, SourceError and JournalError only when the run cannot begin. The first Ctrl-C (or
    SIGTERM, unless the program handles it) starts no new call and waits for those in flight, the second
    stops at once; both return the report, whose ``exit_code`` says so. Where an event loop runs already
    (a notebook), it works in a thread of its own.
    """
    if dry_run:
        raise ConfigError("dry_run counts and makes no run to report: call fanout.dry_run(…) instead")
    request = _request(
        function, payloads, None if out is None else Path(out), Given(**options, transport=transport)
    )
    if out is not None and str(out) == "-":
        raise ConfigError("out is '-': only the command streams to stdout; use on_outcome")
    shown = progress_display() if progress else None
    interrupts = _Interrupts(_log.warning if shown is None else shown.message)
    audience = Audience(
        on_outcome=on_outcome,
        on_snapshot=_both(on_progress, None if shown is None else shown.update),
        attach=interrupts.attach,
        on_message=_say
        if shown is None and dashboard is not None
        else None
        if shown is None
        else shown.message,
    )

    async def begin(audience: Audience) -> RunReport:
        if resume:
            from fanout.commands.restart import start_or_resume

            return await start_or_resume(request, audience)
        from fanout.commands.new_run import run

        return await run(request, audience)

    async def main() -> RunReport:
        try:
            return await watched()
        except FatalRefusal as error:  # before the first record: no directory was made, or it is undone
            audience.say(str(error))
            return refused_report(function, error)

    async def watched() -> RunReport:
        if dashboard is None:
            return await begin(audience)
        from fanout.commands.live_page import with_live_page

        return await with_live_page(begin, audience, port=dashboard, title=function)

    try:
        return run_blocking(main, interrupts)
    finally:
        if shown is not None:
            shown.close()


def dry_run(
    function: str,
    payloads: Iterable[Any] | AsyncIterable[Any] | str | os.PathLike[str] | Input,
    *,
    transport: str | Transport = "direct",
    **options: Unpack[RunKeywords],
) -> DryRunReport:
    """What ``run`` would do, counted: ``payloads`` are read to their end, selected and checked.

    Nothing is sent, Lambda is asked nothing, and nothing is kept. Takes what ``run`` takes. Raises
    ConfigError where ``run`` would before its first call, SourceError for an input that cannot be read to
    its end, and what an iterable raises.
    """
    request = _request(function, payloads, None, Given(**options, transport=transport))
    from fanout.commands.rehearsal import rehearse

    return run_blocking(lambda: rehearse(request, Audience()))


def _request(function: str, payloads: Any, out: Path | None, given: Given) -> Request:
    locations = locations_of(payloads)
    if locations:
        payloads = ()
    elif isinstance(payloads, (bytes, bytearray, memoryview)) or not isinstance(
        payloads, (Iterable, AsyncIterable)
    ):
        raise TypeError(
            f"payloads is {type(payloads).__name__}: give an iterable of payloads, a path or an Input"
        )
    if given.get("payload") is not None and payloads != ():
        raise ConfigError("payload and payloads are both given: give () as payloads, or leave payload out")
    options = RunOptions.of(function, given)
    return Request(options=options, locations=locations, payloads=payloads, out=out)


def refused_report(function: str, error: FatalRefusal) -> RunReport:
    """The report of a run whose every record would be refused, found out before the first was sent."""
    from fanout.report.summary import RunReport
    from fanout.stats import Stats

    meta = {
        "function": function,
        "state": "fatal",
        "halted_by": "fatal",
        "message": str(error),
        "exit_code": exit_codes.FATAL,
        "records_read": 0,
    }
    return RunReport.from_stats(Stats(), meta)


def _both(
    one: Callable[[Snapshot], None] | None, other: Callable[[Snapshot], None] | None
) -> Callable[[Snapshot], None] | None:
    if one is None or other is None:
        return one or other

    def call(snapshot: Snapshot) -> None:
        one(snapshot)
        other(snapshot)

    return call


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)  # noqa: T201 - the address that the caller asked for


class _Interrupts:
    """The run that Ctrl-C stops, in whichever thread it works."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._stop: TwoStepStop | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def attach(self, run: Stoppable) -> Callable[[], None]:
        """The run begins, in its own event loop; returns what detaches."""
        self._stop, self._loop = TwoStepStop(run, self._say), asyncio.get_running_loop()
        detach = attach_signals(run, self._say)

        def forget() -> None:
            self._stop = self._loop = None
            detach()

        return forget

    def interrupt(self) -> bool:
        """Ctrl-C came in another thread. Returns whether there is a run that heeds it."""
        stop, loop = self._stop, self._loop
        if stop is None or loop is None:
            return False
        with suppress(RuntimeError):  # it has ended by itself
            loop.call_soon_threadsafe(stop.on_signal, "SIGINT")
        return True


def run_blocking(
    main: Callable[[], Coroutine[Any, Any, _Result]], interrupts: _Interrupts | None = None
) -> _Result:
    """Run in a new event loop, uvloop's where there is one; in a thread where a loop runs already."""
    if not _is_loop_running():
        return _run(main)
    result: list[_Result] = []
    errors: list[BaseException] = []
    cancel: list[Callable[[], object]] = []

    async def cancellable() -> _Result:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None
        cancel.append(lambda: loop.call_soon_threadsafe(task.cancel))
        return await main()

    def work() -> None:
        try:
            result.append(_run(cancellable))
        except BaseException as error:  # noqa: BLE001 - handed to the caller's thread
            errors.append(error)

    def stop() -> None:
        while cancel:
            with suppress(RuntimeError):  # it has ended by itself
                cancel.pop()()

    # With the caller's context variables: the current span among them.
    thread = threading.Thread(target=contextvars.copy_context().run, args=(work,), name="fanout.run")
    thread.start()
    caller = asyncio.current_task()
    is_heeded = False
    while thread.is_alive():
        try:
            thread.join(_LOOK_EVERY_S)
            if caller is not None and caller.cancelling() and not is_heeded:
                is_heeded = True  # asyncio.run makes this of a first Ctrl-C
                if interrupts is None or not interrupts.interrupt():
                    stop()
        except KeyboardInterrupt:
            if interrupts is None or not interrupts.interrupt():
                stop()
                thread.join()
                raise
        except BaseException:  # this thread is to end, and must not leave the other one at work
            stop()
            thread.join()
            raise
    if errors:
        raise errors[0]
    return result[0]


def _is_loop_running() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _run(main: Callable[[], Coroutine[Any, Any, _Result]]) -> _Result:
    hold_standard_streams()
    with _rare_collections():
        try:
            import uvloop
        except ImportError:
            return asyncio.run(main())
        result: _Result = uvloop.run(main())
        return result


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
