"""The display of a run by a command: progress, messages, the summary at the end, the exit code."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from fanout.cli.interruption import Interruption
from fanout.commands.event_loop import run_blocking
from fanout.errors import FatalRefusal
from fanout.progress import Progress
from fanout.runs.audience import Audience

if TYPE_CHECKING:
    from fanout.report.summary import RunReport


def watch(
    begin: Callable[[Audience], Coroutine[Any, Any, RunReport]],
    *,
    title: str = "",
    dashboard: int | None = None,
    quiet: bool,
    as_json: bool,
    width: int | None = None,
    verb: str = "run",
    run_dir: Path | None = None,
) -> NoReturn:
    """Run to the end with a progress display on stderr, then the summary; exits with the run's code.

    ``dashboard``: the port of a live page beside it, named ``title``. ``run_dir``: of a run to go on with
    by ``verb``, if there is one: the page is named for it, and its report is the JSON where all would be
    refused alike before the first record.
    """
    title = title or (run_dir.name if run_dir is not None else "")
    progress = Progress(stderr=sys.stderr, is_terminal=sys.stderr.isatty(), quiet=quiet)

    def say(text: str) -> None:
        is_address = text.startswith("dashboard: ")  # which programs read
        progress.message(text if is_address else f"fanout: {text}")

    warnings = _Warnings(say)
    logging.getLogger("fanout").addHandler(warnings)
    interruption = Interruption(say, verb=verb, run_dir=run_dir)
    signals = interruption.signals
    audience = Audience(
        on_snapshot=None if quiet else progress.update,
        snapshot_every_s=progress.interval_s,
        on_message=say,
        on_note=None if quiet else say,
        attach=signals.attach,
        listen=signals.listen,
    )
    try:
        if dashboard is None:
            report = run_blocking(lambda: interruption.heed(begin(audience)))
        else:
            from fanout.commands.live_page import with_live_page

            report = run_blocking(
                lambda: interruption.heed(with_live_page(begin, audience, port=dashboard, title=title))
            )
    except asyncio.CancelledError:
        if signals.ended_by is None:
            raise
        progress.close()
        interruption.leave(signals.ended_by)
    except FatalRefusal as error:
        if as_json:
            from fanout.commands.library import refused_report

            click.echo(json.dumps(refused_report(title, error, run_dir).to_dict(), indent=2))
        raise
    finally:
        signals.close()
        progress.close()
        logging.getLogger("fanout").removeHandler(warnings)
    show(report, quiet=quiet, as_json=as_json, width=width)
    sys.exit(report.exit_code)


class _Warnings(logging.Handler):
    """What the engine logs, an outage for example, as the other messages of a run."""

    def __init__(self, say: Callable[[str], None]) -> None:
        super().__init__(logging.WARNING)
        self._say = say

    def emit(self, record: logging.LogRecord) -> None:
        self._say(self.format(record))


def show(report: RunReport, *, quiet: bool, as_json: bool, width: int | None = None) -> None:
    """The summary: for a person on stderr, as JSON on stdout."""
    if report.halted_by == "pipe":
        return  # the reader has gone, as `head` does: nobody wants to hear more
    if as_json:
        click.echo(json.dumps(report.to_dict(), indent=2))
    message = report.run.get("message")
    if not quiet:
        summary = report.render(width or _width(), color=_has_color())
        if message and message not in summary:  # why it stopped, in full, where the summary had no room
            click.echo(f"fanout: {message}", err=True)
        click.echo(summary, err=True)
        return
    if message:
        click.echo(f"fanout: {message}", err=True)
    if report.resume_command is not None:
        click.echo(f"go on with: {report.resume_command}", err=True)


def _width() -> int:
    import shutil

    return shutil.get_terminal_size((100, 24)).columns if sys.stderr.isatty() else 100


def _has_color() -> bool:
    import os

    return sys.stderr.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
