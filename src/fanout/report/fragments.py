"""Words and figures of the page as plain HTML: the page says all of it without its drawings.

Everything passes ``escape`` or is a number of our own. Figures carry ``data-figure`` and the exact
value as ``data-value``, for whoever reads the page by program.
"""

from __future__ import annotations

from html import escape

from fanout.charts.markup import figure, safe, tile
from fanout.inputs.redaction import shown_location
from fanout.model import OK_STATUSES
from fanout.quantities import count_of, dollars, milliseconds, number, percent, seconds
from fanout.report.ending import ACCEPTED_NOTE, VALID_NOTE, ending
from fanout.report.totals import RunTotals
from fanout.stats import Execution

_STATES = {
    "finished": "finished",
    "running": "running",
    "interrupted": "interrupted",
    "halted": "halted",
    "fatal": "stopped for good",
}


def badge(report: RunTotals) -> str:
    """The state of the run, as one coloured word."""
    kind = "good" if report.ok else "bad" if report.state == "fatal" or report.stats.failed else "warn"
    word = _STATES.get(report.state, report.state)
    if report.state == "finished" and not report.ok:
        word = "finished, some failed" if report.stats.failed else "finished, some pending"
    return (
        f'<span class="badge {kind}" id="state" data-value="{safe(report.state, 40)}">{safe(word, 40)}</span>'
    )


def facts(report: RunTotals) -> str:
    """The facts of a run: its times, its input, the version that made it."""
    run = report.run
    given = run.get("input") or {}
    location = given.get("location") if isinstance(given, dict) else None
    pairs = [
        ("input", shown_location(location) if isinstance(location, str) else None),
        ("Region", run.get("region")),
        ("started", run.get("started_at")),
        ("finished", run.get("finished_at")),
        ("fanout", run.get("fanout_version")),
    ]
    parts = [f"<span>{name} <b>{safe(value, 200)}</b></span>" for name, value in pairs if value]
    return "".join(parts)


def notes(report: RunTotals) -> str:
    """The notes that must not be overlooked."""
    said = []
    if why := ending(report):
        said.append(escape(f"{why[:1].upper()}{why[1:]}."))
    said += [f"MeasuredThreshold {safe(str(threshold))}." for threshold in report.thresholds]
    if report.left is not None:
        said.append(escape(report.left) + ".")
    if report.pending:
        said.append(
            f"{figure('pending', report.pending, f'{report.pending:,}')} records have no outcome yet"
            + (f": <code>{safe(report.resume_command, 2000)}</code>" if report.resume_command else ".")
        )
    if report.counts.get("accepted"):
        said.append(escape(ACCEPTED_NOTE) + ".")
    if report.counts.get("valid"):
        said.append(escape(VALID_NOTE) + ".")
    if report.counts.get("unknown"):
        said.append(
            "Unknown means that the reply was lost: these records may have run. They are sent again "
            "only where the function is said to be idempotent."
        )
    return "".join(f'<p class="note">{text}</p>' for text in said)


def tiles(report: RunTotals) -> str:
    """The figures of the summary, one tile each."""
    latency = report.latency_ms
    failed = report.stats.failed
    throttles = sum(report.throttles.values())
    made = [
        tile(
            "Records",
            figure("records", report.records, f"{report.records:,}"),
            (f"in {count_of(report.calls, 'call')}, " if report.calls != report.stats.done else "in ")
            + seconds(report.elapsed_s),
        ),
        tile(
            "Succeeded",
            figure("ok", report.stats.done - failed, f"{report.stats.done - failed:,}"),
            percent((report.stats.done - failed) / report.records) if report.records else "",
        ),
        tile(
            "Failed",
            figure("failed", failed, f"{failed:,}"),
            percent(failed / report.records) if report.records else "",
            "bad" if failed else "",
        ),
        tile(
            "Throughput",
            figure("throughput_per_s", report.throughput_per_s, f"{number(report.throughput_per_s)}/s"),
            "" if report.share_of_limit is None else f"{percent(report.share_of_limit)} of the limit",
        ),
        tile(
            "Latency p50",
            figure("p50_ms", latency["p50"], milliseconds(latency["p50"])),
            f"p95 {milliseconds(latency['p95'])} · p99 {milliseconds(latency['p99'])}",
        ),
    ]
    if throttles:
        shown = figure("throttles", throttles, f"{throttles:,}")
        made.append(tile("Throttles", shown, "did not run; sent again"))
    if report.retries:
        shown = figure("retries", report.retries, f"{report.retries:,}")
        made.append(tile("Retries", shown, "attempts after each record's first"))
    if report.copies:
        shown = figure("copies", report.copies, f"{report.copies:,}")
        made.append(tile("Copies", shown, "of late calls"))
    if report.cold_starts:
        mean_ms = report.stats.init_ms / report.cold_starts
        made.append(
            tile(
                "Cold starts",
                figure("cold_starts", report.cold_starts, f"{report.cold_starts:,}"),
                f"{milliseconds(mean_ms)} each on average",
            )
        )
    if report.cost is not None:
        cost = report.cost
        sign = "at most " if cost.is_upper_bound else "at least " if cost.is_lower_bound else ""
        shown = "not known" if cost.usd is None else sign + figure("usd", cost.usd, dollars(cost.usd))
        made.append(tile("Cost", shown, escape(report.cost_basis), "broad"))
    return "".join(made)


def summary_table(report: RunTotals) -> str:
    """Counts by status, and the figures beside them, for a notebook."""
    rows = [(status, f"{count:,}") for status, count in report.counts.items() if count]
    latency = report.latency_ms
    rows += [
        ("throughput", f"{number(report.throughput_per_s)}/s"),
        ("latency", f"p50 {milliseconds(latency['p50'])}, p99 {milliseconds(latency['p99'])}"),
    ]
    for name, count in (
        ("throttles", sum(report.throttles.values())),
        ("retries", report.retries),
        ("copies", report.copies),
    ):
        if count:
            rows.append((name, f"{count:,}"))
    if report.cost is not None:
        rows.append(("cost", str(report.cost)))
    rows += [
        (
            f"{cluster.count:,} times",
            f"{cluster.type}: {cluster.message}" if cluster.message else cluster.type,
        )
        for cluster in report.largest_failures(5)
    ]
    body = "".join(f"<tr><th>{safe(name)}</th><td>{safe(value, 200)}</td></tr>" for name, value in rows)
    head = f"{safe(report.function)}: {count_of(report.records, 'record')} in {seconds(report.elapsed_s)}"
    head += f", {safe(report.state)}"
    return f"<table><caption>{head}</caption>{body}</table>"


def status_rows(report: RunTotals) -> str:
    """One row for each status, with a bar as wide as its share."""
    counts = {status: count for status, count in report.counts.items() if count}
    if report.pending:
        counts["pending"] = report.pending
    rows = []
    for status, count in counts.items():
        share = count / report.records if report.records else 0.0
        kind = "good" if status in OK_STATUSES else "muted" if status == "pending" else "bad"
        rows.append(
            f"<tr><th scope=row>{status}</th>"
            f"<td class=n>{figure(f'count-{status}', count, f'{count:,}')}</td>"
            f'<td class=n>{percent(share)}</td><td class=wide><div class="bar {kind}" '
            f'style="width:{max(share * 100, 0.4):.2f}%"></div></td></tr>'
        )
    return "".join(rows) or "<tr><td>no records</td></tr>"


def slowest_rows(report: RunTotals) -> str:
    """The slowest records, one row each."""
    return "".join(map(_slow_row, report.slowest)) or "<tr><td colspan=8>none</td></tr>"


def _slow_row(slow: Execution) -> str:
    init = "" if slow.init_ms is None else milliseconds(slow.init_ms)
    return (
        f"<tr><td class=n>{slow.seq}</td><td>{safe(slow.key or '', 60)}</td>"
        f"<td class=n>{milliseconds(slow.duration_ms)}</td><td>{safe(slow.status)}</td>"
        f"<td class=n>{slow.attempts}</td><td class=n>{slow.throttles}</td><td class=n>{init}</td>"
        f"<td><code>{safe(slow.request_id or '', 60)}</code></td></tr>"
    )


def option_rows(report: RunTotals) -> str:
    """The options that were given, a row for each."""
    options = report.run.get("options")
    pairs = options.items() if isinstance(options, dict) else []
    return "".join(
        f"<tr><th scope=row>{safe(name, 60)}</th><td>{safe(value, 300)}</td></tr>"
        for name, value in pairs
        if value not in (None, "", [], False)
    )


def command_items(report: RunTotals) -> str:
    """The commands to go on with."""
    return "".join(f"<li><code>{safe(command, 4000)}</code></li>" for command in report.next_commands)
