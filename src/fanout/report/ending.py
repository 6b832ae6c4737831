"""The end of a run in words: the same on a terminal and on the page."""

from __future__ import annotations

from fanout.quantities import seconds
from fanout.report.totals import RunTotals
from fanout.stats.text import printable

_STATES = {
    "running": "it is still running",
    "interrupted": "interrupted",
    "halted": "halted",
    "fatal": "stopped: no record can be delivered",
}
_CAUSES = {
    "threshold": "a threshold",
    "enough": "--enough",
    "outage": "an outage",
    "deadline": "the deadline",
    "cost": "the spending cap",
    "journal": "a journal that cannot be written",
    "source": "its input",
    "sigint": "Ctrl-C",
    "sigterm": "SIGTERM",
    "sighup": "a terminal that was closed",
    "pipe": "a reader that went away",
}
ACCEPTED_NOTE = (
    "accepted is not executed: Lambda runs these later; their results go to the function's destinations"
)
VALID_NOTE = "dry run: nothing was executed"


def ending(report: RunTotals) -> str:
    """The reason why a run did not go to its end, in words; "" if it did. Printable."""
    text = _STATES.get(report.state, "")
    if not text:
        return ""
    if report.halted_by == "deadline":
        return f"{text} by {_deadline(report.run.get('options'))}"
    if report.halted_by and report.state != "fatal":
        text += f" by {_CAUSES.get(report.halted_by) or printable(report.halted_by, 100)}"
    message = report.run.get("message")
    return f"{text}: {printable(str(message), 300)}" if message else text


def _deadline(options: object) -> str:
    deadline_s = options.get("deadline") if isinstance(options, dict) else None
    if not isinstance(deadline_s, int | float):
        return _CAUSES["deadline"]
    return f"its deadline of {seconds(deadline_s)}; a resume has as long again"
