"""The summary on a terminal: what this command did, what the run came to, and what to do next."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Iterator

from rich.text import Text

from fanout.quantities import count_of, milliseconds, number, percent, seconds
from fanout.report.ending import ACCEPTED_NOTE, VALID_NOTE, ending
from fanout.report.totals import RunTotals
from fanout.stats.failures import FailureCluster, short_frame
from fanout.stats.text import printable

_LABEL = 12
_MOST_CLUSTERS = 5
_MOST_LINES = 3  # of one failure
_MOST_SLOWEST = 3  # the page and the data have ten
_FEW_CALLS = 20
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


def render(report: RunTotals, width: int, color: bool) -> str:
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


def lines(report: RunTotals, width: int) -> Iterator[Text]:
    """The lines of the summary, none longer than ``width`` but for commands, which are never cut."""
    shown = (
        *_head(report),
        *_counts(report),
        *_figures(report, width),
        *_failures(report, width),
        *_slowest(report),
    )
    for line in shown:
        line.truncate(max(width, 20), overflow="ellipsis")
        yield line
    if report.next_commands:
        yield Text("next", "bold")
        for command in report.next_commands:
            yield Text(f"  {command}", "cyan")


def _head(report: RunTotals) -> Iterator[Text]:
    name = printable(report.function, 100) or "run"
    calls = f" in {count_of(report.calls, 'call')}" if report.calls != report.stats.done else ""
    whole = f"{count_of(report.records, 'record')}{calls} in {seconds(report.elapsed_s)}"
    if report.session is not None:
        yield Text(name, "bold").append(f": {report.session}", "not bold")
        yield Text(f"  the whole run: {whole}")
    else:
        yield Text(name, "bold").append(f": {whole}", "not bold")
    if why := ending(report):
        yield Text(f"  {why}", "yellow bold")
    if report.left is not None:
        yield Text(f"  {report.left}", "yellow")


def _counts(report: RunTotals) -> Iterator[Text]:
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


def _figures(report: RunTotals, width: int) -> Iterator[Text]:
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
    for threshold in report.thresholds:
        yield _labelled("threshold", printable(str(threshold), 200))
    throttles = sum(report.throttles.values())
    if throttles:
        parts = [f"{throttles:,}"]
        if set(report.throttles) != {"unknown"}:
            ranked = sorted(report.throttles.items(), key=lambda item: -item[1])
            reasons = (f"{printable(reason, 60)} {count:,}" for reason, count in ranked)
            parts.append(f"({', '.join(reasons)})")
        yield _labelled("throttles", " ".join(parts))
    if report.retries:
        of_batches = ", one for each record of a repeated call" if report.stats.carried else ""
        yield _labelled("retries", f"{report.retries:,}{of_batches}")
    if report.copies:
        yield _labelled("copies", f"{report.copies:,} of late calls")
    if report.cold_starts:
        yield _labelled("cold starts", f"{report.cold_starts:,}")
    if report.cost is not None:
        cost = _labelled("cost", str(report.cost))
        basis = f"({report.cost_basis})"
        if len(cost) + 1 + len(basis) <= width:
            yield cost.append(f" {basis}", "not bold")
        else:
            yield cost
            indent = " " * _LABEL
            for line in textwrap.wrap(basis, max(width, 40), initial_indent=indent, subsequent_indent=indent):
                yield Text(line)


def _failures(report: RunTotals, width: int) -> Iterator[Text]:
    clusters = report.largest_failures(_MOST_CLUSTERS)
    if not clusters:
        return
    yield Text("failures", "bold")
    digits = max(len(f"{cluster.count:,}") for cluster in clusters)
    for cluster in clusters:
        yield from _cluster(cluster, digits, max(width, 40))


def _cluster(cluster: FailureCluster, digits: int, width: int) -> Iterator[Text]:
    kind = printable(cluster.type, 60)
    text = f"{kind}: {printable(cluster.message, 300)}" if cluster.message else kind
    if cluster.frame:
        text += f" ({printable(short_frame(cluster.frame), 80)})"
    indent = " " * (digits + 4)
    wrapped = textwrap.wrap(
        text, width, initial_indent=indent, subsequent_indent=indent, max_lines=_MOST_LINES, placeholder=" …"
    )
    for number_, line in enumerate(wrapped):
        shown = Text(line, "dim")
        if number_ == 0:
            shown = Text(f"  {cluster.count:>{digits},}  ").append(line[len(indent) :], "dim")
            shown.stylize("not dim red", len(indent), len(indent) + len(kind))
        yield shown


def _slowest(report: RunTotals) -> Iterator[Text]:
    """The calls to look at when a run was held up by a few; of a handful of calls, none."""
    if report.latency_ms["count"] < _FEW_CALLS:
        return
    slowest = report.slowest[:_MOST_SLOWEST]
    yield Text("slowest", "bold")
    times = [milliseconds(slow.duration_ms) for slow in slowest]
    digits = max(map(len, times))
    for slow, took in zip(slowest, times, strict=True):
        name = f"record {slow.seq}" + (f" {printable(slow.key, 40)}" if slow.key else "")
        line = Text(f"  {took:>{digits}}  {name}")
        if slow.request_id:
            line.append(f"  {printable(slow.request_id, 60)}", "dim")
        yield line


def _labelled(label: str, text: str) -> Text:
    return Text(f"{label:<{_LABEL}}", "bold").append(text, "not bold")
