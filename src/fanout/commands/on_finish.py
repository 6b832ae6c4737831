"""``--on-finish``: a command of the user's, run at the end with the summary on its standard input."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import anyio
import msgspec

if TYPE_CHECKING:
    from fanout.commands.audience import Audience
    from fanout.commands.request import RunOptions
    from fanout.report.summary import RunReport


async def conclude(report: RunReport, run_options: RunOptions, audience: Audience) -> RunReport:
    """Do what was asked for the end of a run; returns the report."""
    if run_options.on_finish is not None:
        problem = await run_on_finish(run_options.on_finish, report)
        if problem is not None:
            audience.say(problem)
    return report


async def run_on_finish(command: str, report: RunReport) -> str | None:
    """Run ``command`` by the shell; returns what went wrong, in one line, or None.

    It gets the summary as JSON on stdin; what it prints goes to stderr, as stdout holds outcomes or
    JSON. The run's own exit code stays as it is.
    """
    summary = msgspec.json.encode(report.to_dict())
    try:
        done = await anyio.run_process(
            command, input=summary, stdout=_standard_error(), stderr=_standard_error(), check=False
        )
    except (OSError, anyio.BrokenResourceError) as error:
        return f"--on-finish could not be run: {error}"
    if done.returncode:
        return f"--on-finish ended with exit code {done.returncode}: {command}"
    return None


def _standard_error() -> int:
    try:
        return sys.stderr.fileno()
    except (OSError, ValueError, AttributeError):  # closed, or no file at all, as in a notebook
        return subprocess.DEVNULL
