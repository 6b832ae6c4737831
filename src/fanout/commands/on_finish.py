"""The end of a run: ``--results``, and ``--on-finish``, a command of the user's."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, Any

import anyio
from anyio.abc import Process

from fanout import exit_codes
from fanout.errors import ConfigError, FanoutError
from fanout.journal import shell_word
from fanout.payload import encode

if TYPE_CHECKING:
    from fanout.commands.options import RunOptions
    from fanout.journal import RunDir
    from fanout.report.summary import RunReport
    from fanout.runs.audience import Audience


async def conclude(
    report: RunReport, options: RunOptions, audience: Audience, locked: RunDir | None = None
) -> RunReport:
    """Do what was asked for the end of a run; returns the report.

    ``locked`` is the run's directory where the caller holds its lock.
    """
    if options.results is not None and report.run_dir is not None and not report.run.get("was_cut"):
        await _upload(report, options.results, audience, options, locked)
    if options.on_finish is not None:
        problem = await run_on_finish(options.on_finish, report, audience)
        if problem is not None:
            audience.say(problem)
    return report


async def upload_if_due(report: RunReport, options: RunOptions, audience: Audience, locked: RunDir) -> None:
    """Upload the results of a run that has ended before, unless that was done, and to this place."""
    done = locked.state.get("results") or {}
    if options.results is not None and (done.get("error") or done.get("location") != options.results):
        await _upload(report, options.results, audience, options, locked)


async def _upload(
    report: RunReport, location: str, audience: Audience, options: RunOptions, locked: RunDir | None
) -> None:
    """Upload the results. A failure is said, and makes an exit of 0 or 1 a 5; the run stays as it is.

    A signal ends the upload at once, and the exit code is the signal's. run.json has the same exit code,
    until an upload succeeds.
    """
    from fanout.commands.upload import upload_results
    from fanout.journal import RunDir

    assert report.run_dir is not None
    signals: list[str] = []
    why = manifest = ""
    with ExitStack() as stack:
        scope = anyio.CancelScope()

        def stop(reason: str) -> None:
            signals.append(reason.upper())
            scope.cancel()

        try:
            if locked is None:
                locked = RunDir.open(report.run_dir)
                stack.enter_context(locked.lock())
            if audience.attach is not None:
                stack.callback(audience.attach(_AtTheEnd("the upload ends", stop)))
            with scope:
                before = locked.state.get("exit_code")
                manifest = await upload_results(locked, location, options.calls, audience.note)
                if locked.state.get("exit_code") != before:  # that of an upload which failed
                    report.exit_code = locked.state["exit_code"]
        except FanoutError as error:
            why = str(error)
        if signals:
            why = f"{signals[0]} came"
            report.exit_code = getattr(exit_codes, signals[0])
        elif not manifest and report.exit_code in (exit_codes.OK, exit_codes.FAILURES):
            report.exit_code = exit_codes.BOUND
        if locked is not None and not manifest:
            locked.write_state({"exit_code": report.exit_code})
        if locked is not None:
            report.run["results"] = locked.state.get("results")
    if manifest and not signals:
        audience.say(f"results: {manifest}")
        return
    assert report.run_dir is not None
    command = f"fanout export {shell_word(report.run_dir)} --results"
    audience.say(f"the results were not uploaded: {why}; do it again with `{command}`")


class _AtTheEnd:
    """Work after a run, as signals see it: ``heed`` gets the reason of each."""

    def __init__(self, draining: str, heed: Callable[[str], None]) -> None:
        self.draining = draining
        self.is_stopping = False
        self._heed = heed
        self._reason = "sigint"

    def stop(self, reason: str, message: str = "") -> None:  # noqa: ARG002 - as a run's
        self.is_stopping = True
        self._reason = reason
        self._heed(reason)

    def cut(self) -> None:
        self._heed(self._reason)

    def tune(self, changes: Mapping[str, Any]) -> Mapping[str, Any]:  # noqa: ARG002 - as a run's
        raise ConfigError("the run has ended: nothing can be changed")


async def run_on_finish(command: str, report: RunReport, audience: Audience) -> str | None:
    """Run ``command`` by the shell; returns what went wrong, in one line, or None.

    It gets the summary as JSON on stdin; what it prints goes to stderr, as stdout holds outcomes or
    JSON. The run's own exit code stays as it is, unless a signal comes: the first is passed on to the
    command and all that it started, a second kills them.
    """
    summary = encode(report.to_dict())
    process: Process | None = None
    is_starting = False
    meanwhile: list[str] = []
    heard: list[str] = []

    def pass_on(reason: str) -> None:
        if process is None:
            if is_starting:  # the command may be at work before it is known here
                meanwhile.append(reason)
            return  # it came before the command, which hears of the run's end nonetheless
        _signal_group(process, "SIGKILL" if heard else reason.upper())
        heard.append(reason.upper())

    with ExitStack() as stack:
        if audience.attach is not None:
            stack.callback(audience.attach(_AtTheEnd("--on-finish gets it too", pass_on)))
        try:
            is_starting = True
            process = await _started(command)
            async with process:
                try:
                    for reason in meanwhile:
                        pass_on(reason)
                    await _feed(process, summary)
                    code = await process.wait()
                except BaseException:
                    _signal_group(process, "SIGKILL")
                    raise
        except OSError as error:
            return f"--on-finish could not be run: {error}"
    if heard:
        report.exit_code = getattr(exit_codes, heard[0])
        return f"--on-finish was ended by {heard[0]}: {command}"
    if code:
        return f"--on-finish ended with exit code {code}: {command}"
    return None


async def _started(command: str) -> Process:
    """The process of a command. Cancelled meanwhile, it ends what it has started by then."""
    opening = anyio.open_process(
        command, stdout=_standard_error(), stderr=_standard_error(), start_new_session=True
    )
    starting = asyncio.ensure_future(opening)
    try:
        return await asyncio.shield(starting)
    except asyncio.CancelledError:
        with anyio.CancelScope(shield=True), suppress(OSError):
            process = await starting
            _signal_group(process, "SIGKILL")
            await process.aclose()
        raise


async def _feed(process: Process, summary: bytes) -> None:
    assert process.stdin is not None
    with suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):  # it need not read
        await process.stdin.send(summary)
    await process.stdin.aclose()


def _signal_group(process: Process, name: str) -> None:
    """Send a signal to a command and all that it started."""
    with suppress(ProcessLookupError, PermissionError):
        if hasattr(os, "killpg"):
            os.killpg(process.pid, getattr(signal, name))
        else:
            process.kill()


def _standard_error() -> int:
    try:
        return sys.stderr.fileno()
    except (OSError, ValueError, AttributeError):  # closed, or no file at all, as in a notebook
        return subprocess.DEVNULL
