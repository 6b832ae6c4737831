"""``fanout.run``: a batch from a script or a notebook, blocking until every record has its outcome."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import AsyncIterable, Callable, Iterable
from inspect import iscoroutinefunction
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar, Unpack

from fanout import exit_codes
from fanout.commands.event_loop import Interrupts, run_blocking
from fanout.commands.options import Given, RunKeywords, RunOptions
from fanout.commands.run_request import RunRequest
from fanout.commands.workers import check_client_can_work
from fanout.errors import ConfigError, FatalRefusal
from fanout.inputs import Input, locations_of
from fanout.model import Outcome
from fanout.progress import progress_display
from fanout.runs.audience import Audience
from fanout.stats import Snapshot

if TYPE_CHECKING:
    from fanout.commands.dry_run_report import DryRunReport
    from fanout.report.summary import RunReport
    from fanout.transports import Transport

T = TypeVar("T")

_log = logging.getLogger("fanout")


def run(
    function: str,
    payloads: Iterable[Any] | AsyncIterable[Any] | str | os.PathLike[str] | Input,
    *,
    out: str | os.PathLike[str] | None = None,
    resume: bool = False,
    may_have_run: Literal["send", "skip"] | None = None,
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
    ``may_have_run`` says what becomes there of records that may have run before a crash: ``"send"`` them
    again, or ``"skip"`` them as ``unknown``, which is the default unless the run is ``idempotent``.

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
    if resume and out is None:
        raise ConfigError("resume goes with out, so that the run is found again")
    if may_have_run is not None and not resume:
        raise ConfigError("may_have_run goes with resume: a new run has no such records")
    if may_have_run not in (None, "send", "skip"):
        raise ConfigError(f"may_have_run is {may_have_run!r}: give 'send' or 'skip'")
    request = _request(
        function, payloads, None if out is None else Path(out), Given(**options, transport=transport)
    )
    if out is not None and str(out) == "-":
        raise ConfigError("out is '-': only the command streams to stdout; use on_outcome")
    shown = progress_display() if progress else None
    raised: list[Exception] = []  # by the callbacks
    heard = _noting(on_progress, "on_progress", raised)
    interrupts = Interrupts(_log.warning if shown is None else shown.message)
    audience = Audience(
        on_outcome=_noting(on_outcome, "on_outcome", raised),
        on_snapshot=_both(heard, None if shown is None else shown.update),
        attach=interrupts.attach,
        listen=interrupts.listen,
        on_message=_say
        if shown is None and dashboard is not None
        else None
        if shown is None
        else shown.message,
    )

    async def begin(audience: Audience) -> RunReport:
        if resume:
            from fanout.commands.restart import start_or_resume

            return await start_or_resume(request, audience, may_have_run=may_have_run)
        from fanout.commands.new_run import run

        return await run(request, audience)

    async def main() -> RunReport:
        try:
            return await watched()
        except FatalRefusal as error:  # before the first record: no directory was made, or it is undone
            if error in raised:
                raise
            audience.say(str(error))
            return refused_report(function, error, request.out if resume else None)
        finally:
            interrupts.close()

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
    """Count what ``run`` would do: ``payloads`` are read to their end, selected and checked.

    Nothing is sent, Lambda is asked nothing, and nothing is kept. Takes what ``run`` takes. Raises
    ConfigError where ``run`` would before its first call, SourceError for an input that cannot be read to
    its end, and what an iterable raises.
    """
    request = _request(function, payloads, None, Given(**options, transport=transport))
    from fanout.commands.dry_runner import perform_dry_run

    return run_blocking(lambda: perform_dry_run(request, Audience()))


def _request(function: str, payloads: Any, out: Path | None, given: Given) -> RunRequest:
    locations = locations_of(payloads)
    if locations:
        payloads = ()
    if given.get("payload") is not None and payloads != ():
        raise ConfigError("payload and payloads are both given: give () as payloads, or leave payload out")
    options = RunOptions.of(function, given)
    check_client_can_work(options.scheduler)
    return RunRequest(options=options, locations=locations, payloads=payloads, out=out)


def refused_report(function: str, error: FatalRefusal, run_dir: Path | None = None) -> RunReport:
    """The report of a run whose every record would be refused, found out before the first was sent.

    ``run_dir``: where it was to go on, if there is a run already: what it has done before stays true.
    """
    from fanout.journal import STATE_FILE
    from fanout.report.summary import RunReport
    from fanout.stats import Stats

    if run_dir is not None and (run_dir / STATE_FILE).exists():
        report = RunReport.from_run_dir(run_dir)
        report.exit_code = exit_codes.FATAL
        report.run["message"] = str(error)
        return report
    meta = {
        "function": function,
        "state": "fatal",
        "halted_by": "fatal",
        "message": str(error),
        "exit_code": exit_codes.FATAL,
        "records_read": 0,
    }
    return RunReport.from_stats(Stats(), meta)


def _noting(
    callback: Callable[[T], None] | None, name: str, raised: list[Exception]
) -> Callable[[T], None] | None:
    """The caller's callback; what it raises is put into ``raised`` too."""
    if callback is None:
        return None
    if iscoroutinefunction(callback) or not callable(callback):
        raise ConfigError(f"{name} is {callback!r}: give a function that is not async")

    def call(argument: T) -> None:
        try:
            callback(argument)
        except Exception as error:
            raised.append(error)
            raise

    return call


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
