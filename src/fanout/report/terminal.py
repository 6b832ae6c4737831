"""How the summary looks on a terminal: ten to twenty lines that say what happened and what to do next."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import TYPE_CHECKING

from rich.text import Text

from fanout.quantities import milliseconds, number, percent, seconds
from fanout.stats.failures import FailureCluster
from fanout.stats.text import printable

if TYPE_CHECKING:
    from fanout.report.summary import RunReport

_LABEL = 12
_MOST_CLUSTERS = 5
_COLOURS = {
    "succeeded": "green",
    "accepted": "green",
    "valid": "green",
    "function_error": "red",
    "rejected": "red",
    "undelivered": "yellow",
    "unknown": "magenta",
    "pending": "dim",
}
_STATES = {
    "running": "not finished: it is still running, or was killed",
    "interrupted": "interrupted",
    "halted": "halted",
    "fatal": "stopped: no record can be delivered",
}
_CAUSES = {
    "threshold": "the failure threshold",
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


def ending(report: RunReport) -> str:
    """Why a run did not go to its end, in words; "" when it did. Printable."""
    text = _STATES.get(report.state, "")
    if not text:
        return ""
    if report.halted_by and report.state != "fatal":
        text += f" by {_CAUSES.get(report.halted_by) or printable(report.halted_by, 100)}"
    message = report.run.get("message")
    return f"{text}: {printable(str(message), 300)}" if message else text


def render(report: RunReport, width: int, color: bool) -> str:
    """The summary as text, with ANSI colours where ``color`` says so."""
    from rich.console import Console

    out = io.StringIO()
    console = Console(
        file=out,
        width=width,
        force_terminal=color,
        color_system="standard" if color else None,
        no_color=not color,
        legacy_windows=False,
        highlight=False,
        emoji=False,
    )
    for line in lines(report, width):
        console.print(line, soft_wrap=True)
    return out.getvalue()


def lines(report: RunReport, width: int) -> Iterator[Text]:
    """The lines of the summary. Those with text of strangers are cut to ``width``; commands never are."""
    for line in (*_head(report), *_counts(report), *_figures(report, width), *_failures(report)):
        line.truncate(max(width, 20), overflow="ellipsis")
        yield line
    if report.next_commands:
        yield Text("next", "bold")
        for command in report.next_commands:
            yield Text(f"  {command}", "cyan")


def _head(report: RunReport) -> Iterator[Text]:
    name = printable(report.function, 100) or "run"
    head = Text(name, "bold").append(
        f": {report.records:,} record{'' if report.records == 1 else 's'} in {seconds(report.elapsed_s)}",
        "not bold",
    )
    yield head
    if why := ending(report):
        yield Text(f"  {why}", "yellow bold")


def _counts(report: RunReport) -> Iterator[Text]:
    counts = {status: count for status, count in report.counts.items() if count}
    if report.pending:
        counts["pending"] = report.pending
    if not counts:
        yield Text("  no records", "dim")
        return
    digits = max(len(f"{count:,}") for count in counts.values())
    for status, count in counts.items():
        yield Text(f"  {status:<15}", _COLOURS[status]).append(
            f"{count:>{digits},}  {percent(count / report.records):>6}", "default"
        )
    if report.counts.get("accepted"):
        yield Text(f"  {ACCEPTED_NOTE}", "yellow")
    if report.counts.get("valid"):
        yield Text(f"  {VALID_NOTE}", "yellow")


def _figures(report: RunReport, width: int) -> Iterator[Text]:
    throughput = f"{number(report.throughput_per_s)}/s"
    if report.share_of_limit is not None:
        throughput += f", {percent(report.share_of_limit)} of the limit"
    yield _labelled("throughput", throughput)
    latency = report.latency_ms
    if latency["count"]:
        yield _labelled(
            "latency",
            "  ".join(f"{name} {milliseconds(latency[name])}" for name in ("p50", "p95", "p99", "max")),
        )
    throttles = sum(report.throttles.values())
    parts = [f"{throttles:,}"]
    if throttles and set(report.throttles) != {"unknown"}:
        ranked = sorted(report.throttles.items(), key=lambda item: -item[1])
        parts.append("(" + ", ".join(f"{printable(reason, 60)} {count:,}" for reason, count in ranked) + ")")
    yield _labelled("throttles", " ".join(parts))
    tail = f"{report.retries:,}"
    if report.cold_starts:
        tail += f"   cold starts {report.cold_starts:,}"
    yield _labelled("retries", tail)
    if report.cost is not None:
        cost = _labelled("cost", str(report.cost))
        basis = f"({report.cost.basis})"
        if len(cost) + 1 + len(basis) <= width:
            yield cost.append(f" {basis}", "not bold")
        else:
            yield cost
            yield Text(f"{'':<{_LABEL}}{basis}")


def _failures(report: RunReport) -> Iterator[Text]:
    if not report.failures:
        return
    yield Text("failures", "bold")
    clusters = report.stats.failures(_MOST_CLUSTERS)
    digits = max(len(f"{cluster.count:,}") for cluster in clusters)
    for cluster in clusters:
        yield _cluster(cluster, digits)


def _cluster(cluster: FailureCluster, digits: int) -> Text:
    line = Text(f"  {cluster.count:>{digits},}  ").append(printable(cluster.type, 60), "red")
    if cluster.frame:
        line.append(f" at {printable(cluster.frame, 80)}")
    if cluster.message:
        line.append(f": {printable(cluster.message, 300)}", "dim")
    return line


def _labelled(label: str, text: str) -> Text:
    return Text(f"{label:<{_LABEL}}", "bold").append(text, "not bold")
